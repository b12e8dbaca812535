"""What each retention adds to an iteration of self-training, in the second step of a sequence.

    python -m benchmarks.retention_cost [--backbone small] [--rounds 5] [--iterations 10]
        [--json FILE]

On drawn scenes of 640x320 that lie in memory, crops of 256x256, batch 2, one process, one thread.
By the second step every retention has something to keep: old weights, importance, styles, images.
Iterations of all of them take turns.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import torch

from benchmarks.iteration import with_spread
from benchmarks.made_up import trainer
from benchmarks.rare_classes import recipe_of, sets_of, source_batches
from benchmarks.turns import cpu_seconds_in_turns, turns_parser
from muhdi.data.stream import endless_batches
from muhdi.recipe.schema import Recipe
from muhdi.training.fabric import build_fabric
from muhdi.training.stage import Sets, StageTrainer

PLAIN = "none"
WITHOUT_OLD_NETWORK: dict[str, Any] = {
    "style": "style",
    "style, fourier": {"method": "style", "of": "fourier"},
    "restore": "restore",
    "average": "average",
    "l2sp": "l2sp",
    "ewc": "ewc",
    "mas": "mas",
}
"""They keep numbers, or a copy of the weights, but let no second network see an image."""
WITH_MORE_PASSES: dict[str, Any] = {
    "replay": "replay",
    "blend": "blend",
    "distill": "distill",
    "muhdi": "muhdi",
}
"""An old network sees the images, or the network sees kept ones."""


def with_retention(recipe: Recipe, retention: Any) -> Recipe:
    """The same with two steps, each with a retention."""
    data = recipe.model_dump(mode="json", exclude_none=True)
    step = data["steps"][0] | {"retention": retention}
    again = step | {"target": step["target"] | {"domain": "night"}}
    # There has to be something that is worth keeping; it is not trained here.
    source = {"source_training": {"iterations": 1}}
    return Recipe.model_validate(data | source | {"steps": [step, again]})


def iteration(recipe: Recipe, sets: Sets) -> Callable[[], None]:
    """An iteration of the second step, on batches that are there already."""
    fabric = build_fabric(recipe)
    first = trainer(StageTrainer, fabric, recipe, sets)
    source = next(source_batches(recipe, sets, sampled=False))
    target = next(endless_batches(sets.targets[0], 2, recipe.augment, (0, 1, 1)))
    first.iterate(source, target)
    first.finish()
    second = StageTrainer(fabric, recipe, 2, first.carried, sets)
    second.network.train()

    def iterate() -> None:
        second.iterate(source, target)
        second.iteration += 1

    return iterate


def measure(
    recipe: Recipe, sets: Sets, retentions: Mapping[str, Any], rounds: int, iterations: int
) -> dict[str, list[float]]:
    """CPU time of an iteration with each retention, by round, relative to one without."""
    works = {PLAIN: iteration(with_retention(recipe, PLAIN), sets)}
    for name, retention in retentions.items():
        works[name] = iteration(with_retention(recipe, retention), sets)
    seconds = cpu_seconds_in_turns(works, rounds, iterations)
    found = {}
    for name in retentions:
        pairs = zip(seconds[name], seconds[PLAIN], strict=True)
        found[name] = [own / plain for own, plain in pairs]
    return found


def main() -> None:
    """Measure, print and write."""
    options = turns_parser(__doc__, iterations=10).parse_args()
    torch.set_num_threads(1)
    recipe = recipe_of(options.backbone, (640, 320), (256, 256))
    retentions = WITHOUT_OLD_NETWORK | WITH_MORE_PASSES
    found = measure(recipe, sets_of(recipe, 4), retentions, options.rounds, options.iterations)
    for name, ratios in found.items():
        print(f"{name:15} {with_spread(ratios, 3)}")
    if options.json:
        result = {"backbone": options.backbone, "over_none": found}
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
