"""Windows, mirror images and scales: where windows lie, and what is averaged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from muhdi.data.domains import Domains
from muhdi.evaluation.predict import evaluate_domain, predict
from muhdi.evaluation.views import (
    Sides,
    Views,
    classes_of,
    probabilities_of,
    strips,
    window_starts,
)
from muhdi.losses import upsample
from muhdi.models.ensemble import Ensemble
from muhdi.models.inference import Inference, Network
from muhdi.models.segmenter import build_segmenter
from muhdi.recipe.schema import Recipe
from tests.folders import day


def noise(count: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


def averaged(
    run: Callable[[Tensor], Tensor], images: Tensor, views: Views, size: Sides | None = None
) -> Tensor:
    """The mean softmax [N, C, height, width] at one size, by default that of the images."""
    sizes = [size or (images.shape[-2], images.shape[-1])] * len(images)
    return torch.stack(list(probabilities_of(run, images, sizes, views)))


@pytest.mark.parametrize(
    ("length", "window", "overlap", "starts"),
    [
        (100, 40, 0.25, [0, 30, 60]),
        (101, 40, 0.25, [0, 30, 60, 61]),
        (2048, 1024, 0.25, [0, 768, 1024]),
        (1024, 512, 1 / 3, [0, 341, 512]),
        (100, 50, 0.0, [0, 50]),
        (41, 40, 0.9, [0, 1]),
        (40, 40, 0.5, [0]),
        (30, 40, 0.5, [0]),
    ],
)
def test_the_last_window_is_shifted_inside(
    length: int, window: int, overlap: float, starts: list[int]
) -> None:
    assert window_starts(length, window, overlap) == starts


def by_first_pixel(images: Tensor) -> Tensor:
    """A network whose first class has the probability of the upper left pixel's value, of 100."""
    share = images[:, 0, 0, 0].float() / 100
    logits = torch.stack([share.log(), (1 - share).log()], 1)
    return logits[:, :, None, None].expand(-1, -1, 2, 2)


by_first_pixel.align_corners = True


def test_the_mean_of_windows_by_hand() -> None:
    """Windows of 16x16 at (0, 0), (0, 8), (4, 0), (4, 8) on 24x20."""
    image = torch.zeros(1, 3, 20, 24, dtype=torch.uint8)
    image[:, :, 0, 0] = 20
    image[:, :, 0, 8] = 40
    image[:, :, 4, 0] = 60
    image[:, :, 4, 8] = 90
    found = averaged(by_first_pixel, image, Views(window=(16, 16), overlap=0.5))[0, 0]
    expected = torch.tensor(
        [
            [0.20, 0.30, 0.40],  # lines 0 to 3: the upper windows
            [0.40, 0.525, 0.65],  # lines 4 to 15: all
            [0.60, 0.75, 0.90],  # lines 16 to 19: the lower windows
        ]
    )
    lines = expected.repeat_interleave(torch.tensor([4, 12, 4]), 0)
    torch.testing.assert_close(found, lines.repeat_interleave(8, 1))


def network(kind: str) -> Network:
    torch.manual_seed(1)
    if kind == "ensemble":
        return Ensemble([build_segmenter("small", 4), build_segmenter("small", 4)], [1.0, 0.5])
    return build_segmenter("small", 4)


@pytest.mark.parametrize(
    ("kind", "statistics", "flip"),
    [
        ("segmenter", "running", False),
        ("segmenter", "image", True),
        ("ensemble", "running", True),
    ],
)
def test_windows_in_batches_are_those_one_at_a_time(kind: str, statistics: str, flip: bool) -> None:
    """Three images at a time, against one window after another in the plainest way."""
    inference = Inference(network(kind), statistics=statistics)
    images = noise(3, 50, 75)
    views = Views(window=(32, 24), overlap=0.3, flip=flip)

    def plain(image: Tensor) -> Tensor:
        total = torch.zeros(4, 50, 75)
        count = torch.zeros(50, 75)
        for top in (0, 17, 26):
            for left in (0, 22, 43):
                window = image[None, :, top : top + 24, left : left + 32]
                with torch.no_grad():
                    softmax = upsample(inference(window), (24, 32), align_corners=True).softmax(1)[
                        0
                    ]
                total[:, top : top + 24, left : left + 32] += softmax
                count[top : top + 24, left : left + 32] += 1
        return total / count

    expected = torch.stack([plain(image) for image in images])
    if flip:
        mirrored = torch.stack([plain(image.flip(-1)) for image in images])
        expected = (expected + mirrored.flip(-1)) / 2
    for batch_size in (1, 8):
        found = averaged(inference, images, replace(views, batch_size=batch_size))
        assert (found - expected).abs().max() < 1e-5, batch_size
    classes = torch.stack(classes_of(inference, images, [(50, 75)] * 3, views))
    assert (classes == expected.argmax(1)).float().mean() > 0.999


def test_no_more_windows_than_a_batch_and_strips_of_one_row() -> None:
    seen: list[int] = []

    def run(images: Tensor) -> Tensor:
        seen.append(len(images))
        return by_first_pixel(images + 1)

    run.align_corners = True

    views = Views(window=(16, 16), overlap=0.0, batch_size=3)
    images = noise(2, 48, 64) // 3
    heights = [strip.shape[2] for strip in strips(run, images[:1], views)]
    assert heights == [16, 16, 16]
    assert seen == [3, 1] * 3
    seen.clear()
    averaged(run, images, replace(views, batch_size=8))
    assert seen == [8, 8, 8], "the windows of both images fill a batch"


def test_a_window_that_covers_the_image_changes_nothing() -> None:
    inference = Inference(network("segmenter"))
    images = noise(2, 32, 48)
    sizes = [(64, 96), (40, 50)]
    whole = classes_of(inference, images, sizes, Views())
    for window in ((48, 32), (100, 200)):
        covered = classes_of(inference, images, sizes, Views(window=window))
        assert all(torch.equal(a, b) for a, b in zip(whole, covered, strict=True))
    assert Views(window=(47, 32)).slide_over((32, 48))


# --- mirror images and scales ---------------------------------------------------------------------


def by_pixel(images: Tensor) -> Tensor:
    """A network that sees each pixel alone, so that mirroring before or after is the same."""
    grey = images.float().mean(1, keepdim=True) / 64
    return torch.cat([grey, 2 - grey], 1)


by_pixel.align_corners = True


def by_column(images: Tensor) -> Tensor:
    """A network that sees nothing but where a pixel is: 0.8 on the left half, 0.2 on the right."""
    logits = torch.zeros(len(images), 2, *images.shape[-2:])
    half = images.shape[-1] // 2
    logits[:, 0, :, :half] = torch.tensor(0.8 / 0.2).log()
    logits[:, 0, :, half:] = torch.tensor(0.2 / 0.8).log()
    return logits


by_column.align_corners = True


@pytest.mark.parametrize("window", [None, (16, 16)])
def test_a_mirror_image_averages_what_is_not_symmetric(window: tuple[int, int] | None) -> None:
    images = noise(2, 20, 40)
    views = Views(window=window, overlap=0.5)
    once = averaged(by_pixel, images, views)
    twice = averaged(by_pixel, images, replace(views, flip=True))
    torch.testing.assert_close(twice, once)
    once = averaged(by_column, images, views)
    assert once.std() > 0.1
    twice = averaged(by_column, images, replace(views, flip=True))
    torch.testing.assert_close(twice, torch.full_like(twice, 0.5))


@pytest.mark.parametrize("window", [None, (32, 16)])
def test_scales_resize_the_image_and_average_at_the_size_of_the_result(
    window: tuple[int, int] | None,
) -> None:
    shown: set[tuple[int, int]] = set()

    def run(images: Tensor) -> Tensor:
        assert images.dtype == torch.uint8
        height, width = images.shape[-2:]
        shown.add((height, width))
        # 0.8 at the scale of 1, 0.5 at the others.
        logits = torch.zeros(len(images), 2, 2, 2)
        if window or (height, width) == (32, 48):
            logits[:, 0] = torch.tensor(4.0).log()
        return logits

    run.align_corners = True

    views = Views(window=window, scales=(0.75, 1.0, 1.25))
    found = averaged(run, noise(2, 32, 48), views, (64, 90))
    assert found.shape == (2, 2, 64, 90)
    share = 0.8 if window else (0.5 + 0.8 + 0.5) / 3
    torch.testing.assert_close(found[:, 0], torch.full((2, 64, 90), share))
    assert shown == ({(16, 32)} if window else {(24, 36), (32, 48), (40, 60)})
    classes = classes_of(run, noise(2, 32, 48), [(64, 90), (5, 5)], views)
    assert [tuple(one.shape) for one in classes] == [(64, 90), (5, 5)]
    assert all(not one.any() for one in classes)


# --- images at their own size ---------------------------------------------------------------------


def recipe_on(folders: Path, **evaluation: object) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "r",
            "classes": ["road", "sky", "car"],
            "image_size": (24, 16),
            "source": day({0: "road", 7: "sky", 9: "car"}),
            "source_training": {"iterations": 1},
            "runtime": {"root": str(folders)},
            "evaluation": evaluation,
        }
    )


def test_images_at_their_own_size_share_a_batch_with_their_like(folders: Path) -> None:
    for folder, name, mode in (("day", "img 1.png", "RGB"), ("day_labels", "img 1_ids.png", "L")):
        path = folders / folder / "val" / name
        with Image.open(path) as image:
            image.convert(mode).resize((50, 41), Image.Resampling.NEAREST).save(path)
    recipe = recipe_on(folders, input_size="native", window=[20, 18], flip=True)
    samples = Domains(recipe, training=False).validation["day"]
    shapes = [samples[number].image.shape[:2] for number in range(4)]
    assert shapes == [(24, 36), (41, 50), (24, 36), (24, 36)]
    inference = Inference(build_segmenter("small", 3))
    views = Views.of(recipe.evaluation)
    predicted = list(predict(inference, samples, views=views))
    assert [sample.name for sample, _ in predicted] == [samples.images.name(i) for i in range(4)]
    assert [tuple(classes.shape) for _, classes in predicted] == shapes
    confusion = evaluate_domain(inference, samples, views=views)
    assert confusion.sum() == 3 * 24 * 36 + 41 * 50
    alone = evaluate_domain(inference, samples, views=replace(views, batch_size=1))
    assert np.abs(confusion - alone).sum() <= 4, "rounding may tip a pixel"
    with pytest.raises(Exception, match=r"img 0\.png: is 36x24, which scale 0\.5 makes smaller"):
        list(predict(inference, samples, views=replace(views, scales=(0.5, 1.0))))


def test_padded_sets_are_not_padded_at_their_own_size(folders: Path) -> None:
    recipe = recipe_on(folders, input_size="native", size=[72, 24])
    samples = Domains(recipe, training=False).validation["day"]
    samples.images.fit = "pad"
    label = samples[0].label
    assert label is not None
    assert label.shape == (24, 72)
    assert set(np.unique(label)) <= {0, 1, 2}, "no padding, which would be 255"
    assert samples[0].image.shape == (24, 36, 3)
