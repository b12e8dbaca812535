"""Which part of its image a training sample shows, with padding, crops and mirroring."""

from __future__ import annotations

import numpy as np
import pytest

from muhdi.data.augment import augment
from muhdi.data.resize import resize_image, shown_window
from muhdi.data.sets import Sample
from muhdi.recipe.augment import AugmentConfig


@pytest.mark.parametrize(
    ("given", "size", "fit", "expected"),
    [
        ((100, 50), (40, 40), "stretch", (0, 0, 1, 1)),
        ((100, 50), (40, 40), "pad", (0, 0, 1, 2)),
        ((50, 100), (40, 40), "pad", (0, 0, 2, 1)),
        ((100, 50), (40, 20), "pad", (0, 0, 1, 1)),
    ],
)
def test_padding_lies_beyond_the_image(given, size, fit, expected) -> None:
    assert shown_window(given, size, fit) == expected
    image = np.full((given[1], given[0], 3), 9, np.uint8)
    resized = resize_image(image, size, fit)
    height, width = resized.shape[:2]
    _, _, right, lower = expected
    shown = np.zeros((height, width), bool)
    shown[: round(height / lower), : round(width / right)] = True
    assert np.array_equal(resized[..., 0] > 0, shown)


def test_a_crop_of_a_padded_image_knows_where_the_image_ends() -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    image[:20] = 200
    sample = Sample("a", image, None, window=(0.0, 0.0, 1.0, 2.0))
    config = AugmentConfig(crop=(16, 16), flip=True)
    for seed in range(20):
        found = augment(sample, config, np.random.default_rng(seed))
        left, upper, right, lower = found.window
        rows = upper + (lower - upper) * (np.arange(16) + 0.5) / 16
        assert np.array_equal(found.image[:, 0, 0] > 0, rows < 1)
        assert abs(right - left) == pytest.approx(16 / 40)
