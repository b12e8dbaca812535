"""Runs whose scores cannot be compared, and those whose scores can."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from muhdi.evaluation.results import Results, ScoredImages
from muhdi.recipe.load import load_recipe
from muhdi.report.run_files import RunData
from muhdi.report.unlike import unlike

IMAGES = ScoredImages("/here/city", 3, "c0ffee00aa", "64x32", "native", "stretch")
ENTRY = {"miou": 50.0, "iou": {"road": 50.0}, "absent": [], "images": 3}


def run(
    name: str, images: ScoredImages | None = IMAGES, *settings: str, **entry: object
) -> RunData:
    results = Results(name, 0, "city", ["city"], [], [])
    if images is not None:
        results.scored["city"] = images
    changed = {key: value for key, value in (ENTRY | entry).items() if value is not None}
    results.add("source", {"running": {"city": changed}})
    recipe = load_recipe("scenes", settings)
    return RunData(Path(name), recipe, "", results, [], [], [])


def test_copies_of_one_data_set_are_alike() -> None:
    elsewhere = replace(IMAGES, root="/there/city")
    assert unlike([run("a"), run("b", elsewhere), run("old", None)]) == []


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (
            run("b", replace(IMAGES, root="/there/city", content="0ff1ce00")),
            "the images or what their labels mean: those in /here/city (c0ffee00) in a; those in"
            " /there/city (0ff1ce00) in b",
        ),
        (run("b", replace(IMAGES, input_size="32x16")), "the input size: 64x32 in a; 32x16 in b"),
        (run("b", replace(IMAGES, fit="pad")), "the fit: stretch in a; pad in b"),
        (
            run("b", replace(IMAGES, views="mirror images")),
            "the views: the whole image at once in a; mirror images in b",
        ),
        (run("b", None, "evaluation.size=[24,16]"), "the labels' own in a; 24x16 in b"),
        (
            run("b", IMAGES, "evaluation.mean_over=[flat,sky]"),
            "the classes of the mean: all classes (flat, construction, object, nature, sky, human,"
            " vehicle) in a; flat, sky in b",
        ),
        (run("b", absent=None), "no label holds counts: nothing in a; 0 where it was predicted"),
    ],
)
def test_a_line_says_what_differs(other: RunData, told: str) -> None:
    (line,) = unlike([run("a"), other])
    assert line.startswith("the runs differ in ")
    assert told in line
