"""What adapting costs, over plain prediction.

    python -m benchmarks.online [--backbone efficientnet_lite0] [--size 640 320] [--rounds 5]
        [--iterations 3] [--json FILE]

On one thread, with random weights and 19 classes: plain prediction of an image takes turns with
`Predictor.adapt` by each method, from pixels to classes at the image's size. All pixels count as
reliable, so that all of a method is computed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch

from benchmarks.iteration import with_spread
from benchmarks.turns import cpu_seconds_in_turns
from muhdi.deploy.predictor import Predictor
from muhdi.models.checkpoint import Checkpoint
from muhdi.models.segmenter import build_segmenter
from muhdi.recipe.backbones import read_backbone
from muhdi.taxonomy import CLASS_SETS

METHODS = {"bn": 1.1, "tent": 3.5, "sar": None, "cotta": None}
"""Methods with their published defaults, and how many times plain prediction they may take."""
OPTIONS = {"sar": {"margin": 1.0, "reset_entropy": 0.0}}


def predictor(backbone: str, size: tuple[int, int]) -> Predictor:
    """A network with random weights."""
    classes = CLASS_SETS["urban19"].classes
    network = build_segmenter(backbone, len(classes))
    return Predictor(Checkpoint(network, read_backbone(backbone), classes, size))


def adapting(method: str, backbone: str, size: tuple[int, int], image: Any) -> Callable[[], object]:
    """One image more of a stream."""
    one = predictor(backbone, size)
    one.adapt_by(method, **OPTIONS.get(method, {}))
    return lambda: one.adapt(image)


def measure(
    backbone: str, size: tuple[int, int], rounds: int, iterations: int
) -> dict[str, list[float]]:
    """CPU-seconds of an image by round, and their ratios to plain prediction."""
    torch.manual_seed(0)
    shape = (size[1], size[0], 3)
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    plain = predictor(backbone, size)
    works: dict[str, Callable[[], object]] = {"plain": lambda: plain.predict(image)}
    for method in METHODS:
        works[method] = adapting(method, backbone, size, image)
    found = cpu_seconds_in_turns(works, rounds, iterations)
    for method in METHODS:
        pairs = zip(found[method], found["plain"], strict=True)
        found[f"{method}_over_plain"] = [own / least for own, least in pairs]
    return found


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--size", type=int, nargs=2, default=(640, 320))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=3, help="images of a round, each")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    size = (options.size[0], options.size[1])
    found = measure(options.backbone, size, options.rounds, options.iterations)
    print(f"{options.backbone}, {size[0]}x{size[1]}: plain {1000 * mean(found['plain']):.0f} ms")
    for method, limit in METHODS.items():
        target = "" if limit is None else f", at most {limit:g} wanted"
        print(f"{method} / plain = {with_spread(found[f'{method}_over_plain'], 2)}{target}")
    if options.json:
        result = {"backbone": options.backbone, "size": size, **found}
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
