"""What a process of `test_processes.py` does.

All runs that are compared with one process, one after another: a process takes seconds to start.

torchrun --nproc-per-node 2 -m tests.processes DATA EXPERIMENTS FOLDER
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from muhdi import distributed
from muhdi.errors import PeerFailed
from muhdi.losses import Losses
from muhdi.recipe.load import load_recipe
from muhdi.recipe.schema import Recipe
from muhdi.training import passes
from muhdi.workflows.train import train

ADAPTATIONS = {
    "none": "none",
    "minent": "minent",
    "advent": "{method: advent, width: 4}",
    "selftrain": "selftrain",
    "by_class": "{method: selftrain, threshold_per: class, threshold: 0.5}",
    "oracle": "oracle",
}
RETENTIONS = ("none", "distill", "muhdi", "ewc")
EACH = [
    *(("selftrain", retention) for retention in RETENTIONS),
    *((adaptation, "muhdi") for adaptation in ADAPTATIONS if adaptation != "selftrain"),
]
"""Every method once, with one of the other kind."""
SYNCED = [("selftrain", "muhdi"), ("advent", "ewc")]
"""With networks that see source and target images, and with a network and a memory of their own."""
HF = [("selftrain", "muhdi")]
FROZEN = ["model.batch_norm=frozen"]
BOUNDED = ["optimizer.clip=0.1", "augment.crop=[40,32]", "steps.0.labelled=3"]
"""Clipped gradients, crops of a fixed size, and a third stream of images."""
JOINT = [("selftrain", "mtkt"), ("pair", "replay")]
"""With a head for each target, and with discriminators between targets and kept images."""
TWO_TARGETS = [
    "steps=[{targets: [{dataset: folder, name: city, images: 'rain/{split}/*.png',"
    " labels: 'labels/{stem}.png'}, {dataset: folder, name: town, images: 'day/{split}/*.png'}]},"
    " {target: {dataset: folder, name: town, images: 'day/{split}/*.png'}, retention: replay,"
    " adaptation: none}]"
]
WATCHED = [("selftrain", "distill")]
"""Scored within a step, while each process has running statistics of its own."""
ENDED = "ended"
"""A file that says that all runs ended; the one after them shall not."""
RECIPE = Path(__file__).with_name("processes.yml")


def draw(data: Path) -> None:
    """Images and labels of two domains.

    How much of a label is ignored differs from image to image.
    """
    rng = np.random.default_rng(0)
    (data / "labels").mkdir(parents=True)
    for domain, split, count in (
        ("day", "train", 8),
        ("day", "val", 3),
        ("rain", "train", 8),
        ("rain", "val", 3),
    ):
        folder = data / domain / split
        folder.mkdir(parents=True)
        for number in range(count):
            name = f"{domain}_{split}_{number}.png"
            Image.fromarray(rng.integers(0, 256, (32, 48, 3), np.uint8)).save(folder / name)
            label = rng.integers(0, 3, (4, 6), np.uint8).repeat(8, 0).repeat(8, 1)
            label[: 4 * number] = 255
            Image.fromarray(label).save(data / "labels" / name)


def recipe(data: Path, adaptation: str, retention: str, *settings: str) -> Recipe:
    """Three iterations after one on the source."""
    pair = {"pair": "{method: advent, width: 4, discriminators_per: pair}"}
    methods = [
        f"every_step.adaptation={(ADAPTATIONS | pair)[adaptation]}",
        f"every_step.retention={retention}",
    ]
    if adaptation == "advent":
        methods.append("every_step.target_batch_size=2")
    recipe = load_recipe(RECIPE, [f"root={data}", *methods, *settings])
    return recipe.model_copy(update={"name": f"{adaptation}_{retention}"})


def run_all(
    data: Path,
    experiments: Path,
    *settings: str,
    combinations: Sequence[tuple[str, str]] = EACH,
) -> None:
    """Combinations of adaptation and retention, in float64.

    Adam turns the rounding of a float32 gradient near 0 into a whole step.
    """
    torch.set_default_dtype(torch.float64)
    try:
        for adaptation, retention in combinations:
            train(recipe(data, adaptation, retention, *settings), experiments, quiet=True)
    finally:
        torch.set_default_dtype(torch.float32)


def train_once(data: Path, experiments: Path) -> None:
    """One iteration on the source."""
    alone = load_recipe(RECIPE, [f"root={data}", "steps=[]", "every_step={}"])
    torch.set_default_dtype(torch.float64)
    try:
        train(alone, experiments, quiet=True)
    finally:
        torch.set_default_dtype(torch.float32)


def hf(folder: str) -> list[str]:
    """A network of transformers, random, from a folder's configuration, whose tokens are hidden."""
    return [
        f"model.backbone={{name: 'hf:{folder}', pretrained: false}}",
        "every_step.adaptation={method: selftrain, weak_colours: {}, masked: {hide: tokens}}",
    ]


def train_spoilt(data: Path, experiments: Path, *settings: str) -> None:
    """In the second process a loss of the run's second iteration is not a number, from now on."""
    segmentation = passes.segmentation
    calls = 0

    def spoilt(*arguments: Any) -> Losses:
        nonlocal calls
        calls += 1
        losses = segmentation(*arguments)
        if calls == 2 and distributed.rank() == 1:
            losses["seg_aux"] = losses["seg_aux"] * float("nan")
        return losses

    passes.segmentation = spoilt
    train(recipe(data, "selftrain", "muhdi", "log_every=1", *settings), experiments, quiet=True)


def main() -> None:
    data, experiments = map(Path, sys.argv[1:3])
    folder = sys.argv[3]
    torch.set_num_threads(1)
    run_all(data, experiments / "frozen", *FROZEN)
    synced = ["model.batch_norm=synced", *BOUNDED]
    run_all(data, experiments / "synced", *synced, combinations=SYNCED)
    run_all(data, experiments / "joint", *FROZEN, *TWO_TARGETS, combinations=JOINT)
    plain = ["snapshot_every=2"]
    run_all(data, experiments / "plain", *plain, combinations=WATCHED)
    run_all(data, experiments / "within", "evaluation.every=2", combinations=WATCHED)
    train_once(data, experiments / "once")
    run_all(data, experiments / "hf", *hf(folder), combinations=HF)
    train_spoilt(data, experiments / "spoilt", "skip_bad=1")
    (experiments / ENDED).touch()
    train_spoilt(data, experiments / "stops")


if __name__ == "__main__":
    try:
        main()
    except PeerFailed:
        sys.exit(0)  # rank zero has the message
