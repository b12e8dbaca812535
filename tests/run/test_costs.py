"""What a recipe costs: sums, and how they are said."""

from __future__ import annotations

import io

from rich.console import Console

from muhdi.report.info_tables import costs_table, estimate
from muhdi.run.costs import DryRun, StageCost

SOURCE = StageCost("source", 0, 0.0, 0, 900, 0.0)
CITY = StageCost("a_city_with_a_name", 120_000, 0.5, 8, 1234, 40.0)
NIGHT = StageCost("night", 10, 2.0, 8, 1250, 60.0)


def costs(*stages: StageCost) -> DryRun:
    return DryRun("mine", "cpu", 2, stages)


def test_the_whole_is_iterations_times_seconds_and_all_scoring() -> None:
    whole = costs(SOURCE, CITY, NIGHT)
    assert CITY.training == 60_000
    assert CITY.images_per_second == 16
    assert SOURCE.images_per_second is None
    assert (whole.training, whole.scoring, whole.seconds) == (60_020, 100, 60_120)


def test_hours_are_a_warning() -> None:
    (short,) = estimate(costs(NIGHT))
    assert short == "Estimated time of the whole recipe: 1:20, training 0:20 and scoring 1:00."
    total, warning = estimate(costs(CITY, NIGHT))
    assert total.startswith("Estimated time of the whole recipe: 16:42:00")
    assert warning.startswith("warning: this recipe takes about 16.7 hours here")
    assert costs(CITY).is_long
    # Two hours are not yet many.
    assert not costs(StageCost("x", 7200, 1.0, 1, 1, 0.0)).is_long
    assert costs(StageCost("x", 7201, 1.0, 1, 1, 0.0)).is_long


def test_the_table_fits_a_terminal_and_a_stage_without_iterations_has_dashes() -> None:
    output = io.StringIO()
    Console(file=output, width=80).print(costs_table(costs(SOURCE, CITY, NIGHT)).terminal())
    lines = output.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    text = output.getvalue()
    assert "a_city_with_a_name" in text
    assert "16:40:00" in text
    assert "on cpu, 2 threads" in lines[0]
    assert text.count(" - ") == 3
