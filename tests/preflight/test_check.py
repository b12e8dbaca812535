"""muhdi check: what is wrong with the data is found before anything is trained."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from muhdi.cli import main
from muhdi.preflight.check import Report, check, to_json
from muhdi.recipe.load import load_recipe
from tests.folders import day, rain

Edit = Callable[[Path], object]


@pytest.fixture
def recipe(folders: Path, tmp_path: Path) -> Path:
    """A labelled source ``day`` and an unlabelled target ``rain``, four images each in train and
    val.
    """
    data = {
        "name": "own",
        "image_size": [48, 32],
        "root": str(folders),
        "classes": ["flat", "vehicle"],
        "source": day({0: "flat", 7: "vehicle", 9: "ignore"}),
        "source_training": {"iterations": 1},
        "steps": [
            {
                "target": rain(),
                "iterations": 1,
            }
        ],
    }
    path = tmp_path / "own.yml"
    path.write_text(yaml.safe_dump(data))
    return path


def look(recipe: Path, *settings: str) -> Report:
    return check(load_recipe(recipe, settings), 1)


def test_what_is_counted_is_what_is_there(recipe: Path, folders: Path) -> None:
    steps: list[tuple[int, int]] = []
    report = check(load_recipe(recipe), 2, lambda done, total: steps.append((done, total)))
    assert report.problems == []
    assert steps[-1] == (16, 16)
    assert [(s.domain, s.split, s.images, s.labelled) for s in report.splits] == [
        ("day", "train", 4, True),
        ("day", "val", 4, True),
        ("rain", "train", 4, False),
        ("rain", "val", 4, False),
    ]
    for split in report.splits[:2]:
        ids = np.stack(
            [np.asarray(Image.open(p)) for p in (folders / "day_labels" / split.split).iterdir()]
        )
        assert split.pixels == {"flat": (ids == 0).sum(), "vehicle": (ids == 7).sum()}
        assert split.ignored == (ids == 9).sum()
        assert split.sizes == {"36x24": 4}
    assert any("rain, val): has no labels" in note for note in report.notes)
    assert to_json(report) == to_json(check(load_recipe(recipe), 1)), (
        "the number of processes changes nothing"
    )


def first(folders: Path, kind: str = "day", split: str = "train") -> Path:
    return sorted((folders / kind / split).iterdir())[0]


def relabel(value: int, split: str = "train") -> Edit:
    def edit(folders: Path) -> None:
        for path in (folders / "day_labels" / split).iterdir():
            pixels = np.asarray(Image.open(path)).copy()
            pixels[pixels == 7] = value
            Image.fromarray(pixels).save(path)

    return edit


FAULTS: list[tuple[Edit, str]] = [
    (lambda f: first(f).write_bytes(b""), "img 0.png: not an image"),
    (
        lambda f: first(f, "rain").write_bytes(first(f, "rain").read_bytes()[:900]),
        "img 0.png: the image cannot be",
    ),
    (lambda f: first(f, "rain", "val").write_text("no image"), "steps.0.target (rain, val): "),
    (lambda f: first(f, "day_labels", "val").unlink(), "its label .* is missing (1 of 4"),
    (
        lambda f: shutil.rmtree(f / "rain" / "val"),
        "steps.0.target: images: the pattern 'rain/val/*.png' matches no",
    ),
    (
        lambda f: Image.new("L", (36, 30)).save(first(f, "day_labels")),
        "the label is 36x30, its image 36x24",
    ),
    (
        lambda f: Image.new("RGB", (36, 24), (1, 2, 3)).save(first(f, "day_labels")),
        "must hold one id per pixel",
    ),
    (relabel(8), "8 ("),
    (relabel(9), "no label holds vehicle, so it cannot be learned"),
    (
        lambda f: shutil.copy(first(f), first(f, split="val")),
        "1 images of source (day, train) are in day, val, too",
    ),
    (
        lambda f: shutil.copy(first(f), first(f, "rain", "val")),
        "1 images of source (day, train) are in rain, val",
    ),
]


@pytest.mark.parametrize(("fault", "words"), FAULTS)
def test_each_fault_is_a_problem_that_names_the_place(
    recipe: Path, folders: Path, fault: Edit, words: str
) -> None:
    fault(folders)
    problems = look(recipe).problems
    start, _, end = words.partition(" .* ")
    assert any(start in line and end in line for line in problems), problems
    assert all("\n" not in line for line in problems)


def test_all_faults_at_once_are_all_told(recipe: Path, folders: Path) -> None:
    first(folders).write_bytes(b"")
    first(folders, "day_labels", "val").unlink()
    shutil.rmtree(folders / "rain" / "val")
    report = look(recipe)
    assert len(report.problems) == 3
    assert [s.images for s in report.splits] == [
        4,
        4,
        4,
    ], "a split whose labels are missing is looked at all the same"
    assert report.splits[0].sizes == {"36x24": 3}


def test_what_is_only_remarkable_is_no_problem(recipe: Path, folders: Path) -> None:
    relabel(9, "val")(folders)
    shutil.copy(first(folders, "rain"), first(folders, "rain", "val"))
    for path in sorted((folders / "rain" / "val").iterdir())[1:]:
        path.unlink()
    Image.new("L", (36, 24), 9).save(first(folders, "day_labels"))
    report = look(recipe)
    assert report.problems == []
    notes = "\n".join(report.notes)
    assert "no label holds vehicle, so it has no score here" in notes
    assert "steps.0.target (rain, val): holds a single image" in notes
    assert "1 images of steps.0.target (rain, train) are in rain, val, too" in notes
    assert "1 of 4 labels hold no pixel of any class" in notes


def test_labels_of_a_target_are_looked_at_for_the_oracle_alone(recipe: Path, folders: Path) -> None:
    shutil.copytree(folders / "day_labels", folders / "rain_labels")
    (folders / "rain_labels" / "train" / "img 0_ids.png").write_bytes(b"")
    labels = [
        "steps.0.target.labels='rain_labels/{split}/{stem}_ids.png'",
        "steps.0.target.ids={0: flat, 7: vehicle, 9: ignore}",
    ]
    assert look(recipe, *labels).problems == []
    assert any(
        "img 0_ids.png: not an image" in line
        for line in look(recipe, *labels, "steps.0.adaptation=oracle").problems
    )


def test_a_source_that_nothing_learns_from_is_only_scored(recipe: Path, folders: Path) -> None:
    shutil.rmtree(folders / "day_labels" / "train")
    assert look(recipe).problems
    report = look(recipe, "source_training.iterations=0", "steps.0.source=none")
    assert report.problems == []
    assert ("source", "train") not in [(split.key, split.split) for split in report.splits]


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["muhdi", "check", *map(str, arguments)])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_the_command_prints_tables_writes_json_and_tells_by_its_status(
    recipe: Path, folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command(monkeypatch, recipe, "--jobs", 1, "--json", "found.json") == 0
    output = capsys.readouterr().out
    assert "36x24" in output
    assert "vehicle" in output
    assert "No problems found." in output
    assert json.loads((tmp_path / "found.json").read_text())["splits"][0]["pixels"]["flat"] > 0
    first(folders).rename(first(folders).with_name("two\nlines ünd [red].png"))
    assert command(monkeypatch, recipe, "--jobs", 1, "--json", "found.json") == 1
    output = capsys.readouterr().out
    assert "two\\nlines ünd [red].png: its label" in output
    assert "two\nlines" in json.loads((tmp_path / "found.json").read_text())["problems"][0]
    assert command(monkeypatch, recipe, "--set", "sorce=1") == 2
    assert not (tmp_path / "experiments").exists(), "nothing is written but the given output"


def test_every_public_data_set_that_is_missing_is_told_with_its_page_and_terms(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    report = check(load_recipe("acdc_sequence_muhdi"), jobs=1)
    assert len(report.problems) == 5
    source, fog, *_ = report.problems
    assert source == (
        "source: root: the folder data/cityscapes does not exist; give the right one with --set"
        " runtime.root=FOLDER; Cityscapes is to be had at"
        " https://www.cityscapes-dataset.com/downloads/ (non-commercial, registration)"
    )
    assert fog.startswith("steps.0.target: root: the folder data/ACDC does not exist")
    assert fog.endswith(
        "ACDC is to be had at https://acdc.vision.ee.ethz.ch/ (non-commercial, registration)"
    )
    assert command(monkeypatch, "comma10k") == 1
