"""Training images per second: crops and colour changes in loading processes.

    python -m benchmarks.crops [--images 8] [--seconds 8] [--json FILE]

A 2048x1024 PNG with its label, brought to 1280x640; of it a crop of 512x512, mirrored or not, with
other colours. Without and with the recipe's ``runtime.cache``: as images per second of CPU time in
one process, which is what a core gives that does nothing else, and four cores four times at most;
and as images per second of the clock from one and two loading processes, batches of 2. Pictures as
in `benchmarks.data`.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from benchmarks.data import make
from muhdi.data.cache import SampleCache
from muhdi.data.files import FileSet
from muhdi.data.prepared import Loading, PreparedSet
from muhdi.data.sets import Size
from muhdi.data.stream import endless_batches
from muhdi.recipe.augment import AugmentConfig

SIZE = (1280, 640)
BATCH = 2
PROCESSES = (1, 2)
CHANGES = AugmentConfig(crop=(512, 512), flip=True, colour=0.3)


@dataclass(frozen=True)
class Rates:
    """Images per second.

    Attributes:
        cpu: of CPU time, in one process that loads for itself.
        processes: of the clock, by the number of loading processes.
    """

    cpu: float
    processes: dict[int, float]


def prepared(
    images: FileSet, size: Size, cache: Path | None = None, *, with_labels: bool = True
) -> PreparedSet:
    """Images at a size, with a cache that is filled, or without one."""
    kept = None if cache is None else SampleCache(cache)
    loading = Loading(cache=kept)
    samples = PreparedSet(images, size, size, with_labels=with_labels, loading=loading)
    if kept is not None:
        for index in range(len(samples)):
            samples[index]
    return samples


def measure(
    samples: PreparedSet, changes: AugmentConfig, seconds: float, counts: Sequence[int]
) -> Rates:
    """The rates of a set, each measured for some seconds, with these numbers of processes."""
    cpu = rate(samples, changes, 0, seconds, time.process_time)
    clock = time.perf_counter
    return Rates(cpu, {count: rate(samples, changes, count, seconds, clock) for count in counts})


def rate(
    samples: PreparedSet,
    changes: AugmentConfig,
    workers: int,
    seconds: float,
    clock: Callable[[], float],
) -> float:
    """Images per second of a clock."""
    with closing(endless_batches(samples, BATCH, changes, (0,), workers=workers)) as batches:
        for _ in range(1 + 2 * workers):  # so many are loaded ahead
            next(batches)
        start = clock()
        count = 0
        while clock() - start < seconds:
            count += len(next(batches).images)
        return count / (clock() - start)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    found = {}
    with tempfile.TemporaryDirectory() as place:
        images = make(Path(place), "png", options.images)
        for name, cache in (("raw", None), ("cached", Path(place, "cache"))):
            samples = prepared(images, SIZE, cache)
            rates = measure(samples, CHANGES, options.seconds, PROCESSES)
            found[name] = asdict(rates)
            each = ", ".join(f"{count}: {value:.1f}" for count, value in rates.processes.items())
            print(
                f"{name}: images per second of a core: {rates.cpu:.1f}; of 4 cores, at most:"
                f" {4 * rates.cpu:.1f}; by number of loading processes here: {each}"
            )
    print(f"load of the machine before: {load:.1f}")
    if options.json:
        options.json.write_text(json.dumps({"load": load, "rates": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
