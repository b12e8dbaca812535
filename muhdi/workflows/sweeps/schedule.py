"""Begins the runs of a sweep when it is their turn, whatever executes them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from muhdi.errors import Interrupted, RunError
from muhdi.run.signals import noted_signals
from muhdi.workflows.sweeps.plan import Run

Log = Callable[[str], None]

_POLL_SECONDS = 0.1
"""Between two looks at what executes the runs."""
_WATCH_SECONDS = 1.0
"""Between two looks at what the runs have written."""


class Engine(Protocol):
    """Executes runs: processes of this machine, or the jobs of a cluster."""

    chains: bool
    """Whether a run may be handed over before its source has ended: the engine then waits."""

    def has_room(self) -> bool:
        """Whether another run can be begun now."""

    def start(self, run: Run) -> None:
        """Begin a run.

        Raises:
            RunError: it cannot be begun; the others may.
        """

    def at_work(self) -> list[str]:
        """Names of the runs that train at this moment."""

    def ended(self) -> dict[str, str | None]:
        """Runs that have ended since the last call, each with why it has failed, or None."""

    def stop(self) -> None:
        """Leave everything saved: a signal has come."""


class Schedule:
    """Runs all of them, a source before what starts from it.

    When one fails, the others go on, but for those that need it.

    Args:
        runs: in the order in which they are begun.
        engine: executes them.
        log: called with a line for every run that begins or ends.
        watch: called about every second, and at the end.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        engine: Engine,
        log: Log,
        watch: Callable[[Schedule], None],
    ) -> None:
        self.engine = engine
        self.log = log
        self.watch = watch
        self.waiting: list[Run] = []
        self.begun: set[str] = set()
        self.done: set[str] = set()
        self.failures: dict[str, str] = {}
        for run in runs:
            if run.is_complete():
                self._end(run.name, None)
            else:
                self.waiting.append(run)

    def run(self) -> Mapping[str, str]:
        """Why runs have failed, by name.

        Raises:
            Interrupted: after a signal, with everything saved.
        """
        seen = float("-inf")
        with noted_signals() as signals:
            try:
                while self.waiting or self.begun:
                    moved = self._advance()
                    if time.monotonic() - seen >= _WATCH_SECONDS:
                        self.watch(self)
                        seen = time.monotonic()
                    if signals:
                        raise Interrupted(signals[0])
                    if not moved:
                        time.sleep(_POLL_SECONDS)
            except BaseException:
                self.engine.stop()
                raise
        self.watch(self)
        return self.failures

    def _advance(self) -> bool:
        """Begin what can be begun, and note what has ended; whether there was anything."""
        before = len(self.waiting)
        for run in list(self.waiting):
            if run.source in self.failures:
                self.waiting.remove(run)
                self._end(run.name, f"its source, {run.source}, has failed")
            elif self._may_begin(run) and self.engine.has_room():
                self.waiting.remove(run)
                self._begin(run)
        ended = self.engine.ended()
        for name, reason in ended.items():
            self.begun.remove(name)
            self._end(name, reason)
        return bool(ended) or len(self.waiting) < before

    def _begin(self, run: Run) -> None:
        self.log(f"{run.name}: training")
        try:
            self.engine.start(run)
        except RunError as error:
            self._end(run.name, str(error))
        else:
            self.begun.add(run.name)

    def _may_begin(self, run: Run) -> bool:
        if run.source is None or run.source in self.done:
            return True
        return self.engine.chains and run.source in self.begun

    def _end(self, name: str, reason: str | None) -> None:
        if reason is None:
            self.done.add(name)
            self.log(f"{name}: done")
        else:
            self.failures[name] = reason
            self.log(f"{name}: failed: {reason}")
