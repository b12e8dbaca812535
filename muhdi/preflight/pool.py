"""Work on many files, shared out among processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from muhdi.data.workers import end_with_process
from muhdi.errors import MuhdiError

Part = TypeVar("Part")
Result = TypeVar("Result")

AT_ONCE = 16
"""Files that a process is given at a time."""


def in_parts(work: Sequence[Part]) -> list[Sequence[Part]]:
    """The work in pieces of `AT_ONCE`."""
    return [work[start : start + AT_ONCE] for start in range(0, len(work), AT_ONCE)]


def in_processes(
    function: Callable[[Part], Result],
    parts: Sequence[Part],
    jobs: int | None,
    initializer: Callable[..., None],
    arguments: tuple[Any, ...],
) -> Iterator[Result]:
    """Results of ``function`` on every part, in the order in which they are ready.

    Args:
        jobs: processes; None: one per core.
        initializer: called with ``arguments`` once in every process.

    Raises:
        MuhdiError: a process was ended from outside.
    """
    with ProcessPoolExecutor(
        jobs or os.cpu_count(), initializer=_begin, initargs=(os.getpid(), initializer, arguments)
    ) as pool:
        try:
            for future in as_completed([pool.submit(function, part) for part in parts]):
                yield future.result()
        except BrokenProcessPool:
            raise MuhdiError(
                "a process that read files was ended from outside, perhaps for want of memory; use"
                " fewer with --jobs"
            ) from None


def _begin(main: int, initializer: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    end_with_process(main)
    initializer(*arguments)
