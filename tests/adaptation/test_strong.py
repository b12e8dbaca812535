"""Strong changes of images against colours and sums that are known."""

from __future__ import annotations

import colorsys

import pytest
import torch

from muhdi.adaptation.strong import (
    blur,
    hide_patches,
    jitter,
    patch_grid,
    strongly_changed,
    turn_hues,
    weakly_changed,
)
from muhdi.draws import Draws
from muhdi.recipe.pseudo_labels import StrongColourConfig, WeakColourConfig


def draws(seed: int = 0) -> Draws:
    return Draws(torch.Generator().manual_seed(seed))


def photos(count: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return 255 * torch.rand(count, 3, 24, 32, generator=generator)


def test_brightness_contrast_and_saturation() -> None:
    image = torch.tensor([[100.0, 50.0], [60.0, 20.0], [20.0, 50.0]]).view(1, 3, 1, 2)
    brighter = jitter(image, torch.tensor([[2.0, 1.0, 1.0]]))
    torch.testing.assert_close(brighter, 2 * image)
    # The mean is 50: every value is twice as far from it, and stays in 0..255.
    contrast = jitter(image, torch.tensor([[1.0, 2.0, 1.0]]))
    expected = torch.tensor([[150.0, 50.0], [70.0, 0.0], [0.0, 50.0]]).view(1, 3, 1, 2)
    torch.testing.assert_close(contrast, expected)
    grey = jitter(image, torch.tensor([[1.0, 1.0, 0.0]]))
    torch.testing.assert_close(grey, image.mean(1, keepdim=True).expand_as(image))


def test_hues_turn_as_in_python() -> None:
    generator = torch.Generator().manual_seed(0)
    colours = torch.rand(50, 3, generator=generator)
    colours[0] = 0.5
    colours[1] = 0.0
    turns = torch.linspace(-0.5, 0.5, 50)
    found = turn_hues(255 * colours[:, :, None, None], turns)[:, :, 0, 0] / 255
    for colour, turn, result in zip(colours.tolist(), turns.tolist(), found, strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*colour)
        expected = colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value)
        torch.testing.assert_close(result, torch.tensor(expected), atol=1e-5, rtol=0)


def test_a_blurred_point_is_a_gaussian_and_no_deviation_leaves_it_alone() -> None:
    image = torch.zeros(2, 3, 21, 25)
    image[:, :, 10, 12] = 100.0
    found = blur(image, torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(found[1], image[1])
    assert float(found[0, 0].sum()) == pytest.approx(100, abs=1e-3)
    # exp(-1/2) of the largest, one pixel beside it.
    ratio = float(found[0, 0, 10, 13] / found[0, 0, 10, 12])
    assert ratio == pytest.approx(0.6065, abs=1e-3)
    edge = torch.full((1, 3, 12, 12), 7.0)
    torch.testing.assert_close(blur(edge, torch.tensor([1.15])), edge)


def test_hidden_patches_show_the_fill() -> None:
    image = torch.ones(1, 3, 4, 6)
    hidden = torch.tensor([[[True, False, False], [False, False, True]]])
    found = hide_patches(image, hidden, torch.tensor([5.0, 6.0, 7.0]))
    assert found[0, :, 0, 0].tolist() == [5.0, 6.0, 7.0]
    assert found[0, 0].tolist() == [
        [5, 5, 1, 1, 1, 1],
        [5, 5, 1, 1, 1, 1],
        [1, 1, 1, 1, 5, 5],
        [1, 1, 1, 1, 5, 5],
    ]


def test_patches_of_a_block() -> None:
    assert patch_grid((512, 512), 32) == (16, 16)
    assert patch_grid((144, 200), 32) == (4, 6)  # 4.5 rounds to even
    assert patch_grid((8, 8), 32) == (1, 1)


def test_what_is_switched_off_changes_and_draws_nothing() -> None:
    off = StrongColourConfig(colour_jitter=0.0)
    numbers = draws()
    before = numbers.generator.get_state()
    assert torch.equal(strongly_changed(photos(), off, numbers), photos())
    assert torch.equal(numbers.generator.get_state(), before)


@pytest.mark.parametrize("per", ["image", "batch"])
def test_the_share_of_changed_images(per: str) -> None:
    config = StrongColourConfig(
        colour_jitter=0.3, hue_jitter=0.1, jitter_probability=0.5, strong_per=per
    )
    numbers = draws()
    changed = []
    for _ in range(100):
        found = strongly_changed(photos(), config, numbers)
        changed.append((found - photos()).abs().flatten(1).amax(1) > 1)
    shares = torch.stack(changed).float()
    assert 0.4 < float(shares.mean()) < 0.6
    together = bool((shares == shares[:, :1]).all())
    assert together is (per == "batch")


def test_under_autocast_colours_keep_their_digits() -> None:
    config = StrongColourConfig(hue_jitter=0.1, blur_probability=1.0)
    expected = strongly_changed(photos(), config, draws())
    with torch.autocast("cpu", torch.bfloat16):
        found = strongly_changed(photos(), config, draws())
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_blur_happens_as_often_as_it_says() -> None:
    config = StrongColourConfig(colour_jitter=0.0, blur_probability=0.25)
    numbers = draws()
    count = 0
    for _ in range(50):
        found = strongly_changed(photos(), config, numbers)
        count += int(((found - photos()).abs().flatten(1).amax(1) > 0.01).sum())
    assert 30 < count < 70  # of 200; the smallest deviation, 0.15 pixels, changes next to nothing


def test_weak_changes_have_a_strength_each() -> None:
    config = WeakColourConfig(
        brightness=0.2, contrast=0.5, saturation=0.4, hue=0.05, probability=1.0
    )
    found = weakly_changed(photos(), config, draws())
    generator = draws().generator
    drawn = 2 * torch.rand(4, 3, generator=generator) - 1
    factors = 1 + torch.tensor([0.2, 0.5, 0.4]) * drawn
    turns = 0.05 * (2 * torch.rand(4, 1, generator=generator) - 1)
    torch.testing.assert_close(found, turn_hues(jitter(photos(), factors), turns[:, 0]))


def test_the_share_of_weakly_changed_images() -> None:
    config = WeakColourConfig(probability=0.9)
    numbers = draws()
    count = 0
    for _ in range(50):
        found = weakly_changed(photos(), config, numbers)
        count += int(((found - photos()).abs().flatten(1).amax(1) > 1).sum())
    assert 165 < count < 195  # of 200


@pytest.mark.parametrize("per", ["image", "batch"])
def test_a_blur_of_one_strength_for_all(per: str) -> None:
    config = StrongColourConfig(colour_jitter=0.0, blur_probability=1.0, blur_strength_per=per)
    same = photos(1).expand(4, -1, -1, -1)
    found = strongly_changed(same, config, draws())
    together = bool(torch.allclose(found, found[:1].expand_as(found)))
    assert together is (per == "batch")
