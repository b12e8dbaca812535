"""Who gets losses, scores, sample images and the report of a run: Fabric loggers by name."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_fabric.loggers.logger import Logger
from lightning_fabric.loggers.tensorboard import TensorBoardLogger
from PIL import Image

from muhdi.errors import RunError
from muhdi.files import read_json, write_json, writing
from muhdi.recipe.schema import Recipe
from muhdi.run.directory import RunDirectory

IDS = "loggers.json"
"""File of the run's identifiers at services, so that a resumed run continues there."""


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


class TensorBoard(TensorBoardLogger):
    """Fabric's, with the images of a run."""

    def log_images(self, images: Sequence[Path], step: int) -> None:
        """Show sample images."""
        for path in images:
            with Image.open(path) as image:
                pixels = _array(image.convert("RGB"))
            self.experiment.add_image(path.stem, pixels, step, dataformats="HWC")


class Wandb(Logger):
    """Weights & Biases; ``WANDB_MODE``, ``WANDB_PROJECT`` and so on say where and how.

    Args:
        recipe: its name and values describe the run there.
        directory: of the run.
    """

    def __init__(self, recipe: Recipe, directory: RunDirectory) -> None:
        try:
            import wandb
        except ImportError:
            raise _missing("wandb") from None
        self._wandb = wandb
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "muhdi"),
            name=recipe.name,
            id=_known_id(directory, "wandb"),
            resume="allow",
            dir=str(directory.logs),
            config=recipe.model_dump(mode="json"),
        )
        _remember_id(directory, "wandb", self._run.id)

    @property
    def name(self) -> str:
        """Of the logger."""
        return "wandb"

    @property
    def version(self) -> str:
        """The run's identifier."""
        return str(self._run.id)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Numbers by name after ``step`` iterations of the whole run."""
        self._run.log(dict(metrics), step=step)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Values of the recipe."""
        self._run.config.update(params, allow_val_change=True)

    def log_images(self, images: Sequence[Path], step: int) -> None:
        """Show sample images."""
        shown = {path.stem: self._wandb.Image(str(path)) for path in images}
        self._run.log(shown, step=step)

    def log_artefact(self, path: Path) -> None:
        """Keep a file with the run."""
        artefact = self._wandb.Artifact(path.stem, type="report")
        artefact.add_file(str(path))
        self._run.log_artifact(artefact)

    def finalize(self, status: str) -> None:
        """The run ends, or is interrupted."""
        self._run.finish()


class MLflow(Logger):
    """MLflow; ``MLFLOW_TRACKING_URI`` says where its store is.

    Args:
        recipe: its name and values describe the run there.
        directory: of the run.
    """

    def __init__(self, recipe: Recipe, directory: RunDirectory) -> None:
        try:
            from mlflow.tracking import MlflowClient
        except ImportError:
            raise _missing("mlflow") from None
        self._client: Any = MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "muhdi")
        known = _known_id(directory, "mlflow")
        if known is None:
            found = self._client.get_experiment_by_name(name)
            number = self._client.create_experiment(name) if found is None else found.experiment_id
            known = self._client.create_run(number, run_name=recipe.name).info.run_id
            self._id = known
            self.log_hyperparams(_flat(recipe.model_dump(mode="json")))
        self._id = known
        _remember_id(directory, "mlflow", known)

    @property
    def name(self) -> str:
        """Of the logger."""
        return "mlflow"

    @property
    def version(self) -> str:
        """The run's identifier."""
        return str(self._id)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Numbers by name after ``step`` iterations of the whole run."""
        for name, value in metrics.items():
            self._client.log_metric(self._id, _mlflow_name(name), value, step=step or 0)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Values of the recipe."""
        for name, value in params.items():
            self._client.log_param(self._id, _mlflow_name(name), str(value)[:500])

    def log_images(self, images: Sequence[Path], step: int) -> None:
        """Keep sample images."""
        for path in images:
            self._client.log_artifact(self._id, str(path), "samples")

    def log_artefact(self, path: Path) -> None:
        """Keep a file with the run."""
        self._client.log_artifact(self._id, str(path))

    def finalize(self, status: str) -> None:
        """The run ends, or is interrupted."""
        ended = "FINISHED" if status == "success" else "KILLED"
        self._client.set_terminated(self._id, ended)


def build_loggers(recipe: Recipe, directory: RunDirectory, step: int) -> list[Logger]:
    """The loggers that a recipe names, but for the run's own record.

    Args:
        recipe: of the run.
        directory: of the run.
        step: iterations of the whole run so far; later TensorBoard events are dropped.

    Raises:
        RunError: a package is missing, or a service cannot be reached.
    """
    loggers: list[Logger] = []
    for name in recipe.runtime.loggers:
        if name == "tensorboard":
            with writing(directory.logs):
                logger = TensorBoard(directory.logs, "", "", purge_step=step + 1)
                _ = logger.experiment  # opens the file now, so that a fault shows before training
            loggers.append(logger)
        elif name in ("wandb", "mlflow"):
            loggers.append(_service(name, recipe, directory))
    return loggers


def _service(name: str, recipe: Recipe, directory: RunDirectory) -> Logger:
    try:
        return Wandb(recipe, directory) if name == "wandb" else MLflow(recipe, directory)
    except RunError:
        raise
    except Exception as error:  # whatever the service's library raises
        reason = " ".join(str(error).split())[:200]
        raise RunError(
            f"runtime.loggers: {name} cannot be started ({reason}); correct its settings, or leave "
            "it out"
        ) from None


def check_loggers(recipe: Recipe) -> None:
    """Refuse a logger whose package is missing, before anything is written."""
    from importlib.util import find_spec

    for name in recipe.runtime.loggers:
        if name in ("wandb", "mlflow") and find_spec(name) is None:
            raise _missing(name)


def _missing(package: str) -> RunError:
    return RunError(
        f"runtime.loggers: {package} is not installed; pip install 'muhdi[{package}]', or leave it "
        "out"
    )


def _known_id(directory: RunDirectory, service: str) -> str | None:
    path = directory.folder / IDS
    known = read_json(path) if path.is_file() else {}
    return None if known.get(service) is None else str(known[service])


def _remember_id(directory: RunDirectory, service: str, identifier: str) -> None:
    path = directory.folder / IDS
    known = read_json(path) if path.is_file() else {}
    write_json(path, {**known, service: identifier})


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values under dotted names."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _mlflow_name(name: str) -> str:
    """MLflow takes letters, digits and a few signs."""
    return "".join(c if c.isalnum() or c in "_-./ " else "_" for c in name)


def _array(image: Image.Image) -> Any:
    import numpy as np

    return np.asarray(image)
