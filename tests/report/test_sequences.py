"""Pages and tables of long sequences, and of those that return."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from muhdi.evaluation.results import Results
from muhdi.recipe.load import load_recipe
from muhdi.report.charts import LINE_HEIGHT, Chart, Line, moved_apart
from muhdi.report.compare import domain_charts, seeds_table, with_other_steps
from muhdi.report.curve_charts import curve_chart
from muhdi.report.heat_maps import forgetting_table, matrix_map
from muhdi.report.kept import kept_table, size_text
from muhdi.report.page import stage_ticks
from muhdi.report.reached import reached
from muhdi.report.run_files import RunData
from muhdi.report.selected import remark_lines
from muhdi.report.tidy import tidy_rows
from tests.returning import STEPS, returning


def run_of(results: Results) -> RunData:
    return RunData(Path("x"), load_recipe("scenes"), "", results, [], [], [])


def curved() -> Results:
    results = Results("curved", 0, "sim", ["a", "b"], ["a", "b"], [1, 2])
    results.steps = [dict(step) for step in STEPS]
    return results


# --- a target that comes back ---------------------------------------------------------------------


def test_every_step_of_a_target_is_framed() -> None:
    rows = matrix_map(run_of(returning()), "running").rows
    assert [name for name, _ in rows] == ["source", "a", "b", "c", "a, step 4"]
    assert [cells[0].marks for _, cells in rows] == ["before", "framed", "", "", "framed"]
    assert [cells[2].marks for _, cells in rows] == ["before", "before", "before", "framed", ""]


def test_what_was_lost_ends_before_the_return() -> None:
    results = returning()
    assert forgetting_table(run_of(results), "running").rows == [
        ["a, steps 1 to 3", 10.0, 50, 50, 40, 10],
        ["a, step 4", 10.0, 55, 55, 55, "newest"],
        ["b", 20.0, 60, 62, 58, 4],
        ["c", 30.0, 70, 70, 66, 4],
    ]
    assert "Forgetting: 1.0 points, lost before a return: 10.0." in reached(results, "running")
    results.steps = results.steps[:3]
    assert reached(results, "running").endswith("Forgetting: 6.0 points.")
    assert forgetting_table(run_of(results), "running").rows[2] == ["c", 30.0, None, None, 33, None]


def test_remarks_tell_the_two_steps_apart() -> None:
    results = returning()
    for step in results.steps:
        step["remarks"] = ["slow"]
    assert remark_lines(results)[1::3] == ["a, slow", "a, step 4, slow"]


# --- comparing ------------------------------------------------------------------------------------


def test_arms_with_other_steps_are_not_drawn_as_if_they_had_the_same() -> None:
    others = returning()
    # As many steps, one of them another.
    others.steps[4]["name"] = "d"
    arms = {"one": [run_of(returning())], "two": [run_of(others)], "three": [run_of(returning())]}
    assert with_other_steps(arms) == ["two"]
    (_, chart), *_ = domain_charts(arms, "running")
    assert [(line.name, line.colour) for line in chart.lines] == [("one", 0), ("three", 2)]
    assert chart.ticks[-1] == (4.0, "a, step 4")


def test_arms_of_another_order_are_drawn_by_the_numbers_of_the_steps() -> None:
    others = returning()
    others.steps[3]["name"], others.steps[4]["name"] = "a", "c"
    arms = {"one": [run_of(returning())], "two": [run_of(others)]}
    assert with_other_steps(arms) == []
    (_, chart), *_ = domain_charts(arms, "running")
    assert [line.name for line in chart.lines] == ["one", "two"]
    assert chart.ticks[-1] == (4.0, "step 4")


def test_measures_of_some_runs_alone_are_columns_where_there_are_any() -> None:
    usual = ["target average", "forgetting", "backward transfer", "forward transfer"]
    assert seeds_table({"x": [returning()]}, "running").header == [
        "arm",
        "seed",
        *usual,
        "lost before a return",
    ]
    both = seeds_table({"x": [returning()], "y": [curved()]}, "running")
    assert both.header[-2:] == ["lost before a return", "mean over the iterations"]
    assert both.rows[0][-1] is None
    assert both.rows[1][-1] == pytest.approx((3750 / 150 + 2050 / 50) / 2)


# --- long sequences -------------------------------------------------------------------------------

LONG = Chart(
    "t",
    [Line(f"place {n}", [(float(step), 20.0 + n / 10) for step in range(11)]) for n in range(11)],
    stage_ticks([f"place {n}" for n in range(11)]),
    size=(520, 250),
)


def test_names_of_many_stages_do_not_lie_on_each_other() -> None:
    svg = LONG.svg()
    shown = [n for n in range(11) if f'middle">place {n}<' in svg]
    assert shown[0] == 0
    assert 3 < len(shown) < 11
    few = replace(LONG, ticks=LONG.ticks[::3])
    assert few.svg().count('middle">place') == 4, "all of those that fit"


def test_lines_beyond_the_colours_are_dashed() -> None:
    svg = LONG.svg()
    assert svg.count('class="line s1"') == svg.count('class="line s1 again"') == 1
    assert svg.count("again") == 3


@pytest.mark.parametrize("heights", [[100, 101, 102, 180], [180, 190, 199], [210, 220]])
def test_names_of_lines_are_apart_and_within_the_drawing(heights: list[float]) -> None:
    moved = moved_apart(heights, 200)
    assert moved[-1] <= 200
    assert all(below - above >= LINE_HEIGHT for above, below in pairwise(moved))


def test_names_of_lines_that_have_room_stay() -> None:
    assert moved_apart([5.0, 40.0, 200.0], 200) == [5.0, 40.0, 200.0]


# --- within steps ---------------------------------------------------------------------------------


def test_the_curves_of_all_domains_are_drawn_over_the_iterations() -> None:
    chart = curve_chart(run_of(curved()), "running")
    assert [line.name for line in chart.lines] == ["a", "b"]
    assert chart.lines[0].points[1] == (40.0, 20.0)
    assert chart.ticks == [(0.0, "0"), (100.0, "100"), (150.0, "150")]
    assert chart.borders == [100.0]
    assert curve_chart(run_of(curved()), "domain") is None


def test_rows_hold_scores_within_steps_and_the_measures() -> None:
    rows = tidy_rows([curved()])
    within = [row for row in rows if row["iterations"] == 40]
    assert [(row["step"], row["domain"], row["iou"]) for row in within] == [
        (1, "a", 20.0),
        (1, "b", None),
        (2, "a", 30.0),
        (2, "b", 50.0),
    ]
    measures = {row["class"]: row["iou"] for row in rows if not row["domain"]}
    assert measures == {
        "average": 40.0,
        "forgetting": 10.0,
        "backward": -10.0,
        "forward": 0.0,
        "area": pytest.approx((3750 / 150 + 2050 / 50) / 2),
    }
    assert not [row for row in tidy_rows([curved()], sequence=False) if not row["domain"]]


# --- what is kept ---------------------------------------------------------------------------------


def test_what_is_kept_is_a_row_for_every_stage() -> None:
    results = returning()
    assert kept_table(results) is None, "an older run"
    sizes = ({}, {"ewc": 2048}, {"ewc": 2048}, {"ewc": 4096}, {"ewc": 1024})
    for step, kept in zip(results.steps, sizes, strict=True):
        step["kept"] = {"statistics": 512, **kept}
    table = kept_table(results)
    assert table.header == ["after", "statistics", "ewc", "together", "added"]
    assert table.rows[0] == ["source", "512 B", "0 B", "512 B", "+512 B"]
    assert table.rows[1] == ["a", "512 B", "2.0 KiB", "2.5 KiB", "+2.0 KiB"]
    assert table.rows[2][-1] == "+0 B"
    assert table.rows[4] == ["a, step 4", "512 B", "1.0 KiB", "1.5 KiB", "-3.0 KiB"]
    assert [size_text(size) for size in (0, 1023, 1536, 3 * 2**19)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "1.5 MiB",
    ]
