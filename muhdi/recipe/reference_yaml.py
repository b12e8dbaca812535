"""The reference's own configuration files: upper-case YAML -> a recipe.

Every key of its configuration is known here with its default, and every quirk of its training is
set explicitly, so that such a file computes what it computed there. `docs/reference.md` lists what
differs.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from muhdi.errors import MuhdiError, RecipeError, nearest
from muhdi.recipe.methods import REFERENCE
from muhdi.recipe.reference_keys import (
    CLASSES,
    DATASETS,
    DEFAULTS,
    KEYS,
    MEAN,
    MODELS,
    OF_MODE,
    UNUSED,
)

Values = dict[str, Any]

_TUPLE = re.compile(r"\(.*\)")
"""A tuple as Python writes it, which YAML reads as text."""


def in_its_own_words(message: str) -> str:
    """A message that begins with a key of a recipe, with the file's own key in its place."""
    key, colon, rest = message.partition(": ")
    # The file may have a key only for the section that holds the recipe's key.
    while key and key not in KEYS:
        key = key.rpartition(".")[0]
    return f"{KEYS[key]}{colon}{rest}" if key else message


def is_reference(data: Mapping[Any, Any]) -> bool:
    """Whether a YAML file is one of the reference's: its keys are upper case."""
    return bool(data) and all(isinstance(key, str) and key.isupper() for key in data)


def translate(data: Mapping[Any, Any], where: str) -> tuple[Values, list[str]]:
    """A recipe's values from a file of the reference, and notes for the user.

    Args:
        data: the file's content; lists may be written as tuples, ``(640, 320)``.
        where: the file's name, for messages.

    Raises:
        RecipeError: the reference does not know a key, or a value has another type or no meaning
            here.
    """
    given: set[str] = set()
    try:
        cfg = _merged(copy.deepcopy(DEFAULTS), data, "", given)
        notes = _notes_on_unused(given, cfg["TEST"]["MODE"])
        return _recipe(cfg, notes), notes
    except MuhdiError as error:
        raise RecipeError(f"{where}: {error}") from None


def _notes_on_unused(given: set[str], mode: str) -> list[str]:
    """A note for each key that the file sets and nothing depends on.

    Args:
        given: dotted keys that the file sets.
        mode: the file's TEST.MODE.
    """
    notes: list[str] = []
    for key, reason in UNUSED.items():
        if key in given:
            notes.append(f"{key} is not needed: {reason}")
    for other, keys in OF_MODE.items():
        if other == mode:
            continue
        for key in keys:
            if f"TEST.{key}" in given:
                notes.append(f"TEST.{key} belongs to TEST.MODE {other}")
    return notes


# --- reading --------------------------------------------------------------------------------------


def _merged(defaults: Values, data: Any, prefix: str, given: set[str]) -> Values:
    """The defaults with what the file sets, checked key by key.

    Args:
        defaults: of this section.
        data: what the file holds for it.
        prefix: the section's dotted key with a dot, such as ``TRAIN.``.
        given: the dotted keys that the file sets are added here.
    """
    if not isinstance(data, Mapping):
        raise MuhdiError(f"{prefix.rstrip('.')}: must hold keys, such as {next(iter(defaults))}")
    merged = dict(defaults)
    for key, value in data.items():
        name = f"{prefix}{key}"
        if key not in defaults:
            raise MuhdiError(
                f"{name}: not a key of the reference{nearest(str(key), list(defaults))}"
            )
        if isinstance(defaults[key], dict):
            merged[key] = _merged(defaults[key], value, f"{name}.", given)
            continue
        merged[key] = _typed(name, defaults[key], value)
        given.add(name)
    return merged


def _typed(name: str, default: Any, value: Any) -> Any:
    """The value, if its type suits the default's.

    Args:
        name: the dotted key, for messages.
        default: the reference's value; None: the value is text.
        value: from the file.

    Raises:
        MuhdiError: the type does not suit.
    """
    if isinstance(value, str) and _TUPLE.fullmatch(value.strip()):
        parts = value.strip()[1:-1].split(",")
        value = [_scalar(part) for part in parts if part.strip()]
    if isinstance(default, list):
        values = value if isinstance(value, list) else [value]
        return [_typed(name, default[0], element) for element in values]
    if value is None and (default is None or isinstance(default, str)):
        return default
    if not isinstance(value, _types_for(default)):
        raise _wrong(name, default, value)
    # True is an int to Python, but no number to a reader.
    if isinstance(value, bool) and not isinstance(default, bool):
        raise _wrong(name, default, value)
    return value


def _types_for(default: Any) -> tuple[type, ...]:
    """Types that a value may have in place of a default."""
    if isinstance(default, bool):
        return (bool,)
    if isinstance(default, int):
        return (int,)
    if isinstance(default, float):
        return (int, float)
    return (str,)


def _wrong(name: str, default: Any, value: Any) -> MuhdiError:
    """The error for a value of another type than the default's."""
    example = "text" if default is None else repr(default)
    return MuhdiError(f"{name}: must be like {example}, but is {value!r}")


def _scalar(text: str) -> Any:
    """An element of a tuple that is written as Python writes it."""
    text = text.strip().strip("'\"")
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"True": True, "False": False, "None": None}.get(text, text)


# --- translating ----------------------------------------------------------------------------------


def _recipe(cfg: Values, notes: list[str]) -> Values:
    """The recipe's values.

    Args:
        cfg: the whole configuration, defaults included.
        notes: for the user; some are added.
    """
    train = cfg["TRAIN"]
    test = cfg["TEST"]
    _refuse_what_is_fixed(cfg)
    targets = _targets(cfg, notes)
    trains = bool(cfg["SOURCE"]) and len(targets) == 1
    if cfg["SOURCE"] and not trains:
        notes.append(
            "several TARGETS are only tested: the reference trains on one, and so does a step of a "
            "recipe"
        )
    recipe: Values = {
        "name": cfg["EXP_NAME"] or _experiment_name(cfg),
        "seed": train["RANDOM_SEED"],
        "classes": CLASSES[cfg["NUM_CLASSES"]],
        "image_size": train["INPUT_SIZE_TARGET"],
        "model": {
            "backbone": "resnet101",
            "multi_level": train["MULTI_LEVEL"],
            "init": _path(train["RESTORE_FROM"]),
        },
        "optimizer": {
            "name": "sgd",
            "momentum": train["MOMENTUM"],
            "weight_decay": train["WEIGHT_DECAY"],
            "power": train["POWER"],
            "head_factor": 10.0,
            "updates": "reference",
        },
        "runtime": {
            "workers": cfg["NUM_WORKERS"],
            "device": f"cuda:{cfg['GPU_ID']}" if cfg["GPU_ID"] else "auto",
            "save_every": train["SAVE_PRED_EVERY"],
            **_folders(cfg),
        },
        "snapshot_every": train["SAVE_PRED_EVERY"],
        "evaluation": {
            "statistics": ["running"],
            "batch_size": test["BATCH_SIZE_TARGET"],
            "input_size": test["INPUT_SIZE_TARGET"],
            "size": test["OUTPUT_SIZE_TARGET"],
        },
        "test": _test(test),
    }
    if trains:
        recipe["source"] = _source(cfg, notes)
        recipe["steps"] = [{"target": targets[0], **_step(train)}]
    else:
        recipe["extra_domains"] = targets
        recipe["model"]["init"] = None
    snapshots = train["SNAPSHOT_DIR"]
    if snapshots:
        recipe["name"] = Path(str(_path(snapshots))).name
    return recipe


def _refuse_what_is_fixed(cfg: Values) -> None:
    """Refuse values that the networks and label tables of this project do not leave open."""
    train = cfg["TRAIN"]
    test = cfg["TEST"]
    for key, part in (("TRAIN", train), ("TEST", test)):
        if part["IMG_MEAN"] != MEAN:
            raise MuhdiError(
                f"{key}.IMG_MEAN: the normalisation belongs to the network, and is {tuple(MEAN)}"
            )
    if train["IGNORE_LABEL"] != 255:
        raise MuhdiError("TRAIN.IGNORE_LABEL: ignored pixels have the label 255")
    if cfg["NUM_CLASSES"] not in CLASSES:
        raise MuhdiError(f"NUM_CLASSES: must be one of {', '.join(map(str, CLASSES))}")
    _one_of("TRAIN.MODEL", train["MODEL"], MODELS)
    for model in test["MODEL"]:
        _one_of("TEST.MODEL", model, MODELS)
    _one_of("TRAIN.TEACHER_LOSS", train["TEACHER_LOSS"], ("KL", "MSE"))
    _one_of("TEST.MODE", test["MODE"], ("single", "best"))
    for key, part, size in (
        ("TRAIN", train, "INPUT_SIZE_SOURCE"),
        ("TRAIN", train, "INPUT_SIZE_TARGET"),
        ("TEST", test, "INPUT_SIZE_TARGET"),
        ("TEST", test, "OUTPUT_SIZE_TARGET"),
    ):
        if len(part[size]) != 2:
            raise MuhdiError(f"{key}.{size}: must be a width and a height")


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise MuhdiError(
            f"{name}: unknown value {value!r}{nearest(value, list(known))} (known: "
            f"{', '.join(known)})"
        )


def _step(train: Values) -> Values:
    """The one step that such a file describes, without its target."""
    multi_head = train["MODEL"] == "DeepLabv2MuHDi"
    step: Values = {
        "iterations": train["EARLY_STOP"],
        "schedule": train["MAX_ITERS"],
        "batch_size": train["BATCH_SIZE_SOURCE"],
        "target_batch_size": train["BATCH_SIZE_TARGET"],
        "learning_rate": train["LEARNING_RATE"],
        "weight_main": train["LAMBDA_SEG_MAIN"],
        "weight_aux": train["LAMBDA_SEG_AUX"],
        "adaptation": {
            "method": REFERENCE["adaptation"],
            "weight_main": train["LAMBDA_ADV_MAIN"],
            "weight_aux": train["LAMBDA_ADV_AUX"],
            "learning_rate": train["LEARNING_RATE_D"],
            "aux_sees_source": multi_head,
            "init_main": _path(train["RESTORE_D_MAIN"]),
            "init_aux": _path(train["RESTORE_D_AUX"]),
        },
        "retention": "none",
    }
    if multi_head:
        step["retention"] = _multi_head_distillation(train)
    return step


def _multi_head_distillation(train: Values) -> Values:
    """The retention of the reference's MuHDi."""
    main = train["LAMBDA_SEG_MAIN"]
    aux = train["LAMBDA_SEG_AUX"]
    distill = train["DISTILL"]
    if not main:
        raise MuhdiError(
            "TRAIN.LAMBDA_SEG_MAIN: must be above 0, since MuHDi weighs the aux level relative "
            "to it"
        )
    return {
        "method": REFERENCE["retention"],
        "weight_source": distill["KT_LAMBDA"] if distill["KT_LOGITS"] else 0.0,
        "weight_pod": distill["FEAT_LAMBDA"] if distill["FEAT"] else 0.0,
        "weight_target": train["LAMBDA_KT_TARGET"],
        # On the source the aux level weighs relative to the main one, on the target absolutely.
        "aux": aux / main,
        "aux_target": aux if main != 1 else None,
        "target_loss": train["TEACHER_LOSS"].lower(),
        "kl_reduction": "element",
        "old_statistics": "running",
        "heads": "reference",
    }


def _test(test: Values) -> Values:
    """What is scored: given networks (``single``), or the best snapshot of a folder (``best``)."""
    if test["MODE"] == "single":
        models = [path for path in map(_path, test["RESTORE_FROM"]) if path]
        weights: list[float] = []
        if models:
            weights = _as_many(
                "TEST.MODEL_WEIGHT", test["MODEL_WEIGHT"], len(models), "TEST.RESTORE_FROM"
            )
        return {"mode": "last", "models": models, "weights": weights}
    folders = [path for path in map(_path, test["SNAPSHOT_DIR"]) if path]
    if len(folders) > 1:
        raise MuhdiError("TEST.SNAPSHOT_DIR: give one folder; the best of its snapshots is chosen")
    return {
        "mode": "best",
        "every": test["SNAPSHOT_STEP"],
        "until": test["SNAPSHOT_MAXITER"],
        "snapshots": folders[0] if folders else None,
    }


def _source(cfg: Values, notes: list[str]) -> Values:
    """The labelled source."""
    train = cfg["TRAIN"]
    split = train["SET_SOURCE"]
    domain = _domain("SOURCE", cfg["SOURCE"], cfg["DATA_DIRECTORY_SOURCE"])
    _set_split(domain, "train", split)
    notes += _set_list(domain, "train", "DATA_LIST_SOURCE", cfg["DATA_LIST_SOURCE"], split)
    return domain | {"image_size": train["INPUT_SIZE_SOURCE"]}


def _targets(cfg: Values, notes: list[str]) -> list[Values]:
    """The target domains: one is trained on, where there is a source; several are only tested."""
    names = [name for name in cfg["TARGETS"] if name]
    if not names:
        raise MuhdiError("TARGETS: name at least one target, such as Cityscapes")
    count = len(names)
    folders = _as_many("DATA_DIRECTORY_TARGET", cfg["DATA_DIRECTORY_TARGET"], count)
    lists = _as_many("DATA_LIST_TARGET", cfg["DATA_LIST_TARGET"], count)
    tested = _as_many("TEST.SET_TARGET", cfg["TEST"]["SET_TARGET"], count)
    trains = bool(cfg["SOURCE"]) and count == 1
    trained = cfg["TRAIN"]["SET_TARGET"][0] if trains else None
    targets: list[Values] = []
    for name, folder, pattern, split in zip(names, folders, lists, tested, strict=True):
        domain = _domain("TARGETS", name, folder)
        _set_split(domain, "val", split)
        notes += _set_list(domain, "val", "DATA_LIST_TARGET", pattern, split)
        if trained is not None:
            condition = domain.get("condition")
            _set_split(domain, "train", trained)
            notes += _set_list(domain, "train", "DATA_LIST_TARGET", pattern, trained)
            if domain.get("condition") != condition:
                raise MuhdiError(
                    f"TEST.SET_TARGET: {split!r} is of another condition than TRAIN.SET_TARGET "
                    f"{trained!r}"
                )
        if domain in targets:
            raise MuhdiError(f"TARGETS: {name} is given twice with the same directory and set")
        targets.append(domain)
    _name_apart(targets, cfg)
    return targets


def _name_apart(targets: list[Values], cfg: Values) -> None:
    """Give domains of one data set different names."""
    taken = {DATASETS.get(cfg["SOURCE"].upper(), "")}
    for domain in targets:
        first = domain.get("condition") or domain["dataset"]
        name = first
        number = 1
        while name in taken:
            # cityscapes, cityscapes_val, cityscapes_val_2, ...
            suffix = "" if number == 1 else f"_{number}"
            name = f"{first}_{domain['val']}{suffix}"
            number += 1
        if name != first:
            domain["name"] = name
        taken.add(name)


def _as_many(key: str, values: list[Any], count: int, of: str = "TARGETS") -> list[Any]:
    """One value for each of ``count`` things; a single one counts for all.

    Args:
        key: of the values, for messages.
        values: from the file.
        count: number of things.
        of: the key that lists the things, for messages.
    """
    if len(values) == 1:
        return values * count
    if len(values) != count:
        raise MuhdiError(
            f"{key}: {len(values)} values for {count} {of}; give one for each, or one for all"
        )
    return values


def _domain(key: str, name: str, folder: str | None) -> Values:
    """A domain of one of the reference's data sets, without its splits."""
    _one_of(key, name.upper(), tuple(DATASETS))
    return {"dataset": DATASETS[name.upper()], "root": _path(folder)}


def _set_split(domain: Values, role: str, split: str) -> None:
    """Set what a domain is trained or tested on.

    ``night_val`` of ACDC is the condition night and its split val.

    Args:
        domain: changed in place.
        role: ``train`` or ``val``.
        split: the split's name in the reference.
    """
    condition, _, rest = split.partition("_")
    if domain["dataset"] == "acdc" and rest:
        domain["condition"] = condition
        split = rest
    domain[role] = split


def _set_list(domain: Values, role: str, key: str, pattern: str | None, split: str) -> list[str]:
    """Use the list file of a split if it exists; otherwise the folders are walked.

    Args:
        domain: changed in place.
        role: ``train`` or ``val``.
        key: of the list file, for the note.
        pattern: path of the list file; ``{}`` is the split. None: the folders are walked.
        split: the split's name in the reference.

    Returns:
        A note for the user about a file that does not exist; otherwise nothing.
    """
    path = _path(pattern)
    if path is None:
        return []
    # Not str.format: other braces of a path are just letters.
    path = path.replace("{}", split)
    if not Path(path).is_file():
        return [f"{key}: {path} does not exist; the images are found by walking the folders"]
    domain[f"{role}_list"] = path
    return []


def _path(path: str | None) -> str | None:
    """A path as the reference reads it: relative to the working directory."""
    return os.path.abspath(os.path.expanduser(path)) if path else None


def _experiment_name(cfg: Values) -> str:
    """The reference's name for an experiment without EXP_NAME."""
    target = cfg["TARGETS"][0]
    if cfg["SOURCE"]:
        return f"{cfg['SOURCE']}2{target}_{cfg['TRAIN']['MODEL']}"
    return f"{target}_test"


def _folders(cfg: Values) -> Values:
    """Where snapshots and logs go, as far as the file says."""
    root = cfg["EXP_ROOT"]
    given = {
        "snapshots": cfg["EXP_ROOT_SNAPSHOT"] or (root and f"{root}/snapshots"),
        "logs": cfg["EXP_ROOT_LOGS"] or (root and f"{root}/logs"),
    }
    folders: Values = {key: _path(value) for key, value in given.items() if value}
    snapshots = cfg["TRAIN"]["SNAPSHOT_DIR"]
    if snapshots:
        folders["snapshots"] = str(Path(str(_path(snapshots))).parent)
    return folders
