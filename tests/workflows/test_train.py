"""Whole small runs.

Every combination, the run directory, exact resume, shared sources, unlabelled domains.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from muhdi.adaptation.minent import MinEnt
from muhdi.errors import Interrupted, MuhdiError
from muhdi.models.checkpoint import load_checkpoint
from muhdi.models.segmenter import build_segmenter
from muhdi.recipe.load import load_recipe
from muhdi.recipe.schema import Recipe
from muhdi.retention.muhdi import MuHDi
from muhdi.run.directory import RunDirectory
from muhdi.training import passes
from muhdi.training.stage import StageTrainer
from muhdi.workflows.evaluate import evaluate_network
from muhdi.workflows.sweep import sweep
from muhdi.workflows.train import train

pytestmark = pytest.mark.usefixtures("thin_resnets")
ADAPTATIONS = {
    "none": "none",
    "minent": "minent",
    "advent": "{method: advent, width: 8}",
    "selftrain": "selftrain",
    "oracle": "oracle",
}
RETENTIONS = ("none", "distill", "muhdi", "ewc", "l2sp")
SCORED_ONCE = ["evaluation.statistics=[running]", "evaluation.samples=0"]
"""Where scores are not what is tested."""
CLASSES_AND_ONE = ["flat", "construction", "object", "nature", "sky", "human", "vehicle", "other"]
Tiny = Callable[..., Path]


def weights(experiments: Path, recipe: Recipe) -> dict[str, torch.Tensor]:
    return load_checkpoint(RunDirectory.of(recipe, experiments).last_model()).network.state_dict()


def assert_same_run(one: Path, two: Path, recipe: Recipe) -> None:
    """Weights, results and metric lines of two runs are identical to the bit."""
    a, b = RunDirectory.of(recipe, one), RunDirectory.of(recipe, two)
    first, second = weights(one, recipe), weights(two, recipe)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert a.results.read_text() == b.results.read_text()
    assert a.metrics.read_text() == b.metrics.read_text()


class Crash(Exception):
    """Stands for whatever ends a process."""


def crashing(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """The training dies before the iteration number ``after`` of the process."""
    original, done = StageTrainer.iterate, 0

    def iterate(self, *arguments):
        nonlocal done
        if done == after:
            raise Crash
        done += 1
        return original(self, *arguments)

    monkeypatch.setattr(StageTrainer, "iterate", iterate)


def train_through_crashes(
    recipe: Recipe, experiments: Path, monkeypatch: pytest.MonkeyPatch, *iterations: int
) -> None:
    """Train to the end, crashing after so many iterations each time before."""
    for after in iterations:
        with monkeypatch.context() as patch:
            crashing(patch, after)
            with pytest.raises(Crash):
                train(recipe, experiments, resume=True, quiet=True)
    train(recipe, experiments, resume=True, quiet=True)


# The two methods that hold most, with all others; `make soak` runs the remaining combinations.
COMBINATIONS = [
    *(("selftrain", retention) for retention in RETENTIONS),
    *((adaptation, "muhdi") for adaptation in ADAPTATIONS if adaptation != "selftrain"),
]


@pytest.mark.parametrize(("adaptation", "retention"), COMBINATIONS)
def test_combinations_train_and_resume_exactly(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, adaptation: str, retention: str
) -> None:
    methods = {"adaptation": ADAPTATIONS[adaptation], "retention": retention}
    settings = [f"every_step.{key}={value}" for key, value in methods.items()]
    recipe = load_recipe(tiny(), [*settings, *SCORED_ONCE])
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    results = train(recipe, whole, quiet=True)
    assert [step["name"] for step in results.steps] == ["source", "city", "night"]
    assert all(value is not None for value in results.matrix("running")[-1])
    # In the first step; in the second, after a save; again, before another iteration.
    train_through_crashes(recipe, broken, monkeypatch, 5, 3, 0)
    assert_same_run(whole, broken, recipe)
    started, ended = (
        json.loads(line)
        for line in _lines(whole, recipe, "night")[:: len(_lines(whole, recipe, "night")) - 1]
    )
    assert started["iteration"] == 1
    assert ended["iteration"] == 3
    expected = {
        "minent": "ent_main",
        "advent": "adv_main",
        "selftrain": "mix_main",
        "oracle": "oracle_main",
        "none": "seg_main",
    }
    assert expected[adaptation] in ended
    assert ("kd_main" in ended) == (retention in ("distill", "muhdi"))
    assert (retention in ended) == (retention in ("ewc", "l2sp"))
    assert ("kt_main" in ended) == (retention == "muhdi")


def _lines(experiments: Path, recipe: Recipe, stage: str) -> list[str]:
    text = RunDirectory.of(recipe, experiments).metrics.read_text()
    return [line for line in text.splitlines() if json.loads(line)["stage"] == stage]


def test_what_a_method_trains_moves_and_what_it_keeps_stays(tiny: Tiny, tmp_path: Path) -> None:
    methods = [f"every_step.adaptation={ADAPTATIONS['advent']}", "every_step.retention=muhdi"]
    recipe = load_recipe(tiny(), [*methods, *SCORED_ONCE])
    train(recipe, tmp_path, quiet=True)
    state, _ = RunDirectory.of(recipe, tmp_path).states.load()
    before = load_checkpoint(
        RunDirectory.of(recipe, tmp_path).model(1, "city", 3)
    ).network.state_dict()
    trainer = state["trainer"]
    (saved,) = trainer["retentions"]
    kept = {key.removeprefix("old.model."): value for key, value in saved.items()}
    assert {key for key in before if "specialist" not in key} == set(kept), (
        "the old model's output is all that is kept"
    )
    assert all(
        torch.equal(value, before[key]) for key, value in kept.items() if "num_batches" not in key
    )
    after = trainer["model"]
    assert not torch.equal(
        after["heads.agnostic.main.convs.0.weight"], before["heads.agnostic.main.convs.0.weight"]
    )
    assert any("discriminators" in key for key in trainer["adaptation"])


def test_the_run_directory_holds_what_is_promised(tiny: Tiny, tmp_path: Path) -> None:
    recipe = load_recipe(tiny())
    train(recipe, tmp_path, quiet=True)
    folder = tmp_path / "snapshots" / "tiny"
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {
        "recipe.yml",
        "results.json",
        "metrics.jsonl",
        "training_state_8.pt",
        "training_state_9.pt",
        "0_source/model_3.safetensors",
        "1_city/model_3.safetensors",
        "2_night/model_3.safetensors",
    } <= found
    for domain in ("sim", "city", "night"):
        for what in ("image", "label", "predicted_running", "predicted_domain", "predicted_image"):
            picture = Image.open(folder / "samples" / f"{domain}_0_{what}.png")
            assert picture.size == (48, 32)
            assert picture.mode == ("RGB" if what == "image" else "P")
    assert list((tmp_path / "logs" / "tiny").glob("events*"))
    assert not list(folder.rglob("*.tmp"))
    assert load_recipe(folder / "recipe.yml").experiment() == recipe.experiment()
    statistics = load_checkpoint(folder / "2_night/model_3.safetensors").statistics
    assert set(statistics) == {"sim", "city", "night"}
    rows = json.loads((folder / "results.json").read_text())["summary"]["domain"]["matrix"]
    assert [value is None for value in rows[0]] == [
        False,
        True,
        True,
    ], "no statistics before a domain's step"


@pytest.mark.parametrize("pair", [("muhdi", "ewc"), ("l2sp", "muhdi")])
def test_steps_of_different_retentions_resume_exactly(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pair: tuple[str, str]
) -> None:
    """The second step begins with the heads of the first one, also when it is resumed."""
    settings = [f"steps.{step}.retention={name}" for step, name in enumerate(pair)]
    recipe = load_recipe(tiny(), settings)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(recipe, whole, quiet=True)
    train_through_crashes(recipe, broken, monkeypatch, 8)
    assert_same_run(whole, broken, recipe)


@pytest.mark.parametrize("moment", ["evaluation", "saving"])
def test_a_crash_between_stages_loses_nothing(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    recipe = load_recipe(tiny())
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(recipe, whole, quiet=True)
    where = {
        "evaluation": "muhdi.workflows.train.evaluate_domains",
        "saving": "muhdi.workflows.train.save_checkpoint",
    }

    def die(*arguments, **keywords):
        raise Crash

    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(where[moment], die)
            with pytest.raises(Crash):
                train(recipe, broken, resume=True, quiet=True)
    train(recipe, broken, resume=True, quiet=True)
    assert_same_run(whole, broken, recipe)


def test_a_finished_run_resumes_to_itself(tiny: Tiny, tmp_path: Path) -> None:
    recipe = load_recipe(tiny())
    first = train(recipe, tmp_path, quiet=True)
    again = train(recipe, tmp_path, resume=True, quiet=True)
    assert first.confusion
    assert again == first


def test_a_killed_process_goes_on_exactly(tiny: Tiny, tmp_path: Path) -> None:
    """SIGKILL of a real process, then SIGTERM of it and its loaders, as clusters do.

    Then resumed to the end.
    """
    path = tiny(
        every_step={
            "iterations": 40,
            "batch_size": 2,
            "adaptation": "selftrain",
            "retention": "muhdi",
        },
        steps=[{"target": {"dataset": "scenes", "domain": "city", "train": 6, "val": 3}}],
    )
    recipe = load_recipe(path)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(recipe, whole, quiet=True)
    command = [
        sys.executable,
        "-m",
        "muhdi",
        "train",
        str(path),
        "--experiments",
        str(broken),
        "--resume",
        "--set",
        "loader.workers=2",
    ]
    metrics = RunDirectory.of(recipe, broken).metrics
    for signum, lines, status in ((signal.SIGKILL, 12, -9), (signal.SIGTERM, 25, 143)):
        process = subprocess.Popen(
            command,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        deadline = time.monotonic() + 120
        states = RunDirectory.of(recipe, broken).states
        before = states.files()[:1]
        while time.monotonic() < deadline and process.poll() is None:
            written = metrics.exists() and len(metrics.read_text().splitlines()) >= lines
            if written and states.files()[:1] != before:
                os.killpg(process.pid, signum)
                break
            time.sleep(0.01)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == status, errors
        if status == 143:
            assert "--resume" in errors
            assert "Traceback" not in errors
    train(recipe, broken, resume=True, quiet=True)
    assert_same_run(whole, broken, recipe)


def test_a_sweep_shares_the_source_and_changes_no_number(tiny: Tiny, tmp_path: Path) -> None:
    path = tiny(
        every_step={
            "iterations": 2,
            "batch_size": 2,
            "adaptation": "selftrain",
            "retention": "muhdi",
        }
    )
    said: list[str] = []
    runs = sweep([str(path)], [1], [], tmp_path / "swept", 1, said.append)[str(path)]
    assert sum("source_" in line and "training" in line for line in said) == 1
    alone = train(load_recipe(path, seed=1), tmp_path / "alone", quiet=True)
    assert runs[0].steps == alone.steps
    recipe = load_recipe(path, seed=1)
    one, two = weights(tmp_path / "swept", recipe), weights(tmp_path / "alone", recipe)
    assert all(torch.equal(one[key], two[key]) for key in one)
    said.clear()
    sweep([str(path)], [1], [], tmp_path / "swept", 1, said.append)
    assert not any("training" in line for line in said), "a finished run is not repeated"


def test_a_stopped_sweep_leaves_no_process_and_goes_on(tiny: Tiny, tmp_path: Path) -> None:
    path = tiny(every_step={"iterations": 400, "batch_size": 2})
    command = [sys.executable, "-m", "muhdi", "sweep", str(path), "--seed", "1", "--jobs", "2"]
    process = subprocess.Popen(
        [*command, "--experiments", str(tmp_path / "e")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    run = RunDirectory(tmp_path / "e" / "snapshots" / "tiny_seed1")
    deadline = time.monotonic() + 120
    while not run.states.files() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert "Stopped; progress is saved. Resume with: muhdi sweep" in errors
    assert (
        str(tmp_path)
        not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    )
    run.create(run.recipe(), overwrite=False)  # nobody holds the lock


def test_seeds_differ(tiny: Tiny, tmp_path: Path) -> None:
    runs = [train(load_recipe(tiny(), ["steps=[]"], seed=s), tmp_path, quiet=True) for s in (1, 2)]
    assert runs[0].matrix("running") != runs[1].matrix("running")


def test_a_backbone_alone_can_start_a_sequence_and_has_no_score_before_it(
    tiny: Tiny, tmp_path: Path
) -> None:
    donor = build_segmenter("resnet50", 7).backbone.state_dict()
    torch.save(donor, tmp_path / "resnet.pth")
    settings = [
        "model.backbone=resnet50",
        f"model.init={tmp_path / 'resnet.pth'}",
        "source_training.iterations=0",
        "every_step.iterations=1",
        "evaluation.statistics=[running]",
        "steps.1.retention=muhdi",
    ]
    results = train(load_recipe(tiny(), settings), tmp_path, quiet=True)
    assert results.matrix("running")[0] == [None, None, None]
    assert None not in results.matrix("running")[-1]
    assert results.summary("running").forgetting is not None
    with pytest.raises(MuhdiError, match="a backbone alone, so there is nothing to retain"):
        train(
            load_recipe(tiny(), [*settings, "every_step.retention=muhdi", "name=x"]),
            tmp_path,
            quiet=True,
        )


def test_two_processes_never_share_a_run(tiny: Tiny, tmp_path: Path) -> None:
    recipe = load_recipe(tiny())
    directory = RunDirectory.of(recipe, tmp_path)
    directory.create(recipe, overwrite=False)
    with pytest.raises(MuhdiError, match="another process is at work"):
        train(recipe, tmp_path, resume=True, quiet=True)
    directory.release()
    train(recipe, tmp_path, resume=True, quiet=True)


def test_what_says_where_and_how_fast_may_change_on_resume(tiny: Tiny, tmp_path: Path) -> None:
    train(load_recipe(tiny(), ["source_training.iterations=2"]), tmp_path, quiet=True)
    changed = load_recipe(
        tiny(), ["source_training.iterations=2", "loader.workers=1", "save_every=9", "log_every=5"]
    )
    train(changed, tmp_path, resume=True, quiet=True)


def test_evaluate_scores_a_run_a_file_and_fresh_statistics(tiny: Tiny, tmp_path: Path) -> None:
    recipe = load_recipe(tiny())
    results = train(recipe, tmp_path, quiet=True)
    folder = RunDirectory.of(recipe, tmp_path).folder
    again, _ = evaluate_network(folder)
    assert again.steps[0]["scores"] == results.steps[-1]["scores"]
    earlier, _ = evaluate_network(folder / "1_city" / "model_3.safetensors", kinds=["running"])
    assert earlier.steps[0]["scores"]["running"] == results.steps[1]["scores"]["running"]
    fresh, _ = evaluate_network(folder, kinds=["domain"], refresh=True)
    night = fresh.steps[0]["scores"]["domain"]["night"]
    assert night == results.steps[-1]["scores"]["domain"]["night"], (
        "the last domain's statistics are not stale"
    )
    with pytest.raises(MuhdiError, match="has the heads agnostic"):
        evaluate_network(folder, head="specialist")
    with pytest.raises(MuhdiError, match="its classes are not those"):
        evaluate_network(folder, recipe=str(tiny(classes=CLASSES_AND_ONE, steps=[])))


def test_interrupted_in_the_same_process_says_so(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(tiny())
    original = StageTrainer.iterate

    def iterate(self, *arguments):
        os.kill(os.getpid(), signal.SIGINT)
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(StageTrainer, "iterate", iterate)
        with pytest.raises(Interrupted) as stop:
            train(recipe, tmp_path, quiet=True)
    assert stop.value.signum == signal.SIGINT
    state, _ = RunDirectory.of(recipe, tmp_path).states.load()
    assert (state["stage"], state["trainer"]["iteration"]) == (0, 1)


def test_a_loss_that_is_not_finite_stops_with_the_files_named(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoilt(logits, batch, weights):
        return {"seg_aux": logits.main.sum() * float("nan")}

    monkeypatch.setattr(passes, "segmentation", spoilt)
    with pytest.raises(MuhdiError, match=r"seg_aux is not finite at iteration 1 \(images: sim_"):
        train(load_recipe(tiny()), tmp_path, quiet=True)


def test_bf16_and_sgd_train_too(tiny: Tiny, tmp_path: Path) -> None:
    """The reference's optimizer and two discriminators, in mixed precision."""
    settings = [
        "precision=bf16-mixed",
        "optimizer.name=sgd",
        "optimizer.clip=1",
        f"every_step.adaptation={ADAPTATIONS['advent']}",
        "every_step.retention=muhdi",
        *SCORED_ONCE,
    ]
    results = train(load_recipe(tiny(), settings), tmp_path, quiet=True)
    assert results.matrix("running")[-1][0] is not None
    assert json.loads(_lines(tmp_path, load_recipe(tiny()), "night")[-1])["d_main_target"] > 0


def test_source_and_target_of_other_sizes(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each domain's logits are brought to the size of its own images."""
    seen: dict[str, set[tuple[int, ...]]] = {}

    def noted(method, kind):
        def call(self, outputs, batch):
            sizes = {batch.size}
            if kind == "target":
                sizes = {tuple(level.shape[-2:]) for _, level in outputs.items()}
            seen.setdefault(kind, set()).update(sizes)
            return method(self, outputs, batch)

        return call

    monkeypatch.setattr(MinEnt, "on_target", noted(MinEnt.on_target, "target"))
    monkeypatch.setattr(MuHDi, "on_target", noted(MuHDi.on_target, "retention"))
    target = {"dataset": "scenes", "domain": "city", "train": 4, "val": 2, "image_size": [32, 24]}
    step = {"iterations": 1, "adaptation": "minent", "retention": "muhdi", "target_batch_size": 3}
    train(load_recipe(tiny(every_step=step, steps=[{"target": target}])), tmp_path, quiet=True)
    assert seen == {"target": {(24, 32)}, "retention": {(24, 32)}}


def test_no_new_folder_appears_in_the_root_of_the_file_system(tiny: Tiny) -> None:
    recipe = load_recipe(tiny(snapshots="/gpfsnowhere/expe"))
    with pytest.raises(MuhdiError, match="there is no /gpfsnowhere on this machine"):
        train(recipe, quiet=True)
    assert not Path("/gpfsnowhere").exists()
