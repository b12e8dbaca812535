"""The network that a step ends with, chosen with or without labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from muhdi.errors import MuhdiError
from muhdi.evaluation.results import Results
from muhdi.models.checkpoint import load_checkpoint
from muhdi.recipe.load import load_recipe
from muhdi.report.ranking import ranking
from muhdi.run.directory import RunDirectory
from muhdi.workflows.train import train
from tests.workflows.test_train import assert_same_run, train_through_crashes

Tiny = Callable[..., Path]
CHOSEN = ["snapshot_every=1", "evaluation.statistics=[running]", "optimizer.ema=0.5"]

EARLY = ["evaluation.select=entropy", "every_step.learning_rate=0.01"]
"""At such a rate the last iteration makes the network less sure."""


def weights(run: RunDirectory, stage: int, name: str, iterations: int) -> dict[str, torch.Tensor]:
    return load_checkpoint(run.model(stage, name, iterations)).network.state_dict()


def test_an_earlier_network_goes_on_and_a_crash_changes_nothing(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = ["every_step.adaptation=oracle", "every_step.retention=ewc"]
    city = {"dataset": "scenes", "domain": "city", "train": 6, "val": 3}
    recipe = load_recipe(tiny(steps=[{"target": city}]), [*CHOSEN, *methods, *EARLY])
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    results = train(recipe, whole, quiet=True)
    # In the step, when two networks to choose from are there.
    train_through_crashes(recipe, broken, monkeypatch, 5)
    assert_same_run(whole, broken, recipe)
    run = RunDirectory.of(recipe, whole)
    selected = results.steps[1]["selected"]
    entropies = [one["label_free"]["entropy"] for one in selected["candidates"]]
    assert [one["iterations"] for one in selected["candidates"]] == [1, 2, 3]
    chosen = selected["iterations"]
    assert chosen < 3
    assert entropies[chosen - 1] == min(entropies)
    own = results.steps[1]["scores"]["running"]["city"]
    assert own["label_free"] == selected["candidates"][chosen - 1]["label_free"]
    ended, kept = (weights(run, 1, "city", number) for number in (3, chosen))
    assert all(torch.equal(ended[key], kept[key]) for key in kept)


def test_a_choice_by_labels_is_called_one(muhdi, tiny: Tiny, tmp_path: Path) -> None:
    settings = [*CHOSEN[:2], "evaluation.select=best", "evaluation.agreement=all"]
    words = [word for setting in settings for word in ("--set", setting)]
    status, output, errors = muhdi("train", tiny(), *words, "--experiments", "e", "--quiet")
    assert status == 0, errors
    results = Results.load(tmp_path / "e/snapshots/tiny")
    for step in results.steps[1:]:
        mious = [one["miou"] for one in step["selected"]["candidates"]]
        number = step["selected"]["iterations"]
        assert mious[number - 1] == max(mious)
        line = f"of 3 networks the one after {number} of 3 iterations goes on, chosen with labels"
        assert f"{step['name']}: {line}" in output
    assert (tmp_path / "e/snapshots/tiny/report.html").read_text().count("chosen with labels") == 2
    # Two steps with three networks, and two networks that were scored on the other's target.
    found = ranking(results, "running")
    assert found is not None
    assert "Of 5 networks on 2 targets" in found.sentence
    assert found.table.rows[2][1] is not None, "agreement with mirror images was measured"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["evaluation.select=entropy"],
            "evaluation.select: chooses between networks of a step, of which only the last is kept;"
            " set snapshot_every",
        ),
        (
            ["evaluation.select=entropy", "snapshot_every=3"],
            "snapshot_every: keeps no network within the 3 iterations of steps.0",
        ),
        (
            ["evaluation.select=mirror_agreement", "snapshot_every=1"],
            "evaluation.select: mirror_agreement is not measured on city; set evaluation.agreement",
        ),
        (["evaluation.select=entrpy"], "did you mean 'entropy'?"),
        (["evaluation.agreement=some"], "evaluation.agreement: "),
    ],
)
def test_what_cannot_be_chosen_by(
    muhdi, tiny: Tiny, tmp_path: Path, settings: list[str], message: str
) -> None:
    words = [word for setting in settings for word in ("--set", setting)]
    status, _, errors = muhdi("train", tiny(), *words, "--experiments", "e")
    assert status == 2
    assert message in errors
    assert not (tmp_path / "e").exists()


def test_the_best_needs_labels(tiny: Tiny, folders: Path, tmp_path: Path) -> None:
    rain = {"dataset": "folder", "name": "rain", "images": "{split}/*.png"}
    path = tiny(steps=[{"target": rain | {"root": str(folders / "rain")}}], snapshot_every=1)
    recipe = load_recipe(path, ["evaluation.select=best"])
    with pytest.raises(MuhdiError, match="best chooses by labels, but rain has none; choose by"):
        train(recipe, tmp_path / "e", quiet=True)
