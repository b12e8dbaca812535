"""The reference's documented commands, word for word, on small trees in the official layouts.

Every command runs from ``<root>/muhdi/scripts``. Only size and length are cut down with ``--set``;
the networks are passed on through ``pretrained_models`` as the documentation says, in the
reference's own layout.
"""

from __future__ import annotations

import json
import os
import runpy
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import muhdi
from muhdi.deploy.convert import convert
from muhdi.models.backbones import resnet
from muhdi.models.reference_weights import to_reference
from muhdi.models.segmenter import build_segmenter
from muhdi.recipe.load import load_recipe, shipped_recipes
from muhdi.recipe.schema import Recipe
from tests.trees import write_tree

pytestmark = pytest.mark.usefixtures("thin_resnets")
SMALL = [
    "image_size=[64,32]",
    "evaluation.size=[64,32]",
    "model.backbone=resnet50",
    "every_step.adaptation.width=4",
    "every_step.iterations=2",
    "snapshot_every=1",
    "loader.workers=0",
    "evaluation.samples=0",
]
TINY = [
    *SMALL,
    "model={backbone: small}",
    "every_step.iterations=1",
    "steps.0.iterations=1",
    "steps.0.schedule=2",
]
TRAINED = [
    "gta2cityscapes_advent",
    "gta2cityscapes2idd_baseline",
    "gta2cityscapes2idd_muhdi",
    "gta2cityscapes2idd2mapillary_baseline",
    "gta2cityscapes2idd2mapillary_muhdi",
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The documented folders, with target training images that have no labels."""
    root = tmp_path_factory.mktemp("root")
    scripts = root / "muhdi" / "scripts"
    scripts.mkdir(parents=True)
    for name in ("train.py", "test.py"):
        shutil.copy(Path(muhdi.__file__).parent / "scripts" / name, scripts)
    write_tree("gta5", root / "data" / "GTA5")
    for dataset, folder in (
        ("cityscapes", "cityscapes"),
        ("idd", "IDD"),
        ("mapillary", "mapillary"),
    ):
        write_tree(dataset, root / "data" / folder, "train", labels=None)
        write_tree(dataset, root / "data" / folder, "val", numbers=(4,))
    backbone = to_reference(build_segmenter("resnet50", 7).state_dict())
    (root / "pretrained_models").mkdir()
    imagenet = {
        f"Scale.{key}": value
        for key, value in backbone.items()
        if key[:6] not in ("layer5", "layer6")
    }
    torch.save(
        imagenet
        | {"Scale.layer5.conv2d_list.0.weight": torch.zeros(21, 4 * resnet.WIDTHS[3], 3, 3)},
        root / "pretrained_models" / "DeepLab_resnet_pretrained_imagenet.pth",
    )
    cwd = os.getcwd()
    os.chdir(scripts)
    yield root
    os.chdir(cwd)


def command(*words: str, settings: list[str] = SMALL) -> None:
    """``python <words>``, in this process."""
    arguments = [*words, *(word for setting in settings for word in ("--set", setting))]
    before = sys.argv
    sys.argv = arguments
    status: str | int | None = None
    try:
        runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as end:
        status = end.code
    finally:
        sys.argv = before
    assert not status, f"python {' '.join(arguments)} ended with {status}"


@pytest.fixture(scope="module")
def trained(root: Path) -> Path:
    """All five training commands, each from the network of the one before."""
    for name in TRAINED:
        command("train.py", "--cfg", f"./configs/{name}.yml")
        run = root / "experiments" / "snapshots" / name
        convert(run, root / "pretrained_models" / f"{name}_pretrained" / "model.pth")
    return root


@pytest.mark.parametrize("name", TRAINED)
def test_training_commands(trained: Path, name: str) -> None:
    """Snapshots and logs are where they are documented.

    The recipe is the reference's, quirks and all.
    """
    run = trained / "experiments" / "snapshots" / name
    target = load_recipe(name).steps[0].target.dataset
    assert {path.name for path in (run / f"1_{target}").iterdir()} == {
        "model_1.safetensors",
        "model_2.safetensors",
        "D_main_2.safetensors",
        "D_aux_2.safetensors",
    }
    assert list((trained / "experiments" / "logs" / name).glob("events.*"))
    matrix = json.loads((run / "results.json").read_text())["summary"]["running"]["matrix"]
    assert matrix[-1][-1] is not None


@pytest.mark.parametrize("name", TRAINED)
def test_test_commands_of_a_trained_model(
    trained: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Best over the snapshots, on the documented target alone; it says how the choice was made."""
    command("test.py", "--cfg", f"./configs/{name}.yml", settings=[*SMALL, "test.every=1"])
    output = capsys.readouterr().out
    target = load_recipe(name).steps[0].target.dataset
    assert f"is the best of 2 snapshots, chosen by the validation labels of {target}" in output
    assert "vehicle" in output
    assert (trained / "experiments" / "snapshots" / name / "scores.json").is_file()


@pytest.mark.parametrize("name", [f"{name}_pretrained_test" for name in TRAINED])
def test_pretrained_tests(trained: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every documented network, in the reference's layout, on every domain of its sequence."""
    command("test.py", "--cfg", f"./configs/{name}.yml", settings=SMALL[:2])
    header = capsys.readouterr().out.splitlines()[2]
    expected = ["cityscapes", "idd"] + (["mapillary"] if "mapillary" in name else [])
    assert [
        word for word in ("gta5", "cityscapes", "idd", "mapillary") if word in header
    ] == expected


def test_exp_suffix_and_random_train(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [
        "--cfg",
        "./configs/gta2cityscapes_advent.yml",
        "--exp-suffix",
        "again",
        "--random-train",
        "--tensorboard",
    ]
    command("train.py", *options, settings=[*SMALL, "every_step.iterations=1"])
    run = root / "experiments" / "snapshots" / "gta2cityscapes_advent_again"
    recipe = load_recipe(run / "recipe.yml")
    assert f"seed: {recipe.seed}" in capsys.readouterr().out
    assert recipe.seed != load_recipe("gta2cityscapes_advent").seed
    command("test.py", *options[:4], settings=[*SMALL, "every_step.iterations=1", "test.every=1"])


def test_a_configuration_of_the_reference_runs(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its own YAML, with its relative paths, lists that are not there, and tuples."""
    text = """
    EXP_NAME: own_yaml
    SOURCE: GTA
    DATA_DIRECTORY_SOURCE: ../../data/GTA5
    TARGETS: [IDD]
    DATA_DIRECTORY_TARGET: [../../data/IDD]
    DATA_LIST_TARGET:
        - ../muhdi/dataset/idd_list/{}.txt
    NUM_WORKERS: 0
    NUM_CLASSES: 7
    TRAIN:
      MODEL: DeepLabv2MuHDi
      INPUT_SIZE_SOURCE: (96, 64)
      INPUT_SIZE_TARGET: [64, 32]
      RESTORE_FROM: ../../pretrained_models/gta2cityscapes_advent_pretrained/model.pth
      RESTORE_D_MAIN: ../../pretrained_models/gta2cityscapes_advent_pretrained/model_D_main.pth
      MAX_ITERS: 10
      EARLY_STOP: 2
      SAVE_PRED_EVERY: 1
    TEST:
      MODE: best
      INPUT_SIZE_TARGET: [64, 32]
      OUTPUT_SIZE_TARGET: [64, 32]
      SNAPSHOT_STEP: 1
    """
    Path("own.yml").write_text(text)
    settings = ["model.backbone=resnet50", "steps.0.adaptation.width=4"]
    command("train.py", "--cfg", "own.yml", settings=settings)
    assert "the images are found by walking the folders" in capsys.readouterr().out
    command("test.py", "--cfg", "own.yml", settings=settings)
    assert "is the best of 2 snapshots" in capsys.readouterr().out


def test_the_same_from_anywhere_by_name(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from muhdi.cli import app

    monkeypatch.chdir(tmp_path)
    words = [f"--set={setting}" for setting in [f"root={trained}", *SMALL]]
    result = CliRunner().invoke(app, ["train", "gta2cityscapes_advent", *words])
    assert result.exit_code == 0, result.output
    result = CliRunner().invoke(
        app, ["evaluate", "gta2cityscapes_advent", *words, "--set=test.every=1"]
    )
    assert "is the best of 2 snapshots" in result.output


@pytest.mark.parametrize("name", ["gta_sequence_baseline", "gta_sequence_muhdi"])
def test_the_whole_sequence_in_one_run(root: Path, name: str) -> None:
    command("train.py", "--cfg", name, settings=TINY)
    results = json.loads((root / "experiments" / "snapshots" / name / "results.json").read_text())
    assert results["targets"] == ["cityscapes", "idd", "mapillary"]
    assert [step["name"] for step in results["steps"]] == [
        "source",
        "cityscapes",
        "idd",
        "mapillary",
    ]


@pytest.mark.parametrize("name", ["acdc_sequence_baseline", "acdc_sequence_muhdi"])
def test_adverse_conditions_in_one_run(root: Path, name: str) -> None:
    write_tree("cityscapes", root / "acdc_data" / "data" / "cityscapes", "train")
    write_tree("cityscapes", root / "acdc_data" / "data" / "cityscapes", "val", numbers=(4,))
    for condition in ("fog", "night", "rain", "snow"):
        write_tree(
            "acdc", root / "acdc_data" / "data" / "ACDC", "train", labels=None, condition=condition
        )
        write_tree(
            "acdc", root / "acdc_data" / "data" / "ACDC", "val", numbers=(4,), condition=condition
        )
    command("train.py", "--cfg", name, settings=[*TINY, f"root={root / 'acdc_data'}"])
    results = json.loads((root / "experiments" / "snapshots" / name / "results.json").read_text())
    assert results["targets"] == ["fog", "night", "rain", "snow"]
    assert len(results["steps"][-1]["scores"]["running"]["snow"]["iou"]) == 19


def test_every_documented_recipe_has_the_references_quirks() -> None:
    for name in TRAINED:
        recipe: Recipe = load_recipe(shipped_recipes()[name])
        assert recipe.optimizer.updates == "reference"
        assert recipe.seed == 1234
        assert recipe.evaluation.statistics == ["running"]
        step = recipe.steps[0]
        assert step.adaptation.aux_sees_source == name.endswith("muhdi")
        if name.endswith("muhdi"):
            values = step.retention.model_dump()
            assert values["heads"] == "reference"
            assert (values["old_statistics"], values["kl_reduction"]) == ("running", "element")
            assert values["weight_source"] == values["weight_pod"] == 1e-5
