"""The retention of running statistics: they come back, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from torch import Tensor

from muhdi.errors import RecipeError
from muhdi.models.checkpoint import load_checkpoint
from muhdi.recipe.load import load_recipe
from muhdi.recipe.schema import Recipe
from muhdi.run.directory import RunDirectory
from muhdi.workflows.train import train
from tests.workflows.test_train import assert_same_run, train_through_crashes

Tiny = Callable[..., Path]
SELF_TRAINING = "every_step.adaptation={method: selftrain, threshold: 0}"


def state_after(recipe: Recipe, experiments: Path, number: int, stage: str) -> dict[str, Tensor]:
    file = RunDirectory.of(recipe, experiments).model(number, stage, 3)
    return load_checkpoint(file).network.state_dict()


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """The last parts of the names of what is another tensor now."""
    return {name.rpartition(".")[2] for name in before if not before[name].equal(after[name])}


@pytest.mark.parametrize("source", ["labelled", "none"])
def test_they_come_back_and_the_weights_are_those_of_plain_training(
    tiny: Tiny, tmp_path: Path, source: str
) -> None:
    settings = [SELF_TRAINING, f"every_step.source={source}", "steps.1.retention=none"]
    plain = load_recipe(tiny(), [*settings, "steps.0.retention=none"])
    kept = load_recipe(tiny(), [*settings, "steps.0.retention=statistics"])
    train(plain, tmp_path / "plain", quiet=True)
    train(kept, tmp_path / "kept", quiet=True)
    start = state_after(kept, tmp_path / "kept", 0, "source")
    first = state_after(kept, tmp_path / "kept", 1, "city")
    second = state_after(kept, tmp_path / "kept", 2, "night")
    followed = state_after(plain, tmp_path / "plain", 1, "city")
    assert moved(start, followed) == {
        *("weight", "bias", "running_mean", "running_var", "num_batches_tracked"),
    }
    assert moved(start, first) == {"weight", "bias", "num_batches_tracked"}
    assert moved(followed, first) == {"running_mean", "running_var"}
    assert "running_mean" in moved(first, second)


def test_they_come_back_after_a_crash_too(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(tiny(), [SELF_TRAINING, "every_step.retention=[distill, statistics]"])
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(recipe, whole, quiet=True)
    train_through_crashes(recipe, broken, monkeypatch, 5, 3, 0)
    assert_same_run(whole, broken, recipe)
    start = state_after(recipe, broken, 0, "source")
    assert "running_mean" not in moved(start, state_after(recipe, broken, 2, "night"))


def test_nothing_is_carried_in_the_networks_file(tiny: Tiny, tmp_path: Path) -> None:
    recipe = load_recipe(tiny(), [SELF_TRAINING, "every_step.retention=statistics"])
    train(recipe, tmp_path, quiet=True)
    file = RunDirectory.of(recipe, tmp_path).model(2, "night", 3)
    assert not load_checkpoint(file).memory


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["model.batch_norm=frozen"], "the network has frozen batch norms alone, see model.batch"),
        (["model.tune=frozen"], "the network has frozen batch norms alone, see model.batch_norm"),
        (["evaluation.weights=teacher"], "statistics changes the network at the end of the step"),
        (
            ["model.backbone={class: 'benchmarks.layer_norm:SmallLayerNorm'}"],
            "has no batch norms, so there are no running statistics that 'statistics' could give",
        ),
    ],
)
def test_what_has_none_that_move_is_refused(
    tiny: Tiny, tmp_path: Path, settings: list[str], message: str
) -> None:
    asked = [SELF_TRAINING, "every_step.retention=statistics", *settings]

    def begin() -> None:
        train(load_recipe(tiny(), asked, trust_code=True), tmp_path, quiet=True)

    with pytest.raises(RecipeError) as error:
        begin()
    assert "steps.0.retention: " in str(error.value)
    assert message in str(error.value)
    assert not list(tmp_path.rglob("*.safetensors"))
