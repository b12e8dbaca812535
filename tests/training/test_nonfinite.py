"""Losses, gradients and weights that are not finite.

The stop, the files named, and what skipping does.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from muhdi import losses
from muhdi.errors import MuhdiError
from muhdi.models.checkpoint import load_checkpoint, read_tensors
from muhdi.recipe.load import load_recipe
from muhdi.recipe.schema import Recipe
from muhdi.run.directory import RunDirectory
from muhdi.training.nonfinite import Finite
from muhdi.training.stage import StageTrainer
from muhdi.workflows.train import train
from tests.workflows.test_train import Crash, assert_same_run, crashing

Tiny = Callable[..., Path]
METHODS = [
    ("{method: advent, width: 8, discriminators: previous}", "muhdi"),
    ("selftrain", "distill"),
]


def bad_where(
    monkeypatch: pytest.MonkeyPatch, bad: Callable[[torch.Tensor], bool], *, gradient: bool = False
) -> None:
    """The source's loss, or only its gradient, is not a number for batches whose labels are ``bad``."""

    def cross_entropy(
        logits: torch.Tensor, labels: torch.Tensor, **options: torch.Tensor
    ) -> torch.Tensor:
        loss = losses.cross_entropy(logits, labels, **options)
        if not bad(labels):
            return loss
        return loss + torch.sqrt((0 * logits).sum()) if gradient else loss * float("nan")

    monkeypatch.setattr("muhdi.training.iteration.cross_entropy", cross_entropy)


def some(labels: torch.Tensor) -> bool:
    return int(labels.sum()) % 3 == 0


def settings(adaptation: str, retention: str, *more: str) -> list[str]:
    return [f"every_step.adaptation={adaptation}", f"every_step.retention={retention}",
            "evaluation.statistics=[running]", *more]  # fmt: skip


def lines(recipe: Recipe, experiments: Path) -> list[dict]:
    return [
        json.loads(line)
        for line in RunDirectory.of(recipe, experiments).metrics.read_text().splitlines()
    ]


def test_the_first_bad_iteration_is_named_though_losses_are_read_later(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(
        tiny(), ["log_every=100", "source_training.iterations=5", "save_every=100"]
    )
    seen: list[list[str]] = []
    original = StageTrainer._iterate
    monkeypatch.setattr(
        StageTrainer, "_iterate", lambda *a: seen.append(a[1].names) or original(*a)
    )
    bad_where(monkeypatch, lambda labels: len(seen) == 3)
    with pytest.raises(MuhdiError, match="seg_aux is not finite at iteration 3") as error:
        train(recipe, tmp_path, quiet=True)
    assert len(seen) == 5
    assert f"(images: {', '.join(seen[2])})" in str(error.value)
    assert "go on with --resume" in str(error.value)


def test_the_last_good_state_stays_and_the_run_goes_on_from_it(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(tiny(), settings("none", "none", "source_training.iterations=8"))
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(recipe, whole, quiet=True)
    calls = 0

    def fifth(labels: torch.Tensor) -> bool:
        nonlocal calls
        calls += 1
        return calls > 8  # two levels in each iteration

    with monkeypatch.context() as patch:
        bad_where(patch, fifth)
        with pytest.raises(MuhdiError, match="not finite at iteration 5"):
            train(recipe, broken, quiet=True)
    assert [path.name for path in RunDirectory.of(recipe, broken).states.files()] == [
        "training_state_4.pt", "training_state_2.pt",
    ]  # fmt: skip
    train(recipe, broken, resume=True, quiet=True)
    assert_same_run(whole, broken, recipe)


def test_spoilt_weights_are_never_saved(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gradient of the very iteration after which a state, or the network, is saved."""
    calls = 0

    def last(labels: torch.Tensor) -> bool:
        nonlocal calls
        calls += 1
        return calls > 6

    bad_where(monkeypatch, last, gradient=True)
    recipe = load_recipe(tiny(), ["source_training.iterations=4", "steps=[]"])
    with pytest.raises(MuhdiError, match="the network's weights are not finite after iteration 4"):
        train(recipe, tmp_path, quiet=True)
    run = RunDirectory.of(recipe, tmp_path)
    assert [path.name for path in run.states.files()] == ["training_state_2.pt"]
    assert not run.models()


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize(("adaptation", "retention"), METHODS)
def test_skipping_is_deterministic_and_survives_resuming(
    tiny: Tiny,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    adaptation: str,
    retention: str,
    gradient: bool,
) -> None:
    bad_where(monkeypatch, some, gradient=gradient)
    recipe = load_recipe(
        tiny(), settings(adaptation, retention, "every_step.iterations=6", "skip_bad=6")
    )
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(recipe, whole, quiet=True)
    skipped = [line for line in lines(recipe, whole) if "skipped" in line]
    assert 2 <= len(skipped) < 15
    assert all(line["skipped"][0].startswith("sim_") for line in skipped)
    for after in (4, 3, 2):
        with monkeypatch.context() as patch:
            crashing(patch, after)
            with pytest.raises(Crash):
                train(recipe, broken, resume=True, quiet=True)
    train(recipe, broken, resume=True, quiet=True)
    assert_same_run(whole, broken, recipe)


def test_good_data_gives_the_same_bits_with_and_without_skipping(
    tiny: Tiny, tmp_path: Path
) -> None:
    for name, number in (("off", 0), ("on", 3)):
        recipe = load_recipe(tiny(), settings(METHODS[0][0], "muhdi", f"skip_bad={number}"))
        train(recipe, tmp_path / name, quiet=True)
    assert_same_run(tmp_path / "off", tmp_path / "on", recipe)


@pytest.mark.parametrize(("adaptation", "retention"), METHODS)
def test_a_skipped_batch_leaves_nothing_behind(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, adaptation: str, retention: str
) -> None:
    """A last step of which every batch is bad ends with the network, and the discriminators, it began with."""
    recipe = load_recipe(tiny(), settings(adaptation, retention, "skip_bad=3"))
    original = StageTrainer.__init__
    with monkeypatch.context() as patch:

        def begin(self, fabric, recipe, number, *rest):
            bad_where(patch, lambda labels: number == 2)
            original(self, fabric, recipe, number, *rest)

        patch.setattr(StageTrainer, "__init__", begin)
        train(recipe, tmp_path, quiet=True)
    run = RunDirectory.of(recipe, tmp_path)
    before, after = (
        load_checkpoint(run.model(n, s, 3)).network.state_dict()
        for n, s in ((1, "city"), (2, "night"))
    )
    common = [
        key for key in before if "specialist" not in key
    ]  # which starts each step as the agnostic head's copy
    assert all(torch.equal(before[key], after[key]) for key in common)
    if "advent" in adaptation:
        one, two = (
            read_tensors(run.network(n, s, "D_main", 3))[0] for n, s in ((1, "city"), (2, "night"))
        )
        assert all(torch.equal(one[key], two[key]) for key in one)


def test_one_more_than_may_be_skipped_stops_and_a_higher_number_goes_on(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad_where(monkeypatch, some)
    step = settings("none", "none", "every_step.iterations=6", "source_training.iterations=6")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    recipe = load_recipe(tiny(), [*step, "skip_bad=6"])
    train(recipe, whole, quiet=True)
    with pytest.raises(
        MuhdiError, match=r"not finite at iteration \d, after 1 bad batches that were skipped"
    ):
        train(load_recipe(tiny(), [*step, "skip_bad=1"]), broken, quiet=True)
    train(recipe, broken, resume=True, quiet=True)
    assert_same_run(whole, broken, recipe)


def test_what_is_put_back_is_all_that_had_changed() -> None:
    """Buffers, the adaptation's network, and its optimizer's moments.

    The second one begins with none.
    """
    norm, own = nn.BatchNorm2d(3), nn.Linear(2, 2)
    optimizer, adam = (
        torch.optim.SGD(norm.parameters(), lr=0.1),
        torch.optim.Adam(own.parameters()),
    )
    for steps_before in (0, 1):
        watch = Finite(9, [norm, own], optimizer, adam)
        adam.zero_grad()
        if steps_before:
            own(torch.ones(2)).sum().backward()
            adam.step()
        before = copy.deepcopy((norm.state_dict(), own.state_dict(), adam.state_dict()))
        watch.begin()
        loss = norm(torch.randn(4, 3, 5, 5) * float("nan")).sum()
        own(torch.full((2,), float("nan"))).sum().backward()
        adam.step()
        assert watch.spoiled({"loss": loss})
        after = (norm.state_dict(), own.state_dict(), adam.state_dict())
        torch.testing.assert_close(after, before, rtol=0, atol=0)
        assert "the loss loss is not finite at iteration 7: bad batch 1 of 9" in watch.note(
            7, {"loss": loss}, ["x.png"]
        )
        assert watch.read() == {}
