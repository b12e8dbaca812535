"""The mean teacher is saved, and scored, used and exported where it is asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from muhdi.errors import RecipeError
from muhdi.models.checkpoint import load_checkpoint
from muhdi.recipe.schema import Recipe
from muhdi.workflows.train import train
from tests.workflows.test_train import assert_same_run, train_through_crashes

Tiny = Callable[..., Path]
Muhdi = Callable[..., tuple[int, str, str]]
SELFTRAIN = "every_step.adaptation={method: selftrain, momentum: 0.9}"


def networks(folder: Path) -> list[Path]:
    return sorted((folder / "snapshots/tiny").rglob("model_*.safetensors"))


def test_its_weights_are_saved_scored_and_resumed_to_the_bit(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe.load(tiny(), [SELFTRAIN, "evaluation.weights=teacher"])
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    results = train(recipe, whole, quiet=True)
    train_through_crashes(recipe, broken, monkeypatch, 5, 3, 0)
    assert_same_run(whole, broken, recipe)
    assert results.scored_weights == "teacher"
    source, city, night = (load_checkpoint(path) for path in networks(whole))
    assert source.teacher is None
    assert source.default_weights == "model"
    assert night.default_weights == "teacher"
    assert city.teacher is not None
    own, other = city.network.state_dict(), city.teacher.network.state_dict()
    assert not torch.equal(own["backbone.conv1.weight"], other["backbone.conv1.weight"])
    assert torch.equal(own["backbone.bn1.running_mean"], other["backbone.bn1.running_mean"])
    assert city.teacher.statistics.keys() == {"sim", "city"}


def test_commands_use_it_on_request(tiny: Tiny, tmp_path: Path, muhdi: Muhdi) -> None:
    status, _, errors = muhdi("train", tiny(), "--set", SELFTRAIN)
    assert status == 0, errors
    run = tmp_path / "experiments/snapshots/tiny"
    source, _, night = networks(tmp_path / "experiments")
    scores = {}
    for weights in ("model", "teacher"):
        where = ["--weights", weights, "--statistics", "running", "--json", f"{weights}.json"]
        status, output, errors = muhdi("evaluate", run, *where)
        assert status == 0, errors
        assert ("scored with the mean teacher's weights" in output) is (weights == "teacher")
        scores[weights] = json.loads((tmp_path / f"{weights}.json").read_text())
    assert scores["teacher"]["scored_weights"] == "teacher"
    assert scores["teacher"]["steps"] != scores["model"]["steps"]
    status, output, _ = muhdi("export", night, "teacher.pt2", "--weights", "teacher")
    assert status == 0
    status, output, _ = muhdi("info", night)
    assert "--weights teacher" in output
    status, _, errors = muhdi(
        "evaluate", source, "--recipe", run / "recipe.yml", "--weights", "teacher"
    )
    assert status == 2
    assert "has no mean teacher; train it with self-training" in errors
    assert str(source) in errors


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["every_step.adaptation=advent"], "steps.0.adaptation has no teacher"),
        ([SELFTRAIN, "every_step.retention=muhdi"], "steps.0.retention trains a specialist"),
        (
            [SELFTRAIN, "evaluation.select=entropy", "snapshot_every=1"],
            "chooses between networks, not between teachers",
        ),
    ],
)
def test_what_has_no_teacher_to_score_is_refused(
    tiny: Tiny, settings: list[str], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        Recipe.load(tiny(), [*settings, "evaluation.weights=teacher"])
