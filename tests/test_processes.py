"""Several processes, one per device, compute what one process computes with the whole batch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from muhdi.cli import app
from muhdi.errors import MuhdiError
from muhdi.models.backbones import BACKBONES
from muhdi.models.norms import convert_norms
from muhdi.recipe import load_recipe
from muhdi.training.devices import check_batches
from muhdi.training.rundir import RunDirectory
from muhdi.training.sequence import run_sequence
from tests.processes import ADAPTATIONS, RETENTIONS, recipe, run_all

ROOT = Path(__file__).parents[1]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def state(experiments: Path, adaptation: str, retention: str) -> dict:
    """Everything that a run has trained: the network, the discriminators, the mean teacher."""
    trainer = RunDirectory.of(recipe(adaptation, retention), experiments).states.load()[0]["trainer"]
    return {**trainer["model"], **{f"adaptation.{k}": v for k, v in trainer["adaptation"].items()}}


def assert_equal_runs(one: Path, two: Path) -> None:
    """Everything that was trained agrees to what the order of a sum may move in float64, and so do the scores."""
    for adaptation in ADAPTATIONS:
        for retention in RETENTIONS:
            a, b = state(one, adaptation, retention), state(two, adaptation, retention)
            assert a.keys() == b.keys()
            for key, value in a.items():
                assert torch.allclose(b[key].double(), value.double(), rtol=0, atol=1e-10), (adaptation, retention, key)
            rows = [results(folder, f"{adaptation}_{retention}")["steps"][-1]["scores"] for folder in (one, two)]
            for kind in ("running", "domain"):
                for domain in ("sim", "city"):
                    a, b = (row[kind][domain] for row in rows)
                    assert a["images"] == b["images"] == 3
                    assert a["miou"] == pytest.approx(b["miou"], abs=0.01)


def results(experiments: Path, name: str) -> dict:
    return json.loads((experiments / "snapshots" / name / "results.json").read_text())


def torchrun(folder: Path, *settings: str) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "-m"]
    done = subprocess.run(
        [*command, "tests.processes", str(folder), *settings], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of one process, with frozen statistics."""
    folder = tmp_path_factory.mktemp("one")
    run_all(folder, "model.batch_norm=frozen")
    return folder


def test_two_processes_train_as_one_with_the_whole_batch(tmp_path: Path, frozen: Path) -> None:
    torchrun(tmp_path, "model.batch_norm=frozen")
    assert_equal_runs(frozen, tmp_path)


def test_synced_statistics_are_those_of_the_whole_batch(tmp_path: Path) -> None:
    run_all(tmp_path / "one")
    torchrun(tmp_path / "two", "model.batch_norm=synced")
    assert_equal_runs(tmp_path / "one", tmp_path / "two")


def test_a_batch_in_parts_trains_as_the_whole(tmp_path: Path, frozen: Path) -> None:
    parts = ["every_step.accumulate=2", "source_training.accumulate=4"]
    run_all(tmp_path, "model.batch_norm=frozen", *parts)
    assert_equal_runs(frozen, tmp_path)


# --- started by the command line and by SLURM -----------------------------------------------------------------------

SELFTRAIN = ["--set", "every_step.adaptation=selftrain", "--set", "every_step.retention=muhdi", "--set", "name=run"]


def muhdi(*words: str, **more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "muhdi", "train", str(ROOT / "tests" / "processes.yml"), *SELFTRAIN, *words]
    return subprocess.Popen(
        command, cwd=ROOT, env=ENVIRONMENT | more, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_stopped_on_two_devices_it_goes_on_with_one(tmp_path: Path) -> None:
    """The signal reaches the first process alone; what is saved does not know how many there were."""
    settings = ["every_step.iterations=60", "log_every=1"]
    process = muhdi("--devices", "2", "--experiments", str(tmp_path), *(f"--set={setting}" for setting in settings))
    folder = tmp_path / "snapshots" / "run"
    metrics = folder / "metrics.jsonl"
    until = time.monotonic() + 60
    while time.monotonic() < until and not (metrics.exists() and '"city"' in metrics.read_text()):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 143, error
    assert error.count("To go on: muhdi train") == 1
    assert len(list(folder.glob("*/model_*"))) == 1
    assert 0 < RunDirectory(folder).states.load()[0]["trainer"]["iteration"] < 60
    assert load_recipe(folder / "recipe.yml").devices == 2
    same = [word for word in SELFTRAIN if word != "--set"]
    alone = load_recipe(ROOT / "tests" / "processes.yml", [*same, *settings])
    assert len(run_sequence(alone, tmp_path, resume=True, quiet=True).steps) == 2
    iterations = [json.loads(line)["iteration"] for line in metrics.read_text().splitlines()]
    assert iterations == [1, *range(1, 61)]


def test_processes_that_slurm_started_find_each_other(tmp_path: Path) -> None:
    words = ["--experiments", str(tmp_path), "--set", "every_step.iterations=2"]
    slurm = {
        "SLURM_JOB_ID": "4711", "SLURM_JOB_NAME": "adapt", "SLURM_NTASKS": "2", "SLURM_NNODES": "1",
        "SLURM_NTASKS_PER_NODE": "2", "SLURM_NODELIST": "localhost", "SLURM_NODEID": "0",
    }  # fmt: skip
    both = [muhdi(*words, **slurm, SLURM_PROCID=str(i), SLURM_LOCALID=str(i)) for i in range(2)]
    outputs = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert "Written to" in outputs[0][0]
    assert outputs[1][0] == ""
    entry = results(tmp_path, "run")["steps"][-1]["scores"]["running"]["sim"]
    assert entry["images"] == 3


def test_a_file_that_one_process_cannot_read_ends_them_all(tmp_path: Path, folders: Path) -> None:
    broken = sorted((folders / "rain" / "train").iterdir())[0]
    broken.write_bytes(b"no image")
    text = f"""
device: cpu
devices: 2
classes: [a, b]
image_size: [48, 32]
source: {{dataset: folder, root: {folders}, images: "day/{{split}}/*.png",
  labels: "day_labels/{{split}}/{{stem}}_ids.png", ids: {{0: a, 7: b, 9: ignore}}}}
source_training: {{iterations: 1, batch_size: 2}}
every_step: {{iterations: 4, batch_size: 2}}
steps: [{{target: {{dataset: folder, name: rain, root: {folders}, images: "rain/{{split}}/*.png"}}}}]
"""
    path = tmp_path / "broken.yml"
    path.write_text(text)
    command = [sys.executable, "-m", "muhdi", "train", str(path), "--experiments", str(tmp_path)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=90)
    assert done.returncode in (2, -signal.SIGKILL), done.stderr
    assert f"{broken}: not an image" in done.stderr
    assert "Traceback" not in done.stderr


# --- what is refused, and what needs no second process --------------------------------------------------------------


def test_a_batch_that_devices_cannot_share_is_refused() -> None:
    small = load_recipe(ROOT / "tests" / "processes.yml", ["every_step.batch_size=2", "every_step.accumulate=2"])
    check_batches(small, 1)
    with pytest.raises(MuhdiError, match=r"steps\.0\.batch_size: 2 devices cannot share 2 images .* multiple of 4"):
        check_batches(small, 2)
    with pytest.raises(MuhdiError, match=r"source_training\.batch_size: 8 devices cannot share 4 images equally;"):
        check_batches(small, 8)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("--devices=0", "devices: "),
        ("--devices=two", "devices: "),
        ("--strategy=ddpp", "strategy: unknown value 'ddpp'; did you mean 'ddp'?"),
        ("--set=device=cuda:9", "device: this machine has no device cuda:9"),
        ("--set=steps.0.accumulate=3", "steps.0.batch_size: 1 device cannot share 4 images equally in 3 parts"),
    ],
)
def test_what_cannot_be(word: str, message: str, tmp_path: Path) -> None:
    path = str(ROOT / "tests" / "processes.yml")
    result = CliRunner().invoke(app, ["train", path, word, "--experiments", str(tmp_path)])
    assert isinstance(result.exception, MuhdiError)
    assert message in str(result.exception)
    assert not list(tmp_path.iterdir())


def test_a_frozen_batch_norm_keeps_its_statistics_and_still_measures(tmp_path: Path) -> None:
    backbone = BACKBONES["small"]()
    kept = dict(backbone.named_parameters())
    convert_norms(backbone, "frozen")
    assert all(kept[name] is parameter for name, parameter in backbone.named_parameters())
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    backbone.train()
    backbone(torch.randint(0, 256, (2, 3, 32, 48), dtype=torch.uint8))
    assert all(torch.equal(before[key], value) for key, value in backbone.state_dict().items())
    recipe_ = recipe("none", "none", "model.batch_norm=frozen")
    run_sequence(recipe_, tmp_path, quiet=True)
    scores = results(tmp_path, "none_none")["steps"][-1]["scores"]
    assert scores["running"] != scores["domain"]  # measured from images, in spite of all
