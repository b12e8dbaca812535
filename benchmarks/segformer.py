"""One iteration of self-training of a SegFormer-B0.

Ours against the same mathematics written plainly with transformers
(`benchmarks/plain_segformer.py`).

    python -m benchmarks.segformer [--side 512] [--batch 2] [--rounds 5] [--json FILE]

Ours is an iteration of the trainer of a stage: decoder ``segformer`` with an aux level, ``adamw``
with warm-up, mean teacher, class mixing, colour jitter. Both start from the same random weights and
see the same images and random numbers. First every loss of both is compared over three iterations,
in float64; then they take turns in one process on one thread. Reported is their CPU time.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from benchmarks.iteration import with_spread
from benchmarks.made_up import (
    one_step,
    segformer_folder,
    sets_in_memory,
    trainer,
    whole_batch,
)
from benchmarks.plain_segformer import PlainNetwork, PlainStep, Settings
from muhdi.models.segmenter import Segmenter
from muhdi.training.stage import StageTrainer

PUBLISHED = Settings()
SEEN = Settings(warmup=1, threshold=0.0)
"""With which the losses show what optimizer and teacher do."""

Iteration = Callable[[], dict[str, Tensor]]


@dataclass(frozen=True)
class Pair:
    """Two ways of one iteration, from the same weights and on the same images."""

    ours: Iteration
    plain: Iteration


def build(backbone: dict[str, Any], side: int, batch: int, settings: Settings = PUBLISHED) -> Pair:
    """Both ways, in PyTorch's default precision."""
    adaptation = {
        "method": "selftrain",
        "threshold": settings.threshold,
        "teacher_statistics": "batch",
    }
    step = {
        "iterations": settings.iterations,
        "learning_rate": settings.rate,
        "adaptation": adaptation,
    }
    recipe = one_step(
        backbone,
        (side, side),
        batch,
        model={"decoder": "segformer"},
        optimizer={
            "name": "adamw",
            "weight_decay": settings.decay,
            "warmup": settings.warmup,
        },
        step=step,
    )
    sets = sets_in_memory(recipe, batch, (side, side))
    source, target = whole_batch(sets.source), whole_batch(sets.targets[0])
    begun = trainer(StageTrainer, Fabric(accelerator="cpu", devices=1), recipe, sets)
    generator = torch.Generator()
    generator.set_state(begun.generator.get_state())
    network = plain_network(begun.network)
    plain = PlainStep(network, generator, settings)

    def our_iteration() -> dict[str, Tensor]:
        losses, _ = begun.iterate(source, target)
        begun.iteration += 1
        return losses

    def plain_iteration() -> dict[str, Tensor]:
        assert source.labels is not None
        return plain(source.images, source.labels, target.images)

    return Pair(our_iteration, plain_iteration)


def plain_network(network: Segmenter) -> PlainNetwork:
    """The network of transformers with the weights of ours."""
    backbone: Any = network.backbone
    configuration = copy.deepcopy(backbone.configuration)
    configuration.num_labels = network.classes
    plain = PlainNetwork(configuration)
    plain.model.segformer.load_state_dict(backbone.model.state_dict())
    decoder: Any = network.decoder
    head = network.heads["agnostic"]
    plain.aux.load_state_dict(head.aux.state_dict())
    theirs: Any = plain.model.decode_head
    theirs.classifier.load_state_dict(head.main.state_dict())
    convolution, norm, _ = decoder.fuse
    theirs.batch_norm.load_state_dict(norm.state_dict())
    with torch.no_grad():
        # It concatenates maps from coarse to fine.
        parts = convolution.weight.chunk(len(backbone.features), 1)
        theirs.linear_fuse.weight.copy_(torch.cat(parts[::-1], 1))
        pairs = zip(theirs.linear_projections, decoder.embeddings.projections, strict=True)
        for linear, one in pairs:
            linear.proj.weight.copy_(one.weight.flatten(1))
            linear.proj.bias.copy_(one.bias)
    return plain


def disagreement(backbone: dict[str, Any], side: int, batch: int, iterations: int = 3) -> float:
    """Largest difference of any loss, relative to the loss, in float64."""
    torch.set_default_dtype(torch.float64)
    try:
        pair = build(backbone, side, batch, SEEN)
        worst = 0.0
        for number in range(iterations):
            torch.manual_seed(number)  # of dropped channels and paths
            ours = pair.ours()
            torch.manual_seed(number)
            plain = pair.plain()
            assert set(ours) == set(plain)
            for name, loss in plain.items():
                worst = max(worst, float((ours[name] - loss).abs() / loss.abs()))
        return worst
    finally:
        torch.set_default_dtype(torch.float32)


def seconds(iteration: Iteration) -> float:
    """CPU time of one iteration."""
    start = time.process_time()
    iteration()
    return time.process_time() - start


def measure(pair: Pair, rounds: int) -> dict[str, list[float]]:
    """CPU seconds of both ways, round by round; the first one of each warms up."""
    found: dict[str, list[float]] = {"ours": [], "plain": []}
    for number in range(rounds + 1):
        ways = [("ours", pair.ours), ("plain", pair.plain)]
        if number % 2:
            ways.reverse()
        for name, iteration in ways:
            passed = seconds(iteration)
            if number:
                found[name].append(passed)
    return found


def main() -> None:
    """Compare, measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=512, help="of the images")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        backbone = segformer_folder("b0", Path(folder))
        difference = disagreement(backbone, 128, 2)
        print(f"losses of the plain version and ours agree to {difference:.1e}")
        found = measure(build(backbone, options.side, options.batch), options.rounds)
    ratios = [ours / plain for ours, plain in zip(found["ours"], found["plain"], strict=True)]
    print(
        f"ours / plain = {with_spread(ratios, 3)} in CPU time"
        f" ({mean(found['ours']):.2f} against {mean(found['plain']):.2f} s)"
    )
    if options.json:
        result = {
            "side": options.side,
            "batch": options.batch,
            "largest_relative_difference_of_a_loss": difference,
            "cpu_s": found,
            "ours_over_plain": ratios,
        }
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
