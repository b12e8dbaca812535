"""The command line as a user meets it: what it prints, what it refuses, what it leaves behind."""

from __future__ import annotations

import json
import os
import resource
import shlex
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
import typer
import yaml

from muhdi.cli import COMMANDS, app, command_name
from muhdi.errors import MuhdiError
from muhdi.files import write_text
from muhdi.models.checkpoint import Checkpoint, save_checkpoint
from muhdi.models.segmenter import build_segmenter
from muhdi.recipe.backbones import read_backbone
from muhdi.training.stage import StageTrainer

pytestmark = pytest.mark.usefixtures("thin_resnets")
Tiny = Callable[..., Path]


def test_train_then_evaluate(muhdi, tiny: Tiny, tmp_path: Path) -> None:
    status, output, _ = muhdi("train", tiny())
    assert status == 0
    for words in (
        "source 3/3",
        "img/s",
        "took 0:0",
        "mIoU on city",
        "Forgetting: ",
        "one seed.",
        "Report, to open in a browser: experiments/snapshots/tiny/report.html",
    ):
        assert words in output
    status, output, _ = muhdi(
        "evaluate", "experiments/snapshots/tiny", "--statistics", "image", "--json", "scores.json"
    )
    assert status == 0
    assert "vehicle" in output
    scores = json.loads((tmp_path / "scores.json").read_text())["steps"][0]["scores"]
    assert set(scores) == {"image"}
    assert set(scores["image"]["city"]["iou"]) >= {"flat", "human"}


def test_recipes_lists_and_prints(muhdi) -> None:
    status, output, _ = muhdi("recipes")
    assert status == 0
    assert "camvid_selftrain_muhdi" in output
    status, output, _ = muhdi("recipes", "scenes")
    assert yaml.safe_load(output)["steps"][0]["adaptation"]["method"] == "selftrain"


def untouched(folder: Path) -> bool:
    return not (folder / "experiments").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "scens"], "did you mean 'scenes'"),
        (["train", "scenes", "--set", "sorce=1"], "sorce: unknown key; did you mean 'source'?"),
        (["train", "scenes", "--set", "model.init=no.pth"], "no.pth does not exist"),
        (["train", "scenes", "--set", "device=cuda"], "no device cuda"),
        (["train", "scenes", "--resume", "--overwrite"], "exclude each other"),
        (
            ["train", "camvid", "--set", "root=nowhere"],
            "the folder nowhere/source_camvid_day_0016E5 does not exist",
        ),
        (["evaluate", "nowhere"], "nowhere: no such run directory, network file or recipe"),
        (
            ["evaluate", "net.safetensrs", "--recipe", "scenes"],
            "net.safetensrs: no such run directory, network file or recipe",
        ),
        (
            ["evaluate", "scenes", "--recipe", "scenes"],
            "--recipe scenes: scenes is a recipe itself; give the run directory or the network's",
        ),
        (["evaluate", ".", "--statistics", "domian"], "did you mean 'domain'"),
        (["evaluate", "."], "holds no finished network yet"),
        (["recipes", "camvd"], "did you mean 'camvid'"),
        (["evaluate", "x" * 5000], "file name too long"),
        (
            ["evaluate", "/etc/passwd", "--recipe", "scenes"],
            "/etc/passwd: not a readable network file",
        ),
        (["sweep", "scenes", "--seed", "1", "--set", "bogus=1"], "bogus: unknown key"),
        (
            ["sweep", "scenes", "--seed", "1", "--seed", "1"],
            "two runs would be called 'scenes_seed1'",
        ),
        (
            ["train", "scenes", "--experiments", "/dev/null"],
            "/dev/null/snapshots/scenes: cannot be made",
        ),
        (
            [
                "train",
                "scenes",
                "--set",
                "image_size=[31,64]",
                "--set",
                "every_step.adaptation=advent",
            ],
            "at least 32x32",
        ),
    ],
)
def test_mistakes_get_one_line_and_status_2(
    muhdi, tmp_path: Path, arguments: list[str], words: str
) -> None:
    if "cuda" in str(arguments) and torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    status, output, errors = muhdi(*arguments)
    assert status == 2
    assert words in errors
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert "Traceback" not in output + errors
    assert untouched(tmp_path)


def test_the_camvid_root_comes_from_the_environment(
    muhdi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("MUHDI_CAMVID", raising=False)
    status, _, errors = muhdi("train", "camvid")
    assert status == 2
    assert "the environment variable MUHDI_CAMVID is not set" in errors
    assert untouched(tmp_path)


def folder_recipe(folders: Path, tmp_path: Path, **source: object) -> Path:
    day = {
        "dataset": "folder",
        "name": "day",
        "root": str(folders),
        "images": "day/{split}/*.png",
        "labels": "day_labels/{split}/{stem}_ids.png",
        "ids": {0: "flat", 7: "vehicle", 9: "ignore"},
    }
    recipe = {
        "name": "own",
        "image_size": [48, 32],
        "source": day | source,
        "source_training": {"iterations": 1},
    }
    path = tmp_path / "own.yml"
    path.write_text(yaml.safe_dump(recipe))
    return path


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"images": "day/{split}/*.jpg"}, "matches no file"),
        ({"labels": None}, "source: the source needs labels to train on"),
        ({"labels": "day_labels/train/{stem}.png"}, "img 0.png: its label"),
        (
            {"ids": {0: "flat", 7: "vehcle"}},
            "unknown class 'vehcle' in class set 'urban7'; did you mean 'vehicle'?",
        ),
        (
            {"ids": {0: "flat", 7: "vehicle"}, "strict": True},
            "_ids.png: raw id 9 is not in the table",
        ),
    ],
)
def test_bad_data_gets_one_line_and_status_2(
    muhdi, folders: Path, tmp_path: Path, source, words: str
) -> None:
    status, _, errors = muhdi("train", folder_recipe(folders, tmp_path, **source))
    assert status == 2
    assert words in errors
    assert "Traceback" not in errors
    assert errors.count("\n") == 1
    assert not (tmp_path / "experiments/snapshots/own").exists()


def test_an_existing_run_is_neither_overwritten_nor_mixed(
    muhdi, tiny: Tiny, tmp_path: Path
) -> None:
    assert muhdi("train", tiny())[0] == 0
    kept = (tmp_path / "experiments/snapshots/tiny/results.json").read_bytes()
    status, _, errors = muhdi("train", tiny())
    assert status == 2
    assert "this run exists already; continue with --resume, start again with --overwrite" in errors
    status, _, errors = muhdi("train", tiny(), "--resume", "--set", "steps.0.iterations=9")
    assert status == 2
    assert "belongs to another recipe (steps.0.iterations: 3 there, 9 here)" in errors
    assert (tmp_path / "experiments/snapshots/tiny/results.json").read_bytes() == kept
    assert muhdi("train", tiny(), "--overwrite", "--set", "steps=[]")[0] == 0


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_says_how_to_go_on(
    muhdi, tiny: Tiny, tmp_path: Path, monkeypatch, number, status
) -> None:
    original = StageTrainer.iterate

    def iterate(self, *arguments):
        os.kill(os.getpid(), number)
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(StageTrainer, "iterate", iterate)
        ended, _, errors = muhdi("train", tiny(), "--set", "log_every=2", "--skip-bad", "1")
    assert ended == status
    command = f"muhdi train {tiny()} --set log_every=2 --skip-bad 1 --resume"
    assert errors == f"Stopped; progress is saved. Resume with: {command}\n"
    assert (tmp_path / "experiments/snapshots/tiny/training_state_1.pt").exists()
    assert muhdi(*command.split()[1:])[0] == 0


def test_overwrite_never_empties_a_folder_that_is_no_run(muhdi, tiny: Tiny, tmp_path: Path) -> None:
    precious = tmp_path / "experiments/snapshots/tiny/thesis.txt"
    precious.parent.mkdir(parents=True)
    precious.write_text("all of it")
    status, _, errors = muhdi("train", tiny(), "--overwrite")
    assert status == 2
    assert "nor a run directory" in errors
    assert precious.read_text() == "all of it"


@pytest.mark.parametrize(
    ("backbone", "classes", "words"),
    [("resnet50", 7, "backbone is 'resnet50'"), ("small", 3, "knows 3 classes")],
)
def test_a_checkpoint_that_does_not_fit_is_refused(
    muhdi, tiny: Tiny, tmp_path: Path, backbone: str, classes: int, words: str
) -> None:
    names = tuple(f"c{i}" for i in range(classes))
    save_checkpoint(
        tmp_path / "net.safetensors",
        Checkpoint(build_segmenter(backbone, classes), read_backbone(backbone), names, (48, 32)),
    )
    status, _, errors = muhdi("train", tiny(), "--set", "model.init=net.safetensors")
    assert status == 2
    assert words in errors
    assert "net.safetensors" in errors
    assert untouched(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("results.json", b"{", "results.json: cannot be read as JSON"),
        ("results.json", b"[1]", "results.json: holds no results of a run"),
        ("recipe.yml", b"{", "recipe.yml: line 1"),
        ("2_night/model_3.safetensors", None, "model_3.safetensors: not a network saved by muhdi"),
    ],
)
def test_a_damaged_run_is_named(
    muhdi, tiny: Tiny, tmp_path: Path, name: str, content: bytes | None, words: str
) -> None:
    assert muhdi("train", tiny())[0] == 0
    path = tmp_path / "experiments/snapshots/tiny" / name
    if content is not None:
        path.write_bytes(content)
    else:
        safetensors.torch.save_file({"a": torch.zeros(1)}, path)
    command = (
        ("evaluate", path.parent.parent)
        if name.endswith("safetensors")
        else ("train", tiny(), "--resume")
    )
    status, _, errors = muhdi(*command)
    assert status == 2
    assert words in errors
    assert errors.count("\n") == 1


def test_help_is_quick_and_names_every_command() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "muhdi", "--help"],
        capture_output=True,
        text=True,
        env=os.environ,
    )
    assert done.returncode == 0
    commands = (
        "train",
        "evaluate",
        "recipes",
        "sweep",
        "demo",
        "new",
        "inspect",
        "report",
        "compare",
        "predict",
        "export",
    )
    for command in commands:
        assert command in done.stdout
    assert "| torch" not in done.stderr, "torch must not be imported for --help"
    # Measured 3 times the libraries that print it. A bound in seconds would measure the machine.
    libraries = _least_cpu_seconds("-c", "import typer, rich.console")
    assert _least_cpu_seconds("-m", "muhdi", "--help") < 6 * libraries


def _least_cpu_seconds(*arguments: str) -> float:
    """The CPU time of Python with these arguments: the least of three runs."""
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(times)


SMALL = [
    "image_size=[64,32]",
    "source_training.iterations=1",
    "every_step.iterations=1",
    "source.train=4",
    "source.val=2",
    *(f"steps.{step}.target.{split}=2" for step in range(3) for split in ("train", "val")),
    "every_step.batch_size=2",
    "evaluation.samples=0",
]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            ["source.image_size=[16,16]", "every_step.adaptation=advent"],
            "needs images of at least 32x32",
        ),
        (["optimizer.momentum=1"], "optimizer.momentum: must be below 1"),
        (["every_step.learning_rate=1e300"], "every_step.learning_rate: input should be less"),
        (["image_size=[1000000000,1000000000]"], "image_size"),
        (["steps.0.target.image_size=[1,1]"], "image_size"),
        (
            ["every_step.adaptation={method: advent, width: 1000000000}"],
            "width: input should be less",
        ),
        ([f"device=cuda:{'9' * 5000}"], "device"),
        (['snapshots="a\\0b"'], "cannot be made"),
        ([f"seed=0x{'f' * 5000}"], "more than 256 bits"),
        (
            [
                "every_step.adaptation={method: advent, discriminators: previous}",
                "steps.1.adaptation={method: advent, discriminators: previous, width: 8}",
            ],
            "are 64 wide",
        ),
        (
            ["every_step.adaptation={method: advent, discriminators: previous, init_main: x.pth}"],
            "exclude each other",
        ),
        (
            ["model.multi_level=false", "every_step.adaptation={method: advent, init_aux: x.pth}"],
            "no aux discrim",
        ),
        (["test.models=[a.pth]", "test.weights=[0]"], "at least one must be above 0"),
        (
            ["root=/nowhere", "extra_domains=[{dataset: gta5}]"],
            "root: the folder /nowhere/data/GTA5",
        ),
    ],
)
def test_values_that_cannot_work_leave_nothing(
    settings: list[str], words: str, muhdi, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, _, errors = muhdi(
        "train", "scenes", *(w for setting in [*SMALL, *settings] for w in ("--set", setting))
    )
    assert status == 2, errors
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert words in errors
    assert not list(tmp_path.rglob("recipe.yml"))


def test_a_scene_may_have_a_name_of_its_own(muhdi, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    named = [
        "steps.0.target.name=town",
        "steps.1.target={dataset: scenes, domain: city, name: village}",
    ]
    status, output, errors = muhdi(
        "train", "scenes", *(w for s in [*SMALL, *named] for w in ("--set", s))
    )
    assert status == 0, errors
    assert "village" in output


def test_files_that_are_no_files_are_never_replaced(tmp_path) -> None:
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    beside = tmp_path / "scores.json.tmp"
    beside.write_text("mine")
    with pytest.raises(MuhdiError, match="is not a regular file"):
        write_text(fifo, "x")
    write_text(tmp_path / "scores.json", "x")
    assert beside.read_text() == "mine"
    assert stat.S_ISFIFO(fifo.stat().st_mode)


def test_one_folder_for_snapshots_and_logs_can_be_started_anew(
    muhdi, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [word for setting in [*SMALL, "snapshots=o", "logs=o"] for word in ("--set", setting)]
    assert muhdi("train", "scenes", *words)[0] == 0
    assert muhdi("train", "scenes", *words, "--overwrite")[0] == 0


def test_every_command_shows_an_example_that_its_options_allow(muhdi) -> None:
    known = typer.main.get_command(app)
    for commands in COMMANDS.values():
        for command, example in commands.items():
            program, name, *words = shlex.split(example)
            assert (program, name) == ("muhdi", command_name(command))
            known.commands[name].make_context(name, words)  # type: ignore[attr-defined]
            status, output, _ = muhdi(name, "--help")
            assert status == 0
            assert " ".join(example.split()) in " ".join(output.replace("\n", " ").split())
