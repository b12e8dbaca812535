"""The reference's own configuration files.

Every key, in every notation, and what is refused by name.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from muhdi.errors import MuhdiError
from muhdi.recipe.load import load_recipe
from muhdi.recipe.reference_keys import DEFAULTS
from muhdi.recipe.reference_yaml import translate

MUHDI = """
EXP_NAME: gta2cityscapes2idd_muhdi
SOURCE: GTA
DATA_DIRECTORY_SOURCE: ../../data/GTA5
TARGETS:
    - IDD
DATA_DIRECTORY_TARGET:
    - ../../data/IDD
DATA_LIST_TARGET:
    - ../../muhdi/dataset/idd_list/{}.txt
NUM_WORKERS: 4
NUM_CLASSES: 7
TRAIN:
  INPUT_SIZE_SOURCE: [640, 320]
  INPUT_SIZE_TARGET: !!python/tuple [640, 320]
  MODEL: DeepLabv2MuHDi
  RESTORE_FROM: ../../pretrained_models/gta2cityscapes_advent_pretrained/model.pth
  RESTORE_D_MAIN: ../../pretrained_models/gta2cityscapes_advent_pretrained/model_D_main.pth
  RESTORE_D_AUX: ~/model_D_aux.pth
  SET_TARGET: (train,)
  LAMBDA_ADV_MAIN: 0.001
  MAX_ITERS: 120000
  EARLY_STOP: 60000
TEST:
  MODE: best
  INPUT_SIZE_TARGET: (640, 320)
  OUTPUT_SIZE_TARGET: [640, 320]
  SNAPSHOT_MAXITER: 60000
"""


def write(tmp_path: Path, text: str, name: str = "old.yml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_a_file_of_the_reference_is_its_shipped_recipe(tmp_path: Path) -> None:
    """Training, optimizer and quirks are those of the recipe that carries the reference's name."""
    old, shipped = load_recipe(write(tmp_path, MUHDI)), load_recipe("gta2cityscapes2idd_muhdi")
    ignored = {"init_main", "init_aux"}
    for key in ("optimizer", "classes", "seed", "snapshot_every", "image_size"):
        assert getattr(old, key) == getattr(shipped, key), key
    assert old.steps[0].retention == shipped.steps[0].retention
    assert old.steps[0].adaptation.model_dump(exclude=ignored) == shipped.steps[
        0
    ].adaptation.model_dump(exclude=ignored)
    assert (old.steps[0].iterations, old.steps[0].schedule) == (60000, 120000)
    assert old.steps[0].target.dataset == "idd"
    assert old.evaluation.size == old.evaluation.input_size == (640, 320)
    assert old.test.mode == "best"
    assert old.steps[0].adaptation.init_aux == str(Path("~/model_D_aux.pth").expanduser())
    assert Path(old.model.init).is_absolute()
    assert any("idd_list/train.txt" in note or "idd_list/val.txt" in note for note in old.notes)


def test_every_key_of_the_reference_may_be_set_to_its_default(tmp_path: Path) -> None:
    full = yaml.safe_load(MUHDI.replace("!!python/tuple ", ""))
    for part, defaults in (
        ("TRAIN", DEFAULTS["TRAIN"]),
        ("TEST", DEFAULTS["TEST"]),
        (None, DEFAULTS),
    ):
        place = full if part is None else full[part]
        for key, value in defaults.items():
            if key not in place and not isinstance(value, dict):
                place[key] = value
    full["TRAIN"]["DISTILL"] = DEFAULTS["TRAIN"]["DISTILL"]
    recipe = load_recipe(write(tmp_path, yaml.safe_dump(full)))
    assert recipe.steps[0].iterations == 60000
    said = " ".join(recipe.notes)
    for key in ("INFO_SOURCE", "ALL_RES", "WAIT_MODEL"):  # never in silence
        assert f"{key} is not needed" in said


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "MODEL: DeepLabv2MuHDi",
            "DA_METHOD: AdvEnt",
            "TRAIN.DA_METHOD: not a key of the reference",
        ),
        ("MAX_ITERS: 120000", "MAX_ITER: 120000", "did you mean 'MAX_ITERS'"),
        ("NUM_CLASSES: 7", "NUM_CLASSES: 18", "NUM_CLASSES: must be one of 7, 16, 19"),
        ("MODEL: DeepLabv2MuHDi", "MODEL: DeepLabv3", "TRAIN.MODEL: unknown value 'DeepLabv3'"),
        ("SOURCE: GTA", "SOURCE: GTA6", "SOURCE: unknown value 'GTA6'"),
        ("MAX_ITERS: 120000", "MAX_ITERS: soon", "TRAIN.MAX_ITERS: must be like 250000"),
        ("MAX_ITERS: 120000", "MULTI_LEVEL: 1", "TRAIN.MULTI_LEVEL: must be like True"),
        ("MAX_ITERS: 120000", "IGNORE_LABEL: 0", "TRAIN.IGNORE_LABEL"),
        ("MAX_ITERS: 120000", "IMG_MEAN: [1, 2, 3]", "TRAIN.IMG_MEAN"),
        ("MAX_ITERS: 120000", "LAMBDA_SEG_MAIN: 0", "TRAIN.LAMBDA_SEG_MAIN: must be above 0"),
        ("MAX_ITERS: 120000", "DISTILL: {KL_LAMBDA: 1}", "TRAIN.DISTILL.KL_LAMBDA: not a key"),
        ("MAX_ITERS: 120000", "TEACHER_LOSS: L1", "TRAIN.TEACHER_LOSS: unknown value 'L1'"),
        ("MODE: best", "MODE: worst", "TEST.MODE: unknown value 'worst'"),
        ("    - IDD", "    - IDD\n    - IDD", "TARGETS: IDD is given twice"),
        ("MAX_ITERS: 120000", "DISTILL: 3", "TRAIN.DISTILL: must hold keys"),
        (
            "MAX_ITERS: 120000",
            "BATCH_SIZE_SOURCE: 0",
            "TRAIN.BATCH_SIZE_SOURCE: input should be greater than 0",
        ),
        ("NUM_WORKERS: 4", "NUM_WORKERS: -1", "NUM_WORKERS: input should be"),
        ("MAX_ITERS: 120000", "RANDOM_SEED: -1", "TRAIN.RANDOM_SEED: input should be"),
        ("MODE: best", "SNAPSHOT_DIR: [a, b]", "TEST.SNAPSHOT_DIR: give one folder"),
        (
            "MODE: best",
            "MODE: single\n  RESTORE_FROM: [a, b, c]\n  MODEL_WEIGHT: [1.0, 2.0]",
            "2 values for 3",
        ),
    ],
)
def test_what_has_no_meaning_is_refused_by_name(
    tmp_path: Path, old: str, new: str, words: str
) -> None:
    assert old in MUHDI
    with pytest.raises(MuhdiError) as error:
        load_recipe(write(tmp_path, MUHDI.replace(old, new)))
    assert words in str(error.value)
    assert "old.yml" in str(error.value)


def test_several_targets_are_tested_with_the_files_given(tmp_path: Path) -> None:
    text = """
    TARGETS: [ACDC, ACDC]
    DATA_DIRECTORY_TARGET: [/gone/ACDC, /gone/ACDC]
    DATA_LIST_TARGET: ~
    NUM_CLASSES: 19
    TEST:
      MODE: single
      RESTORE_FROM: [/gone/a.pth, /gone/b.pth]
      MODEL_WEIGHT: [1.0, 0.5]
      SET_TARGET: [fog_val, night_val]
    """
    recipe = load_recipe(write(tmp_path, text))
    assert [data.domain_name for data in recipe.extra_domains] == ["fog", "night"]
    assert recipe.test.models == ["/gone/a.pth", "/gone/b.pth"]
    assert recipe.test.weights == [1.0, 0.5]
    assert not recipe.steps


def test_one_data_set_twice_gets_two_names(tmp_path: Path) -> None:
    text = "TARGETS: [Cityscapes, Cityscapes]\nNUM_CLASSES: 7\nTEST: {SET_TARGET: [val, train]}\n"
    recipe = load_recipe(write(tmp_path, text))
    assert [data.domain_name for data in recipe.extra_domains] == ["cityscapes", "cityscapes_train"]


def test_lists_are_taken_split_by_split(tmp_path: Path) -> None:
    """What is there is used, what is not is walked and told.

    The source's list is that of SET_SOURCE alone.
    """
    for name in ("all.txt", "train.txt"):
        (tmp_path / name).write_text("00001.png\n")
    text = MUHDI.replace("../../muhdi/dataset/idd_list/{}.txt", f"{tmp_path}/{{}}.txt")
    text = text.replace("SOURCE: GTA", f"SOURCE: GTA\nDATA_LIST_SOURCE: {tmp_path}/{{}}.txt")
    recipe = load_recipe(write(tmp_path, text))
    target = recipe.steps[0].target
    assert (recipe.source.train_list, recipe.source.val_list) == (f"{tmp_path}/all.txt", None)
    assert (target.train_list, target.val_list) == (f"{tmp_path}/train.txt", None)
    assert [note for note in recipe.notes if "val.txt" in note]
    odd = text.replace(f"{tmp_path}/{{}}.txt", "lists/{split}/{")
    assert load_recipe(write(tmp_path, odd)).notes  # braces are no format string


def test_the_aux_level_weighs_as_in_the_reference(tmp_path: Path) -> None:
    """Relative to the main level on the source, absolutely on the target."""
    text = MUHDI.replace("MAX_ITERS: 120000", "LAMBDA_SEG_MAIN: 2.0")
    retention = load_recipe(write(tmp_path, text)).steps[0].retention
    assert (retention.aux, retention.aux_target) == (0.05, 0.1)


def test_conditions_must_agree(tmp_path: Path) -> None:
    text = (
        MUHDI.replace("- IDD", "- ACDC")
        .replace("(train,)", "fog_train")
        .replace("MODE: best", "SET_TARGET: [night_val]")
    )
    with pytest.raises(MuhdiError, match="is of another condition than"):
        load_recipe(write(tmp_path, text))


def test_domains_are_told_apart_by_name(tmp_path: Path) -> None:
    text = (
        "TARGETS: [Cityscapes, Cityscapes, Cityscapes]\nNUM_CLASSES: 7\nDATA_DIRECTORY_TARGET: [a,"
        " b, c]\n"
    )
    names = [data.domain_name for data in load_recipe(write(tmp_path, text)).extra_domains]
    assert names == ["cityscapes", "cityscapes_val", "cityscapes_val_2"]
    text = MUHDI.replace("SOURCE: GTA", "SOURCE: Cityscapes").replace("- IDD", "- Cityscapes")
    recipe = load_recipe(write(tmp_path, text))
    assert recipe.source_name() != recipe.steps[0].target.domain_name


@given(
    st.dictionaries(
        st.sampled_from([*DEFAULTS, "OTHER"]), st.none() | st.integers() | st.text(max_size=5)
    )
)
@settings(max_examples=50, deadline=None)
def test_any_values_give_a_recipe_or_one_message(data: dict) -> None:
    message = None
    try:
        translate(data, "file.yml")
    except MuhdiError as error:
        message = str(error)
    assert message is None or message.startswith("file.yml: ")
