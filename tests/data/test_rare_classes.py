"""Rare-class sampling: which class and image a draw has, and which crop."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from muhdi import distributed
from muhdi.data.augment import Wanted, augment
from muhdi.data.class_counts import ClassCounts, counts_of
from muhdi.data.prepared import PreparedSet
from muhdi.data.rare_classes import RareClasses, class_probabilities
from muhdi.data.sets import ImageSet, Sample
from muhdi.data.stream import RareClassSampler, endless_batches
from muhdi.errors import MuhdiError
from muhdi.recipe.augment import AugmentConfig
from muhdi.recipe.rare_classes import RareClassesConfig

CLASSES = ("road", "pole", "train", "rider")


class Labels(ImageSet):
    """Labels of 10x10 pixels, each of so many pixels of every class, and the rest ignored."""

    domain = "drawn"
    labelled = True

    def __init__(self, *pixels: tuple[int, ...]) -> None:
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def name(self, index: int) -> str:
        return str(index)

    def read(self, index: int, with_label: bool, draft: Any = None) -> Sample:
        label = np.full(100, 255, np.uint8)
        label[: sum(self.pixels[index])] = np.repeat(range(len(CLASSES)), self.pixels[index])
        image = np.full((10, 10, 3), index, np.uint8)
        return Sample(str(index), image, label.reshape(10, 10) if with_label else None)

    def fingerprint(self) -> str:
        return repr(self.pixels)


# Road fills 0.8 of the labelled pixels, pole 0.15 and rider 0.05; there is no train.
STREETS = Labels((80, 0, 0, 0), (70, 10, 0, 0), (50, 40, 0, 10), (40, 5, 0, 10), (80, 5, 0, 0))


def rare(images: ImageSet, **config: Any) -> RareClasses:
    samples = PreparedSet(images, None, None, with_labels=True)
    counts = counts_of(images, range(len(images)), len(CLASSES))
    return RareClasses(samples, counts, RareClassesConfig(**config), ["steps.0"], CLASSES)


def test_probabilities_are_the_published_softmax() -> None:
    shares = np.array([0.5, 0.3, 0.2])
    total = 1 + math.exp(-1) + math.exp(-3)
    expected = [math.exp(-3) / total, math.exp(-1) / total, 1 / total]
    every = np.array([True, True, True])
    assert class_probabilities(shares, every, 0.1) == pytest.approx(expected, rel=1e-12)
    some = class_probabilities(shares, np.array([True, False, True]), 0.1)
    assert some == pytest.approx([math.exp(-3) / (1 + math.exp(-3)), 0, 1 / (1 + math.exp(-3))])
    assert class_probabilities(shares, every, 1e-300).tolist() == [0, 0, 1]


def test_counts_are_of_labels_as_they_are_stored() -> None:
    counts = counts_of(STREETS, [1, 2], 4)
    assert counts.pixels.tolist() == [[70, 10, 0, 0], [50, 40, 0, 10]]
    assert counts.sizes.tolist() == [100, 100]
    assert counts.totals.tolist() == [120, 50, 0, 10]
    assert counts.ignored == 20
    assert counts.images.tolist() == [2, 2, 0, 1]
    assert counts.shares() == pytest.approx([120 / 180, 50 / 180, 0, 10 / 180])
    empty = ClassCounts(np.zeros((1, 4), np.int64), np.array([9]))
    assert empty.shares().tolist() == [0, 0, 0, 0]


def test_images_are_those_with_more_than_the_share_of_a_class() -> None:
    drawn = rare(STREETS, temperature=0.1, min_share=0.05)
    found = [images.tolist() for images in drawn.images]
    assert found == [[0, 1, 2, 3, 4], [1, 2], [], [2, 3]], "5 of 100 pixels are not more than 0.05"
    shares = np.array([320, 60, 0, 20]) / 400
    weights = np.exp((1 - shares) / 0.1)
    weights[2] = 0
    assert drawn.probabilities == pytest.approx(weights / weights.sum())


def test_the_published_thresholds_can_be_said() -> None:
    daformer = RareClassesConfig()
    published = 3000
    assert published - 1 < daformer.min_share * 1914 * 1052 < published + 1
    assert daformer.smallest_in_crop * 512 * 512 == 1500
    assert daformer.smallest_in_crop * 1024 * 1024 == 6000
    assert (daformer.temperature, daformer.tries) == (0.01, 10)


def test_draws_have_these_frequencies() -> None:
    drawn = rare(STREETS, temperature=0.5, min_share=0.05)
    count = 6000
    rng = np.random.default_rng(0)
    draws = [drawn.draw(rng) for _ in range(count)]
    by_class = np.bincount([label for label, _ in draws], minlength=4)
    assert by_class[2] == 0
    assert _chi_square(by_class, count * drawn.probabilities) < 13.8, "0.1 %, 2 degrees of freedom"
    for label, images in enumerate(drawn.images):
        by_image = np.bincount([image for one, image in draws if one == label], minlength=5)
        expected = np.zeros(5)
        expected[images] = by_class[label] / max(len(images), 1)
        assert by_image[expected == 0].sum() == 0
        assert _chi_square(by_image, expected) < 18.5, "0.1 %, up to 4 degrees of freedom"


def _chi_square(found: np.ndarray, expected: np.ndarray) -> float:
    known = expected > 0
    return float(((found[known] - expected[known]) ** 2 / expected[known]).sum())


def test_draws_depend_on_seed_and_position_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = rare(STREETS, temperature=0.5)

    def batches(start: int, count: int, seed: int = 3) -> list[Any]:
        sampler = RareClassSampler(drawn, 4, (seed, 1, 0), start)
        return list(itertools.islice(sampler, count))

    whole = batches(0, 8)
    assert batches(5, 3) == whole[5:]
    assert batches(0, 8, seed=4) != whole
    assert [draw.number for batch in whole for draw in batch] == list(range(32))
    parts = []
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        parts.append(batches(0, 8))
    assert [one + other for one, other in zip(*parts, strict=True)] == whole


def test_loading_processes_change_nothing() -> None:
    changes = AugmentConfig(crop=(8, 8), flip=True, colour=0.2)
    found = []
    for workers in (0, 2):
        stream = endless_batches(rare(STREETS), 3, changes, (1, 0, 0), 2, workers)
        found.append(list(itertools.islice(stream, 4)))
        stream.close()
    for one, other in zip(*found, strict=True):
        assert one.names == other.names
        assert one.images.equal(other.images)
        assert one.labels.equal(other.labels)


# --- crops ---


def striped() -> Sample:
    """28 columns of class 0, and 4 of class 1."""
    label = np.zeros((8, 32), np.uint8)
    label[:, 28:] = 1
    rng = np.random.default_rng(0)
    return Sample("a", rng.integers(0, 256, (8, 32, 3), np.uint8), label)


@pytest.mark.parametrize("crop", [(8, 8), 0.3])
def test_a_crop_without_its_class_is_drawn_again(crop: tuple[int, int] | float) -> None:
    config = AugmentConfig(crop=crop, **({"crop_max_class": 1.0} if crop != 0.3 else {}))
    sample = striped()
    usual = 0
    for seed in range(40):
        plain = augment(sample, config, np.random.default_rng(seed))
        found = augment(sample, config, np.random.default_rng(seed), Wanted(1, 0.2, 1000))
        assert (found.label == 1).mean() > 0.2
        if (plain.label == 1).mean() > 0.2:
            usual += 1
            assert np.array_equal(found.image, plain.image), "a good one is not drawn again"
    assert usual < 40


def test_the_last_of_the_tries_stays() -> None:
    config = AugmentConfig(crop=(8, 8), crop_max_class=1.0)
    sample = striped()
    for tries in (0, 3):
        rng = np.random.default_rng(5)
        for _ in range(1 + tries):
            last = augment(sample, config, rng)
        found = augment(sample, config, np.random.default_rng(5), Wanted(7, 0.0, tries))
        assert np.array_equal(found.image, last.image)


def test_a_share_that_is_just_reached_is_not_enough() -> None:
    label = striped().label
    assert Wanted(1, 4 / 32, 1).is_in(label) is False
    assert Wanted(1, 3.9 / 32, 1).is_in(label) is True


# --- what the user is told ---


def test_classes_that_are_left_out_are_named() -> None:
    lines = rare(STREETS, min_share=0.2).notes(CLASSES)
    assert lines[0].startswith("drawn: images are drawn for a class, rare ones more often")
    assert "steps.0); most often pole 100.0 %, road 0.0 %" in lines[0]
    assert lines[1] == "drawn: never drawn for, since no label holds it: train"
    assert lines[2].endswith("no image has more than 0.2 (min_share) of it: rider")
    assert len(lines) == 3


def test_nothing_to_draw_for_is_one_line() -> None:
    with pytest.raises(MuhdiError, match=r"steps\.0\.rare_classes\.min_share: .*road, fills 0\.8 "):
        rare(STREETS, min_share=0.8)
    with pytest.raises(MuhdiError, match="no pixel of the labels of 'drawn' is of any class"):
        rare(Labels((0, 0, 0, 0)))
