"""How far a sweep is: a table of arms and seeds that a terminal draws again and again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rich.console import Group
from rich.text import Text

from muhdi.report.result_table import Cell, ResultTable
from muhdi.run.progress import PLAIN_SECONDS, Progress, clock, live_display

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

State = Literal["waiting", "training", "done", "failed"]

_WIDTH = 7
"""Characters of a cell, so that columns do not move."""
_REASONS = 4
"""Failures that are explained below the table."""
_FIRST: tuple[State, ...] = ("training", "failed", "waiting", "done")
"""Arms that a low terminal shows first: those with a run in the earlier of these states."""


@dataclass(frozen=True)
class RunState:
    """How far a run is.

    Attributes:
        state: of the run.
        percent: of its images that it has trained on, 0..100.
        score: target average in percent once it is done; None if there is none.
    """

    state: State
    percent: int = 0
    score: float | None = None

    def text(self) -> str:
        """``waiting``, ``37 %``, ``48.3`` or ``failed``."""
        if self.state == "training":
            return f"{self.percent} %"
        if self.state == "done" and self.score is not None:
            return f"{self.score:.1f}"
        return self.state


@dataclass(frozen=True)
class Board:
    """How far all runs of a sweep are.

    Attributes:
        rows: runs by arm and seed.
        done: images that all of them have trained on.
        total: of all images.
        failures: why runs have failed, by name.
    """

    rows: Mapping[str, Mapping[int, RunState]]
    done: int
    total: int
    failures: Mapping[str, str]

    def table(self, most: int) -> ResultTable:
        """A row for each arm, a column for each seed.

        Args:
            most: arms that there is room for, those that train first.
        """
        seeds = list(dict.fromkeys(seed for runs in self.rows.values() for seed in runs))
        arms = list(self.rows)
        shown = sorted(arms, key=self._urgency)[:most]
        arms = [arm for arm in arms if arm in shown]
        rows: list[list[Cell]] = []
        for arm in arms:
            runs = self.rows[arm]
            cells = [runs[seed].text() if seed in runs else "" for seed in seeds]
            rows.append([arm, *(cell.rjust(_WIDTH) for cell in cells)])
        hidden = len(self.rows) - len(arms)
        more = f" ({hidden} more arms)" if hidden else ""
        title = f"Runs by seed; of those that are done, the target mIoU{more}"
        return ResultTable(title, ["arm", *(f"seed {seed}" for seed in seeds)], rows)

    def _urgency(self, arm: str) -> int:
        return min(_FIRST.index(run.state) for run in self.rows[arm].values())

    def sentence(self) -> str:
        """``7 of 12 runs are done, 2 train, 1 failed``."""
        states = Counter(run.state for runs in self.rows.values() for run in runs.values())
        parts = [f"{states['done']} of {states.total()} runs are done"]
        if states["training"]:
            parts.append(f"{states['training']} train")
        if states["failed"]:
            parts.append(f"{states['failed']} failed")
        return ", ".join(parts)


class LiveBoard:
    """Shows a `Board`: a table on a terminal, otherwise lines, one of progress now and then.

    Args:
        console: where it is shown.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._board: Board | None = None
        self._start = time.monotonic()
        self._begun = 0
        self._shown = self._start
        self._live = live_display(self, console, per_second=2, transient=True)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self._board is None:
            return
        failures = [f"{name}: {reason}" for name, reason in self._board.failures.items()]
        if len(failures) > _REASONS:
            failures[_REASONS:] = [f"and {len(failures) - _REASONS} more"]
        below = [f"{self._board.sentence()}{self._time_left()}", *failures]
        lines = [Text(line, no_wrap=True, overflow="ellipsis") for line in below]
        # A terminal cannot draw again what has left it at the top.
        for most in range(min(len(self._board.rows), console.height), 0, -1):
            drawn = Group(self._board.table(most).terminal(), *lines)
            if len(console.render_lines(drawn, options)) < console.height:
                break
        yield drawn

    def show(self, board: Board) -> None:
        """Show how far the runs are now."""
        if self._board is None:
            self._begun = board.done
        self._board = board
        due = time.monotonic() - self._shown >= PLAIN_SECONDS
        if self._live is None and due:
            self._shown = time.monotonic()
            left = self._time_left().removeprefix("; ")
            line = Progress("sweep", board.done, board.total, time=left).plain()
            self._console.print(line, markup=False)

    def print(self, text: str) -> None:
        """A line of what happens; a terminal has the table for that."""
        if self._live is None:
            self._console.print(text, markup=False)

    def stop(self) -> None:
        """The sweep ends; the table stays on the terminal only if a run is not done."""
        if self._live is None:
            return
        states = self._board.rows.values() if self._board is not None else []
        self._live.transient = all(run.state == "done" for runs in states for run in runs.values())
        self._live.stop()
        self._live = None

    def _time_left(self) -> str:
        """``; 4:10 left`` at the speed so far; empty before anything is known."""
        board = self._board
        if board is None or not self._begun < board.done < board.total:
            return ""
        seconds = time.monotonic() - self._start
        left = seconds / (board.done - self._begun) * (board.total - board.done)
        return f"; {clock(left)} left"
