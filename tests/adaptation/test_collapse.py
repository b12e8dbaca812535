"""Signs of a collapse are told once, and a healthy teacher's change is none."""

from __future__ import annotations

import torch

from muhdi.adaptation.collapse import MIRROR_EVERY, WINDOW, CollapseWatch

NAMES = ("road", "car", "sky")


def see(watch: CollapseWatch, iterations: int, shares: list[int], sure: float, same: float) -> None:
    """Iterations whose labels have these shares in percent, and agree with mirror images so far."""
    labels = torch.repeat_interleave(torch.arange(3), torch.tensor(shares))[None, None]
    own = torch.nn.functional.one_hot(labels, 3).movedim(-1, 1).float()
    changed = round((1 - same) * 100)
    mirrored = own.clone()
    mirrored[..., :changed] = own[..., :changed].roll(1, 1)
    for _ in range(iterations):
        watch.compare(own, mirrored)
        watch.see(torch.full(labels.shape, sure), labels)
        watch.remember()


def test_a_class_that_vanishes_is_named_once() -> None:
    watch = CollapseWatch(NAMES)
    see(watch, WINDOW, [60, 10, 30], 0.8, 0.9)
    assert watch.warnings() == []
    see(watch, 6 * WINDOW, [70, 0, 30], 0.8, 0.9)
    (line,) = watch.warnings()
    assert line.startswith("the teacher labels 0.0")
    assert "% of the target's pixels 'car', after 10.0 % at the start of the step" in line
    assert watch.warnings() == []


def test_an_iteration_that_is_left_out_leaves_no_trace() -> None:
    watch = CollapseWatch(NAMES)
    labels = torch.zeros(1, 2, 2, dtype=torch.int64)
    watch.see(torch.ones(1, 2, 2), labels)  # its update was not made
    watch.see(torch.full((1, 2, 2), 0.5), labels + 1)
    watch.remember()
    assert watch.seen == 1
    assert watch.shares.tolist() == [0, 1, 0]
    assert float(watch.confidence) == 0.5


def test_surer_and_less_in_agreement() -> None:
    watch = CollapseWatch(NAMES)
    see(watch, WINDOW, [60, 10, 30], 0.7, 0.9)
    see(watch, 6 * WINDOW, [60, 10, 30], 0.9, 0.7)
    (line,) = watch.warnings()
    assert "surer than at the start of the step (0.90 after 0.70)" in line
    assert "(0.70 after 0.90): its labels may be collapsing" in line


def test_a_teacher_that_grows_surer_and_more_consistent_is_left_alone() -> None:
    watch = CollapseWatch(NAMES)
    see(watch, WINDOW, [60, 10, 30], 0.7, 0.8)
    see(watch, 6 * WINDOW, [64, 6, 30], 0.9, 0.9)
    assert watch.warnings() == []


def test_it_asks_for_mirror_images_now_and_then_and_goes_on_after_a_state() -> None:
    watch = CollapseWatch(NAMES)
    see(watch, MIRROR_EVERY + 1, [60, 10, 30], 0.7, 0.8)
    assert watch.compared == 2
    other = CollapseWatch(NAMES)
    other.load_state_dict(watch.state_dict())
    assert (other.seen, other.compared) == (watch.seen, 2)
    assert torch.equal(other.shares, watch.shares)


def test_a_class_that_vanishes_in_a_short_step_is_told_before_the_step_is_over() -> None:
    iterations = 150
    watch = CollapseWatch(NAMES, iterations)
    see(watch, watch.window, [60, 10, 30], 0.8, 0.9)
    see(watch, 50, [70, 0, 30], 0.8, 0.9)
    assert watch.seen < iterations / 2
    (line,) = watch.warnings()
    assert "'car', after 10.0 % at the start of the step" in line


def test_means_reach_over_a_part_of_the_step_but_not_over_a_handful_of_images() -> None:
    windows = {count: CollapseWatch(NAMES, count).window for count in (8, 80, 300, 4000)}
    assert windows == {8: 10, 80: 10, 300: 37, 4000: 50}
    assert CollapseWatch(NAMES).window == WINDOW
