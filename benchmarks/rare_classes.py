"""What rare-class sampling adds to an iteration.

    python -m benchmarks.rare_classes [--backbone small] [--rounds 5] [--iterations 20]
        [--json FILE]

Self-training on drawn scenes of 640x320 that lie in memory, crops of 256x256, batch 2, one process
that loads for itself: nothing hides what draws cost, and crops that are drawn again. Iterations
without and with sampling take turns; reported are the ratio of their CPU time, and what loading
alone takes longer, relative to an iteration: the same without the noise of the iterations.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from functools import partial
from statistics import mean

import torch

from benchmarks.iteration import with_spread
from benchmarks.made_up import one_step, prepared, trainer
from benchmarks.turns import Work, cpu_seconds_in_turns, turns_parser
from muhdi.data.catalog import DataContext, open_split
from muhdi.data.class_counts import counts_of
from muhdi.data.rare_classes import RareClasses
from muhdi.data.stream import LoadedBatch, endless_batches
from muhdi.recipe.rare_classes import RareClassesConfig
from muhdi.recipe.schema import Recipe
from muhdi.training.fabric import build_fabric
from muhdi.training.sets import Sets
from muhdi.training.stage import StageTrainer


def recipe_of(backbone: str, size: tuple[int, int], crop: tuple[int, int]) -> Recipe:
    """A step of self-training on drawn scenes."""
    augment = {"crop": list(crop), "flip": True}
    runtime = {"device": "cpu"}
    return one_step(backbone, size, 2, classes="urban7", augment=augment, runtime=runtime)


def sets_of(recipe: Recipe, count: int) -> Sets:
    """Some images of source and target, which stay in memory, and the source's classes."""
    context = DataContext.of(recipe)
    assert recipe.source is not None
    source_config = recipe.source.model_copy(update={"train": count})
    target_config = recipe.steps[0].target.model_copy(update={"train": count})
    images = open_split(source_config, "train", context)
    source = prepared(images, recipe.image_size, with_labels=True)
    target = prepared(
        open_split(target_config, "train", context), recipe.image_size, with_labels=False
    )
    classes = recipe.class_set().classes
    counts = counts_of(images, range(count), len(classes))
    rare = RareClasses(source, counts, RareClassesConfig(), ["steps.0"], classes)
    for samples in (source, target):
        for index in range(count):
            samples[index]
    return Sets(source, (target,), rare)


def source_batches(recipe: Recipe, sets: Sets, *, sampled: bool) -> Generator[LoadedBatch]:
    """Batches of the source, without and with sampling."""
    assert sets.rare is not None
    samples = sets.rare if sampled else sets.source
    return endless_batches(samples, 2, recipe.augment, (0, 1, 0))


def iteration(recipe: Recipe, sets: Sets, *, sampled: bool) -> Work:
    """An iteration, with the loading of its images."""
    begun = trainer(StageTrainer, build_fabric(recipe), recipe, sets)
    source = source_batches(recipe, sets, sampled=sampled)
    target = endless_batches(sets.targets[0], 2, recipe.augment, (0, 1, 1))

    def iterate() -> None:
        begun.iterate(next(source), next(target))
        begun.iteration += 1

    return iterate


def measure(recipe: Recipe, sets: Sets, rounds: int, iterations: int) -> dict[str, list[float]]:
    """CPU-seconds by round, without and with sampling, of an iteration and of loading its source
    images; and the ratios.
    """
    plain = iteration(recipe, sets, sampled=False)
    sampled = iteration(recipe, sets, sampled=True)
    sources = [source_batches(recipe, sets, sampled=sampled) for sampled in (False, True)]
    works: dict[str, Work] = {
        "plain": plain,
        "sampled": sampled,
        "loading_plain": partial(next, sources[0]),
        "loading_sampled": partial(next, sources[1]),
    }
    found = cpu_seconds_in_turns(works, rounds, iterations)
    found["sampled_over_plain"] = []
    found["loading_over_plain"] = []
    for number in range(rounds):
        once, sampled_once, loading, sampled_loading = (found[name][number] for name in works)
        found["sampled_over_plain"].append(sampled_once / once)
        found["loading_over_plain"].append((once + sampled_loading - loading) / once)
    return found


def main() -> None:
    """Measure, print and write."""
    parser = turns_parser(__doc__, iterations=20)
    parser.add_argument("--images", type=int, default=16)
    options = parser.parse_args()
    torch.set_num_threads(1)
    recipe = recipe_of(options.backbone, (640, 320), (256, 256))
    found = measure(recipe, sets_of(recipe, options.images), options.rounds, options.iterations)
    times = " against ".join(f"{mean(found[name]):.3f}" for name in ("sampled", "plain"))
    ratio = with_spread(found["sampled_over_plain"], 3)
    print(f"{options.backbone}: with sampling / without = {ratio} ({times} CPU-seconds)")
    loading = with_spread(found["loading_over_plain"], 4)
    print(f"by what loading the source takes longer: {loading}")
    if options.json:
        result = {"backbone": options.backbone, **found}
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
