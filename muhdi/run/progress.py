"""A stage's progress on the screen: a bar on a terminal, a line every few seconds without one."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from muhdi.run.signals import note_signal

PLAIN_SECONDS = 10.0
"""Without a terminal: seconds between two lines."""
_LONGEST_NAME = 14
"""Characters of a stage's name in the bar, so that the rest fits into 80 columns."""


class Screen(Console):
    """A rich console whose end does not end the run: a pipe or a terminal may be closed early.

    Args:
        quiet: nothing is shown.
        options: of `rich.console.Console`.
    """

    def __init__(self, *, quiet: bool = False, **options: Any) -> None:
        # Lines are read in files, too: they are not broken to fit the terminal.
        super().__init__(quiet=quiet, highlight=False, soft_wrap=True, **options)

    def on_broken_pipe(self) -> None:
        """After ``muhdi train | head``: print nothing more, and stop the run as a signal does."""
        self.quiet = True
        # Python flushes standard output once more at its end, which would fail again.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        note_signal(signal.SIGPIPE)

    @contextmanager
    def may_be_gone(self) -> Iterator[None]:
        """Inside, output may fail: a closed terminal also sends SIGHUP, which stops the run."""
        try:
            yield
        except BrokenPipeError:  # by a rich that does not call the method itself
            self.on_broken_pipe()
        except OSError:
            self.quiet = True


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
        self._bar: _Bar | None = None
        if console.is_terminal and not console.quiet:
            self._bar = _Bar(console, stage, iterations, done)
            self._bar.start()

    def advance(self, done: int, images: int, losses: Mapping[str, float]) -> None:
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
            self._bar.advance_to(done, rate, losses)
        elif losses and (now - self._shown >= PLAIN_SECONDS or done == self._iterations):
            self._shown = now
            self._print_line(done, rate, losses)

    def _print_line(self, done: int, rate: float, losses: Mapping[str, float]) -> None:
        per_iteration = (self._shown - self._start) / max(done - self._first, 1)
        left = per_iteration * (self._iterations - done)
        columns = [
            f"{self._stage} {done}/{self._iterations}",
            f"{rate:.0f} images/s",
            _terms(losses),
            f"left {left:.0f} s",
        ]
        self._console.print("  ".join(columns), markup=False)

    def stop(self) -> None:
        """The stage ends, or is interrupted."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class _Bar(Progress):
    """Two lines that fit into 80 columns: how far the stage is, and its single losses.

    There may be many losses; what does not fit is cut off. All are in the record.
    """

    def __init__(self, console: Console, stage: str, iterations: int, done: int) -> None:
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),  # what the others leave
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=console,
            expand=True,
        )
        self._losses = ""
        name = stage[:_LONGEST_NAME].replace("[", "\\[")
        self._stage_task: TaskID = self.add_task(name, total=iterations, completed=done, text="")

    def advance_to(self, done: int, rate: float, losses: Mapping[str, float]) -> None:
        """Show how many iterations are done, and losses if there are new ones."""
        if losses:
            self._losses = _terms(losses)
            text = f"{rate:.0f} images/s  loss {sum(losses.values()):.3f}"
            self.update(self._stage_task, text=text)
        self.update(self._stage_task, completed=done)

    def get_renderables(self) -> Iterator[RenderableType]:
        """The bar, and the line of losses below it."""
        yield self.make_tasks_table(self.tasks)
        if getattr(self, "_losses", ""):  # rich asks before the constructor has ended
            yield Text(self._losses, no_wrap=True, overflow="ellipsis", style="dim")


def _terms(losses: Mapping[str, float]) -> str:
    """Names and values of losses."""
    return "  ".join(f"{name} {value:.3f}" for name, value in losses.items())
