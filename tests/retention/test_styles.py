"""Styles: the equations by hand, what is kept of a target, and which images are painted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from muhdi.method import Memory, MethodContext
from muhdi.models.segmenter import build_segmenter
from muhdi.passes import Batch
from muhdi.recipe.retentions import StyleConfig
from muhdi.retention.style import StyleReplay
from muhdi.retention.styles import (
    Colour,
    amplitude_of,
    colour_of,
    recoloured,
    square_roots,
    with_amplitude,
)
from muhdi.training.stage_batches import NoBatches
from tests.testers import FewBatches


def photo(seed: int, count: int = 1, size: tuple[int, int] = (24, 32)) -> Tensor:
    """Images of smooth shapes in some colours, far from the ends of the range."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 4, 4, generator=generator) * 80 + 40 + 40 * seed
    return torch.nn.functional.interpolate(coarse, size, mode="bilinear")


def test_moments_are_those_of_numpy() -> None:
    images = photo(0, 2)
    style = colour_of(images)
    for image, mean, covariance in zip(images, *style, strict=True):
        pixels = image.flatten(1).double().numpy()
        np.testing.assert_allclose(mean, pixels.mean(1), rtol=1e-5)
        np.testing.assert_allclose(covariance, np.cov(pixels, bias=True), rtol=1e-4, atol=1e-2)


@given(
    st.lists(st.floats(0, 100), min_size=9, max_size=9),
    st.floats(0, 5000),
)
def test_square_roots_are_those_of_the_eigenvalues(entries: list[float], more: float) -> None:
    matrix = torch.tensor(entries, dtype=torch.float64).view(3, 3)
    covariance = matrix @ matrix.T
    covariance[0, 0] += more
    root, inverse = square_roots(covariance[None])
    values, vectors = torch.linalg.eigh(covariance + torch.eye(3, dtype=torch.float64))
    expected = vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T
    torch.testing.assert_close(root[0], expected, rtol=1e-5, atol=1e-5)
    identity = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(root[0] @ inverse[0], identity, rtol=0, atol=1e-5)


def test_a_recoloured_image_has_the_other_ones_moments() -> None:
    images = photo(0, 2)
    style = colour_of(photo(1, 2))
    found = colour_of(recoloured(images, style))
    torch.testing.assert_close(found.mean, style.mean, rtol=1e-3, atol=0.1)
    torch.testing.assert_close(found.covariance, style.covariance, rtol=0.02, atol=3)


def test_an_image_in_its_own_style_is_itself() -> None:
    images = photo(1)
    torch.testing.assert_close(recoloured(images, colour_of(images)), images, rtol=0, atol=1e-3)
    same = with_amplitude(images, amplitude_of(images, 2))
    torch.testing.assert_close(same, images, rtol=0, atol=1e-3)


def test_an_image_of_one_colour_becomes_the_other_ones_mean() -> None:
    grey = torch.full((1, 3, 8, 8), 128, dtype=torch.uint8)
    style = Colour(torch.tensor([[10.0, 20.0, 30.0]]), 400 * torch.eye(3)[None])
    painted = recoloured(grey, style)
    expected = style.mean.view(1, 3, 1, 1).expand_as(painted)
    torch.testing.assert_close(painted, expected, rtol=0, atol=1e-2)


@pytest.mark.parametrize("size", [(24, 32), (25, 33)])
def test_low_frequencies_are_taken_and_phases_stay(size: tuple[int, int]) -> None:
    images = photo(0, size=size)
    amplitude = amplitude_of(photo(1, size=size), 1)
    painted = with_amplitude(images, amplitude)
    torch.testing.assert_close(amplitude_of(painted, 1), amplitude, rtol=1e-3, atol=1e-2)
    # The lowest frequency is the mean.
    torch.testing.assert_close(painted.mean((-2, -1)), amplitude[..., 1, 1], rtol=1e-3, atol=0)
    phases = [torch.fft.fft2(one)[..., :2, :2].angle() for one in (images, painted)]
    torch.testing.assert_close(*phases, rtol=0, atol=1e-2)


def begun(memory: Memory, **options: object) -> StyleReplay:
    context = MethodContext(3, ("main",), "agnostic", torch.Generator().manual_seed(1), stage="b")
    method = StyleReplay(StyleConfig(**options), context)
    method.begin(build_segmenter("small", 3), memory, NoBatches())
    return method


@pytest.mark.parametrize("of", ["colour", "fourier"])
def test_what_is_kept_of_a_target(of: str) -> None:
    labelled = Batch(photo(0, 4), torch.zeros(4, 24, 32, dtype=torch.int64))
    images = FewBatches(labelled, Batch(photo(1, 2)))
    method = begun({}, of=of)
    memory = method.end(build_segmenter("small", 3), images)
    assert list(memory) == [f"{of}/b"]
    (styles,) = memory.values()
    assert styles[0].numel() == (12 if of == "colour" else 27)
    kept = begun({f"{of}/a": styles, f"{of}/b": styles}, of=of)
    names = kept.end(build_segmenter("small", 3), images).keys()
    assert names == {f"{of}/a", f"{of}/b"}, "b is renewed"


def test_styles_of_another_kind_stay_and_are_not_used() -> None:
    memory = {"fourier/a": torch.ones(2, 3, 3, 3)}
    method = begun(memory, current=False)
    source = Batch(photo(0))
    assert method.source_batch(source, Batch(photo(1))) is source
    images = FewBatches(source, Batch(photo(1, 2)))
    assert method.end(build_segmenter("small", 3), images).keys() == {"fourier/a", "colour/b"}


def test_the_styles_of_a_domain_take_64_kib_at_most() -> None:
    large = Batch(torch.rand(1, 3, 1000, 1000) * 255)
    for images in (1, 32, 200):
        painter = begun({}, of="fourier", beta=0.25, images=images).painter
        kept = images * painter.measure(large).nbytes
        assert kept <= 65536, images
    colours = begun({}, images=1000).painter.measure(large)
    assert 1000 * colours.nbytes <= 65536


def test_source_images_are_painted_as_often_as_asked_and_labels_stay() -> None:
    memory = {"colour/a": torch.cat([torch.full((5, 3), 200.0), torch.zeros(5, 9)], 1)}
    images = photo(0, 200)
    source = Batch(images, torch.zeros(200, 24, 32, dtype=torch.int64))
    method = begun(memory, probability=0.25, current=False)
    seen = method.source_batch(source, Batch(photo(1, 4)))
    assert seen.labels is source.labels
    changed = (seen.images - images).abs().amax((1, 2, 3)) > 1
    assert 30 < int(changed.sum()) < 70
    assert float(seen.images[changed].mean()) == pytest.approx(200, abs=1)
    assert torch.equal(seen.images[~changed], images[~changed])


def test_the_current_targets_style_counts_as_one_domain_more() -> None:
    memory = {"colour/a": torch.cat([torch.full((1, 3), 250.0), torch.zeros(1, 9)], 1)}
    source = Batch(photo(0, 100), torch.zeros(100, 24, 32, dtype=torch.int64))
    target = Batch(torch.full((50, 3, 24, 32), 10, dtype=torch.uint8))
    seen = begun(memory, probability=1.0).source_batch(source, target)
    means = seen.images.mean((1, 2, 3))
    assert 30 < int((means < 20).sum()) < 70
    assert int((means < 20).sum() + (means > 240).sum()) == 100


def test_without_any_style_the_source_is_as_it_is() -> None:
    source = Batch(photo(0))
    method = begun({}, current=False)
    assert method.source_batch(source, Batch(photo(1))) is source


def test_frequencies_of_domains_of_different_sizes_are_brought_together() -> None:
    memory = {"fourier/a": torch.ones(2, 3, 7, 7), "fourier/b": torch.ones(1, 3, 3, 3)}
    method = begun(memory, of="fourier")
    assert method.styles.shape == (3, 3, 3, 3)
    source = Batch(photo(0, 2), torch.zeros(2, 24, 32, dtype=torch.int64))
    assert method.source_batch(source, Batch(photo(1, 2))).images.isfinite().all()


def test_an_image_that_is_too_small_for_all_frequencies_takes_the_lowest() -> None:
    amplitude = amplitude_of(photo(1, size=(24, 32)), 6)
    small = photo(0, size=(5, 8))
    painted = with_amplitude(small, amplitude)
    assert painted.shape == small.shape
    assert painted.isfinite().all()


def test_padding_has_no_colour_and_stays() -> None:
    image = photo(0)
    padded = torch.zeros(1, 3, 48, 32)
    padded[:, :, :24] = image
    seen = torch.zeros(1, 48, 32)
    seen[:, :24] = 1
    for own, whole in zip(colour_of(padded, seen), colour_of(image), strict=True):
        torch.testing.assert_close(own, whole, rtol=1e-4, atol=1e-2)
    style = colour_of(photo(1))
    painted = recoloured(padded, style, seen)
    torch.testing.assert_close(painted[:, :, :24], recoloured(image, style), rtol=0, atol=0.1)
    assert not painted[:, :, 24:].any()


def test_padding_is_no_frequency_and_stays() -> None:
    image = photo(0)
    seen = torch.zeros(1, 48, 32)
    seen[:, :24] = 1
    black = torch.zeros(1, 3, 48, 32)
    black[:, :, :24] = image
    white = torch.full_like(black, 255.0)
    white[:, :, :24] = image
    torch.testing.assert_close(amplitude_of(black, 2, seen), amplitude_of(white, 2, seen))
    # The lowest frequency is the mean, that of the image alone.
    middle = amplitude_of(black, 2, seen)[:, :, 2, 2]
    torch.testing.assert_close(middle, image.float().mean((2, 3)), rtol=1e-4, atol=1e-2)
    painted = with_amplitude(white, amplitude_of(photo(1), 2), seen)
    assert (painted[:, :, 24:] == 255).all()
    assert not torch.equal(painted[:, :, :24], image.float())
    whole = torch.ones(1, *image.shape[-2:])
    assert torch.equal(amplitude_of(image, 2, whole), amplitude_of(image, 2))
