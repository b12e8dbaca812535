"""Curves within steps, and what is measured on sequences that return, against numbers by hand."""

from __future__ import annotations

import pytest

from muhdi.evaluation.curves import area, area_under, curve, has_curves, step_starts
from muhdi.evaluation.metrics import lost_before_return
from muhdi.evaluation.results import row_titles
from tests.returning import STEPS, returning


def test_a_curve_runs_over_the_iterations_of_the_steps() -> None:
    assert has_curves(STEPS)
    assert not has_curves(STEPS[:1])
    assert step_starts(STEPS) == [0, 0, 100]
    assert curve(STEPS, "running", "a") == [
        (0, 10.0),
        (40, 20.0),
        (100, 30.0),
        (120, 40.0),
        (140, 30.0),
        (150, 20.0),
    ]
    assert curve(STEPS, "running", "b")[:2] == [(0, 20.0), (100, 20.0)], "not known at 40"
    assert curve(STEPS, "running", "b", 1) == [(100, 20.0), (120, 40.0), (140, 50.0), (150, 60.0)]
    assert curve(STEPS, "domain", "a") == []


def test_the_area_is_the_mean_height() -> None:
    # 40 at 15, 60 at 25, 20 at 35, 20 at 35, 10 at 25 points.
    of_a = (40 * 15 + 60 * 25 + 20 * 35 + 20 * 35 + 10 * 25) / 150
    # From the beginning of its step on: 20 at 30, 20 at 45, 10 at 55.
    of_b = (20 * 30 + 20 * 45 + 10 * 55) / 50
    assert area_under(curve(STEPS, "running", "a")) == pytest.approx(of_a)
    assert area(STEPS, "running", ["a", "b"], [1, 2]) == pytest.approx((of_a + of_b) / 2)
    assert area(STEPS[:2], "running", ["a", "b"], [1, 2]) == pytest.approx((600 + 1500) / 100)


@pytest.mark.parametrize("points", [[], [(0, 5.0)], [(7, 5.0), (7, 6.0)]])
def test_a_curve_of_no_length_has_no_area(points: list[tuple[int, float]]) -> None:
    assert area_under(points) is None


def test_without_scores_within_steps_there_is_no_area() -> None:
    assert area(STEPS[:1], "running", ["a"], [1]) is None
    ends = [{key: value for key, value in step.items() if key != "curve"} for step in STEPS]
    assert area(ends, "running", ["a", "b"], [1, 2]) is None


# --- a sequence that returns ----------------------------------------------------------------------


def test_a_target_that_comes_back_has_two_steps() -> None:
    results = returning()
    assert results.visits == {"a": [1, 4], "b": [2], "c": [3]}
    assert results.returning == ["a"]
    assert row_titles(results.steps) == ["source", "a", "b", "c", "a, step 4"]
    results.steps = results.steps[:4]
    assert results.visits["a"] == [1], "as far as the run has come"


def test_measures_of_a_sequence_that_returns_by_hand() -> None:
    summary = returning().summary("running")
    assert summary.average == pytest.approx((55 + 58 + 66) / 3)
    # Of every target from its first step on, as it has always been.
    assert summary.forgetting == pytest.approx(((50 - 55) + (62 - 58) + (70 - 66)) / 3)
    assert summary.backward == pytest.approx(((55 - 50) + (58 - 60) + (66 - 70)) / 3)
    assert summary.forward == pytest.approx(((22 - 20) + (33 - 30)) / 2)
    assert summary.before_return == 10.0, "50 after step 1, 40 after step 3"
    assert summary.area is None


def test_every_return_counts_and_what_is_to_come_does_not() -> None:
    column = [[0.0], [50], [60], [40], [55], [45], [70]]
    assert lost_before_return(column, [[1, 4, 6]]) == pytest.approx(((60 - 40) + (55 - 45)) / 2)
    assert lost_before_return(column[:6], [[1, 4, 6]]) == 20.0
    assert lost_before_return(column, [[1], []]) is None
    assert lost_before_return([[None], [None], [3.0], [1.0]], [[1, 3]]) == 0.0
