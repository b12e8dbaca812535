"""The run directory: where a run keeps its recipe, networks, training state and results.

``<experiments>/snapshots/<name>/`` holds

* ``recipe.yml`` and ``environment.json``: what was run, and on what;
* ``<number>_<stage>/model_<iterations>.safetensors``, and the methods' own networks next to it,
  such as ``D_main_<iterations>.safetensors``;
* ``training_state_<iterations>.pt``: the last few states to continue from;
* ``results.json``, ``metrics.jsonl``, ``samples/`` and ``report.html``;
* ``loggers.json``: the run's identifiers at W&B and MLflow, if it has any.

``<experiments>/logs/<name>/`` holds the TensorBoard events.
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
from muhdi.recipe.load import RECIPE, load_recipe, save_recipe
from muhdi.recipe.schema import Recipe
from muhdi.run.states import States

LOCK = ".lock"


class RunDirectory:
    """Paths and files of one run.

    Args:
        folder: ``.../snapshots/<name>``.
        logs: of TensorBoard events; None: ``.../logs/<name>``.
    """

    def __init__(self, folder: Path, logs: Path | None = None) -> None:
        self.folder = folder
        self.logs = logs if logs is not None else folder.parent.parent / "logs" / folder.name
        self.results = folder / "results.json"
        self.metrics = folder / "metrics.jsonl"
        self.samples = folder / "samples"
        self.page = folder / "report.html"
        self.states = States(folder)

    @classmethod
    def of(cls, recipe: Recipe, experiments: Path | str | None = None) -> RunDirectory:
        """The directory of a recipe's run: below ``experiments``, or where the recipe says."""
        snapshots = Path(os.path.expanduser(recipe.runtime.snapshots))
        logs = Path(os.path.expanduser(recipe.runtime.logs))
        if experiments is not None:
            folder = Path(experiments).expanduser()
            snapshots = folder / "snapshots"
            logs = folder / "logs"
        return cls(snapshots / recipe.name, logs / recipe.name)

    def check(self, recipe: Recipe, *, resume: bool, overwrite: bool) -> None:
        """Refuse what would spoil an existing run; nothing is changed.

        Raises:
            RunError: the run exists, and neither resuming nor overwriting was asked for, or it
                belongs to another recipe.
        """
        if not self._holds_something():
            return
        if not self.has_recipe():
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
        difference = self._difference(recipe)
        if difference:
            raise RunError(
                f"{self.folder}: belongs to another recipe ({difference}); resume with the same"
                " recipe and settings, or choose another name with --set name="
            )

    def create(self, recipe: Recipe, *, overwrite: bool) -> None:
        """Make the directory, or empty it, and write the recipe; other processes are locked out.

        Raises:
            RunError: another process uses the directory, or it cannot be made.
            MuhdiError: it cannot be written.
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
            # Left by a process that was killed while it wrote.
            for unfinished in self.folder.rglob(f".*{TEMPORARY}"):
                unfinished.unlink()
        if overwrite:
            self._empty()
        if overwrite or not (self.folder / RECIPE).exists():
            write_text(self.folder / RECIPE, save_recipe(_with_absolute_root(recipe)))

    def release(self) -> None:
        """Let other processes use the directory."""
        self._lock.release()

    def is_locked(self) -> bool:
        """Whether a process on this machine trains the run at this moment."""
        if not (self.folder / LOCK).is_file():
            return False
        lock = FileLock(self.folder / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        except OSError:
            return False  # a folder that may not be written to is not being trained
        lock.release()
        return False

    def has_saved(self) -> bool:
        """Whether there is something that only training can give back."""
        return bool(self.states.files() or self.models()) or self.results.exists()

    def discard(self) -> None:
        """Remove the run."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self.logs, ignore_errors=True)

    def _make(self) -> None:
        for key, path in (("snapshots", self.folder), ("logs", self.logs)):
            # A path of another machine, such as /gpfs: nobody wants it made here.
            top = Path(*path.absolute().parts[:2])
            if not top.exists():
                raise RunError(
                    f"{path}: there is no {top} on this machine; choose another folder: --set"
                    f" runtime.{key}=FOLDER"
                )
        made: list[Path] = []
        for path in (self.folder, self.logs):
            try:
                is_new = not path.exists()
                path.mkdir(parents=True, exist_ok=True)
            except (OSError, ValueError) as error:
                for empty in made:
                    empty.rmdir()
                reason = getattr(error, "strerror", None) or str(error)
                raise RunError(f"{path}: cannot be made: {reason}; choose another folder") from None
            if is_new:
                made.append(path)

    def _empty(self) -> None:
        """Delete everything but the recipe, so that a crash here leaves a run directory."""
        # One set, since both may be the same folder.
        for path in {*self.folder.iterdir(), *self.logs.iterdir()}:
            if path.name in (RECIPE, LOCK):
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def _holds_something(self) -> bool:
        """Whether there is more than the leftovers of a process that was killed at once."""
        if not self.folder.exists():
            return False
        if not self.folder.is_dir():
            return True
        names = [path.name for path in self.folder.iterdir()]
        return any(name != LOCK and not name.endswith(TEMPORARY) for name in names)

    def has_recipe(self) -> bool:
        """Whether it is a run directory, which a recipe makes it."""
        return (self.folder / RECIPE).is_file()

    def recipe(self) -> Recipe:
        """The recipe of the run; classes of other packages that it names are not imported."""
        return load_recipe(self.folder / RECIPE, trust_code=False)

    def holds(self, recipe: Recipe) -> bool:
        """Whether this is a run of this recipe's experiment, on the same data."""
        if not self.has_recipe() or self._difference(recipe):
            return False
        return absolute_root(self.recipe()) == absolute_root(recipe)

    def _difference(self, recipe: Recipe) -> str:
        """Where a recipe's experiment is not that of the run; empty if nowhere."""
        # As plain values: what is not trusted was read without its defaults and types.
        return _first_difference(self.recipe().experiment(), recipe.experiment())

    def model(self, number: int, stage: str, iterations: int) -> Path:
        """File of the network after a stage."""
        return self.folder / f"{number}_{file_name(stage)}" / f"model_{iterations}.safetensors"

    def network(self, number: int, stage: str, network: str, iterations: int) -> Path:
        """File of a method's own network after a stage, such as the discriminator ``D_main``."""
        model = self.model(number, stage, iterations)
        return model.with_name(f"{network}_{iterations}.safetensors")

    def models(self) -> list[Path]:
        """Files of all networks, in the order in which they were trained."""
        return [path for _, _, path in self._numbered_models()]

    def _numbered_models(self) -> list[tuple[int, int, Path]]:
        """Number of the stage, iterations in it, and file of every network, in order."""
        found: list[tuple[int, int, Path]] = []
        for path in self.folder.glob("*/model_*.safetensors"):
            name = f"{path.parent.name}/{path.stem}"
            numbers = re.fullmatch(r"(\d+)_.*/model_(\d+)", name, re.ASCII | re.DOTALL)
            if numbers:
                found.append((int(numbers[1]), int(numbers[2]), path))
        return sorted(found)

    def last_model(self) -> Path:
        """File of the newest network."""
        models = self.models()
        if not models:
            raise RunError(
                f"{self.folder}: holds no finished network yet; train it (with --resume) first"
            )
        return models[-1]

    def drop_after(self, stage: int, iteration: int, *, complete: bool) -> None:
        """Remove networks and samples that are newer than the state to continue from.

        The run will write them again. Until then, networks of one time would be next to results of
        another.

        Args:
            stage: the state's.
            iteration: the state's, in its stage.
            complete: whether it is the state at the end of the run; then the samples remain.
        """
        for number, iterations, path in self._numbered_models():
            if (number, iterations) <= (stage, iteration):
                continue
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

    A run that fails before it has saved anything is removed, so that the corrected command
    needs no ``--overwrite``.

    Raises:
        RunError: see `RunDirectory.check` and `RunDirectory.create`.
        PeerFailed: on all ranks but zero, after a signal: rank zero has the message for the user.
    """
    directory = RunDirectory.of(recipe, experiments)
    distributed.on_rank_zero(lambda: directory.check(recipe, resume=resume, overwrite=overwrite))
    distributed.on_rank_zero(lambda: directory.create(recipe, overwrite=overwrite))
    first = distributed.is_rank_zero()
    try:
        yield directory
    except MuhdiError:
        if first and not directory.has_saved():
            directory.discard()
        raise
    except Interrupted:
        if not first:
            raise PeerFailed from None
        raise
    finally:
        if first:
            directory.release()


def absolute_root(recipe: Recipe) -> str:
    """The folder that the paths of a recipe's data sets start from."""
    return os.path.abspath(os.path.expanduser(os.path.expandvars(recipe.runtime.root)))


def _with_absolute_root(recipe: Recipe) -> Recipe:
    """The recipe as a run keeps it: its data sets are the same ones wherever it is read."""
    root = absolute_root(recipe)
    runtime = recipe.runtime.model_copy(update={"root": root})
    return recipe.model_copy(update={"runtime": runtime})


def _first_difference(old: Any, new: Any, key: str = "") -> str:
    """Where two dumped recipes differ, as ``key: old there, new here``; empty if nowhere."""
    for name, before, after in _pairs(old, new):
        difference = _first_difference(before, after, f"{key}.{name}" if key else name)
        if difference:
            return difference
    if _pairs(old, new) or old == new:
        return ""
    return f"{key}: {_short(old)} there, {_short(new)} here"


def _pairs(old: Any, new: Any) -> list[tuple[str, Any, Any]]:
    """Name, old and new value of what two mappings, or lists of one length, consist of."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [(str(name), old.get(name), new.get(name)) for name in {**old, **new}]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [(str(index), *pair) for index, pair in enumerate(zip(old, new, strict=True))]
    return []


def _short(value: Any) -> str:
    return f"{len(value)} entries" if isinstance(value, list) else str(value)
