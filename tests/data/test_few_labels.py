"""A few labels of a target: which images are chosen, and that no other label is looked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from muhdi.data.catalog import DataContext
from muhdi.data.few_labels import open_labelled
from muhdi.data.sets import ImageSet
from muhdi.errors import MuhdiError
from muhdi.recipe.schema import Recipe
from tests.folders import day

IDS = {0: "flat", 7: "sky", 9: "human"}
Opens = Callable[[int | str], ImageSet]


@pytest.fixture
def opened(folders: Path, tiny: Callable[..., Path]) -> Callable[..., ImageSet]:
    """Opens the labelled images of a step whose target is the folder ``day``."""

    def opens(labelled: int | str, **changes: Any) -> ImageSet:
        target = {**day(IDS), "root": ".", **changes}
        step = {"target": target, "labelled": labelled, "iterations": 1}
        recipe = Recipe.load(tiny(steps=[step], root=str(folders)))
        return open_labelled(0, recipe.steps[0], DataContext.of(recipe), str(folders))

    return opens


def names(images: ImageSet) -> list[str]:
    return [Path(images.name(index)).name for index in range(len(images))]


def written(folders: Path, text: str) -> str:
    (folders / "list.txt").write_text(text)
    return "list.txt"


def test_a_number_is_spread_evenly_and_only_its_labels_need_to_be_there(
    folders: Path, opened: Opens
) -> None:
    for number in (1, 2):
        (folders / "day_labels" / "train" / f"img {number}_ids.png").unlink()
    images = opened(2)
    assert names(images) == ["img 0.png", "img 3.png"]
    assert images.labelled
    assert images.read(1, True).label is not None


def test_a_list_names_images_by_the_end_of_their_path(folders: Path, opened: Opens) -> None:
    whole = folders / "day" / "train" / "img 0.png"
    text = f"# two of them\n\ntrain/img 2.png\n{whole}\n"
    assert names(opened(written(folders, text))) == ["img 0.png", "img 2.png"]


def test_of_a_set_that_draws_its_labels_the_chosen_ones_alone_are_seen(opened: Opens) -> None:
    scenes = {"dataset": "scenes", "domain": "city", "train": 5, "val": 1}
    recipe = {"labelled": 2, "iterations": 1, "target": scenes}
    loaded = Recipe.load("scenes", steps=[recipe])
    images = open_labelled(0, loaded.steps[0], DataContext.of(loaded), ".")
    assert names(images) == ["city_00000", "city_00004"]
    assert images.read(1, True).name == "city_00004"


def test_masks_of_a_few_images_need_not_show_every_class(folders: Path, opened: Opens) -> None:
    masks = {"flat": "day_labels/train/{stem}_ids.png", "sky": "day_labels/{stem}_sky.png"}
    images = opened(1, labels=None, ids=None, masks=masks)
    assert images.labelled


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("img 33.png", "line 1: 'day' has no training image img 33.png; did you mean 'img 3.png'?"),
        ("# nothing\n\n", "the list names no image; give one per line"),
        (
            "img 1.png\n\ntrain/img 1.png\n",
            "line 3: train/img 1.png is the image of line 1 again; remove one of them",
        ),
    ],
)
def test_a_list_that_cannot_be_used(folders: Path, opened: Opens, text: str, message: str) -> None:
    with pytest.raises(MuhdiError) as error:
        opened(written(folders, text))
    assert str(error.value) == f"steps.0.labelled: {folders / 'list.txt'}: {message}"


def test_a_name_of_two_images(folders: Path, opened: Opens) -> None:
    with pytest.raises(MuhdiError, match=r"line 1: img 1.png may be .*train.* or .*val"):
        opened(written(folders, "img 1.png\n"), images="day/**/*.png")


def test_what_is_missing_is_named(folders: Path, opened: Opens) -> None:
    with pytest.raises(
        MuhdiError, match=r"5 labels .* 'day' has 4 training images; give at most 4"
    ):
        opened(5)
    with pytest.raises(MuhdiError, match=r"steps.0.labelled: the file .*list.txt does not exist"):
        opened("list.txt")
    missing = folders / "day_labels" / "train" / "img 3_ids.png"
    missing.unlink()
    for labelled in (2, written(folders, "img 0.png\nimg 3.png")):
        with pytest.raises(MuhdiError) as error:
            opened(labelled)
        assert str(error.value) == (
            f"steps.0.labelled: {folders / 'day' / 'train' / 'img 3.png'}: its label {missing} is"
            " missing (1 of 2 images of 'day' have none); add it, or list images that have labels:"
            " labelled: FILE"
        )
    with pytest.raises(MuhdiError, match="'day' has no labels for train; set 'labels' to where"):
        opened(2, labels=None)


@pytest.mark.parametrize("value", ["0", "-3", "true", "[1]", "''"])
def test_neither_a_number_nor_a_file(value: str) -> None:
    with pytest.raises(MuhdiError, match=r"steps.0.labelled: must be a number of images above 0"):
        Recipe.load("scenes", [f"steps.0.labelled={value}"])


def test_an_oracle_has_all_labels() -> None:
    settings = ["steps.0.labelled=2", "steps.0.adaptation=oracle"]
    with pytest.raises(MuhdiError, match=r"steps.0.labelled: oracle learns from every label"):
        Recipe.load("scenes", settings)
