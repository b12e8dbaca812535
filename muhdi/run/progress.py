"""What a user sees of a training.

A progress bar or plain lines, `metrics.jsonl`, TensorBoard events.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from muhdi.files import writing

PLAIN_SECONDS = 10.0
"""Without a terminal: seconds between two lines."""


class Monitor:
    """Writes numbers where they belong. One per run.

    Args:
        metrics: the JSON lines file; cut to ``length`` bytes, so that a resumed run repeats no
            line.
        logs: folder of the TensorBoard events.
        length: bytes of ``metrics`` to keep.
        step: iterations of the whole run so far; later TensorBoard events of an interrupted run are
            dropped.
        quiet: nothing on the screen.
    """

    def __init__(
        self, metrics: Path, logs: Path, length: int = 0, step: int = 0, *, quiet: bool = False
    ) -> None:
        from torch.utils.tensorboard import SummaryWriter

        metrics.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._logs = metrics, logs
        with writing(metrics):
            metrics.touch()
            os.truncate(metrics, min(length, metrics.stat().st_size))
            self._metrics = open(metrics, "a", buffering=1, encoding="utf-8")  # noqa: SIM115 - closed by close()
        with writing(logs):
            self._events = SummaryWriter(str(logs), purge_step=step + 1)
        self.console = Console(quiet=quiet, highlight=False, soft_wrap=True)
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._stage = ""
        self._images, self._done = 0, 0
        self._start, self._shown = 0.0, 0.0

    def say(self, text: str) -> None:
        """One line for the user."""
        self.console.print(text, markup=False)

    def start(self, stage: str, iterations: int, done: int, before: int) -> None:
        """A stage of ``iterations`` begins, or goes on after ``done``.

        The stages before it had ``before``.
        """
        self._before = before
        self._stage, self._images, self._done, self._iterations = stage, 0, done, iterations
        self._start = self._shown = time.monotonic()
        if self.console.is_terminal and not self.console.quiet:
            self._progress = Progress(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[text]}"),
                TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=self.console,
            )  # fmt: skip
            self._progress.start()
            self._task = self._progress.add_task(stage, total=iterations, completed=done, text="")

    def advance(self, done: int, images: int, values: dict[str, float]) -> None:
        """After an iteration: ``done`` so far, ``images`` in this one.

        ``values`` to log, if any.
        """
        self._images += images
        now = time.monotonic()
        rate = self._images / max(now - self._start, 1e-9)
        if values:
            self._log(done, values)
            text = f"{rate:.0f} images/s  " + "  ".join(
                f"{name} {value:.3f}" for name, value in values.items()
            )
            if self._progress is not None:
                self._progress.update(self._task, text=text)
            elif now - self._shown >= PLAIN_SECONDS or done == self._iterations:
                self._shown = now
                left = (now - self._start) / max(done - self._done, 1) * (self._iterations - done)
                self.say(f"{self._stage} {done}/{self._iterations}  {text}  left {left:.0f} s")
        if self._progress is not None:
            self._progress.update(self._task, completed=done)

    def skipped(self, done: int, images: list[str], text: str) -> None:
        """Iteration ``done`` was left out because of a bad batch of these images.

        ``text`` says so to the user.
        """
        self._write({"stage": self._stage, "iteration": done, "skipped": images})
        self.say(f"{self._stage}: {text}")

    def finish(self) -> None:
        """The stage ends, or is interrupted."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _log(self, done: int, values: dict[str, float]) -> None:
        self._write({"stage": self._stage, "iteration": done, **values})
        self._plot({f"loss/{name}": value for name, value in values.items()}, self._before + done)

    def _write(self, line: dict[str, Any]) -> None:
        with writing(self._path):
            self._metrics.write(json.dumps(line, allow_nan=False) + "\n")

    def scores(self, step: int, scores: dict[str, float]) -> None:
        """Scores by name after ``step`` iterations of the whole run, for TensorBoard."""
        self._plot({f"miou/{name}": value for name, value in scores.items()}, step)

    def _plot(self, values: dict[str, float], step: int) -> None:
        with writing(self._logs):
            for name, value in values.items():
                self._events.add_scalar(name, value, step)

    def length(self) -> int:
        """Bytes of `metrics.jsonl` that are safely written."""
        with writing(self._path):
            self._metrics.flush()
            os.fsync(self._metrics.fileno())
            return self._metrics.tell()

    def close(self) -> None:
        """Flush and close everything."""
        self.finish()
        for file in (self._metrics, self._events):
            try:
                file.close()
            except (
                OSError
            ) as error:  # what matters was flushed before, or has failed with a message of its own
                self.say(
                    f"{self._path.parent}: the end of its curves cannot be written:"
                    f" {error.strerror or error}"
                )


class SilentMonitor(Monitor):
    """Of a process that is not the first: it has nothing to show and writes nothing."""

    def __init__(self) -> None:
        """Opens no file."""

    def say(self, text: str) -> None:
        """Nothing."""

    def start(self, stage: str, iterations: int, done: int, before: int) -> None:
        """Nothing."""

    def advance(self, done: int, images: int, values: dict[str, float]) -> None:
        """Nothing."""

    def skipped(self, done: int, images: list[str], text: str) -> None:
        """Nothing."""

    def finish(self) -> None:
        """Nothing."""

    def scores(self, step: int, scores: dict[str, float]) -> None:
        """Nothing."""

    def length(self) -> int:
        """No byte was written."""
        return 0

    def close(self) -> None:
        """Nothing."""
