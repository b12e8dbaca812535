"""Lists of images, alone or with their labels, and the page on data of one's own."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from muhdi.data.catalog import DataContext, open_folder
from muhdi.data.lists import read_pairs
from muhdi.errors import DataError
from muhdi.recipe.domains import FolderConfig
from muhdi.recipe.schema import Recipe
from muhdi.taxonomy import custom

PAGE = Path(__file__).parents[2] / "docs" / "data.md"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("a b.png", "c,d.png", "x/l 1.png", "x/l2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((2, 2), len(name) % 2, np.uint8)).save(tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("gap", ["\t", ",", ", ", " "])
def test_a_list_pairs_images_and_labels(root: Path, gap: str) -> None:
    lines = ["# made by hand", f"a b.png{gap}x/l 1.png", "", f"c,d.png{gap}x/l2.png"]
    (root / "train.txt").write_text("\n".join(lines))
    images, labels = read_pairs(root / "train.txt", root)
    assert images == [root / "a b.png", root / "c,d.png"]
    assert labels == [root / "x/l 1.png", root / "x/l2.png"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the list names no image"),
        ("gone.png", r"train.txt: line 1: the file .*gone.png is missing"),
        ("a b.png\nc,d.png,x/l2.png", "1 of 2 lines name a label"),
        ("a b.png,gone.png", "line 1: the file"),
    ],
)
def test_a_wrong_list_is_named(root: Path, text: str, message: str) -> None:
    (root / "train.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        read_pairs(root / "train.txt", root)


def test_a_folder_takes_a_list_of_each_split(root: Path) -> None:
    (root / "lists").mkdir()
    (root / "lists/train.txt").write_text("a b.png,x/l 1.png\n")
    (root / "lists/val.txt").write_text("c,d.png\n")
    context = DataContext(custom(["sky", "road"]), (2, 2), str(root), 0)
    config = FolderConfig(dataset="folder", images="lists/{split}.txt", labels="{parent}/x/l2.png")
    train = open_folder(config, "train", context, True).read(0, True)
    assert train.name == str(root / "a b.png")
    assert (train.label == len("x/l 1.png") % 2).all()
    val = open_folder(config, "val", context, True).read(0, True)
    assert (val.label == len("x/l2.png") % 2).all()


UNTRAINED = {"source_training": {"iterations": 1, "batch_size": 2, "learning_rate": 0.01}}


def test_the_sections_of_the_page_are_valid() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.S)
    first, channels, masks, colours = map(yaml.safe_load, blocks)
    assert FolderConfig(**first).ids == {0: "sky", 1: "road", 255: "ignore"}
    coloured = {key: value for key, value in first.items() if key != "ids"} | colours
    assert FolderConfig(**coloured).colours == colours["colours"]
    images = {key: first[key] for key in ("dataset", "root", "images")}
    assert FolderConfig(**images, **masks).masks == masks["masks"]
    read = Recipe.model_validate({"name": "four", "image_size": [48, 32], **channels, **UNTRAINED})
    assert (read.channels, read.pixel_range) == (4, (0, 4095))
    assert read.source.bands == ["{split}/nir/{stem}.png"]
