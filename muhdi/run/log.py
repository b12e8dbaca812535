"""Where the numbers of a training run go: to the screen, to its own record, and to loggers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from muhdi import distributed
from muhdi.files import writing
from muhdi.recipe.schema import Recipe
from muhdi.run.directory import RunDirectory
from muhdi.run.loggers import JsonLines, RunLogger, build_loggers, reason
from muhdi.run.progress import Screen, StageProgress, progress_bar


class RunLog:
    """Screen, record and loggers of one run.

    Only rank zero has any of them; on other ranks every call does nothing.

    Args:
        directory: of the run.
        console: the screen.
        record: ``metrics.jsonl``; None: nothing is recorded.
        loggers: what else gets numbers.
        length: bytes of the record when the session began.
    """

    def __init__(
        self,
        directory: RunDirectory,
        console: Screen,
        record: JsonLines | None,
        loggers: Sequence[RunLogger],
        length: int,
    ) -> None:
        self._directory = directory
        self._console = console
        self._record = record
        self._loggers = list(loggers)
        self._first_length = length
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

        Raises:
            RunError: a logger cannot be started.
            MuhdiError: a file cannot be written.
        """
        first = distributed.is_rank_zero()
        console = Screen(quiet=quiet or not first)
        record: JsonLines | None = None
        loggers: list[RunLogger] = []
        with distributed.fail_together():
            if first:
                loggers = build_loggers(recipe, directory, step, quiet=quiet)
                if "jsonl" in recipe.runtime.loggers:
                    record = JsonLines(directory.metrics, length)
        log = cls(directory, console, record, loggers, length)
        status = "failed"
        try:
            yield log
            status = "success"
        finally:
            log.close(status)

    def print(self, text: str) -> None:
        """One line for the user."""
        with self._console.may_be_gone():
            self._console.print(text, markup=False)

    def start(self, stage: str, iterations: int, done: int, before: int, later: int) -> None:
        """A stage begins, or continues.

        Args:
            stage: its name.
            iterations: of the stage.
            done: of them, before an interruption.
            before: iterations of all earlier stages.
            later: iterations of all stages that follow.
        """
        self._stage = stage
        self._before = before
        with self._console.may_be_gone():
            self._progress = StageProgress(self._console, stage, iterations, done, later)

    @contextmanager
    def bar(self, name: str) -> Iterator[Callable[[int, int], None]]:
        """Progress of something that takes a while, such as an evaluation.

        Yields:
            To be called with the number of items that are done, and of all.
        """
        with progress_bar(self._console, name) as update:
            yield update

    def advance(self, done: int, images: int, losses: Mapping[str, float]) -> None:
        """After an iteration.

        Args:
            done: iterations of the stage so far.
            images: in this iteration.
            losses: to log, if any.
        """
        if losses:
            self._write({"stage": self._stage, "iteration": done, **losses})
            named = {f"loss/{name}": value for name, value in losses.items()}
            self._log(named, self._before + done)
        if self._progress is not None:
            with self._console.may_be_gone():
                self._progress.advance(done, images, losses)

    def skipped(self, done: int, images: list[str], text: str) -> None:
        """An iteration was left out because of a bad batch.

        Args:
            done: its number in the stage.
            images: names of the batch's images.
            text: says so to the user.
        """
        self._write({"stage": self._stage, "iteration": done, "skipped": images})
        self.print(f"{self._stage}: {text}")

    def finish(self) -> None:
        """The stage ends, or is interrupted."""
        if self._progress is not None:
            with self._console.may_be_gone():
                self._progress.stop()
            self._progress = None

    def scores(self, step: int, scores: Mapping[str, float]) -> None:
        """Scores by name after ``step`` iterations of the whole run."""
        self._log(dict(scores), step)

    def images(self, step: int, paths: Sequence[Path]) -> None:
        """Sample images after ``step`` iterations of the whole run."""
        self._send(lambda logger: logger.log_images(paths, step))

    def artefact(self, path: Path) -> None:
        """A file that services keep with the run, such as the report."""
        self._send(lambda logger: logger.log_artefact(path))

    def length(self) -> int:
        """Bytes of the record that are safely written."""
        return self._first_length if self._record is None else self._record.length()

    def close(self, status: str = "success") -> None:
        """Flush and close everything."""
        self.finish()
        # What matters was flushed before, or has failed with a message of its own.
        for logger in self._loggers:
            try:
                logger.finalize(status)
            except Exception as error:
                if not (logger.is_service or isinstance(error, OSError)):
                    raise
                self._print_lost_end(reason(error))
        if self._record is not None:
            try:
                self._record.close()
            except OSError as error:
                self._print_lost_end(error.strerror or str(error))

    def _print_lost_end(self, why: str) -> None:
        self.print(f"{self._directory.folder}: the end of its curves cannot be written: {why}")

    def _write(self, line: Mapping[str, object]) -> None:
        if self._record is not None:
            self._record.write(line)

    def _log(self, values: Mapping[str, float], step: int) -> None:
        self._send(lambda logger: logger.log_metrics(dict(values), step))

    def _send(self, send: Callable[[RunLogger], None]) -> None:
        """Give something to every logger; one whose service fails gets nothing more."""
        for logger in list(self._loggers):
            if not logger.is_service:
                with writing(self._directory.logs):
                    send(logger)
                continue
            try:
                send(logger)
            except Exception as error:  # a server that is gone, for example
                self._loggers.remove(logger)
                self.print(
                    f"{logger.name}: cannot be reached any more ({reason(error)}); the training "
                    "continues without it"
                )
