"""CPU time of works that take turns, so that other programs disturb all of them alike."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path

Work = Callable[[], object]


def cpu_seconds_in_turns(
    works: Mapping[str, Work], rounds: int, iterations: int
) -> dict[str, list[float]]:
    """CPU-seconds of one iteration of every work, by round; a round before them warms up."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        total = dict.fromkeys(works, 0.0)
        for _ in range(iterations):
            for name, work in works.items():
                start = time.process_time()
                work()
                total[name] += time.process_time() - start
        if number:
            for name, value in total.items():
                found[name].append(value / iterations)
    return found


def turns_parser(description: str | None, iterations: int) -> argparse.ArgumentParser:
    """The options of a benchmark whose works take turns.

    Args:
        description: of the benchmark.
        iterations: of each work in a round, where nobody chooses.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="small")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=iterations, help="of a round, each")
    parser.add_argument("--json", type=Path)
    return parser
