"""From a network's output to the confusion matrix at 2048x1024 with 19 classes.

Ours against the plain way.

    python -m benchmarks.evaluation [--images 4] [--rounds 5] [--json FILE]

The network saw 1024x512, the reference's default, so that its output is 129x65. The plain way takes
one image at a time, upsamples its logits, and does the rest in numpy, as the reference does. Both
must count the same pixels.

And scoring with ``image`` statistics, on drawn scenes of 128x64 with the small network: in batches
against one image at a time, whose batch norms then work on the image's own statistics.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from muhdi.data.arrays import images_tensor
from muhdi.data.domains import Domains
from muhdi.data.prepared import PreparedSet
from muhdi.evaluation.argmax import classes_at
from muhdi.evaluation.predict import confusion_matrix, evaluate_domain
from muhdi.losses import upsample
from muhdi.models.fast import accelerate
from muhdi.models.inference import Inference
from muhdi.models.segmenter import Segmenter, build_segmenter
from muhdi.models.statistics import batch_norms
from muhdi.recipe.schema import Recipe

CLASSES, SIZE = 19, (1024, 2048)


def plain(logits: torch.Tensor, labels: np.ndarray) -> np.ndarray:
    """One image at a time, in numpy."""
    total = np.zeros((CLASSES, CLASSES), np.int64)
    for position in range(len(logits)):
        output = F.interpolate(
            logits[position, None], size=SIZE, mode="bilinear", align_corners=True
        )[0].numpy()
        prediction = np.argmax(output.transpose(1, 2, 0), axis=2)
        valid = (labels[position] >= 0) & (labels[position] < CLASSES)
        pairs = CLASSES * labels[position][valid].astype(int) + prediction[valid]
        total += np.bincount(pairs, minlength=CLASSES**2).reshape(CLASSES, CLASSES)
    return total


def ours(logits: torch.Tensor, labels: np.ndarray) -> np.ndarray:
    """As `muhdi.evaluation` does it."""
    total = torch.zeros(CLASSES, CLASSES, dtype=torch.int64)
    for prediction, label in zip(classes_at(logits, SIZE, align_corners=True), labels, strict=True):
        total += confusion_matrix(prediction, torch.from_numpy(label), CLASSES)
    return total.numpy()


def one_by_one(network: Segmenter, samples: PreparedSet) -> np.ndarray:
    """Scores with each image's own statistics as version 0.1 computed them."""
    total = torch.zeros(network.classes, network.classes, dtype=torch.int64)
    network.eval()
    for norm in batch_norms(network).values():
        norm.training = True
        norm.momentum = 0.0
    for index in range(len(samples)):
        sample = samples[index]
        assert sample.label is not None
        with torch.no_grad():
            logits = network.segment(images_tensor([sample.image]))
        label = torch.from_numpy(np.array(sample.label))
        shown = (label.shape[0], label.shape[1])
        prediction = upsample(logits, shown, align_corners=True).argmax(1)[0].to(torch.uint8)
        total += confusion_matrix(prediction, label, network.classes)
    return total.numpy()


def in_batches(network: Segmenter, samples: PreparedSet) -> np.ndarray:
    """The same by `muhdi.models.inference.Inference`."""
    return evaluate_domain(Inference(network, statistics="image"), samples)


def image_statistics(rounds: int) -> dict[str, Any]:
    """Both ways in turns, and the share of pixels that they count otherwise."""
    recipe = Recipe.load("scenes", seed=5, **{"source.val": 80})
    samples = Domains(recipe, training=False, only=["sim"]).validation["sim"]
    for index in range(len(samples)):
        _ = samples[index]  # drawn before the clock starts, and remembered
    torch.manual_seed(0)
    network = build_segmenter("small", 7)
    accelerate(network)
    counts = (one_by_one(network, samples), in_batches(network, samples))
    differing = int(np.abs(counts[0] - counts[1]).sum()) // 2
    cores = len(os.sched_getaffinity(0))
    return {
        "images": len(samples),
        "speed": [speed(network, samples, threads, rounds) for threads in sorted({1, cores})],
        "pixels_counted_otherwise": differing / int(counts[0].sum()),
    }


def speed(network: Segmenter, samples: PreparedSet, threads: int, rounds: int) -> dict[str, Any]:
    """How many times as fast batches are, in elapsed time, with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    ratios = []
    for _ in range(rounds):
        single = elapsed(one_by_one, network, samples)
        batched = elapsed(in_batches, network, samples)
        ratios.append(single / batched)
    torch.set_num_threads(before)
    return {
        "threads": threads,
        "ratio": round(mean(ratios), 2),
        "ratio_sd": round(stdev(ratios), 2) if rounds > 1 else None,
    }


def elapsed(
    way: Callable[[Segmenter, PreparedSet], np.ndarray], network: Segmenter, samples: PreparedSet
) -> float:
    """Seconds of one scoring."""
    start = time.perf_counter()
    way(network, samples)
    return time.perf_counter() - start


def seconds(
    function: Callable[[torch.Tensor, np.ndarray], np.ndarray],
    logits: torch.Tensor,
    labels: np.ndarray,
) -> float:
    """CPU time per image."""
    start = time.process_time()
    function(logits, labels)
    return (time.process_time() - start) / len(logits)


def main() -> None:
    """Measure in turns, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    logits = 3 * torch.randn(
        options.images, CLASSES, 65, 129, generator=torch.Generator().manual_seed(0)
    )
    labels = np.random.default_rng(0).choice(
        np.array([*range(CLASSES), 255], np.uint8), (options.images, *SIZE)
    )
    if not np.array_equal(plain(logits, labels), ours(logits, labels)):
        raise SystemExit("the two confusion matrices differ")
    rounds = [
        (seconds(plain, logits, labels), seconds(ours, logits, labels))
        for _ in range(options.rounds)
    ]
    ratios = [a / b for a, b in rounds]
    spread = f" ± {stdev(ratios):.1f}" if len(ratios) > 1 else ""
    print(f"equal to the last pixel; plain / ours = {mean(ratios):.1f}{spread} in CPU time")
    image = image_statistics(options.rounds)
    for row in image["speed"]:
        print(
            f"image statistics, threads: {row['threads']}: one by one / in batches = "
            f"{row['ratio']} ± {row['ratio_sd']} in elapsed time"
        )
    print(f"{100 * image['pixels_counted_otherwise']:.4f} % of the pixels counted otherwise")
    if options.json:
        result = {
            "images": options.images,
            "rounds": rounds,
            "plain_over_ours": ratios,
            "image_statistics": image,
        }
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
