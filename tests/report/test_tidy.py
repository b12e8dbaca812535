"""Scores as rows for other programs."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from muhdi.evaluation.results import Results, ScoredImages, scores, without_score
from muhdi.report.result_table import ResultTable
from muhdi.report.tables import classes_table
from muhdi.report.tidy import tidy_rows


def _results() -> Results:
    results = Results("x", 7, "sim", ["sim", "city"], ["city"], [1])
    entry = scores(np.array([[3, 1], [0, 0]]), ["a", "b"], 2)
    results.add("source", {"running": {"sim": entry, "city": without_score("unlabelled")}})
    return results


def test_a_row_for_every_class_and_for_the_mean() -> None:
    place = {"run": "x", "seed": 7, "step": 0, "stage": "source", "statistics": "running"}
    place |= {"weights": "model", "views": "", "iterations": None}
    assert tidy_rows([_results()]) == [
        {**place, "domain": "sim", "class": "a", "iou": 75.0},
        {**place, "domain": "sim", "class": "b", "iou": None},
        {**place, "domain": "sim", "class": "mean", "iou": 75.0},
        {**place, "domain": "city", "class": "mean", "iou": None},
    ]


def test_rows_say_with_which_weights_and_views_they_were_scored() -> None:
    results = _results()
    results.scored_weights = "ema"
    results.scored = {"sim": ScoredImages("", 2, "", "native", "native", "stretch", "scales 1, 2")}
    rows = tidy_rows([results])
    assert {row["weights"] for row in rows} == {"ema"}
    assert [row["views"] for row in rows] == ["scales 1, 2"] * 3 + [""]


def test_the_table_of_classes_ends_with_the_mean_and_the_pixel_accuracy() -> None:
    assert classes_table(_results(), "running").rows == [
        ["a", 75.0],
        ["b", "no label"],
        ["mean", 75.0],
        ["pixel accuracy", 75.0],
    ]


def test_a_bar_in_a_name_does_not_end_a_cell_of_markdown() -> None:
    table = ResultTable("title", ["a|b", "x"], [["c|d", 1.0]])
    assert table.markdown() == "| a\\|b | x |\n| --- | ---: |\n| c\\|d | 1.0 |\n"


@pytest.mark.parametrize("words", [("report",), ("compare", "-o", "c.html"), ("evaluate",)])
def test_the_commands_write_them(
    words: tuple[str, ...], trained: Path, muhdi: Callable[..., tuple[int, str, str]]
) -> None:
    command, *options = words
    if command == "report":
        options = ["-o", "r.html"]
    status, _, errors = muhdi(command, trained, *options, "--scores", "s.csv")
    assert (status, errors) == (0, "")
    with open("s.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = "run seed step stage domain statistics weights views class iou iterations"
    assert list(rows[0]) == columns.split()
    means = [row for row in rows if row["class"] == "mean"]
    results = Results.load(trained)
    measures = {row["class"] for row in rows if not row["domain"]}
    if command == "evaluate":
        assert not measures, "networks are no sequence"
        last = {row["domain"]: row["iou"] for row in means if row["statistics"] == "image"}
        expected = dict(zip(results.domains, results.matrix("image")[-1], strict=True))
        assert {name: float(iou) for name, iou in last.items()} == expected
        return
    assert measures == {"average", "forgetting", "backward", "forward"}
    assert len(means) == len(results.steps) * len(results.statistics) * len(results.domains)


def test_an_unknown_ending_is_refused_first(
    trained: Path, muhdi: Callable[..., tuple[int, str, str]]
) -> None:
    status, _, errors = muhdi("compare", trained, "--scores", "s.xlsx")
    assert (status, errors) == (2, "error: --scores s.xlsx: must end in .csv or .json\n")
    assert not Path("comparison.html").exists()
    assert muhdi("compare", trained, "--scores", "s.json")[0] == 0
    assert json.loads(Path("s.json").read_text())[0]["run"] == "trained"
