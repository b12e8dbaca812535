"""What `muhdi new` makes of labels: names from annotation tools, colours, shared tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from muhdi.data.catalog import DataContext, open_split
from muhdi.preflight.class_names import class_names
from muhdi.preflight.survey import survey
from muhdi.recipe.load import load_recipe
from tests.preflight.test_new import files


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("classes.txt", "0: sky\n2: road\n", {0: "sky", 2: "road"}),
        ("classes.txt", "sky,60,120,220\nroad, 1, 2, 3\n", {0: "sky", 1: "road"}),
        (
            "labels.txt",
            "__ignore__\n_background_\nroad\n",
            {255: "ignore", 0: "_background_", 1: "road"},
        ),
        (
            "labelmap.txt",
            "# label:color_rgb:parts:actions\nsky:0,0,9::\nroad:1,2,3::\n",
            {0: "sky", 1: "road"},
        ),
        (
            "train/_classes.csv",
            "Pixel Value, Class\n0, background\n3, box\n",
            {0: "background", 3: "box"},
        ),
        (
            "class_dict.csv",
            "name,r,g,b\nsky,1,2,3\nvoid,0,0,0\nroad,4,5,6\n",
            {0: "sky", 1: "ignore", 2: "road"},
        ),
    ],
)
def test_names_are_read_from_the_files_of_annotation_tools(
    tmp_path: Path, file: str, text: str, expected: dict[int, str]
) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(text)
    found = class_names(tmp_path)
    assert found is not None
    assert found.by_id == expected


def coloured(root: Path, count: int = 4) -> None:
    colours = np.array([[70, 130, 180], [128, 64, 128]], np.uint8)
    for number in range(count):
        label = (np.indices((24, 36))[1] + number) // 18 % 2
        for folder, pixels in (("images", colours[label] // 2 + number), ("masks", colours[label])):
            path = root / folder / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(path)


def test_colours_are_listed_named_and_trained_on(muhdi, tmp_path: Path) -> None:
    coloured(tmp_path / "src")
    (tmp_path / "src/labelmap.txt").write_text("road:128,64,128::\nsky:70,130,180::\n")
    assert muhdi("new", "src")[0] == 0
    recipe = load_recipe("mine.yml")
    assert recipe.source.colours == {"#804080": "road", "#4682b4": "sky"}
    assert recipe.source.ids is None
    little = ("--set", "source_training.iterations=2", "--set", "image_size=[36,24]")
    assert "#" not in muhdi("check", "mine.yml", *little)[1]
    status, _, errors = muhdi("train", "mine.yml", *little)
    assert status == 0, errors
    # A colour that is not listed is counted, and named as a colour.
    text = Path("mine.yml").read_text().replace('    "#804080"', '    "#804081"')
    Path("mine.yml").write_text(text)
    status, output, _ = muhdi("check", "mine.yml", *little)
    assert status == 1
    assert "#804080" in output


def test_part_of_the_images_can_be_held_out(muhdi, tmp_path: Path) -> None:
    names = [f"{kind}/{n}.png" for n in range(10) for kind in ("images", "labels")]
    files(tmp_path / "src", *names)
    assert muhdi("new", "src")[0] == 0
    recipe = load_recipe("mine.yml", ["source.val_fraction=0.3"])
    splits = {}
    for split in ("train", "val"):
        images = open_split(recipe.source, split, DataContext.of(recipe))
        splits[split] = [images.name(index) for index in range(len(images))]
    assert len(splits["val"]) == 3
    assert len({*splits["train"], *splits["val"]}) == 10
    _, output, _ = muhdi("check", "mine.yml", "--set", "source.val_fraction=0.01")
    assert "val_fraction: 0.01 of 10 images leaves none" in output


def test_a_folder_without_a_table_has_the_sources(muhdi, tmp_path: Path) -> None:
    files(tmp_path / "src", "images/a.png", "labels/a.png", ids=(1, 2))
    files(tmp_path / "city", "images/a.png", "labels/a.png", ids=(1, 2))
    assert muhdi("new", "src", "city")[0] == 0
    recipe = load_recipe("mine.yml", ["steps.0.target.labels=labels/{stem}.png"])
    images = open_split(recipe.steps[0].target, "val", DataContext.of(recipe))
    sample = images.read(0, True)
    assert set(np.unique(sample.label)) == {0, 1}
    assert not sample.unlisted


def test_other_pictures_that_fit_as_labels_are_named_once(tmp_path: Path) -> None:
    for split in ("train", "val"):
        files(tmp_path, *(f"{split}/{part}/0.png" for part in ("images", "gt_car", "gt_road")))
    notes = survey(tmp_path, labelled=True).notes
    fitting = [note.split(" would fit")[0].split(": ")[1] for note in notes]
    assert fitting == ["train/gt_road/{stem}.png", "val/gt_road/{stem}.png"]
