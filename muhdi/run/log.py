"""What a training run says: to the user, to its own record, and to loggers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from lightning_fabric.loggers.logger import Logger
from rich.console import Console

from muhdi import distributed
from muhdi.files import writing
from muhdi.recipe.schema import Recipe
from muhdi.run.directory import RunDirectory
from muhdi.run.loggers import JsonLines, build_loggers
from muhdi.run.progress import StageProgress


class RunLog:
    """Screen, record and loggers of one run.

    Only rank zero has any of them; elsewhere every call does nothing.

    Args:
        directory: of the run.
        console: the screen.
        record: ``metrics.jsonl``; None: nothing is recorded.
        loggers: who else gets numbers.
    """

    def __init__(
        self,
        directory: RunDirectory,
        console: Console,
        record: JsonLines | None,
        loggers: Sequence[Logger],
    ) -> None:
        self._directory = directory
        self._console = console
        self._record = record
        self._loggers = loggers
        self._progress: StageProgress | None = None
        self._stage = ""
        self._before = 0

    @classmethod
    @contextmanager
    def open(
        cls,
        directory: RunDirectory,
        recipe: Recipe,
        *,
        length: int = 0,
        step: int = 0,
        quiet: bool = False,
    ) -> Iterator[RunLog]:
        """A log that is closed at the end.

        Args:
            directory: of the run.
            recipe: of the run.
            length: bytes of the record that belong to the state that the run continues from.
            step: iterations of the whole run so far.
            quiet: nothing on the screen.
        """
        first = distributed.is_rank_zero()
        console = Console(quiet=quiet or not first, highlight=False, soft_wrap=True)
        record: JsonLines | None = None
        loggers: list[Logger] = []
        with distributed.fail_together():
            if first:
                loggers = build_loggers(recipe, directory, step)
                if "jsonl" in recipe.runtime.loggers:
                    record = JsonLines(directory.metrics, length)
        log = cls(directory, console, record, loggers)
        status = "failed"
        try:
            yield log
            status = "success"
        finally:
            log.close(status)

    def print(self, text: str) -> None:
        """One line for the user."""
        self._console.print(text, markup=False)

    def start(self, stage: str, iterations: int, done: int, before: int) -> None:
        """A stage begins, or continues.

        Args:
            stage: its name.
            iterations: of the stage.
            done: of them, before an interruption.
            before: iterations of all earlier stages.
        """
        self._stage = stage
        self._before = before
        self._progress = StageProgress(self._console, stage, iterations, done)

    def advance(self, done: int, images: int, losses: dict[str, float]) -> None:
        """After an iteration: ``done`` so far, ``images`` in this one; losses to log, if any."""
        if losses:
            self._write({"stage": self._stage, "iteration": done, **losses})
            named = {f"loss/{name}": value for name, value in losses.items()}
            self._log(named, self._before + done)
        if self._progress is not None:
            self._progress.advance(done, images, losses)

    def skipped(self, done: int, images: list[str], text: str) -> None:
        """Iteration ``done`` was left out because of a bad batch; ``text`` tells the user."""
        self._write({"stage": self._stage, "iteration": done, "skipped": images})
        self.print(f"{self._stage}: {text}")

    def finish(self) -> None:
        """The stage ends, or is interrupted."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def scores(self, step: int, scores: dict[str, float]) -> None:
        """Scores by name after ``step`` iterations of the whole run."""
        self._log({f"miou/{name}": value for name, value in scores.items()}, step)

    def images(self, step: int, paths: Sequence[Path]) -> None:
        """Sample images after ``step`` iterations of the whole run."""
        for logger in self._loggers:
            if hasattr(logger, "log_images"):
                with writing(self._directory.logs):
                    logger.log_images(paths, step)

    def artefact(self, path: Path) -> None:
        """A file that services keep with the run, such as the report."""
        for logger in self._loggers:
            if hasattr(logger, "log_artefact"):
                logger.log_artefact(path)

    def length(self) -> int:
        """Bytes of the record that are safely written."""
        return 0 if self._record is None else self._record.length()

    def close(self, status: str = "success") -> None:
        """Flush and close everything."""
        self.finish()
        for logger in self._loggers:
            self._closed(partial(logger.finalize, status))
        if self._record is not None:
            self._closed(self._record.close)

    def _closed(self, close: Callable[[], object]) -> None:
        try:
            close()
        except OSError as error:
            # What matters was flushed before, or has failed with a message of its own.
            reason = error.strerror or error
            self.print(
                f"{self._directory.folder}: the end of its curves cannot be written: {reason}"
            )

    def _write(self, line: dict[str, object]) -> None:
        if self._record is not None:
            self._record.write(line)

    def _log(self, values: dict[str, float], step: int) -> None:
        for logger in self._loggers:
            with writing(self._directory.logs):
                logger.log_metrics(values, step)
