"""Steps in which the batch norms' running statistics stay as they were."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from muhdi.errors import RecipeError
from muhdi.models.checkpoint import load_checkpoint
from muhdi.models.norms import SyncedBatchNorm, convert_norms
from muhdi.models.segmenter import build_segmenter
from muhdi.models.statistics import read_statistics, running_kept
from muhdi.recipe.load import load_recipe
from muhdi.recipe.schema import Recipe
from muhdi.run.directory import RunDirectory
from muhdi.workflows.train import train

Tiny = Callable[..., Path]
SELF_TRAINING = "every_step.adaptation={method: selftrain, threshold: 0}"
KEEP = "every_step.running_statistics=keep"


def networks(recipe: Recipe, experiments: Path) -> list[dict[str, Tensor]]:
    """States after the source, and after each of the two steps."""
    run = RunDirectory.of(recipe, experiments)
    files = [run.model(0, "source", 3), run.model(1, "city", 3), run.model(2, "night", 3)]
    return [load_checkpoint(file).network.state_dict() for file in files]


def moved(before: dict[str, Tensor], after: dict[str, Tensor], part: str) -> bool:
    """Whether something of this name is another one now."""
    return any(not torch.equal(before[name], after[name]) for name in before if part in name)


@pytest.mark.parametrize("kind", ["batch", "synced"])
def test_batches_are_normalised_as_before_and_nothing_is_remembered(kind: str) -> None:
    torch.manual_seed(0)
    network = build_segmenter("small", 3)
    convert_norms(network, kind)
    network.train()
    images = torch.rand(2, 3, 32, 32) * 255
    kept = read_statistics(network)
    with running_kept(network):
        inside = network(images).heads["agnostic"].main
    for name, value in read_statistics(network).items():
        assert torch.equal(value, kept[name]), name
    outside = network(images).heads["agnostic"].main
    assert torch.equal(inside, outside)
    after = read_statistics(network)
    assert not any(torch.equal(value, kept[name]) for name, value in after.items())


def test_of_a_failure_inside_nothing_is_left() -> None:
    network = nn.Sequential(nn.BatchNorm2d(2, momentum=None), SyncedBatchNorm(2, momentum=0.3))
    with pytest.raises(ValueError, match="inside"), running_kept(network):
        raise ValueError("inside")
    assert [norm.momentum for norm in network] == [None, 0.3]


@pytest.mark.parametrize("source", ["labelled", "none"])
def test_a_step_keeps_them_while_its_weights_move(tiny: Tiny, tmp_path: Path, source: str) -> None:
    settings = [SELF_TRAINING, f"every_step.source={source}", KEEP]
    recipe = load_recipe(tiny(), [*settings, "steps.1.running_statistics=follow"])
    train(recipe, tmp_path, quiet=True)
    start, kept, followed = networks(recipe, tmp_path)
    assert not moved(start, kept, ".running_")
    assert moved(start, kept, ".weight")
    assert moved(kept, followed, ".running_")
    assert moved(kept, followed, ".weight")


def test_without_the_key_they_follow(tiny: Tiny, tmp_path: Path) -> None:
    recipe = load_recipe(tiny(), [SELF_TRAINING])
    train(recipe, tmp_path, quiet=True)
    start, first, second = networks(recipe, tmp_path)
    assert moved(start, first, ".running_")
    assert moved(first, second, ".running_")


def test_an_unknown_choice_is_refused(tiny: Tiny) -> None:
    with pytest.raises(RecipeError, match=r"running_statistics: unknown value 'frozen'"):
        load_recipe(tiny(), ["every_step.running_statistics=frozen"])
