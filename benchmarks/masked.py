"""What a masked pass adds to an iteration of self-training.

    python -m benchmarks.masked [--backbone small] [--rounds 5] [--iterations 10] [--json FILE]

On images in memory, one process, one thread: iterations without and with the pass take turns.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from statistics import mean

import torch

from benchmarks.iteration import with_spread
from benchmarks.made_up import trainer
from benchmarks.rare_classes import recipe_of, sets_of, source_batches
from benchmarks.turns import cpu_seconds_in_turns, turns_parser
from muhdi.data.stream import endless_batches
from muhdi.recipe.schema import Recipe
from muhdi.training.fabric import build_fabric
from muhdi.training.stage import Sets, StageTrainer


def masked_recipe(recipe: Recipe) -> Recipe:
    """The same with the pass."""
    step = recipe.steps[0]
    data = step.adaptation.model_dump(exclude_none=True) | {"masked": {"block": 32}}
    adaptation = type(step.adaptation).model_validate(data)
    changed = step.model_copy(update={"adaptation": adaptation})
    return recipe.model_copy(update={"steps": [changed]})


def iteration(recipe: Recipe, sets: Sets) -> Callable[[], None]:
    """An iteration on batches that are there already."""
    begun = trainer(StageTrainer, build_fabric(recipe), recipe, sets)
    source = next(source_batches(recipe, sets, sampled=False))
    target = next(endless_batches(sets.targets[0], 2, recipe.augment, (0, 1, 1)))

    def iterate() -> None:
        begun.iterate(source, target)
        begun.iteration += 1

    return iterate


def measure(recipe: Recipe, sets: Sets, rounds: int, iterations: int) -> dict[str, list[float]]:
    """CPU-seconds of an iteration by round, without and with the pass, and their ratio."""
    works = {
        "plain": iteration(recipe, sets),
        "masked": iteration(masked_recipe(recipe), sets),
    }
    found = cpu_seconds_in_turns(works, rounds, iterations)
    pairs = zip(found["masked"], found["plain"], strict=True)
    found["masked_over_plain"] = [masked / plain for masked, plain in pairs]
    return found


def main() -> None:
    """Measure, print and write."""
    options = turns_parser(__doc__, iterations=10).parse_args()
    torch.set_num_threads(1)
    recipe = recipe_of(options.backbone, (640, 320), (256, 256))
    found = measure(recipe, sets_of(recipe, 4), options.rounds, options.iterations)
    times = " against ".join(f"{mean(found[name]):.3f}" for name in ("masked", "plain"))
    ratio = with_spread(found["masked_over_plain"], 3)
    print(f"{options.backbone}: with the pass / without = {ratio} ({times} CPU-seconds)")
    if options.json:
        result = {"backbone": options.backbone, **found}
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
