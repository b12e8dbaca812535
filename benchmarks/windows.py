"""Scoring by sliding windows: in batches, as `muhdi.evaluation` does it, and one at a time.

    python -m benchmarks.windows [--images 2] [--rounds 5] [--json FILE]

Noise images of 256x128, windows of 64x64 that overlap by a half, the small network with 19 classes
and random weights. The plain way shows the network one window after another, keeps the sum of the
softmax and the number of windows for every pixel of an image, and divides. Both must give the same
probabilities to 1e-5. Then the CPU time from images to classes on one thread, versions in turns.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from torch import Tensor

from muhdi.evaluation.views import Views, classes_of, probabilities_of, window_starts
from muhdi.losses import upsample
from muhdi.models.inference import Inference
from muhdi.models.segmenter import build_segmenter

CLASSES = 19
SIZE = (128, 256)
VIEWS = Views(window=(64, 64), overlap=0.5)
TOLERANCE = 1e-5
"""Largest difference between probabilities."""

Way = Callable[[Inference, Tensor], Tensor]
"""Images [N, 3, H, W] -> classes [N, H, W]."""


@torch.no_grad()
def one_at_a_time(inference: Inference, image: Tensor) -> Tensor:
    """Probabilities [C, H, W] of an image [3, H, W]."""
    assert VIEWS.window is not None
    across, down = VIEWS.window
    height, width = image.shape[-2:]
    total = torch.zeros(CLASSES, height, width)
    count = torch.zeros(height, width)
    for top in window_starts(height, down, VIEWS.overlap):
        for left in window_starts(width, across, VIEWS.overlap):
            window = image[None, :, top : top + down, left : left + across]
            softmax = upsample(inference(window), (down, across), align_corners=True).softmax(1)[0]
            total[:, top : top + down, left : left + across] += softmax
            count[top : top + down, left : left + across] += 1
    return total / count


def plain(inference: Inference, images: Tensor) -> Tensor:
    """The classes by one window at a time."""
    return torch.stack([one_at_a_time(inference, image).argmax(0).byte() for image in images])


def ours(inference: Inference, images: Tensor) -> Tensor:
    """The classes as `muhdi.evaluation` finds them."""
    sizes = [(images.shape[-2], images.shape[-1])] * len(images)
    return torch.stack(classes_of(inference, images, sizes, VIEWS))


def difference(inference: Inference, images: Tensor) -> float:
    """The largest between the probabilities of both ways."""
    sizes = [(images.shape[-2], images.shape[-1])] * len(images)
    found = probabilities_of(inference, images, sizes, VIEWS)
    largest = 0.0
    for image, softmax in zip(images, found, strict=True):
        expected = one_at_a_time(inference, image)
        largest = max(largest, float((softmax - expected).abs().max()))
    return largest


def seconds(way: Way, inference: Inference, images: Tensor) -> float:
    """CPU time per image."""
    start = time.process_time()
    way(inference, images)
    return (time.process_time() - start) / len(images)


def measure(images: Tensor, statistics: str, rounds: int) -> dict[str, Any]:
    """How many times as fast batches are; a difference beyond rounding is an error."""
    torch.manual_seed(0)
    inference = Inference(build_segmenter("small", CLASSES), statistics=statistics)
    largest = difference(inference, images)
    if largest > TOLERANCE:
        raise SystemExit(f"the probabilities differ by {largest:.1e}")
    ratios = []
    for _ in range(rounds):
        single = seconds(plain, inference, images)
        ratios.append(single / seconds(ours, inference, images))
    return {"difference": largest, "single_over_batches": ratios}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    sides = (options.images, 3, *SIZE)
    images = torch.randint(0, 256, sides, dtype=torch.uint8, generator=generator)
    result = {}
    for statistics in ("running", "image"):
        found = measure(images, statistics, options.rounds)
        result[statistics] = found
        ratios = found["single_over_batches"]
        spread = f" ± {stdev(ratios):.2f}" if len(ratios) > 1 else ""
        print(
            f"{statistics} statistics: one at a time / in batches = {mean(ratios):.2f}{spread} in"
            f" CPU time; probabilities differ by at most {found['difference']:.1e}"
        )
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
