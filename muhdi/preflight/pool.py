"""Work on many files, divided among processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from muhdi.data.workers import end_with_process
from muhdi.errors import RunError

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
    advice: str = "use fewer of them with --jobs",
) -> Iterator[Result]:
    """Results of ``function`` on every part, in the order in which they are ready.

    Args:
        function: defined at the top level of a module, so that it can be sent to a process.
        parts: of the work.
        jobs: number of processes; None: one per core.
        initializer: called with ``arguments`` once in every process.
        arguments: of the initializer.
        advice: what to do after a process was killed.

    Raises:
        RunError: a process was killed.
    """
    started = (os.getpid(), initializer, arguments)
    with ProcessPoolExecutor(jobs or os.cpu_count(), None, _begin, started) as pool:
        try:
            for future in as_completed([pool.submit(function, part) for part in parts]):
                yield future.result()
        except BrokenProcessPool:
            raise RunError(
                f"a process that reads files was killed, possibly out of memory; {advice}"
            ) from None


def _begin(main: int, initializer: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    end_with_process(main)
    initializer(*arguments)
