"""One mask per class: what pixels become, what may be missing, what is refused, what new finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from muhdi.data.catalog import DataContext, open_split
from muhdi.errors import DataError, RecipeError
from muhdi.recipe.domains import FolderConfig
from muhdi.recipe.load import load_recipe
from muhdi.taxonomy import IGNORE, custom

CLASSES = custom(["road", "car", "rest"])
CONTEXT = DataContext(CLASSES, (4, 2), ".", 0)
ROAD = [[1, 1, 1, 0], [1, 1, 0, 0]]
CAR = [[0, 0, 1, 1], [0, 0, 0, 0]]


def image(path: Path, size: tuple[int, int] = (4, 2)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = sum(map(ord, path.stem)) % 100  # no two images are the same
    Image.new("RGB", size, (90, 80, grey)).save(path)


def mask(path: Path, covered: list[list[int]], value: int = 255) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(covered, np.uint8) * np.uint8(value)).save(path)


def config(root: Path, **keys: object) -> FolderConfig:
    masks = {"road": "masks/{stem}_road.png", "car": "masks/{stem}_car.png"}
    values = {"dataset": "folder", "root": str(root), "images": "images/*.png", "masks": masks}
    return FolderConfig.model_validate(values | keys)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        image(tmp_path / f"images/{name}.png")
        mask(tmp_path / f"masks/{name}_road.png", ROAD, 1)
    mask(tmp_path / "masks/a_car.png", CAR)
    return tmp_path


@pytest.mark.parametrize(("unmasked", "rest"), [(None, IGNORE), ("ignore", IGNORE), ("rest", 2)])
def test_a_pixel_has_the_class_of_its_last_mask(
    root: Path, unmasked: str | None, rest: int
) -> None:
    found = open_split(config(root, unmasked=unmasked), "train", CONTEXT)
    assert found.labelled
    assert found.read(0, True).label.tolist() == [[0, 0, 1, 1], [0, 0, rest, rest]]
    # The second image shows no car.
    assert found.read(1, True).label.tolist() == [[0, 0, 0, rest], [0, 0, rest, rest]]


def test_caches_notice_a_change_of_any_mask(root: Path) -> None:
    found = open_split(config(root), "train", CONTEXT)
    before = (found.key(0, True), found.fingerprint())
    mask(root / "masks/a_car.png", [[1] * 400] * 200)
    assert found.key(0, True) != before[0]
    assert found.fingerprint() != before[1]
    other = open_split(config(root, unmasked="rest"), "train", CONTEXT)
    assert other.key(1, True) != found.key(1, True)


def test_masks_that_cannot_be_right_are_refused(root: Path) -> None:
    mask(root / "masks/b_car.png", [[1, 0]])
    found = open_split(config(root), "train", CONTEXT)
    with pytest.raises(DataError, match=r"b_car\.png: the mask is 2x1, but .*b_road\.png is 4x2"):
        found.read(1, True)
    image(root / "images/c.png")
    with pytest.raises(DataError, match=r"c\.png: has no mask \(1 of 3 images"):
        open_split(config(root), "train", CONTEXT)
    with pytest.raises(DataError, match=r"masks of .*: no file is there for any image"):
        open_split(config(root, masks={"car": "elsewhere/{stem}.png"}), "train", CONTEXT)


def test_a_class_without_any_mask_is_a_mistyped_pattern(root: Path) -> None:
    masks = {"road": "masks/{stem}_road.png", "car": "maks/{stem}_car.png"}
    with pytest.raises(DataError, match=r"masks\.car of .*: none of 2 images .*maks/a_car\.png"):
        open_split(config(root, masks=masks), "train", CONTEXT)


def test_a_list_with_labels_and_masks_contradict_each_other(root: Path) -> None:
    (root / "list.txt").write_text("images/a.png,masks/a_road.png\n")
    with pytest.raises(DataError, match=r"list\.txt: names labels, but .* has masks"):
        open_split(config(root, images="list.txt"), "train", CONTEXT)


def test_files_that_do_not_say_in_black_and_white_are_refused(root: Path) -> None:
    path = root / "masks/a_car.png"
    found = open_split(config(root), "train", CONTEXT)
    cut_out = np.full((2, 4, 4), 255, np.uint8)
    cut_out[:, 2:, 3] = 0
    Image.fromarray(cut_out).save(path)
    with pytest.raises(DataError, match=r"a_car\.png: .* transparent there"):
        found.read(0, True)
    Image.fromarray(np.arange(24, dtype=np.uint8).reshape(2, 4, 3)).save(path)
    with pytest.raises(DataError, match=r"a_car\.png: a mask must be black and white"):
        found.read(0, True)
    opaque = np.full((2, 4, 4), 255, np.uint8)
    opaque[:, 2:, :3] = 0
    Image.fromarray(opaque).save(path)
    assert found.read(0, True).label.tolist()[0] == [1, 1, 0, IGNORE]


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"labels": "*.png"}, "leave labels, val_labels, ids and colours out"),
        ({"ids": {0: "road"}}, "leave labels, val_labels, ids and colours out"),
        ({"masks": None, "unmasked": "rest"}, "unmasked: is for masks"),
    ],
)
def test_two_ways_to_say_labels_are_refused(root: Path, keys: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        config(root, **keys)


def test_a_class_that_the_recipe_lacks_is_refused(root: Path) -> None:
    for keys in ({"masks": {"cart": "x"}}, {"unmasked": "cart"}):
        with pytest.raises(RecipeError, match="unknown class 'cart'"):
            config(root, **keys).check_classes("source", CLASSES)


def test_new_says_which_masks_it_leaves_out(muhdi, tmp_path: Path) -> None:
    for name in ("a", "b"):
        image(tmp_path / f"own/images/{name}.png")
        mask(tmp_path / f"own/masks/{name}_road.png", ROAD)
    mask(tmp_path / "own/masks/a_car.png", CAR)
    image(tmp_path / "place/x.png")
    status, output, errors = muhdi("new", "own", "place")
    assert status == 0, errors
    assert "1 label files fit no pattern" in output
    assert "masks/a_car.png" in output


def test_new_refuses_masks_whose_places_differ_between_splits(muhdi, tmp_path: Path) -> None:
    for split in ("training", "validation"):
        image(tmp_path / f"own/images/{split}/{split}.png")
        for name in ("road", "car"):
            mask(tmp_path / f"own/masks/{split}/{name}/{split}.png", ROAD)
    image(tmp_path / "place/x.png")
    status, _, errors = muhdi("new", "own", "place")
    assert status == 2
    assert "name these folders so" in errors


@pytest.mark.parametrize(
    "layout",
    ["masks/{c}/{n}.png", "masks/{n}_{c}.png", "{c}_masks/{n}.png", "masks/{c}-{n}.png"],
)
def test_new_writes_masks_and_check_reads_them(muhdi, tmp_path: Path, layout: str) -> None:
    for name in ("a1", "a2", "a3"):
        image(tmp_path / f"own/images/{name}.png", (40, 20))
        for number, class_name in enumerate(("road", "dirt road", "sky")):
            covered = np.zeros((20, 40), int)
            covered[6 * number : 6 * number + 6] = 1
            path = tmp_path / "own" / layout.format(c=class_name, n=name)
            mask(path, covered.tolist())
    image(tmp_path / "place/x.png", (40, 20))
    status, _, errors = muhdi("new", "own", "place")
    assert status == 0, errors
    recipe = load_recipe(tmp_path / "mine.yml")
    assert sorted(recipe.class_set().classes) == ["dirt road", "road", "sky"]
    found = open_split(recipe.source, "train", DataContext.of(recipe))
    label = found.read(0, True).label
    order = recipe.class_set().classes
    assert [order[label[row, 0]] for row in (0, 6, 12)] == ["road", "dirt road", "sky"]
    assert (label[18:] == IGNORE).all()
    status, output, errors = muhdi("check", "mine.yml")
    assert status == 1, errors  # but only since the images of training serve for evaluation, too
    assert output.count("memorised images") == 1


def test_two_kinds_of_binary_labels_are_not_two_classes(muhdi, tmp_path: Path) -> None:
    image(tmp_path / "own/images/a.png")
    image(tmp_path / "place/x.png")
    for folder in ("labels", "labels_instance"):
        mask(tmp_path / f"own/{folder}/a.png", ROAD)
    status, output, errors = muhdi("new", "own", "place")
    assert status == 0, errors
    assert "masks:" not in (tmp_path / "mine.yml").read_text()
    assert "labels_instance/{stem}.png would fit as labels too" in output + errors
