"""Several processes, one per device, compute what one process computes with the whole batch."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from muhdi.cli import app
from muhdi.errors import MuhdiError
from muhdi.models.checkpoint import load_checkpoint
from muhdi.models.norms import convert_norms
from muhdi.models.segmenter import build_segmenter
from muhdi.recipe.load import load_recipe
from muhdi.run.directory import RunDirectory
from muhdi.training.fabric import build_fabric, check_batches, launch
from muhdi.workflows.evaluate import evaluate
from muhdi.workflows.train import train
from tests.models.tiny_transformers import folder_of
from tests.processes import (
    BOUNDED,
    EACH,
    ENDED,
    FROZEN,
    HF,
    JOINT,
    RECIPE,
    SYNCED,
    TWO_TARGETS,
    WATCHED,
    draw,
    hf,
    recipe,
    run_all,
    train_once,
)

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    draw(folder)
    return folder


def state(experiments: Path, name: str) -> dict:
    """Everything that a run has trained: the network, the discriminators, the mean teacher."""
    trainer = RunDirectory(experiments / "snapshots" / name).states.load()[0]["trainer"]
    adaptation = {
        f"adaptation.{key}": value
        for key, value in trainer["adaptation"].items()
        if isinstance(value, torch.Tensor)
    }
    return {**trainer["model"], **adaptation}


def assert_equal_runs(one: Path, two: Path, combinations: Sequence[tuple[str, str]] = EACH) -> None:
    """Everything that was trained agrees to what the order of a sum may move in float64, and so do
    the scores.
    """
    for adaptation, retention in combinations:
        name = f"{adaptation}_{retention}"
        a, b = state(one, name), state(two, name)
        assert a.keys() == b.keys()
        for key, value in a.items():
            digits = 1e-6 if ".watch." in key else 1e-10  # those means are float32
            close = torch.allclose(b[key].double(), value.double(), rtol=0, atol=digits)
            assert close, (name, key)
        rows = [results(folder, name)["steps"][-1]["scores"] for folder in (one, two)]
        assert rows[0].keys() == rows[1].keys()
        for kind in rows[0]:
            for domain in ("sim", "city"):
                a, b = (row[kind][domain] for row in rows)
                assert a["images"] == b["images"] == 3
                assert a["miou"] == pytest.approx(b["miou"], abs=0.01)
                shares = [one["label_free"].pop("shares") for one in (a, b)]
                assert shares[0] == pytest.approx(shares[1], abs=0.01)
                assert a["label_free"] == pytest.approx(b["label_free"], abs=0.01)


def results(experiments: Path, name: str) -> dict:
    return json.loads((experiments / "snapshots" / name / "results.json").read_text())


def torchrun(data: Path, experiments: Path, backbone: Path) -> str:
    """Run `tests.processes` in two processes; what they said to the user of the last run."""
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--standalone",
        "-m",
    ]
    done = subprocess.run(
        [*command, "tests.processes", *map(str, (data, experiments, backbone))],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert (experiments / ENDED).exists(), done.stderr
    assert done.returncode != 0
    return done.stderr


@pytest.fixture(scope="module")
def tiny_hf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of a network of transformers without dropout."""
    return folder_of("dinov2", tmp_path_factory.mktemp("hf"))


@pytest.fixture(scope="module")
def two_and_errors(
    tmp_path_factory: pytest.TempPathFactory, data: Path, tiny_hf: Path
) -> tuple[Path, str]:
    """The folder of `two`, and what was said when the last run stopped."""
    folder = tmp_path_factory.mktemp("two")
    return folder, torchrun(data, folder, tiny_hf)


@pytest.fixture(scope="module")
def two(two_and_errors: tuple[Path, str]) -> Path:
    """Folders of runs of two processes: ``frozen``, ``synced``, ``within`` and others."""
    return two_and_errors[0]


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """Runs of one process, with frozen statistics."""
    folder = tmp_path_factory.mktemp("one")
    run_all(data, folder, *FROZEN)
    return folder


def test_two_processes_train_as_one_with_the_whole_batch(two: Path, frozen: Path) -> None:
    assert_equal_runs(frozen, two / "frozen")


def test_several_targets_in_one_step(tmp_path: Path, data: Path, two: Path) -> None:
    run_all(data, tmp_path, *FROZEN, *TWO_TARGETS, combinations=JOINT)
    assert_equal_runs(tmp_path, two / "joint", JOINT)
    kept = [
        load_checkpoint(
            folder / "snapshots" / "pair_replay" / "1_city_town" / "model_3.safetensors"
        )
        for folder in (tmp_path, two / "joint")
    ]
    names = ["city/images", "city/labels", "town/images", "town/labels"]
    assert [sorted(one.memory["replay"]) for one in kept] == [names, names]
    for name in names:
        assert torch.equal(*(one.memory["replay"][name] for one in kept)), name


def test_synced_statistics_are_those_of_the_whole_batch(
    tmp_path: Path, data: Path, two: Path
) -> None:
    run_all(data, tmp_path, *BOUNDED, combinations=SYNCED)
    assert_equal_runs(tmp_path, two / "synced", SYNCED)


def test_scores_within_a_step_are_of_all_processes_and_change_nothing(
    data: Path, two: Path
) -> None:
    name = "selftrain_distill"
    plain, within = two / "plain", two / "within"
    a, b = state(plain, name), state(within, name)
    # The snapshot has averaged the running statistics, and means of confidences follow these.
    weights = [key for key in a if "running" not in key and ".watch." not in key]
    unlike = [key for key in weights if not torch.equal(a[key], b[key])]
    assert not unlike
    # The network that was kept then has the running statistics of both processes.
    kept = plain / "snapshots" / name / "1_city" / "model_2.safetensors"
    torch.set_default_dtype(torch.float64)
    try:
        (expected,) = evaluate(kept, recipe(data, *WATCHED[0])).matrix("running")
    finally:
        torch.set_default_dtype(torch.float32)
    (point,) = results(within, name)["steps"][1]["curve"]
    scores = point["scores"]["running"]
    assert [scores[domain]["miou"] for domain in ("sim", "city")] == pytest.approx(
        expected, abs=0.01
    )


def test_a_network_of_transformers_is_trained_as_by_one_process(
    tmp_path: Path, data: Path, two: Path, tiny_hf: Path
) -> None:
    run_all(data, tmp_path, *hf(str(tiny_hf)), combinations=HF)
    assert_equal_runs(tmp_path, two / "hf", HF)


def test_a_batch_in_parts_trains_as_the_whole(tmp_path: Path, data: Path, frozen: Path) -> None:
    parts = ["every_step.accumulate=2", "source_training.accumulate=4"]
    run_all(data, tmp_path, *FROZEN, *parts)
    assert_equal_runs(frozen, tmp_path)


def test_what_is_saved_has_seen_the_images_of_all_processes(
    tmp_path: Path, data: Path, two: Path
) -> None:
    """The stem's mean after one iteration is linear in the images, so it is that of the whole
    batch.
    """
    train_once(data, tmp_path)
    one, both = (
        state(folder, "processes")["backbone.bn1.running_mean"]
        for folder in (tmp_path, two / "once")
    )
    assert one.abs().max() > 1e-3
    assert torch.allclose(one, both, rtol=0, atol=1e-10)


def test_a_loss_that_is_not_finite_in_one_process_stops_both_or_is_left_out_by_both(
    two_and_errors: tuple[Path, str],
) -> None:
    two, errors = two_and_errors
    assert errors.count("RunError: the loss seg_aux is not finite at iteration 1 (images: ") == 1
    goes_on = two / "spoilt"
    lines = (goes_on / "snapshots" / "selftrain_muhdi" / "metrics.jsonl").read_text().splitlines()
    assert ["skipped" in json.loads(line) for line in lines] == [
        False,
        True,
        False,
        False,
    ]
    weights = state(goes_on, "selftrain_muhdi").values()
    assert all(value.isfinite().all() for value in weights if value.is_floating_point())


# --- started by the command line and by SLURM -----------------------------------------------------

SELFTRAIN = [
    "--set",
    "every_step.adaptation=selftrain",
    "--set",
    "every_step.retention=muhdi",
    "--set",
    "name=run",
]


@contextmanager
def muhdi(data: Path, *words: str, **more: str) -> Iterator[subprocess.Popen[str]]:
    """A process of ``muhdi train``, which is gone at the end, whatever happens."""
    command = [
        sys.executable,
        "-m",
        "muhdi",
        "train",
        str(RECIPE),
        f"--set=root={data}",
        *SELFTRAIN,
        *words,
    ]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=ENVIRONMENT | more,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()


def test_stopped_on_two_devices_it_goes_on_with_one(tmp_path: Path, data: Path) -> None:
    """The signal reaches the first process alone.

    What is saved does not know how many there were.
    """
    settings = ["every_step.iterations=60", "log_every=1"]
    folder = tmp_path / "snapshots" / "run"
    metrics = folder / "metrics.jsonl"
    words = [
        "--devices",
        "2",
        "--experiments",
        str(tmp_path),
        *(f"--set={setting}" for setting in settings),
    ]
    with muhdi(data, *words) as process:
        until = time.monotonic() + 60
        while time.monotonic() < until and not (
            metrics.exists() and '"city"' in metrics.read_text()
        ):
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 143, error
    assert error.count("Resume with: muhdi train") == 1
    assert len(list(folder.glob("*/model_*"))) == 1
    assert 0 < RunDirectory(folder).states.load()[0]["trainer"]["iteration"] < 60
    assert load_recipe(folder / "recipe.yml").runtime.devices == 2
    same = [word for word in SELFTRAIN if word != "--set"]
    alone = load_recipe(RECIPE, [f"root={data}", *same, *settings])
    assert len(train(alone, tmp_path, resume=True, quiet=True).steps) == 2
    iterations = [json.loads(line)["iteration"] for line in metrics.read_text().splitlines()]
    assert iterations == [1, *range(1, 61)]


@pytest.mark.parametrize(
    "more",
    [
        {"SLURM_NTASKS": "4"},  # salloc: a shell of the login machine
        {"SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "4"},
        # salloc with a shell on the first machine, which is a step of its own
        {
            "SLURM_NTASKS": "4",
            "SLURM_PROCID": "0",
            "SLURM_STEP_ID": "4294967290",
            "SLURM_STEP_NUM_TASKS": "1",
        },
    ],
)
def test_a_shell_inside_an_allocation_works_in_this_process(
    data: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, str]
) -> None:
    for key, value in ({"SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "myjob"} | more).items():
        monkeypatch.setenv(key, value)
    asked = recipe(data, "none", "none")
    for make in (build_fabric, launch):
        assert make(asked).world_size == 1


def test_a_batch_script_of_many_tasks_can_evaluate(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in (SLURM | {"SLURM_NTASKS": "4"}).items():
        monkeypatch.setenv(key, value)
    assert build_fabric(recipe(data, "none", "none")).world_size == 1


SLURM = {
    "SLURM_JOB_ID": "4711",
    "SLURM_JOB_NAME": "adapt",
    "SLURM_NODELIST": "localhost",
    "SLURM_NODEID": "0",
    "SLURM_NNODES": "1",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
}


def test_processes_that_slurm_started_find_each_other(tmp_path: Path, data: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    words = ["--experiments", str(tmp_path), "--set", "every_step.iterations=2"]
    more = SLURM | {
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_STEP_ID": "0",
        "MASTER_PORT": port,
    }
    with (
        muhdi(data, *words, **more) as first,
        muhdi(data, *words, **(more | {"SLURM_PROCID": "1", "SLURM_LOCALID": "1"})) as second,
    ):
        outputs = [process.communicate(timeout=60) for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], outputs
    assert "Report, to open in a browser" in outputs[0][0]
    assert outputs[1][0] == ""
    entry = results(tmp_path, "run")["steps"][-1]["scores"]["running"]["sim"]
    assert entry["images"] == 3


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ({}, ""),
        ({"SLURM_NTASKS": "1"}, "SLURM has a single task"),
        ({"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}, "srun has not started this process"),
        (
            {"SLURM_NTASKS": "2", "SLURM_STEP_ID": "0"},
            "does not say how many of its 2 tasks run on a node",
        ),
    ],
)
def test_a_slurm_job_that_cannot_do_what_is_asked(
    monkeypatch: pytest.MonkeyPatch, data: Path, tasks: dict[str, str], message: str
) -> None:
    for key, value in (SLURM | tasks).items():
        monkeypatch.setenv(key, value)
    asked = recipe(data, "none", "none", *(["devices=2"] if message else []))
    if not message:
        assert launch(asked).world_size == 1
        return
    with pytest.raises(MuhdiError, match=message):
        launch(asked)


@pytest.mark.parametrize(("split", "number"), [("train", 0), ("val", 2)])
def test_a_file_that_one_process_cannot_read_ends_them_all(
    tmp_path: Path, split: str, number: int
) -> None:
    """While training, and while evaluating; whichever process has it."""
    draw(tmp_path)
    broken = tmp_path / "rain" / split / f"rain_{split}_{number}.png"
    broken.write_bytes(b"no image")
    with muhdi(
        tmp_path,
        "--devices",
        "2",
        "--experiments",
        str(tmp_path),
        "--set",
        "every_step.iterations=4",
    ) as process:
        _, error = process.communicate(timeout=60)
    assert process.returncode in (2, -signal.SIGKILL), error
    assert f"{broken}: not an image" in error
    assert "Traceback" not in error
    if split == "val":
        assert process.returncode == 2
        assert error.count("error: ") == 1


# --- what is refused, and what needs no second process --------------------------------------------


def test_a_batch_that_devices_cannot_share_is_refused() -> None:
    small = load_recipe(RECIPE, ["every_step.batch_size=2", "every_step.accumulate=2"])
    check_batches(small, 1)
    with pytest.raises(
        MuhdiError, match=r"steps\.0\.batch_size: 2 devices cannot share 2 images .* multiple of 4"
    ):
        check_batches(small, 2)
    with pytest.raises(
        MuhdiError, match=r"source_training\.batch_size: 8 devices cannot share 4 images equally;"
    ):
        check_batches(small, 8)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("--devices=0", "devices: "),
        ("--devices=two", "devices: "),
        ("--strategy=ddpp", "strategy: unknown value 'ddpp'; did you mean 'ddp'?"),
        ("--set=device=cuda:9", "runtime.device: this machine has no device cuda:9"),
        (
            "--set=steps.0.accumulate=3",
            "steps.0.batch_size: 1 device cannot share 4 images equally in 3 parts",
        ),
    ],
)
def test_what_cannot_be(word: str, message: str, tmp_path: Path) -> None:
    path = str(RECIPE)
    result = CliRunner().invoke(app, ["train", path, word, "--experiments", str(tmp_path)])
    assert isinstance(result.exception, MuhdiError)
    assert message in str(result.exception)
    assert not list(tmp_path.iterdir())


def test_a_frozen_batch_norm_keeps_its_statistics_and_still_measures(
    tmp_path: Path, data: Path
) -> None:
    backbone = build_segmenter("small", 3).backbone
    kept = dict(backbone.named_parameters())
    convert_norms(backbone, "frozen")
    assert all(kept[name] is parameter for name, parameter in backbone.named_parameters())
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    backbone.train()
    backbone(torch.randint(0, 256, (2, 3, 32, 48), dtype=torch.uint8))
    assert all(torch.equal(before[key], value) for key, value in backbone.state_dict().items())
    recipe_ = recipe(data, "none", "none", "model.batch_norm=frozen")
    train(recipe_, tmp_path, quiet=True)
    scores = results(tmp_path, "none_none")["steps"][-1]["scores"]
    assert scores["running"] != scores["domain"]  # measured from images, in spite of all
