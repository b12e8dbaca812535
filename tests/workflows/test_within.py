"""Scores within steps change nothing and survive a crash, also where a target comes back."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch

from muhdi.errors import RecipeError
from muhdi.models.checkpoint import load_checkpoint
from muhdi.recipe.load import load_recipe
from muhdi.run.directory import RunDirectory
from muhdi.training.stage import StageTrainer
from muhdi.workflows import within
from muhdi.workflows.dry_run import _evaluations_within
from muhdi.workflows.evaluate import evaluate
from muhdi.workflows.train import train
from tests.workflows.test_train import Tiny, assert_same_run, train_through_crashes


def target(name: str) -> dict[str, Any]:
    return {"target": {"dataset": "scenes", "domain": name, "train": 4, "val": 2}}


RETURNING = {"steps": [target(name) for name in ("city", "night", "city")]}
SETTINGS = [
    "source.train=4",
    "source.val=2",
    "source_training.iterations=1",
    "every_step.iterations=2",
    "save_every=1",
    "every_step.adaptation=selftrain",
    "every_step.retention=ewc",
    "optimizer.ema=0.9",
    "evaluation.statistics=[domain]",
    "evaluation.samples=0",
    "evaluation.weights=teacher",
]


def without_curves(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in step.items() if key not in ("iterations", "curve")}
        for step in steps
    ]


def spoil(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluations within steps draw random numbers, and change the buffers of the network."""
    as_scored, evaluate_domains = within.as_scored, within.evaluate_domains
    networks: list[torch.nn.Module] = []

    def seeing(trainer: StageTrainer) -> AbstractContextManager[None]:
        networks.append(trainer.network)
        return as_scored(trainer)

    def spoiling(*arguments: Any) -> Any:
        torch.rand(3)
        row = evaluate_domains(*arguments)
        for buffer in networks[-1].buffers():
            buffer.zero_()
        return row

    monkeypatch.setattr(within, "as_scored", seeing)
    monkeypatch.setattr(within, "evaluate_domains", spoiling)


def test_scores_within_steps_change_nothing_and_survive_crashes(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny(**RETURNING)
    plain, whole, broken = (tmp_path / name for name in ("plain", "whole", "broken"))
    without = train(load_recipe(path, SETTINGS), plain, quiet=True)
    spoil(monkeypatch)
    recipe = load_recipe(path, [*SETTINGS, "evaluation.every=1"])
    results = train(recipe, whole, quiet=True)
    # The digests of all networks' files are among them.
    assert without_curves(results.steps) == without.steps
    ends = [RunDirectory.of(recipe, one) for one in (plain, whole)]
    assert ends[0].metrics.read_text() == ends[1].metrics.read_text()
    for numbers in ("torch", "generator"):
        states = [run.states.load()[0]["trainer"][numbers] for run in ends]
        assert torch.equal(*states)

    # In the first step and in the step that returns, after a state was saved within it.
    train_through_crashes(recipe, broken, monkeypatch, 2, 4)
    assert_same_run(whole, broken, recipe)

    curves = [step.get("curve") for step in results.steps]
    assert curves[0] is None, "the source is not evaluated within"
    assert [[point["iterations"] for point in curve] for curve in curves[1:]] == [[1]] * 3
    assert results.summary("domain").area is None, "measured at the end of a step alone"
    assert results.visits == {"city": [1, 3], "night": [2]}
    first = curves[1][0]["scores"]["domain"]
    assert first["night"] == {"miou": None, "reason": "no statistics"}
    assert first["sim"]["miou"] is not None

    sizes = [step["kept"] for step in results.steps]
    assert [list(kept) for kept in sizes] == [["statistics"], *[["ewc", "statistics"]] * 3]
    assert sizes[2]["ewc"] == sizes[1]["ewc"], "one importance, however many domains"
    # Means and variances in float32 of 11 batch norms, of the network, its average and its teacher.
    file = load_checkpoint(RunDirectory.of(recipe, whole).last_model())
    channels = sum(norm.num_features for norm in file.network.modules() if _is_norm(norm))
    assert sizes[3]["statistics"] == 3 * 3 * 2 * 4 * channels


def _is_norm(module: torch.nn.Module) -> bool:
    return isinstance(module, torch.nn.BatchNorm2d)


def test_a_score_within_a_step_is_that_of_the_network_that_is_kept_then(
    tiny: Tiny, tmp_path: Path
) -> None:
    steps = [target("city")]
    settings = ["evaluation.every=2", "snapshot_every=2", "evaluation.statistics=[running]"]
    recipe = load_recipe(tiny(steps=steps), settings)
    results = train(recipe, tmp_path, quiet=True)
    file = RunDirectory.of(recipe, tmp_path).model(1, "city", 2)
    (again,) = evaluate(file, recipe).matrix("running")
    (point,) = results.steps[1]["curve"]
    assert [entry["miou"] for entry in point["scores"]["running"].values()] == again


@pytest.mark.parametrize("every", [0, 3, "often"])
def test_a_number_that_is_none_or_too_large_is_refused(tiny: Tiny, every: object) -> None:
    with pytest.raises(RecipeError, match=r"evaluation\.every: "):
        load_recipe(tiny(), [f"evaluation.every={every}"])
    assert load_recipe(tiny(), ["steps.1.iterations=4", "evaluation.every=3"])
    assert load_recipe(tiny(steps=[]), ["every_step={}", "evaluation.every=3"])


SHORT = {"domain_images": 2, "samples": 1, "every": 2, "statistics": ["running"]}


def test_the_page_and_the_terminal_show_them(
    muhdi: Callable[..., tuple[int, str, str]], tiny: Tiny, tmp_path: Path
) -> None:
    path = tiny(**RETURNING, evaluation=SHORT)
    status, output, errors = muhdi("train", path)
    assert status == 0, errors
    assert output.count("mIoU within city, iteration 2, running: sim ") == 2
    assert "mIoU after city, step 3, running: sim " in output
    run = tmp_path / "experiments/snapshots/tiny"
    page = (run / "report.html").read_text()
    for words in (
        '"after city, step 3"',
        "mIoU in percent over the iterations of the steps, running statistics",
        "lost before a return",
        "mean over the iterations",
        "Forgetting counts city from the first step on",
        "Kept after each stage",
    ):
        assert words in page
    assert muhdi("compare", run, "--format", "csv")[1].count("mean over the iterations") == 1
    status, output, _ = muhdi("info", run)
    assert "kept for later steps" in output
    stored = json.loads((run / "results.json").read_text())
    kept = stored["steps"][-1]["kept"]["statistics"]
    assert f"statistics {kept / 1024:.1f} KiB" in output


def test_a_dry_run_counts_them(tiny: Tiny) -> None:
    recipe = load_recipe(tiny(), ["steps.1.iterations=7", "evaluation.every=3"])
    assert [_evaluations_within(recipe, stage) for stage in range(3)] == [0, 0, 2]
