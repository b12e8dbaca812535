"""The next model for a new place: one more step, from a trained network and a folder of images."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from muhdi.data.catalog import DataContext, open_split
from muhdi.deploy.find import network_file, run_of
from muhdi.errors import DataError, MuhdiError, RecipeError, check_type
from muhdi.evaluation.results import Results
from muhdi.files import file_name
from muhdi.models.checkpoint import Checkpoint, load_checkpoint
from muhdi.preflight.survey import Survey, survey
from muhdi.recipe.domains import DomainConfig, FolderConfig
from muhdi.recipe.evaluation import EvaluationConfig
from muhdi.recipe.load import RECIPE, given_recipe
from muhdi.recipe.methods import NEXT_STEP
from muhdi.recipe.model import ModelConfig
from muhdi.recipe.next_step import (
    giving_back,
    next_step,
    repeated,
    section_of,
    what_changes,
    without_retention,
)
from muhdi.recipe.retentions import GIVES_BACK
from muhdi.recipe.schema import Recipe
from muhdi.recipe.section import plain, refuse_untrusted
from muhdi.recipe.stages import StepConfig
from muhdi.taxonomy import CLASS_SETS
from muhdi.training.start import moves_statistics
from muhdi.workflows.train import train

_OF_THE_RUN = {"name", "description", "notes", "steps", "test", "online"}
"""Keys that the next run does not inherit. Two of them name domains that may be gone."""


@dataclass(frozen=True)
class AdaptationPlan:
    """What an adaptation will do.

    Attributes:
        recipe: one step, from the trained network to the new place; every earlier domain is
            evaluated.
        network: the file that it starts from.
        notes: for the user.
    """

    recipe: Recipe
    network: Path
    notes: list[str]


def adapt(  # noqa: PLR0913 - options by name
    model: Path | str,
    images: Path | str,
    *,
    source: Recipe | Path | str | None = None,
    source_free: bool = False,
    changes: Mapping[str, Any] | None = None,
    experiments: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
    trust_code: bool = False,
) -> Results:
    """Adapt a trained network to a new place.

    One more step is trained like the last one of the network's run, into a run of its own, whose
    report shows what changed on every domain.

    Args:
        model: a run directory, a network file, or an exported folder.
        images: folder of images of the new place, without labels; its name is the domain's.
        source: recipe with the source to train on and the domains to evaluate; None: that of the
            run that the model is in.
        source_free: learn from the new images alone. Then the source's images need not be there,
            nor a recipe: a network's file is enough.
        changes: values of the new recipe by key, ``{"every_step.iterations": 100}`` for example.
        experiments: folder of ``snapshots`` and ``logs``; None: the recipe says where they are.
        resume: continue an interrupted run.
        overwrite: start again if the run exists already.
        quiet: print nothing.
        trust_code: whether classes of other packages, which the model or its run names, are
            imported.

    Returns:
        Scores of every domain before and after; their ``notes`` are for the user.

    Raises:
        MuhdiError: there is no network, no image, or no recipe with a source whose data are there,
            or the run exists already.
        Interrupted: after a signal, with everything saved.
    """
    plan = plan_adaptation(
        model,
        images,
        source=source,
        source_free=source_free,
        changes=changes,
        trust_code=trust_code,
    )
    return adapt_as_planned(plan, experiments, resume=resume, overwrite=overwrite, quiet=quiet)


def adapt_as_planned(
    plan: AdaptationPlan,
    experiments: Path | str | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
) -> Results:
    """`adapt`, after `plan_adaptation`."""
    results = train(plan.recipe, experiments, resume=resume, overwrite=overwrite, quiet=quiet)
    results.notes = plan.notes
    return results


def plan_adaptation(  # noqa: PLR0913 - options by name
    model: Path | str,
    images: Path | str,
    *,
    source: Recipe | Path | str | None = None,
    source_free: bool = False,
    settings: Sequence[str] = (),
    changes: Mapping[str, Any] | None = None,
    seed: int | None = None,
    trust_code: bool = False,
) -> AdaptationPlan:
    """The recipe that adapts a trained network to a new place.

    Args:
        model: see `adapt`.
        images: see `adapt`.
        source: see `adapt`.
        source_free: see `adapt`.
        settings: changes as a command line gives them, ``every_step.iterations=100``.
        changes: see `adapt`.
        seed: of the run.
        trust_code: see `adapt`.

    Raises:
        MuhdiError: there is no network, no image, or no recipe with a source whose data are there.
    """
    check_type("model", model, str, Path)
    check_type("images", images, str, Path)
    check_type("source", source, Recipe, str, Path, type(None))
    begun = _Begun.of(model, trust_code=trust_code)
    if source_free and source is None and begun.run is None:
        base = _of_network(begun)
    else:
        base = _base_recipe(begun, source, trust_code=trust_code)
    _check_base(base, begun, source_free=source_free)
    found = survey(Path(images), labelled=False)
    target = _new_domain(Path(images), found)
    _check_new(target["name"], base, begun.checkpoint)
    extra, gone = _earlier_domains(base)
    notes = [*found.notes, *gone]
    last = repeated(base.steps[-1] if base.steps else None, target)
    step = next_step(last, uses_source=not source_free)
    name = target["name"]
    data = {
        "name": f"{begun.name}_{file_name(name)}",
        "description": f"{name}, from {found.count} images without labels, after {base.name}",
        **_inherited(base),
        **_from_network(begun, base),
        "extra_domains": [plain(domain) for domain in extra],
        "every_step": section_of(step),
        "steps": [{"target": target}],
    }
    if source_free:
        notes += _without_its_images(data, base)
    # What the run names is trusted as far as the run is, and a source as it was read.
    trusted = trust_code or (source is not None and base.is_trusted())

    asked = _Changes.of(settings, changes or {}, seed)
    if source_free and not asked.choose("adaptation"):
        _check_adaptation(step)
    recipe = asked.applied(data, trust_code=trusted)
    recipe.check_trusted()
    # What the user has changed decides, too.
    if source_free and not asked.choose("retention") and _can_give_back(recipe, begun):
        recipe = _read(_giving_back(recipe), trust_code=trusted)
    (trained,) = recipe.steps
    if source_free:
        _check_without_source(trained)
    before = last if base.steps else without_retention(last)
    return AdaptationPlan(recipe, begun.network, notes + what_changes(before, trained))


@dataclass(frozen=True)
class _Begun:
    """What an adaptation begins with.

    Attributes:
        network: the file.
        checkpoint: what it holds.
        run: directory of the run that it is in; None: of no run.
    """

    network: Path
    checkpoint: Checkpoint
    run: Path | None

    @classmethod
    def of(cls, model: Path | str, *, trust_code: bool) -> _Begun:
        """The network that a user names, by its file or its run."""
        network = network_file(model)
        return cls(network, load_checkpoint(network, trust_code=trust_code), run_of(model))

    @property
    def name(self) -> str:
        """Of the run or the file, as a part of a name."""
        return file_name(self.network.stem if self.run is None else self.run.name)


@dataclass(frozen=True)
class _Changes:
    """What the user changes of the new recipe.

    Attributes:
        settings: as a command line gives them.
        by_key: values.
        seed: of the run; None: the recipe's.
    """

    settings: Sequence[str]
    by_key: Mapping[str, Any]
    seed: int | None

    @classmethod
    def of(cls, settings: Sequence[str], changes: Mapping[str, Any], seed: int | None) -> _Changes:
        """The same, whose seed may be among the changes."""
        by_key = dict(changes)
        seed = by_key.pop("seed", seed)
        return cls(settings, by_key, seed)

    def choose(self, part: str) -> bool:
        """Whether they say which methods the step has.

        Args:
            part: ``adaptation`` or ``retention``.
        """
        choosing = re.compile(rf"(every_step|steps\.0)(\.{part}(\.method)?)?")
        return any(choosing.fullmatch(key) for key in self._keys())

    def _keys(self) -> list[str]:
        """What is changed."""
        return [*(setting.partition("=")[0].strip() for setting in self.settings), *self.by_key]

    def applied(self, data: dict[str, Any], *, trust_code: bool) -> Recipe:
        """The recipe with the changes.

        Raises:
            RecipeError: they are wrong, or change the steps as a whole.
        """
        if "steps" in self._keys():
            raise RecipeError(
                "steps: the one step learns from --images; change its keys by every_step, --set"
                " every_step.iterations=100 for example"
            )
        return _read(data, self.settings, self.seed, trust_code=trust_code, **self.by_key)


def _check_adaptation(step: StepConfig) -> None:
    """Refuse what cannot be learned from the new images alone."""
    usual = NEXT_STEP["adaptation"]["method"]
    if step.adaptation.needs_source:
        raise RecipeError(
            f"every_step.adaptation: {step.adaptation.key} needs source images; choose another one"
            f" besides --source-free, --set every_step.adaptation={usual} for example"
        )


def _read(
    data: dict[str, Any], settings: Sequence[str] = (), seed: int | None = None, **options: Any
) -> Recipe:
    """A recipe from its data, with changes.

    Raises:
        RecipeError: names the key.
    """
    with tempfile.TemporaryDirectory() as folder:
        # As a file, since only there 'every_step' and changes of it are understood.
        path = Path(folder) / "adapt.yml"
        path.write_text(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), encoding="utf-8")
        try:
            return Recipe.load(path, settings, seed, **options)
        except RecipeError as error:
            # The user has never seen that file.
            raise RecipeError(str(error).removeprefix(f"{path.name}: ")) from None


def _check_without_source(step: StepConfig) -> None:
    """Refuse a step that the user has given the source back."""
    if step.uses_source:
        raise RecipeError(
            "every_step.source: is labelled, but --source-free learns from the new images alone;"
            " leave one of them out"
        )


def _check_base(base: Recipe, begun: _Begun, *, source_free: bool) -> None:
    """Refuse a recipe without the source that is asked for, or of other classes than a network."""
    if base.source is None and not source_free:
        raise RecipeError(
            f"{base.name}: has no source; name another recipe with --source RECIPE, or learn from"
            " the new images alone with --source-free"
        )
    if begun.checkpoint.classes != base.class_set().classes:
        raise RecipeError(
            f"{begun.network}: its classes are not those of the recipe {base.name!r}; give --source"
            " another one"
        )


def _of_network(begun: _Begun) -> Recipe:
    """What a network's file says of its run: nothing to train on, and nothing to evaluate."""
    checkpoint = begun.checkpoint
    default = checkpoint.default_statistics
    statistics = list(dict.fromkeys([*EvaluationConfig().statistics, default]))
    evaluation = EvaluationConfig.model_validate({"statistics": statistics, "default": default})
    known = [name for name, one in CLASS_SETS.items() if one.classes == checkpoint.classes]
    return Recipe.model_construct(
        name=begun.network.stem,
        classes=known[0] if known else list(checkpoint.classes),
        image_size=checkpoint.image_size,
        channels=checkpoint.network.channels,
        pixel_range=checkpoint.pixel_range,
        model=ModelConfig(tune=checkpoint.tune),
        evaluation=evaluation,
    )


def _base_recipe(begun: _Begun, source: Recipe | Path | str | None, *, trust_code: bool) -> Recipe:
    """The recipe whose source is trained on and whose domains are evaluated."""
    if source is not None:
        base = given_recipe(source, trust_code=trust_code)
    elif begun.run is not None:
        base = Recipe.load(begun.run / RECIPE, trust_code=trust_code)
    else:
        raise RecipeError(
            f"{begun.network}: is not in a run directory; say with --source RECIPE on which source"
            " it was trained, or learn from the new images alone with --source-free"
        )
    return base


def _new_domain(images: Path, found: Survey) -> dict[str, Any]:
    """The section of the new place, as its folder was found."""
    root = os.path.abspath(images)
    target = {"dataset": "folder", "name": Path(root).name, "root": root, "images": found.images}
    if found.val is not None:
        target["val_images"] = found.val[0]
    return target


def _inherited(base: Recipe) -> dict[str, Any]:
    """What stays as it was, without its steps."""
    data = {key: value for key, value in plain(base).items() if key not in _OF_THE_RUN}
    data["source_training"]["iterations"] = 0
    return data


def _from_network(begun: _Begun, base: Recipe) -> dict[str, Any]:
    """The section of the network: what its file decides, and what of it is trained."""
    checkpoint = begun.checkpoint
    model = {
        "backbone": plain(checkpoint.backbone),
        "init": os.path.abspath(begun.network),
        "multi_level": checkpoint.network.multi_level,
        "decoder": plain(checkpoint.network.decoder_config),
        "tune": plain(base.model.tune),
        "batch_norm": base.model.batch_norm,
        "checkpointing": base.model.checkpointing,
    }
    return {
        "model": model,
        "image_size": list(checkpoint.image_size),
        "channels": checkpoint.network.channels,
        "pixel_range": checkpoint.pixel_range,
    }


def _can_give_back(recipe: Recipe, begun: _Begun) -> bool:
    """Whether running statistics move, and the network that gets them back is the one in use."""
    scored = recipe.evaluation
    is_last = scored.weights == "model" and scored.select == "last"
    has_it = GIVES_BACK in recipe.steps[0].retention.parts
    return is_last and not has_it and moves_statistics(begun.checkpoint.network, recipe.model)


def _giving_back(recipe: Recipe) -> dict[str, Any]:
    """The data of a recipe whose running statistics come back at the end of its step."""
    (step,) = recipe.steps
    return {**plain(recipe), "steps": [plain(giving_back(step))]}


def _without_its_images(data: dict[str, Any], base: Recipe) -> list[str]:
    """Leave the source out where it cannot even be evaluated; notes on that.

    Args:
        data: of the new recipe, changed in place.
        base: of the network's run.
    """
    source = base.source
    if source is None:
        return []
    try:
        open_split(source, "val", DataContext.of(base))
    except MuhdiError as error:
        del data["source"]
        if isinstance(source, FolderConfig):
            # Labels of other folders are read by its table.
            table = {"ids": source.ids, "colours": source.colours}
            for domain in data["extra_domains"]:
                if domain["dataset"] == source.dataset and not domain.keys() & table.keys():
                    domain.update({key: value for key, value in table.items() if value})
        return [_gone(source.domain_name, error)]
    return []


def _gone(name: str, error: MuhdiError) -> str:
    """The note on a domain whose images are not there."""
    return f"{name}: is not evaluated, its images are not there any more ({error})"


def _check_new(name: str, base: Recipe, checkpoint: Checkpoint) -> None:
    """Refuse the name of a domain that the run or the network knows: it would be overwritten."""
    known = {data.domain_name for _, data in base.domains()}
    if name in known | checkpoint.statistics.keys():
        raise DataError(f"--images: a domain is called {name!r} already; rename the folder")


def _earlier_domains(recipe: Recipe) -> tuple[list[DomainConfig], list[str]]:
    """Targets and extra domains whose images are still there, each once, and notes on others."""
    context = DataContext.of(recipe)
    kept: dict[str, DomainConfig] = {}
    notes = []
    for _, data in recipe.domains():
        name = data.domain_name
        if name == recipe.source_name() or name in kept:
            continue
        refuse_untrusted([data])
        try:
            for split in ("train", "val"):
                open_split(data, split, context, labels=split == "val")
            kept[name] = data
        except MuhdiError as error:
            notes.append(_gone(name, error))
    return list(kept.values()), notes
