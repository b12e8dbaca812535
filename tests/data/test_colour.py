"""Changes of colour, against the formula written plainly."""

from __future__ import annotations

import numpy as np
import pytest

from muhdi.data.augment import Pixels, augment
from muhdi.data.sets import Sample
from muhdi.recipe.augment import AugmentConfig


def plainly(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Brightness, contrast and saturation, one expression each."""
    brightness, contrast, saturation = 1 + strength * rng.uniform(-1, 1, 3)
    pixels = image.astype(np.float32) * np.float32(brightness)
    mean = pixels.mean()
    pixels = mean + (pixels - mean) * np.float32(contrast)
    grey = pixels.mean(2, keepdims=True)
    pixels = grey + (pixels - grey) * np.float32(saturation)
    return np.clip(pixels, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("strength", [0.3, 1.0])
@pytest.mark.parametrize("size", [(2, 2), (37, 53), (256, 128)])
def test_every_pixel_is_that_of_the_formula(size: tuple[int, int], strength: float) -> None:
    image = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    # As crops and mirrored images are: parts of a larger array, from right to left.
    views = (image, image[::2, 1:], image[:, ::-1], np.full_like(image, 200))
    config = AugmentConfig(colour=strength)
    for seed, view in enumerate(views * 5):
        before = view.copy()
        changed = augment(Sample("x", view, None), config, np.random.default_rng(seed)).image
        expected = plainly(view, strength, np.random.default_rng(seed))
        assert np.array_equal(changed, expected)
        assert np.array_equal(view, before)
        assert changed.dtype == np.uint8
