"""From a network's output to the confusion matrix at 2048x1024 with 19 classes.

Ours against the plain way.

    python -m benchmarks.evaluation [--images 4] [--rounds 5] [--json FILE]

The network saw 1024x512, the reference's default, so that its output is 129x65. The plain way takes
one image at a time, upsamples its logits, and does the rest in numpy, as the reference does. Both
must count the same pixels.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import torch
import torch.nn.functional as F

from muhdi.evaluation.argmax import classes_at
from muhdi.evaluation.predict import confusion_matrix

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
    for prediction, label in zip(classes_at(logits, SIZE), labels, strict=True):
        total += confusion_matrix(prediction, torch.from_numpy(label), CLASSES)
    return total.numpy()


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
    if options.json:
        result = {"images": options.images, "rounds": rounds, "plain_over_ours": ratios}
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
