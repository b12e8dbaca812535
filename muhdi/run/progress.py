"""Progress on the screen: one line that is drawn again on a terminal, a plain line now and then
without one.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderResult, RichCast
from rich.live import Live
from rich.text import Text

from muhdi.run.signals import note_signal

PLAIN_SECONDS = 10.0
"""Without a terminal: seconds between two lines."""
_SHORTEST_BAR = 8
"""Columns of a bar, with its brackets, that still shows something."""
_LONGEST_BAR = 40
"""Columns of a bar in a wide terminal."""
_LONGEST_NAME = 14
"""Characters of a name in a narrow terminal."""


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


@dataclass(frozen=True)
class Progress:
    """How far something is.

    Attributes:
        name: of what is done, such as a stage.
        done: items so far.
        total: of all items; None: it is not known yet.
        rate: how fast it is, as text; empty: nothing is said.
        time: how long it still takes, or has taken, as text.
        loss: the training loss, as text.
    """

    name: str
    done: int = 0
    total: int | None = None
    rate: str = ""
    time: str = ""
    loss: str = ""

    def line(self, width: int) -> str:
        """One line of at most ``width`` characters.

        What does not fit is left out: the end of a long name, then the loss, the rate, the time and
        the bar, and at last more of the name.
        """
        everything: tuple[str, ...] = (self.rate, self.time, self.loss)
        short = _shortened(self.name, _LONGEST_NAME)
        choices = [(self.name, everything), (short, everything)]
        choices += [(short, (self.rate, self.time)), (short, (self.time,)), (short, ())]
        for name, facts in choices:
            begin = f"{name} {self._count} "
            end = "  ".join(["", *filter(None, facts)])
            room = width - len(begin) - len(end)
            if room >= _SHORTEST_BAR:
                return f"{begin}{self._bar(min(room, _LONGEST_BAR))}{end}"
        name = _shortened(self.name, max(width - len(self._count) - 1, 0))
        return f"{name} {self._count}".strip()[: max(width, 0)]

    def plain(self) -> str:
        """The same without a bar, for a file or a pipe."""
        facts = (self.rate, self.time, self.loss)
        return "  ".join([f"{self.name} {self._count}", *filter(None, facts)])

    @property
    def _count(self) -> str:
        return str(self.done) if self.total is None else f"{self.done}/{self.total}"

    def _bar(self, width: int) -> str:
        inside = width - 2
        full = inside * self.done // self.total if self.total else 0
        head = ">" if 0 < full < inside else ""
        drawn = "=" * (full - len(head)) + head
        return f"[{drawn:<{inside}}]"


def clock(seconds: float) -> str:
    """Minutes and seconds, ``1:05``; from an hour on also hours, ``2:01:05``."""
    minutes, rest = divmod(round(max(seconds, 0.0)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02d}:{rest:02d}"
    return f"{minutes}:{rest:02d}"


def _shortened(name: str, length: int) -> str:
    return name if len(name) <= length else f"{name[: max(length - 1, 0)]}…"[:length]


def live_display(
    shown: RichCast | ConsoleRenderable, console: Console, *, per_second: int, transient: bool
) -> Live | None:
    """Something that a terminal draws again and again, started; None without a terminal.

    Args:
        shown: what is drawn.
        console: where.
        per_second: how often.
        transient: it is removed at the end.
    """
    if not console.is_terminal or console.quiet:
        return None
    live = Live(
        shown,
        console=console,
        transient=transient,
        refresh_per_second=per_second,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    live.start()
    return live


class ProgressLine:
    """Progress on a terminal: one line, drawn again a few times a second.

    Without a terminal there is a plain line every `PLAIN_SECONDS`.

    Args:
        console: where it is shown.
        name: of what is done.
        transient: the line is removed at the end, since a result follows.
    """

    def __init__(self, console: Console, name: str, *, transient: bool = False) -> None:
        self._console = console
        self._now = Progress(name)
        self._start = time.monotonic()
        self._shown = self._start
        self._live = live_display(self, console, per_second=5, transient=transient)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        # A terminal whose last column is filled may begin a new line.
        line = self._now.line(options.max_width - 1)
        yield Text(line, no_wrap=True, overflow="crop", end="")

    def show(self, now: Progress, *, always: bool = False) -> None:
        """Show how far it is; without a terminal only if it is time, or ``always``."""
        self._now = now
        due = time.monotonic() - self._shown >= PLAIN_SECONDS
        if self._live is None and (due or always):
            self._shown = time.monotonic()
            self._console.print(now.plain(), markup=False)

    def update(self, done: int, total: int | None) -> None:
        """Show how many items are done, and the time that is left at this speed."""
        seconds = time.monotonic() - self._start
        left = ""
        if done and total is not None and done < total:
            left = f"{clock(seconds / done * (total - done))} left"
        self.show(Progress(self._now.name, done, total, time=left))

    def stop(self) -> None:
        """The work ends, or is interrupted."""
        if self._live is not None:
            self._live.stop()
            self._live = None


class StageProgress:
    """Shows how far one stage is, and how long the whole run still takes.

    ``city 84/150 [=====>   ]  47 img/s  0:14 left  loss 0.31``; single losses go to the loggers.

    Args:
        console: where it is shown.
        stage: name of the stage.
        iterations: of the stage.
        done: iterations before an interruption.
        later: iterations of the stages that follow.
    """

    def __init__(
        self, console: Console, stage: str, iterations: int, done: int, later: int = 0
    ) -> None:
        self._stage = stage
        self._iterations = iterations
        self._first = done
        self._later = later
        self._images = 0
        self._loss = ""
        self._start = time.monotonic()
        self._line = ProgressLine(console, stage)

    def advance(self, done: int, images: int, losses: Mapping[str, float]) -> None:
        """After an iteration.

        Args:
            done: iterations so far.
            images: in this iteration.
            losses: to show, if any; their sum is shown.
        """
        self._images += images
        if losses:
            self._loss = f"loss {sum(losses.values()):.2f}"
        seconds = max(time.monotonic() - self._start, 1e-9)
        ended = done == self._iterations
        if ended:
            how_long = f"took {clock(seconds)}"
        else:
            # An iteration of a later stage may cost more: this is an estimate.
            rest = self._iterations - done + self._later
            how_long = f"{clock(seconds / max(done - self._first, 1) * rest)} left"
        rate = f"{self._images / seconds:.0f} img/s"
        now = Progress(self._stage, done, self._iterations, rate, how_long, self._loss)
        self._line.show(now, always=ended)

    def stop(self) -> None:
        """The stage ends, or is interrupted."""
        self._line.stop()


@contextmanager
def progress_bar(screen: Screen, name: str) -> Iterator[Callable[[int, int], None]]:
    """Progress of something that takes a while, such as an evaluation; it is removed at the end.

    Yields:
        To be called with the number of items that are done, and of all.
    """
    with screen.may_be_gone():
        line = ProgressLine(screen, name, transient=True)

    def update(done: int, total: int) -> None:
        with screen.may_be_gone():
            line.update(done, total)

    try:
        yield update
    finally:
        with screen.may_be_gone():
            line.stop()
