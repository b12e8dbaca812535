"""Shards against the cache and against files, and memory over an epoch of 20,000 small images.

    python -m benchmarks.shards [--images 12] [--seconds 2] [--small 20000] [--json FILE]

A 2048x1024 PNG with its label, brought to 640x320; in each round the ways are measured in turns,
in CPU time. The small images are read at an address, so that every shard is fetched, checked and
kept up to a limit that is far below the whole set.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from benchmarks.data import SIZE, make, rate
from muhdi.data.cache import SampleCache
from muhdi.data.catalog import DataContext, open_split
from muhdi.data.prepared import Loading, PreparedSet
from muhdi.data.shards.storage import Storage
from muhdi.data.stream import endless_batches
from muhdi.preflight.shard_plan import recipe_of_shards
from muhdi.preflight.write_shards import write_shards
from muhdi.recipe.augment import AugmentConfig
from muhdi.recipe.load import load_recipe
from muhdi.recipe.schema import Recipe
from muhdi.taxonomy import CLASS_SETS

SMALL = (64, 32)
KEEP_MB = 24
"""Of the small set, at 1 MiB per shard: what two windows of 8 need, and a little more."""
BATCH = 50
AUGMENT = AugmentConfig(crop=(256, 256), flip=True, colour=0.3)


def recipe_of(folder: Path, size: tuple[int, int], kind: str = "png") -> Recipe:
    """A recipe whose source is the images and labels in a folder."""
    source = {
        "dataset": "folder",
        "root": str(folder),
        "images": f"*[0-9].{kind}",
        "labels": "{stem}_label.png",
    }
    data = {"name": "bench", "image_size": list(size), "classes": "urban19", "source": source}
    path = folder / "bench.yml"
    path.write_text(yaml.safe_dump(data | {"source_training": {"iterations": 1}}))
    return load_recipe(path)


def ways_of(folder: Path, images: int) -> dict[str, PreparedSet]:
    """The same samples by way of reading."""
    make(folder, "png", images)
    recipe = recipe_of(folder, SIZE)

    def opened(changed: Recipe, loading: Loading) -> PreparedSet:
        assert changed.source is not None
        found = open_split(changed.source, "train", DataContext.of(changed))
        return PreparedSet(found, SIZE, SIZE, with_labels=True, loading=loading)

    ways = {
        "raw": opened(recipe, Loading()),
        "cached": opened(recipe, Loading(cache=SampleCache(folder / "cache"))),
    }
    for name, decoded in (("shards, original", False), ("shards, decoded", True)):
        out = str(folder / name.replace(", ", "_"))
        write_shards(recipe, out, decoded=decoded, jobs=1)
        ways[name] = opened(recipe_of_shards(recipe, out), Loading())
    return ways


def batch_rate(samples: PreparedSet, seconds: float) -> float:
    """Training images per second of CPU time, with crops and colours."""
    stream = endless_batches(samples, 4, AUGMENT, (0,))
    next(stream)
    start, count = time.process_time(), 0
    while time.process_time() - start < seconds:
        next(stream)
        count += 4
    return count / (time.process_time() - start)


def speeds(ways: dict[str, PreparedSet], seconds: float, rounds: int) -> dict[str, Any]:
    """Rates of the rounds by way; the samples alone, and training batches of them."""
    for samples in ways.values():
        for index in range(len(samples)):
            samples[index]
    found: dict[str, Any] = {
        "read": {way: [] for way in ways},
        "batches": {way: [] for way in ways},
    }
    for _ in range(rounds):
        for way, samples in ways.items():
            found["read"][way].append(rate(samples, seconds))
            found["batches"][way].append(batch_rate(samples, seconds))
    return found


def small_files(folder: Path, count: int) -> Recipe:
    """Small images of noise with their labels."""
    rng = np.random.default_rng(0)
    width, height = SMALL
    classes = len(CLASS_SETS["urban19"])
    for number in range(count):
        pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:05}.png", compress_level=1)
        label = np.full((height, width), number % classes, np.uint8)
        Image.fromarray(label).save(folder / f"{number:05}_label.png", compress_level=1)
    return recipe_of(folder, SMALL)


def resident_mb() -> float:
    """What this process has in memory, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def epoch(folder: Path, count: int) -> dict[str, Any]:
    """Memory, fetched shards and the folder of kept ones, over an epoch of small images."""
    recipe = small_files(folder, count)
    out = folder / "shards"
    write_shards(recipe, str(out), decoded=True, shard_mb=1, jobs=1)
    changed = recipe_of_shards(recipe, f"local://{out}")
    assert changed.source is not None
    kept = folder / "kept"
    source = changed.source.model_copy(update={"kept": str(kept), "keep_mb": KEEP_MB})
    found = open_split(source, "train", DataContext.of(changed))
    samples = PreparedSet(found, SMALL, SMALL, with_labels=True)
    fetched = []
    original = Storage.fetch

    def fetch(self: Storage, name: str, path: Path) -> None:
        fetched.append(name)
        original(self, name, path)

    Storage.fetch = fetch  # type: ignore[method-assign]
    memory: list[float] = []
    most = 0.0
    total = count // BATCH
    names = set()
    for number, batch in enumerate(
        islice(endless_batches(samples, BATCH, AugmentConfig(), (0,)), total)
    ):
        names.update(batch.names)
        if (number + 1) % max(1, total // 10) == 0:
            memory.append(resident_mb())
        most = max(most, sum(sizes(kept)) / 2**20)
    Storage.fetch = original  # type: ignore[method-assign]
    return {
        "images": len(names),
        "resident_mb": memory,
        "shards": len(list(out.rglob("train/*.bin"))),
        "fetched": len(fetched),
        "fetched_once": len(set(fetched)),
        "set_mb": sum(path.stat().st_size for path in out.rglob("train/*.bin")) / 2**20,
        "keep_mb": KEEP_MB,
        "kept_mb": most,
    }


def sizes(folder: Path) -> Iterator[int]:
    """Bytes of the shards that are kept."""
    for path in folder.rglob("*.bin"):
        try:
            yield path.stat().st_size
        except FileNotFoundError:  # removed meanwhile
            continue


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--small", type=int, default=20_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        ways = ways_of(Path(place), options.images)
        result = speeds(ways, options.seconds, options.rounds)
    for what, rates in result.items():
        for way, rounds in rates.items():
            ratios = [one / cached for one, cached in zip(rounds, rates["cached"], strict=True)]
            print(
                f"{what}, {way}: {np.mean(rounds):.1f} images per CPU-second,"
                f" {np.mean(ratios):.3f} ± {np.std(ratios):.3f} times cached"
            )
    with tempfile.TemporaryDirectory() as place:
        result["epoch"] = epoch(Path(place), options.small)
    print(result["epoch"])
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
