"""A stage's progress on the screen: a bar on a terminal, a line every few seconds without one."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

PLAIN_SECONDS = 10.0
"""Without a terminal: seconds between two lines."""
LONGEST_NAME = 14
"""Characters of a stage's name in the bar, so that the rest fits into 80 columns."""


class StageProgress:
    """Shows how far one stage is.

    Args:
        console: where it is shown.
        stage: name of the stage.
        iterations: of the stage.
        done: iterations before an interruption.
    """

    def __init__(self, console: Console, stage: str, iterations: int, done: int) -> None:
        self._console = console
        self._stage = stage
        self._iterations = iterations
        self._first = done
        self._images = 0
        self._start = time.monotonic()
        self._shown = self._start
        self._bar: Progress | None = None
        self._task = TaskID(0)
        if console.is_terminal and not console.quiet:
            self._bar = self._started_bar(done)

    def _started_bar(self, done: int) -> Progress:
        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
        )
        bar.start()
        name = self._stage[:LONGEST_NAME]
        self._task = bar.add_task(name, total=self._iterations, completed=done, text="")
        return bar

    def advance(self, done: int, images: int, losses: dict[str, float]) -> None:
        """After an iteration.

        Args:
            done: iterations so far.
            images: in this iteration.
            losses: to show, if any.
        """
        self._images += images
        now = time.monotonic()
        rate = self._images / max(now - self._start, 1e-9)
        if self._bar is not None:
            # The single terms are in the log; all of them would push the bar out of the terminal.
            text = f"{rate:.0f} img/s  loss {sum(losses.values()):.3f}"
            if losses:
                self._bar.update(self._task, text=text)
            self._bar.update(self._task, completed=done)
        elif losses and (now - self._shown >= PLAIN_SECONDS or done == self._iterations):
            self._shown = now
            self._print_line(done, rate, losses)

    def _print_line(self, done: int, rate: float, losses: dict[str, float]) -> None:
        terms = "  ".join(f"{name} {value:.3f}" for name, value in losses.items())
        per_iteration = (self._shown - self._start) / max(done - self._first, 1)
        left = per_iteration * (self._iterations - done)
        line = f"{self._stage} {done}/{self._iterations}  {rate:.0f} images/s  {terms}  left {left:.0f} s"
        self._console.print(line, markup=False)

    def stop(self) -> None:
        """The stage ends, or is interrupted."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
