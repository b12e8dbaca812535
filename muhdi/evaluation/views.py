"""The views of an image whose softmax is averaged: windows, the mirror image, other scales.

One way for the evaluations of a training, `muhdi evaluate` and `muhdi predict`. An image that is
looked at once, as by default, is not averaged: its logits are enlarged, and the largest wins.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from muhdi.data.sets import Size
from muhdi.evaluation.argmax import classes_at, largest
from muhdi.losses import upsample
from muhdi.recipe.evaluation import OVERLAP, EvaluationConfig, smallest_side


class Run(Protocol):
    """What gives logits: an `Inference`, or an exported program."""

    @property
    def align_corners(self) -> bool:
        """How its logits are enlarged, see `muhdi.losses.upsample`."""
        ...

    def __call__(self, images: Tensor) -> Tensor:
        """Images uint8 [N, 3, H, W] -> logits [N, C, h, w]."""
        ...


Sides = tuple[int, int]
"""Height and width."""


@dataclass(frozen=True)
class Views:
    """Which views of an image the softmax is averaged over.

    Attributes:
        window: width and height of windows that slide over the image; where an image is smaller, so
            is the window. None, and for an image that a window covers: the image is seen whole.
        overlap: of neighbouring windows, a fraction of their sides.
        flip: the mirror image, too.
        scales: multiples of the image's size, at least one.
        batch_size: images, or windows, that go through the network together.
    """

    window: Size | None = None
    overlap: float = OVERLAP
    flip: bool = False
    scales: tuple[float, ...] = (1.0,)
    batch_size: int = 8

    @classmethod
    def of(cls, evaluation: EvaluationConfig) -> Views:
        """Those that a recipe asks for."""
        return cls(
            evaluation.window,
            evaluation.overlap,
            evaluation.flip,
            tuple(evaluation.scales),
            evaluation.batch_size,
        )

    def __str__(self) -> str:
        """What is averaged, in words; empty where every image is looked at once."""
        parts = []
        if self.window is not None:
            width, height = self.window
            parts.append(f"windows of {width}x{height} with an overlap of {self.overlap:g}")
        if self.flip:
            parts.append("mirror images")
        if self.scales != (1.0,):
            parts.append(f"scales {', '.join(f'{scale:g}' for scale in self.scales)}")
        return ", ".join(parts)

    @property
    def smallest(self) -> int:
        """Pixels that the sides of an image must have at least, for the smallest scale."""
        return smallest_side(self.scales)

    def slide_over(self, sides: Sides) -> bool:
        """Whether an image of these sides has more windows than one."""
        if self.window is None:
            return False
        return self.window[0] < sides[1] or self.window[1] < sides[0]

    def look_once(self, sides: Sides) -> bool:
        """Whether there is nothing to average."""
        return not self.flip and self.scales == (1.0,) and not self.slide_over(sides)


def classes_of(run: Run, images: Tensor, sizes: Sequence[Sides], views: Views) -> list[Tensor]:
    """The class of every pixel, uint8 [height, width] for each image.

    Args:
        run: gives logits.
        images: uint8 [N, 3, H, W], at most ``views.batch_size``.
        sizes: of the results, one per image.
        views: of each image.
    """
    sides = _sides(images)
    if views.look_once(sides):
        with torch.no_grad():
            logits = run(images)
        aligned = run.align_corners
        if len(set(sizes)) == 1:
            return list(classes_at(logits, sizes[0], align_corners=aligned))
        return [
            classes_at(own[None], size, align_corners=aligned)[0]
            for own, size in zip(logits, sizes, strict=True)
        ]
    if views.scales == (1.0,) and views.slide_over(sides) and set(sizes) == {sides}:
        return _classes_by_strips(run, images, views)
    softmax = probabilities_of(run, images, sizes, views)
    return [largest(own[None])[0] for own in softmax]


def probabilities_of(
    run: Run, images: Tensor, sizes: Sequence[Sides], views: Views
) -> Iterator[Tensor]:
    """The mean softmax over all views, float32 [C, height, width] for one image after another.

    Arguments as those of `classes_of`. At other scales than 1 it is averaged at the size of the
    result.
    """
    for part in _parts(images, views):
        results: list[Tensor] = []
        for scale in views.scales:
            found = _at_one_scale(run, _scaled(images[part], scale), sizes[part], views)
            if len(views.scales) == 1:
                yield from found
            elif not results:
                results = list(found)
            else:
                for result, softmax in zip(results, found, strict=True):
                    result += softmax
        while results:
            yield results.pop(0).div_(len(views.scales))


def _sides(images: Tensor) -> Sides:
    """Height and width of images [N, 3, H, W]."""
    return images.shape[-2], images.shape[-1]


def _parts(images: Tensor, views: Views) -> Iterator[slice]:
    """Images that are looked at together: as many as it takes to fill a batch with windows.

    So memory holds the maps of few images.
    """
    largest_scale = max(views.scales)
    height, width = (round(side * largest_scale) for side in _sides(images))
    together = len(images)
    if views.window is not None and views.slide_over((height, width)):
        windows = len(window_starts(width, views.window[0], views.overlap))
        together = max(1, views.batch_size // (windows * (1 + views.flip)))
    for start in range(0, len(images), together):
        yield slice(start, start + together)


def _scaled(images: Tensor, scale: float) -> Tensor:
    """Images uint8 [N, 3, H, W] at a multiple of their size."""
    height, width = (round(side * scale) for side in _sides(images))
    if (height, width) == _sides(images):
        return images
    return resized(images, (width, height)).byte()


def resized(images: Tensor, size: Size) -> Tensor:
    """Images as `muhdi.data.resize.resize_image` makes them, but for differences of one.

    Pillow resizes rows first and columns then, and rounds to whole numbers after each.

    Args:
        images: uint8 [N, 3, H, W].
        size: width and height.

    Returns:
        float32 of 0 to 255, whole numbers, [N, 3, height, width].
    """
    shown = images.float()
    for sides in ([images.shape[2], size[0]], [size[1], size[0]]):
        shown = F.interpolate(
            shown, size=sides, mode="bicubic", align_corners=False, antialias=True
        )
        shown = shown.round().clamp(0, 255)
    return shown


def _at_one_scale(
    run: Run, images: Tensor, sizes: Sequence[Sides], views: Views
) -> Iterator[Tensor]:
    """The mean softmax of windows and mirror images, [C, height, width] for each image."""
    if views.slide_over(_sides(images)):
        softmax = torch.cat(list(strips(run, images, views)), 2)
        for own, size in zip(softmax, sizes, strict=True):
            yield upsample(own[None], size, align_corners=run.align_corners)[0]
        return
    with torch.no_grad():
        logits = [run(images)]
        if views.flip:
            logits.append(run(images.flip(-1)).flip(-1))
    for number, size in enumerate(sizes):
        each = []
        for view in logits:
            own = upsample(view[number, None], size, align_corners=run.align_corners)
            each.append(own[0].softmax(0))
        yield each[0] if len(each) == 1 else (each[0] + each[1]) / 2


# --- windows --------------------------------------------------------------------------------------


def window_starts(length: int, window: int, overlap: float) -> list[int]:
    """Where windows begin that cover a length.

    Every ``window * (1 - overlap)`` pixels; the last one is shifted inside, as in mmsegmentation's
    sliding inference. A window that is no shorter than the length begins at 0.
    """
    stride = max(1, round(window * (1 - overlap)))
    last = max(0, length - window)
    return [*range(0, last, stride), last]


def _coverage(length: int, window: int, starts: Sequence[int]) -> Tensor:
    """How many windows cover each place, float32 [length]."""
    counts = torch.zeros(length)
    for start in starts:
        counts[start : start + window] += 1
    return counts


def strips(run: Run, images: Tensor, views: Views) -> Iterator[Tensor]:
    """The mean softmax of windows, float32 [N, C, rows, W], from the images' top to their bottom.

    A row of windows is added to what the row above left; lines that no later row touches are done.
    Mirror images go through the network as images of their own.
    """
    if not views.flip:
        yield from _strips(run, images, views)
        return
    for strip in _strips(run, torch.cat([images, images.flip(-1)]), views):
        plain, mirrored = strip.chunk(2)
        yield (plain + mirrored.flip(-1)) / 2


def _strips(run: Run, images: Tensor, views: Views) -> Iterator[Tensor]:
    """`strips` of the images as they are."""
    assert views.window is not None
    height, width = _sides(images)
    across = min(views.window[0], width)
    down = min(views.window[1], height)
    lefts = window_starts(width, across, views.overlap)
    tops = window_starts(height, down, views.overlap)
    rows = _coverage(height, down, tops)
    counts = (rows[:, None] * _coverage(width, across, lefts)).to(images.device)
    left_over: Tensor | None = None
    for top, following in zip(tops, [*tops[1:], height], strict=True):
        total = _row(run, images[:, :, top : top + down], lefts, across, views.batch_size)
        if left_over is not None:
            total[:, :, : left_over.shape[2]] += left_over
        done = following - top
        yield total[:, :, :done] / counts[top:following]
        left_over = total[:, :, done:]


def _row(run: Run, row: Tensor, lefts: Sequence[int], across: int, batch_size: int) -> Tensor:
    """The sum of the softmax of the windows in a row, float32 [N, C, down, W].

    Args:
        run: gives logits.
        row: the images' lines that the windows see, [N, 3, down, W].
        lefts: where windows begin.
        across: their width.
        batch_size: windows that go through the network together.
    """
    places = [(number, left) for number in range(len(row)) for left in lefts]
    sides = (row.shape[-2], across)
    total: Tensor | None = None
    for start in range(0, len(places), batch_size):
        chunk = places[start : start + batch_size]
        windows = [row[number, :, :, left : left + across] for number, left in chunk]
        with torch.no_grad():
            logits = run(torch.stack(windows))
        if total is None:
            total = logits.new_zeros(len(row), logits.shape[1], *row.shape[-2:]).float()
        for (number, left), own in zip(chunk, logits, strict=True):
            enlarged = upsample(own[None].float(), sides, align_corners=run.align_corners)
            total[number, :, :, left : left + across] += enlarged[0].softmax(0)
    assert total is not None
    return total


def _classes_by_strips(run: Run, images: Tensor, views: Views) -> list[Tensor]:
    """Classes at the size of the images, whose probabilities are never held as a whole."""
    found: list[Tensor] = []
    for part in _parts(images, views):
        found += torch.cat([largest(strip) for strip in strips(run, images[part], views)], 1)
    return found
