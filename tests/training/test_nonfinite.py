"""Losses, gradients and weights that are not finite: the stop, its message, and skipping."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from muhdi import distributed
from muhdi.errors import MuhdiError
from muhdi.losses import Losses
from muhdi.models.checkpoint import load_checkpoint
from muhdi.models.outputs import Levels
from muhdi.models.tensor_files import read_tensors
from muhdi.passes import Batch
from muhdi.recipe.load import load_recipe
from muhdi.recipe.schema import Recipe
from muhdi.run.directory import RunDirectory
from muhdi.training import passes
from muhdi.training.nonfinite import IterationLosses, LossReader, check_weights
from muhdi.training.skip_bad import SkipBad
from muhdi.training.stage import StageTrainer
from muhdi.workflows.train import train
from tests.workflows.test_train import SCORED_ONCE, assert_same_run, train_through_crashes

Tiny = Callable[..., Path]
METHODS = [
    ("{method: advent, width: 8, discriminators: previous}", "muhdi"),
    ("selftrain", "distill"),
]


def bad_where(
    monkeypatch: pytest.MonkeyPatch, bad: Callable[[torch.Tensor], bool], *, gradient: bool = False
) -> None:
    """The source's losses, or only their gradients, are not numbers if its labels are ``bad``."""
    segmentation = passes.segmentation

    def spoilt(logits: Levels, batch: Batch, weights: dict[str, float]) -> Losses:
        losses = segmentation(logits, batch, weights)
        assert batch.labels is not None
        if not bad(batch.labels):
            return losses
        if gradient:
            # The square root of 0 is 0, but its gradient is infinite.
            nothing = sum(torch.sqrt((0 * level).sum()) for _, level in logits.items())
            return {name: loss + nothing for name, loss in losses.items()}
        return {name: loss * float("nan") for name, loss in losses.items()}

    monkeypatch.setattr(passes, "segmentation", spoilt)


def bad_after(monkeypatch: pytest.MonkeyPatch, iterations: int, *, gradient: bool = False) -> None:
    """`bad_where` in all iterations of this process but the first few."""
    done = 0

    def bad(labels: torch.Tensor) -> bool:
        nonlocal done
        done += 1
        return done > iterations

    bad_where(monkeypatch, bad, gradient=gradient)


def some(labels: torch.Tensor) -> bool:
    return int(labels.sum()) % 3 == 0


def settings(adaptation: str, retention: str, *more: str) -> list[str]:
    methods = [f"every_step.adaptation={adaptation}", f"every_step.retention={retention}"]
    return [*methods, *SCORED_ONCE, *more]


def lines(recipe: Recipe, experiments: Path) -> list[dict]:
    text = RunDirectory.of(recipe, experiments).metrics.read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_the_first_bad_iteration_is_named_though_losses_are_read_later(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings_ = ["source_training.iterations=5", "runtime.log_every=100", "runtime.save_every=100"]
    recipe = load_recipe(tiny(), settings_)
    seen: list[list[str]] = []
    original = StageTrainer.iterate
    monkeypatch.setattr(StageTrainer, "iterate", lambda *a: seen.append(a[1].names) or original(*a))
    bad_where(monkeypatch, lambda labels: len(seen) == 3)
    with pytest.raises(MuhdiError, match="seg_aux is not finite at iteration 3") as error:
        train(recipe, tmp_path, quiet=True)
    assert len(seen) == 5
    assert f"(images: {', '.join(seen[2])})" in str(error.value)
    assert "continue with --resume" in str(error.value)


def test_the_last_good_state_stays_and_the_run_continues_from_it(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(tiny(), settings("none", "none", "source_training.iterations=8"))
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(recipe, whole, quiet=True)
    with monkeypatch.context() as patch:
        bad_after(patch, 4)
        with pytest.raises(MuhdiError, match="not finite at iteration 5"):
            train(recipe, broken, quiet=True)
    states = [path.name for path in RunDirectory.of(recipe, broken).states.files()]
    assert states == ["training_state_4.pt", "training_state_2.pt"]
    train(recipe, broken, resume=True, quiet=True)
    assert_same_run(whole, broken, recipe)


def test_spoilt_weights_are_never_saved(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gradient of the very iteration after which a state, or the network, is saved."""
    bad_after(monkeypatch, 3, gradient=True)
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
    more = ("every_step.iterations=6", "runtime.skip_bad=6", "optimizer.clip=1")
    recipe = load_recipe(tiny(), settings(adaptation, retention, *more))
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(recipe, whole, quiet=True)
    skipped = [line for line in lines(recipe, whole) if "skipped" in line]
    assert 2 <= len(skipped) < 15
    assert all(line["skipped"][0].startswith("sim_") for line in skipped)
    train_through_crashes(recipe, broken, monkeypatch, 4, 3, 2)
    assert_same_run(whole, broken, recipe)


def test_good_data_gives_the_same_bits_with_and_without_skipping(
    tiny: Tiny, tmp_path: Path
) -> None:
    for name, number in (("off", 0), ("on", 3)):
        recipe = load_recipe(tiny(), settings(METHODS[0][0], "muhdi", f"runtime.skip_bad={number}"))
        train(recipe, tmp_path / name, quiet=True)
    assert_same_run(tmp_path / "off", tmp_path / "on", recipe)


@pytest.mark.parametrize(("adaptation", "retention"), METHODS)
def test_a_skipped_batch_leaves_nothing_behind(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, adaptation: str, retention: str
) -> None:
    """A last step of bad batches only ends with the networks that it began with."""
    recipe = load_recipe(tiny(), settings(adaptation, retention, "runtime.skip_bad=3"))
    # Three iterations on the source, and three in the first step.
    bad_after(monkeypatch, 6)
    train(recipe, tmp_path, quiet=True)
    assert [line["iteration"] for line in lines(recipe, tmp_path) if "skipped" in line] == [1, 2, 3]
    run = RunDirectory.of(recipe, tmp_path)
    before = load_checkpoint(run.model(1, "city", 3)).network.state_dict()
    after = load_checkpoint(run.model(2, "night", 3)).network.state_dict()
    # The specialist starts each step as a copy of the agnostic head.
    common = [key for key in before if "specialist" not in key]
    assert all(torch.equal(before[key], after[key]) for key in common)
    if "advent" in adaptation:
        one, _ = read_tensors(run.network(1, "city", "D_main", 3))
        two, _ = read_tensors(run.network(2, "night", "D_main", 3))
        assert all(torch.equal(one[key], two[key]) for key in one)


def test_one_more_than_may_be_skipped_stops_and_a_higher_number_continues(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad_where(monkeypatch, some)
    step = settings("none", "none", "every_step.iterations=6", "source_training.iterations=6")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    recipe = load_recipe(tiny(), [*step, "runtime.skip_bad=6"])
    train(recipe, whole, quiet=True)
    with pytest.raises(
        MuhdiError, match=r"not finite at iteration \d, after 1 bad batches were skipped"
    ):
        train(load_recipe(tiny(), [*step, "runtime.skip_bad=1"]), broken, quiet=True)
    train(recipe, broken, resume=True, quiet=True)
    assert_same_run(whole, broken, recipe)


# --- the parts ------------------------------------------------------------------------------------


def losses_of(iteration: int, *images: str, **values: float) -> IterationLosses:
    tensors = {name: torch.tensor(value) for name, value in values.items()}
    return IterationLosses.of(iteration, tensors, images)


def test_losses_that_are_read_late_are_those_of_the_newest_iteration() -> None:
    reader = LossReader()
    reader.record(losses_of(1, "a.png", seg_main=1.0))
    reader.record(losses_of(2, "b.png", seg_main=2.0, kt_main=3.0))
    assert reader.flush() == {"seg_main": 2.0, "kt_main": 3.0}
    assert reader.flush() == {}


def test_iterations_without_a_loss_are_not_exchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of GPUs exchange what lies there; no loss lies nowhere."""
    exchanged: list[torch.Tensor] = []
    monkeypatch.setattr(distributed, "average_tensors", exchanged.extend)
    reader = LossReader()
    reader.record(losses_of(1, "a.png"))
    assert reader.flush() == {}
    assert exchanged == []


def test_the_message_names_the_first_bad_loss_and_at_most_eight_images() -> None:
    reader = LossReader()
    images = [f"{number}.png" for number in range(11)]
    reader.record(losses_of(7, "good.png", seg_main=1.0))
    reader.record(losses_of(8, *images, seg_main=1.0, pod=float("inf")))
    reader.record(losses_of(9, "later.png", seg_main=float("nan")))
    with pytest.raises(MuhdiError) as error:
        reader.flush()
    start = "the loss pod is not finite at iteration 8 (images: 0.png, 1.png, 2.png, 3.png, "
    assert str(error.value).startswith(f"{start}4.png, 5.png, 6.png, 7.png and 3 more); ")


def test_weights_that_are_not_finite_are_refused() -> None:
    weights = [torch.ones(3), torch.tensor([1.0, float("-inf")])]
    check_weights(weights[:1], 5, ["a.png"])
    with pytest.raises(MuhdiError, match=r"weights are not finite after iteration 5 .*a\.png"):
        check_weights(weights, 5, ["a.png"])


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_the_buffers_that_a_bad_batch_has_changed_are_put_back(what: str) -> None:
    norm = nn.BatchNorm2d(3)
    norm(torch.randn(4, 3, 5, 5))
    skip_bad = SkipBad(9, [norm])
    good, bad = torch.tensor([1.0]), torch.tensor([float("nan")])
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    skip_bad.snapshot()
    norm(torch.full((4, 3, 5, 5), float("nan")))
    loss, gradient = (bad, good) if what == "loss" else (good, bad)
    assert skip_bad.roll_back_if_bad({"pod": loss}, [good, gradient])
    torch.testing.assert_close(dict(norm.state_dict()), before, rtol=0, atol=0)
    assert skip_bad.skipped == 1
    message = skip_bad.message(losses_of(7, "x.png", pod=float(loss)))
    subject = "the loss pod" if what == "loss" else "a gradient"
    assert message == (
        f"{subject} is not finite at iteration 7: skipped bad batch 1 of at most 9: x.png"
    )


def test_a_good_batch_keeps_what_it_has_changed() -> None:
    norm = nn.BatchNorm2d(3)
    skip_bad = SkipBad(9, [norm])
    skip_bad.snapshot()
    norm(torch.randn(4, 3, 5, 5))
    after = norm.running_mean.clone()
    assert not skip_bad.roll_back_if_bad({"pod": torch.tensor(1.0)}, [torch.ones(2)])
    assert torch.equal(norm.running_mean, after)
    assert after.abs().max() > 0


def test_without_permission_nothing_is_looked_at() -> None:
    """The loss reader stops at the bad loss; looking at each iteration would cost time."""
    skip_bad = SkipBad(0, [])
    skip_bad.snapshot()
    assert not skip_bad.roll_back_if_bad({"pod": torch.tensor(float("nan"))}, [])
