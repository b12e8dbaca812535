"""`muhdi new` and `muhdi inspect`: what is found in folders, and what a contact sheet tells."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from muhdi.errors import MuhdiError
from muhdi.preflight.inspect import inspect_domains
from muhdi.preflight.survey import survey
from muhdi.recipe.load import load_recipe
from muhdi.recipe.methods import NEXT_STEP
from tests.folders import day, rain


def files(
    root: Path, *names: str, size: tuple[int, int] = (40, 20), ids: tuple[int, ...] = (0, 1, 255)
) -> Path:
    """Images by name; those whose names hold ``label``, ``mask`` or ``gt`` are labels."""
    rng = np.random.default_rng(0)
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if any(word in name for word in ("label", "mask", "gt")):
            Image.fromarray(rng.choice(np.array(ids, np.uint8), size[::-1])).save(path)
        else:
            Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), np.uint8)).save(path)
    return root


LAYOUTS = [
    # images, labels -> patterns
    (
        ["train/images/a.jpg", "val/images/b.jpg"],
        ["train/labels/a.png", "val/labels/b.png"],
        "{split}/images/*.jpg",
        "{split}/labels/{stem}.png",
        None,
    ),
    (
        ["images/train/a.png", "images/val/b.png"],
        ["masks/train/a_mask.png", "masks/val/b_mask.png"],
        "images/{split}/*.png",
        "masks/{split}/{stem}_mask.png",
        None,
    ),
    (
        ["img/x/a.jpg", "img/y/a.jpg"],
        ["gt/x/a.png", "gt/y/a.png"],
        "img/**/*.jpg",
        "gt/{parent}/{stem}.png",
        None,
    ),
    (["a.jpg", "b.jpg"], ["a_labels.png", "b_labels.png"], "*.jpg", "{stem}_labels.png", None),
    (
        ["training/a.jpg", "validation/b.jpg"],
        ["training/gt/a.png", "validation/gt/b.png"],
        "training/*.jpg",
        "training/gt/{stem}.png",
        ("validation/*.jpg", "validation/gt/{stem}.png"),
    ),
    (
        ["rgb {1}/a.jpg", "rgb {1}/b.jpg"],
        ["label {1}/{a}.png", "label {1}/{b}.png"],
        "rgb {1}/*.jpg",
        "label {{1}}/{{{stem}}}.png",
        None,
    ),
]


@pytest.mark.parametrize(("images", "labels", "pattern", "label_pattern", "val"), LAYOUTS)
def test_new_finds_images_and_their_labels(
    muhdi,
    tmp_path: Path,
    images: list[str],
    labels: list[str],
    pattern: str,
    label_pattern: str,
    val,
) -> None:
    files(tmp_path / "src", *images, *labels)
    found = survey(tmp_path / "src", labelled=True)
    assert (found.images, found.labels, found.val) == (pattern, label_pattern, val)
    files(tmp_path / "new place", "x/1.jpg", "2.jpg")
    status, output, errors = muhdi("new", "src", "new place", "-o", "r.yml")
    assert status == 0, errors
    assert "muhdi inspect r.yml" in output
    recipe = load_recipe("r.yml")
    assert recipe.source.images == pattern
    assert recipe.source.ids == {0: "class_0", 1: "class_1", 255: "ignore"}
    assert recipe.steps[0].target.domain_name == "new place"
    assert recipe.steps[0].target.images == "**/*.jpg"
    assert recipe.image_size == (64, 32)
    text = (tmp_path / "r.yml").read_text()
    assert text.count("#") > 10
    shares = [float(line.split("#")[1].strip(" %")) for line in text.splitlines() if " %" in line]
    assert sum(shares) == pytest.approx(100, abs=0.1)


def test_new_takes_names_and_leaves_a_targets_labels_alone(muhdi, tmp_path: Path) -> None:
    files(tmp_path / "src", "images/a.png", "labels/a.png", ids=(0, 2))
    (tmp_path / "src/classes.txt").write_text("road\nno\nsky: blue\n")
    files(tmp_path / "city", "images/a.png", "images/b.png", "labels/a.png")
    assert muhdi("new", "src", "city")[0] == 0
    assert yaml.safe_load(Path("mine.yml").read_text())["every_step"] == NEXT_STEP
    recipe = load_recipe("mine.yml")
    assert recipe.classes == ["road", "no", "sky: blue"]
    assert recipe.source.ids == {0: "road", 1: "no", 2: "sky: blue"}
    assert recipe.steps[0].target.images == "images/*.png"
    assert recipe.steps[0].target.labels is None


@pytest.mark.parametrize(
    ("made", "words", "message"),
    [
        (["a.jpg"], ["src"], "src: holds no label images"),
        (["a.jpg", "b.jpg", "gt/a.png"], ["src"], "no label belongs to it"),
        (["x/a.png", "x/a_mask.png"], ["src"], "a_mask.png: lies among the images"),
        (["a.jpg", "gt/a.png"], ["src", "nowhere"], "nowhere: the folder does not exist"),
        (["a.jpg", "gt/a.png"], ["src", "-o", "r.txt"], "r.txt: give a name that ends in .yml"),
        (["a.jpg", "gt/a.png"], ["src", "-o", "there.yml"], "there.yml: exists already"),
    ],
)
def test_new_says_what_it_cannot_find(
    muhdi, tmp_path: Path, made: list[str], words: list[str], message: str
) -> None:
    files(tmp_path / "src", *made)
    (tmp_path / "there.yml").write_text("mine")
    status, _, errors = muhdi("new", *words)
    assert status == 2
    assert message in errors
    assert errors.count("\n") == 1
    assert [path.name for path in tmp_path.glob("*.yml")] == ["there.yml"]
    assert (tmp_path / "there.yml").read_text() == "mine"


def test_labels_of_one_id_or_too_many_are_refused(tmp_path: Path, muhdi) -> None:
    files(tmp_path / "src", "a.jpg", "gt/a.png", ids=(3,))
    status, _, errors = muhdi("new", "src")
    assert status == 2
    assert "its labels hold 1 ids besides 255" in errors


def test_inspect_counts_classes_and_draws_every_domain(
    muhdi, folders: Path, tmp_path: Path
) -> None:
    recipe = {
        "name": "own",
        "root": str(folders),
        "classes": ["ground", "car", "sky"],
        "image_size": [36, 24],
        "source": day({0: "ground", 7: "car"}),
        "source_training": {"iterations": 1},
        "steps": [
            {
                "target": rain(),
                "iterations": 1,
            }
        ],
    }
    (tmp_path / "own.yml").write_text(yaml.safe_dump(recipe))
    status, output, errors = muhdi("inspect", "own.yml", "--format", "json", "--samples", 2)
    assert status == 0, errors
    (table,) = json.loads(output)
    rows = {row["class"]: row["day"] for row in table["rows"]}
    labels = [np.asarray(Image.open(p)) for p in (folders / "day_labels/train").glob("*.png")]
    ground, car, other = (sum(int((label == raw).sum()) for label in labels) for raw in (0, 7, 9))
    assert rows["ground"] == pytest.approx(100 * ground / (ground + car))
    assert rows["ignored"] == pytest.approx(100 * other / (ground + car + other))
    assert rows["sky"] == 0
    assert "note: day: sky never occurs in 4 labels" in errors
    assert (
        f"note: day: raw ids that its table does not list are ignored: 9 ({other:,} pixels)"
        in errors
    )
    assert "note: rain: has no labels" in errors
    sheet = np.asarray(Image.open(tmp_path / "inspection/own/day.png").convert("RGB")).reshape(
        -1, 3
    )
    colours = load_recipe("own.yml").class_set().colours
    assert all((sheet == np.array(colour, np.uint8)).all(1).sum() > 100 for colour in colours)
    assert (
        Image.open(tmp_path / "inspection/own/rain.png").width
        < Image.open(tmp_path / "inspection/own/day.png").width
    )


def test_inspect_shows_a_wrong_table_at_once(muhdi, tmp_path: Path, monkeypatch) -> None:
    files(tmp_path, "images/a.png", "labels/a.png", ids=(0, 1, 2))
    recipe = {
        "image_size": [40, 24],
        "classes": ["a", "b"],
        "source_training": {"iterations": 1},
        "source": {
            "dataset": "folder",
            "images": "images/*.png",
            "labels": "labels/{stem}.png",
            "ids": {0: "a", 1: "ignore", 2: "ignore"},
        },
    }
    Path("r.yml").write_text(yaml.safe_dump(recipe))
    status, output, _ = muhdi("inspect", "r.yml")
    assert status == 0
    assert "b never occurs" in output
    assert "more than half of the pixels are ignored" in output
    assert "inspection/r/folder.png" in output
    Image.new("L", (40, 40)).save("labels/a.png")
    status, _, errors = muhdi("inspect", "r.yml")
    assert status == 2
    assert "source: labels/a.png: the label is 40x40, its image 40x20" in errors


def test_labels_of_a_targets_training_images_stay_closed(tmp_path: Path, monkeypatch) -> None:
    recipe = load_recipe(
        "scenes",
        ["source.train=3", "source.val=2", "steps.0.target.train=3", "steps.0.target.val=2"],
    )
    found = {domain.domain: domain for domain in inspect_domains(recipe, 2, 2)}
    assert (found["sim"].split, found["city"].split) == ("train", "val")
    assert found["city"].counts == {"train": 3, "val": 2}
    assert found["city"].looked == 2


def test_a_folder_of_no_images_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(MuhdiError, match="holds no images"):
        survey(tmp_path, labelled=False)


def test_a_folder_called_unlabelled_is_of_images(tmp_path: Path) -> None:
    for folder in ("day", "unlabelled"):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / folder / "0.png")
    found = survey(tmp_path, labelled=False)
    assert (found.count, found.notes) == (2, [])


def test_real_folders(muhdi, camvid: Path, monkeypatch) -> None:
    day, dusk = camvid / "source_camvid_day_0016E5", camvid / "target2_camvid_dusk_0001TP"
    assert muhdi("new", day, dusk)[0] == 0
    recipe = load_recipe("mine.yml")
    assert (recipe.source.images, recipe.source.labels) == (
        "{split}/images/*.jpg",
        "{split}/labels/{stem}.png",
    )
    assert len(recipe.classes) == 7
    status, output, errors = muhdi(
        "inspect", "mine.yml", "--labels", 6, "--samples", 1, "--format", "json"
    )
    assert status == 0, errors
    shares = [row[day.name] for row in json.loads(output)[0]["rows"]]
    assert sum(shares[:-1]) == pytest.approx(100)
    assert shares[0] > 25, "a street is mostly road"
