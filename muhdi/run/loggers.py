"""The record of a run, and Fabric loggers that get its numbers, sample images and report."""

from __future__ import annotations

import json
import os
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from lightning_fabric.loggers.logger import Logger
from lightning_fabric.loggers.tensorboard import TensorBoardLogger
from PIL import Image

from muhdi.errors import RunError
from muhdi.files import read_json, write_json, writing
from muhdi.recipe.load import save_recipe
from muhdi.recipe.schema import Recipe
from muhdi.recipe.section import plain
from muhdi.run.directory import RunDirectory

Params = dict[str, Any] | Namespace

IDS = "loggers.json"
"""File of the run's identifiers at services, so that a resumed run continues there."""
SERVICES = ("wandb", "mlflow")
"""Loggers that need a package of their own, called like the extra that installs it."""
_MOST_PARAMETERS = 100
"""How many parameters MLflow takes at once."""
_LONGEST_PARAMETER = 500
"""Characters of a parameter's value that every version of MLflow takes."""


class JsonLines:
    """The run's own record, ``metrics.jsonl``: a line of losses per logged iteration.

    Args:
        path: of the file; it is cut to ``length`` bytes, so that a resumed run repeats no line.
        length: bytes that are kept.
    """

    def __init__(self, path: Path, length: int = 0) -> None:
        self._path = path
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            os.truncate(path, min(length, path.stat().st_size))
            self._file = open(path, "a", buffering=1, encoding="utf-8")  # noqa: SIM115

    def write(self, line: Mapping[str, Any]) -> None:
        """Append a line."""
        with writing(self._path):
            self._file.write(json.dumps(line, allow_nan=False) + "\n")

    def length(self) -> int:
        """Bytes that are safely on the disk."""
        with writing(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())
            return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class RunLogger(Logger):
    """A Fabric logger that also takes the images and files of a run.

    Attributes:
        is_service: whether it depends on another program, whose failure must not stop a training.
    """

    is_service: ClassVar[bool] = False

    def log_images(self, images: Sequence[Path], step: int) -> None:
        """Show PNG files after ``step`` iterations of the whole run."""

    def log_artefact(self, path: Path) -> None:
        """Keep a file with the run."""


class TensorBoard(TensorBoardLogger, RunLogger):
    """Fabric's TensorBoard logger.

    Args:
        recipe: shown as text.
        directory: of the run.
        step: iterations of the whole run so far; later events are dropped.
    """

    def __init__(self, recipe: Recipe, directory: RunDirectory, step: int) -> None:
        super().__init__(directory.logs, "", "", purge_step=step + 1)
        # The first use opens the file: if that fails, it fails before the training.
        if step == 0:
            self.experiment.add_text("recipe", f"```yaml\n{save_recipe(recipe)}\n```", 0)

    def log_images(self, images: Sequence[Path], step: int) -> None:
        """Show PNG files after ``step`` iterations of the whole run."""
        for path in images:
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("RGB"))
            self.experiment.add_image(f"samples/{path.stem}", pixels, step, dataformats="HWC")


class Wandb(RunLogger):
    """Weights & Biases; its variables, ``WANDB_MODE`` for example, say where and how.

    Args:
        recipe: its values are the run's configuration there.
        directory: of the run; W&B keeps its files in the folder of logs.
        quiet: W&B prints nothing.
    """

    is_service = True

    def __init__(self, recipe: Recipe, directory: RunDirectory, *, quiet: bool = False) -> None:
        # A folder ./wandb, which W&B itself makes, can be imported, but has no names.
        try:
            from wandb import Settings, init
        except ImportError:
            raise _missing("wandb") from None
        self._run: Any = init(
            project=os.environ.get("WANDB_PROJECT", "muhdi"),
            name=recipe.name,
            id=_known_id(directory, "wandb"),
            resume="allow",
            dir=os.environ.get("WANDB_DIR", str(directory.logs)),
            config=plain(recipe),
            settings=Settings(silent=quiet),
        )
        # Asking W&B for its step instead would wait for its process each time, which a busy machine
        # answers too late.
        self._step = int(self._run.starting_step)
        _remember_id(directory, "wandb", self._run.id)

    @property
    def name(self) -> str:
        """Of the service."""
        return "wandb"

    @property
    def version(self) -> str:
        """The run's identifier there."""
        return str(self._run.id)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Numbers by name after ``step`` iterations of the whole run."""
        # A resumed run repeats iterations after its last state, with equal numbers. W&B has them.
        if step is None or step >= self._step:
            self._log(dict(metrics), step)

    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        """Values that describe the run."""
        self._run.config.update(_mapping(params), allow_val_change=True)

    def log_images(self, images: Sequence[Path], step: int) -> None:
        """Show PNG files after ``step`` iterations of the whole run."""
        from wandb import Image as WandbImage

        shown = {f"samples/{path.stem}": WandbImage(str(path)) for path in images}
        self._log(shown, max(step, self._step))

    def _log(self, values: dict[str, Any], step: int | None) -> None:
        self._run.log(values, step=step)
        if step is not None:
            self._step = step

    def log_artefact(self, path: Path) -> None:
        """Keep a file with the run."""
        from wandb import Artifact

        artefact = Artifact(f"{path.stem}-{self.version}", type=path.stem)
        artefact.add_file(str(path))
        self._run.log_artifact(artefact)

    def finalize(self, status: str) -> None:
        """The run ends, or is interrupted."""
        self._run.finish(exit_code=0 if status == "success" else 1)


class MLflow(RunLogger):
    """MLflow; ``MLFLOW_TRACKING_URI`` says where its store is.

    Args:
        recipe: its values are the run's parameters there.
        directory: of the run.
    """

    is_service = True

    def __init__(self, recipe: Recipe, directory: RunDirectory) -> None:
        try:
            from mlflow.tracking import MlflowClient
        except ImportError:
            raise _missing("mlflow") from None
        if os.environ.get("MLFLOW_TRACKING_URI", "").startswith("file:"):
            # MLflow discourages such stores, and takes them only if that is said twice.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        self._client: Any = MlflowClient()
        known = _known_id(directory, "mlflow")
        if known is None:
            self._id = self._created(recipe.name)
            self.log_hyperparams(_flat(plain(recipe)))
            _remember_id(directory, "mlflow", self._id)
        else:
            self._id = known
            self._client.update_run(known, status="RUNNING")

    def _created(self, run_name: str) -> str:
        """The identifier of a new run."""
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "muhdi")
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            experiment_id = self._client.create_experiment(name)
        else:
            experiment_id = experiment.experiment_id
        return str(self._client.create_run(experiment_id, run_name=run_name).info.run_id)

    @property
    def name(self) -> str:
        """Of the service."""
        return "mlflow"

    @property
    def version(self) -> str:
        """The run's identifier there."""
        return self._id

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Numbers by name after ``step`` iterations of the whole run."""
        from mlflow.entities import Metric

        now = round(time.time() * 1000)
        entries = []
        for name, value in metrics.items():
            entries.append(Metric(_mlflow_name(name), value, now, step or 0))
        # All at once: each call waits for the server.
        self._client.log_batch(self._id, metrics=entries)

    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        """Values that describe the run."""
        from mlflow.entities import Param

        entries = []
        for name, value in _mapping(params).items():
            entries.append(Param(_mlflow_name(name), str(value)[:_LONGEST_PARAMETER]))
        for start in range(0, len(entries), _MOST_PARAMETERS):
            self._client.log_batch(self._id, params=entries[start : start + _MOST_PARAMETERS])

    def log_images(self, images: Sequence[Path], step: int) -> None:
        """Keep PNG files."""
        for path in images:
            self._client.log_artifact(self._id, str(path), "samples")

    def log_artefact(self, path: Path) -> None:
        """Keep a file with the run."""
        self._client.log_artifact(self._id, str(path))

    def finalize(self, status: str) -> None:
        """The run ends, or is interrupted."""
        self._client.set_terminated(self._id, "FINISHED" if status == "success" else "KILLED")


def build_loggers(
    recipe: Recipe, directory: RunDirectory, step: int, *, quiet: bool = False
) -> list[RunLogger]:
    """The loggers that a recipe names, except the run's own record.

    Args:
        recipe: of the run.
        directory: of the run.
        step: iterations of the whole run so far.
        quiet: nothing on the screen.

    Raises:
        RunError: a package is missing, or a service cannot be reached.
    """
    loggers: list[RunLogger] = []
    for name in recipe.runtime.loggers:
        if name == "tensorboard":
            with writing(directory.logs):
                loggers.append(TensorBoard(recipe, directory, step))
        elif name in SERVICES:
            loggers.append(_service(name, recipe, directory, quiet=quiet))
    return loggers


def _service(name: str, recipe: Recipe, directory: RunDirectory, *, quiet: bool) -> RunLogger:
    try:
        if name == "wandb":
            return Wandb(recipe, directory, quiet=quiet)
        return MLflow(recipe, directory)
    except RunError:
        raise
    except Exception as error:  # whatever the service's library raises
        raise RunError(
            f"runtime.loggers: {name} cannot be started ({reason(error)}); correct its settings, "
            "or leave it out"
        ) from None


def reason(error: Exception) -> str:
    """What an exception of another package says, on one line of moderate length."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]}..."


def check_loggers(recipe: Recipe) -> None:
    """Refuse a logger whose package is missing, before anything is written.

    Raises:
        RunError: names the package and the command that installs it.
    """
    for name in SERVICES:
        if name not in recipe.runtime.loggers:
            continue
        found = find_spec(name)
        # A mere folder of that name can be found too, but has no file to import.
        if found is None or found.origin is None:
            raise _missing(name)


def _missing(package: str) -> RunError:
    return RunError(
        f"runtime.loggers: {package} is not installed; pip install 'muhdi[{package}]', or leave it "
        "out"
    )


def _known_ids(directory: RunDirectory) -> dict[str, str]:
    path = directory.folder / IDS
    ids: dict[str, str] = read_json(path) if path.is_file() else {}
    return ids


def _known_id(directory: RunDirectory, service: str) -> str | None:
    return _known_ids(directory).get(service)


def _remember_id(directory: RunDirectory, service: str, identifier: str) -> None:
    write_json(directory.folder / IDS, {**_known_ids(directory), service: identifier})


def _mapping(params: Params) -> dict[str, Any]:
    return params if isinstance(params, dict) else vars(params)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values under dotted names, ``steps.0.iterations`` for example."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        inner = value
        if isinstance(value, list) and any(isinstance(entry, Mapping) for entry in value):
            inner = {str(index): entry for index, entry in enumerate(value)}
        if isinstance(inner, Mapping):
            flat.update(_flat(inner, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _mlflow_name(name: str) -> str:
    """MLflow takes letters, digits and a few signs."""
    return "".join(c if c.isalnum() or c in "_-./ " else "_" for c in name)
