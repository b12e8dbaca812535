"""The run directory: where a run keeps its recipe, networks, training state and results.

``<experiments>/snapshots/<name>/`` holds ``recipe.yml``,
``<number>_<stage>/model_<iterations>.safetensors`` (and ``D_main_...``, ``D_aux_...`` where there
are discriminators), ``training_state_<iterations>.pt``, ``results.json``, ``metrics.jsonl`` and
``samples/``; ``<experiments>/logs/<name>/`` the TensorBoard events.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from muhdi import distributed
from muhdi.errors import Interrupted, MuhdiError, PeerFailed, RunError
from muhdi.files import TEMPORARY, file_name, read_json, write_json, write_text, writing
from muhdi.recipe.load import load_recipe, save_recipe
from muhdi.recipe.schema import Recipe
from muhdi.run.environment import recorded
from muhdi.run.states import States

RECIPE = "recipe.yml"
LOCK = ".lock"


class RunDirectory:
    """Paths and files of one run.

    Args:
        folder: of snapshots.
        logs: of TensorBoard events.
    """

    def __init__(self, folder: Path, logs: Path | None = None) -> None:
        self.folder = folder
        self.logs = logs if logs is not None else folder.parent.parent / "logs" / folder.name
        self.results = folder / "results.json"
        self.metrics = folder / "metrics.jsonl"
        self.samples = folder / "samples"
        self.states = States(folder)

    @classmethod
    def of(cls, recipe: Recipe, experiments: Path | str | None = None) -> RunDirectory:
        """The directory of a recipe's run: below ``experiments``, or where the recipe says."""
        snapshots = Path(os.path.expanduser(recipe.runtime.snapshots))
        logs = Path(os.path.expanduser(recipe.runtime.logs))
        if experiments is not None:
            snapshots = Path(experiments) / "snapshots"
            logs = Path(experiments) / "logs"
        return cls(snapshots / recipe.name, logs / recipe.name)

    def check(self, recipe: Recipe, *, resume: bool, overwrite: bool) -> None:
        """Refuse what would spoil an existing run; nothing is changed.

        Raises:
            MuhdiError: the directory exists and neither resuming nor overwriting was asked for, or
                it is to be resumed with another recipe.
        """
        if not self._holds_something():
            return
        if not (self.folder / RECIPE).is_file():
            raise RunError(
                f"{self.folder}: not empty, nor a run directory; choose another name with --set"
                " name="
            )
        if overwrite:
            return
        if not resume:
            raise RunError(
                f"{self.folder}: this run exists already; continue with --resume, start again with"
                " --overwrite, or choose another name with --set name="
            )
        # Everything outside the runtime is the experiment, and must be the same.
        difference = _first_difference(self.recipe().experiment(), recipe.experiment())
        if difference:
            raise RunError(
                f"{self.folder}: belongs to another recipe ({difference}); resume with the same"
                " recipe and settings, or choose another name with --set name="
            )

    def create(self, recipe: Recipe, *, overwrite: bool) -> None:
        """Make the directory, or empty it, and write the recipe.

        From now on no other process may use it.

        Raises:
            MuhdiError: another process is at work there, or the folder cannot be written.
        """
        self._make()
        self._lock = FileLock(self.folder / LOCK)
        with writing(self.folder):
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                raise RunError(
                    f"{self.folder}: another process is at work on this run; wait for it, or"
                    " stop it"
                ) from None
            for left in self.folder.rglob(f".*{TEMPORARY}"):  # a process was killed while it wrote
                left.unlink()
        if overwrite:
            self._empty()
        if overwrite or not (self.folder / RECIPE).exists():
            write_text(self.folder / RECIPE, save_recipe(recipe))

    def release(self) -> None:
        """Let other processes use the directory."""
        self._lock.release()

    def discard(self) -> None:
        """Remove a run that never saved anything."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self.logs, ignore_errors=True)

    def _make(self) -> None:
        for key, path in (("snapshots", self.folder), ("logs", self.logs)):
            top = Path(*path.absolute().parts[:2])
            if not top.exists():  # a path of another machine, such as /gpfs
                raise RunError(
                    f"{path}: there is no {top} on this machine; choose another folder: --set"
                    f" runtime.{key}=FOLDER"
                )
        made: list[Path] = []
        for path in (self.folder, self.logs):
            try:
                new = not path.exists()
                path.mkdir(parents=True, exist_ok=True)
            except (OSError, ValueError) as error:
                for empty in made:
                    empty.rmdir()
                reason = getattr(error, "strerror", None) or str(error)
                raise RunError(f"{path}: cannot be made: {reason}; choose another folder") from None
            made += [path] if new else []

    def _empty(self) -> None:
        """Delete everything but the recipe, so that a crash here leaves a run directory."""
        for path in {*self.folder.iterdir(), *self.logs.iterdir()}:
            if path.name not in (RECIPE, LOCK):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _holds_something(self) -> bool:
        """Whether there is more than what a process leaves that was killed before it began."""
        if self.folder.exists() and not self.folder.is_dir():
            return True
        names = [path.name for path in self.folder.iterdir()] if self.folder.exists() else []
        return any(name != LOCK and not name.endswith(TEMPORARY) for name in names)

    def recipe(self) -> Recipe:
        """The recipe of the run; classes of other packages that it names are not imported."""
        return load_recipe(self.folder / RECIPE, trust_code=False)

    def holds(self, recipe: Recipe) -> bool:
        """Whether this is a run of just this recipe."""
        if not (self.folder / RECIPE).is_file():
            return False
        return self.recipe().model_dump() == recipe.model_dump()

    def model(self, number: int, stage: str, iterations: int) -> Path:
        """File of the network after a stage."""
        return self.folder / f"{number}_{file_name(stage)}" / f"model_{iterations}.safetensors"

    def network(self, number: int, stage: str, network: str, iterations: int) -> Path:
        """File of a network of the adaptation's own after a stage, of the discriminator ``D_main`` for example."""
        return self.model(number, stage, iterations).with_name(
            f"{network}_{iterations}.safetensors"
        )

    def models(self) -> list[Path]:
        """Files of all networks, in the order in which they were trained."""
        found = []
        for path in self.folder.glob("*/model_*.safetensors"):
            numbers = re.fullmatch(
                r"(\d+)_.*/model_(\d+)", f"{path.parent.name}/{path.stem}", re.ASCII | re.DOTALL
            )
            if numbers:
                found.append((int(numbers[1]), int(numbers[2]), path))
        return [path for _, _, path in sorted(found)]

    def last_model(self) -> Path:
        """File of the newest network."""
        models = self.models()
        if not models:
            raise RunError(
                f"{self.folder}: holds no finished network yet; train it (with --resume) first"
            )
        return models[-1]

    def drop_after(self, stage: int, iteration: int, *, complete: bool) -> None:
        """Remove networks of a later time than the training state from which the run goes on.

        ``complete``: whether this is the run's last state; else samples are of a later time too.

        They will be written again. Until then they would be a network of one time beside results of
        another.
        """
        for path in self.models():
            number, iterations = (
                int(path.parent.name.partition("_")[0]),
                int(path.stem.rpartition("_")[2]),
            )
            if (number, iterations) > (stage, iteration):
                for network in path.parent.glob(f"*_{iterations}.safetensors"):
                    network.unlink()
                if not any(path.parent.iterdir()):
                    path.parent.rmdir()
        if not complete and self.samples.exists():
            shutil.rmtree(self.samples)

    def save_results(self, results: dict[str, Any]) -> None:
        """Write ``results.json``."""
        write_json(self.results, results)

    def load_results(self) -> dict[str, Any]:
        """Read ``results.json``; an empty one before the first evaluation."""
        data: dict[str, Any] = read_json(self.results) if self.results.exists() else {}
        return data


@contextmanager
def open_run(
    recipe: Recipe,
    experiments: Path | str | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
) -> Iterator[RunDirectory]:
    """The directory of a recipe's run, made or found, and locked until the end.

    What the run ran on is recorded at the end; a run that has saved nothing by a mistake leaves
    nothing, so that the corrected command need not ask for ``--overwrite``.

    Raises:
        RunError: see `RunDirectory.check` and `RunDirectory.create`.
        PeerFailed: on ranks but zero, after a signal: rank zero speaks for all.
    """
    directory = RunDirectory.of(recipe, experiments)
    distributed.on_rank_zero(lambda: directory.check(recipe, resume=resume, overwrite=overwrite))
    distributed.on_rank_zero(lambda: directory.create(recipe, overwrite=overwrite))
    first = distributed.is_rank_zero()
    try:
        with recorded(directory.folder):
            yield directory
    except MuhdiError:
        if first and not directory.states.files():
            directory.discard()
        raise
    except Interrupted:
        if not first:
            raise PeerFailed from None
        raise
    finally:
        if first:
            directory.release()


def _first_difference(old: Any, new: Any, key: str = "") -> str:
    """Where two dumped recipes differ, as ``key: old there, new here``; empty if nowhere."""
    if isinstance(old, dict) and isinstance(new, dict):
        pairs = [
            (f"{key}.{name}" if key else str(name), old.get(name), new.get(name))
            for name in {**old, **new}
        ]
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = [(f"{key}.{i}", a, b) for i, (a, b) in enumerate(zip(old, new, strict=True))]
    else:
        return "" if old == new else f"{key}: {_short(old)} there, {_short(new)} here"
    return next(
        (difference for name, a, b in pairs if (difference := _first_difference(a, b, name))), ""
    )


def _short(value: Any) -> str:
    return f"{len(value)} entries" if isinstance(value, list) else str(value)
