"""Crops of a fixed number of pixels: their place, their labels, and when they are drawn again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muhdi.data.augment import augment
from muhdi.data.sets import Sample
from muhdi.errors import RecipeError
from muhdi.recipe.augment import AugmentConfig
from muhdi.recipe.load import load_recipe
from muhdi.taxonomy import IGNORE

Tiny = Callable[..., Path]


def numbered(width: int, height: int, *, labelled: bool = True) -> Sample:
    """An image whose first two channels are the column and the row; the label is their sum."""
    rows, columns = np.indices((height, width)).astype(np.uint8)
    image = np.stack([columns, rows, rows], 2)
    return Sample("x", image, columns + rows if labelled else None)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), seed=st.integers(0, 2**32), labelled=st.booleans())
def test_a_crop_is_a_window_of_exactly_this_size(
    data: st.DataObject, seed: int, labelled: bool
) -> None:
    width, height = data.draw(st.tuples(st.integers(8, 60), st.integers(8, 60)))
    size = data.draw(st.tuples(st.integers(8, width), st.integers(8, height)))
    sample = numbered(width, height, labelled=labelled)
    new = augment(sample, AugmentConfig(crop=size), np.random.default_rng(seed))
    assert new.image.shape == (size[1], size[0], 3)
    left, upper = (int(value) for value in new.image[0, 0, :2])
    inside = slice(upper, upper + size[1]), slice(left, left + size[0])
    assert np.array_equal(new.image, sample.image[inside])
    shares = (left / width, upper / height, (left + size[0]) / width, (upper + size[1]) / height)
    assert new.window == pytest.approx(shares)
    if labelled:
        assert np.array_equal(new.label, sample.label[inside])
    else:
        assert new.label is None


def test_a_window_says_what_is_shown_of_the_image_and_whether_in_a_mirror() -> None:
    sample = numbered(40, 20)
    assert augment(sample, AugmentConfig(), np.random.default_rng(0)).window == (0, 0, 1, 1)
    mirrored = 0
    for seed in range(20):
        config = AugmentConfig(crop=0.5, flip=True)
        new = augment(sample, config, np.random.default_rng(seed))
        left, upper, right, lower = new.window
        # The image's red is its column: what is at the edges says where they lie.
        first, last = (float(new.image[10, column, 0]) for column in (0, -1))
        assert first == pytest.approx(40 * left, abs=1.5)
        assert last == pytest.approx(40 * right, abs=1.5)
        assert float(new.image[0, 0, 1]) == pytest.approx(20 * upper, abs=1.5)
        assert float(new.image[-1, 0, 1]) == pytest.approx(20 * lower, abs=1.5)
        mirrored += left > right
    assert 3 < mirrored < 17


def test_every_place_comes() -> None:
    sample = numbered(10, 9)
    config = AugmentConfig(crop=(8, 8))
    places = {
        tuple(augment(sample, config, np.random.default_rng(seed)).image[0, 0, :2].tolist())
        for seed in range(100)
    }
    assert places == {(left, upper) for left in range(3) for upper in range(2)}


class Scripted:
    """A generator that gives the places of a list, and counts them."""

    def __init__(self, *places: tuple[int, int]) -> None:
        self.places = list(places)
        self.numbers: list[int] = []
        self.drawn = 0

    def integers(self, low: int, high: int, endpoint: bool) -> int:
        if not self.numbers:
            place = self.places[min(self.drawn, len(self.places) - 1)]
            self.numbers = list(place)
            self.drawn += 1
        number = self.numbers.pop(0)
        assert low <= number <= high
        assert endpoint
        return number


def corner() -> Sample:
    """Class 0 fills all of 16x16 pixels but the lower right quarter, which is class 1."""
    label = np.zeros((16, 16), np.uint8)
    label[8:, 8:] = 1
    return Sample("x", np.zeros((16, 16, 3), np.uint8), label)


def draws(sample: Sample, rng: Scripted, **options: float) -> int:
    """How often an 8x8 window is drawn, and that the last one is what is given."""
    new = augment(sample, AugmentConfig(crop=(8, 8), **options), rng)
    left, upper = rng.places[min(rng.drawn, len(rng.places)) - 1]
    if sample.label is not None:
        assert np.array_equal(new.label, sample.label[upper : upper + 8, left : left + 8])
    return rng.drawn


def test_a_window_that_one_class_fills_is_drawn_again() -> None:
    # All class 0; all class 1; 15 of 64 pixels class 1; 16 of 64: class 0 fills 0.75 and no more.
    places = ((0, 0), (8, 8), (3, 5), (4, 4), (5, 5))
    assert draws(corner(), Scripted(*places)) == 4
    assert draws(corner(), Scripted(*places), crop_max_class=0.5) == 11
    assert draws(corner(), Scripted(*places), crop_max_class=0.8) == 3
    assert draws(corner(), Scripted(*places), crop_max_class=1) == 1


def test_after_ten_more_draws_the_last_one_stays() -> None:
    places = [(number % 8, 0) for number in range(20)]
    assert draws(corner(), Scripted(*places)) == 11


def test_only_labelled_pixels_count_and_without_any_the_window_is_drawn_again() -> None:
    sample = corner()
    sample.label[:, :8] = IGNORE
    # Nothing labelled; then columns 8 to 11 of rows 2 to 9, of which 24 are class 0 and 8 class 1.
    assert draws(sample, Scripted((0, 0), (4, 2))) == 2


def test_without_a_label_there_is_a_single_draw() -> None:
    sample = Sample("x", np.zeros((16, 16, 3), np.uint8), None)
    assert draws(sample, Scripted((0, 0), (4, 4))) == 1


def test_what_is_drawn_for_a_sample_and_in_which_order() -> None:
    """Runs repeat because of it: a crop by share, as ever, and one of pixels in its place."""
    sample = numbered(20, 10)
    for crop in (0.5, (12, 8)):
        rng, expected = np.random.default_rng(3), np.random.default_rng(3)
        options = {"crop": crop, "flip": True, "colour": 0.4}
        augment(sample, AugmentConfig.model_validate(options), rng)
        if crop == 0.5:
            part = expected.uniform(0.5, 1)
            expected.uniform(0, 20 - 20 * part)
            expected.uniform(0, 10 - 10 * part)
        else:
            expected.integers(0, 8, endpoint=True)
            expected.integers(0, 2, endpoint=True)
        expected.random()
        expected.uniform(-1, 1, 3)
        assert rng.random() == expected.random()


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("augment.crop=512", "augment.crop: must be a share from 0 to 1, or [width, height]"),
        ("augment.crop=[40]", "augment.crop.1: this key is missing"),
        ("augment.crop=[40,4]", "augment.crop.1: input should be greater than or equal to 8"),
        ("augment.crop=[40,40]", "augment.crop: 40x40 is larger than image_size, 48x32; set a"),
        (
            "steps.1.target.image_size=[24,32]",
            "augment.crop: 32x24 is larger than steps.1.target.image_size, 24x32; set a smaller",
        ),
        (
            "augment={crop: 0.5, crop_max_class: 0.75}",
            "augment.crop_max_class: is of a crop in pixels; leave it out, or set augment.crop",
        ),
        ("augment.crop_max_class=0", "augment.crop_max_class: input should be greater than 0"),
        (
            "every_step.adaptation=advent",
            "steps.0.adaptation: advent needs images of at least 32x32; set a larger augment.crop",
        ),
    ],
)
def test_a_mistake_is_named(tiny: Tiny, setting: str, words: str) -> None:
    with pytest.raises(RecipeError) as error:
        load_recipe(tiny(augment={"crop": [32, 24]}), [setting])
    assert words in str(error.value)


def test_only_crops_of_one_size_are_mixed(tiny: Tiny) -> None:
    larger = ["every_step.adaptation=selftrain", "steps.1.target.image_size=[64,48]"]
    with pytest.raises(RecipeError, match=r"one image_size, or an augment\.crop in pixels"):
        load_recipe(tiny(), larger)
    recipe = load_recipe(tiny(), [*larger, "augment.crop=[32,24]"])
    data = recipe.steps[1].target
    assert recipe.training_size(data) == (32, 24)
    assert recipe.size_of(data) == (64, 48)


def test_a_domain_that_is_not_trained_on_may_be_smaller(tiny: Tiny) -> None:
    small = {"dataset": "scenes", "domain": "dust", "val": 2, "image_size": [16, 16]}
    recipe = load_recipe(tiny(extra_domains=[small], augment={"crop": [32, 24]}))
    assert [key for key, _ in recipe.training_domains()] == [
        "source",
        "steps.0.target",
        "steps.1.target",
    ]
