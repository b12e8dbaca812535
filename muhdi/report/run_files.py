"""What a run directory holds, read for a report: JSON, YAML and PNG files alone."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from muhdi.errors import MuhdiError
from muhdi.evaluation.results import Results
from muhdi.files import read_json
from muhdi.recipe.load import RECIPE, load_recipe
from muhdi.recipe.schema import Recipe
from muhdi.run.sample_files import after_name, predicted_name, sample_images, stem_of

CHANGE = "change.json"
"""What the steps changed, measured without labels; see `muhdi.workflows.change.record_change`."""


@dataclass(frozen=True)
class RunData:
    """One run.

    Attributes:
        folder: its directory.
        recipe: of the run.
        text: the recipe as it is written there.
        results: scores so far.
        metrics: lines of ``metrics.jsonl``: stage, iteration and losses.
        sessions: of ``environment.json``, one for each time that the run was begun or resumed;
            empty for a run that recorded none.
        change: of ``change.json``; empty where there was nothing to compare.
    """

    folder: Path
    recipe: Recipe
    text: str
    results: Results
    metrics: list[dict[str, Any]]
    sessions: list[dict[str, Any]]
    change: list[dict[str, Any]]

    @property
    def stages(self) -> list[str]:
        """Names of all stages, the source's first."""
        return [stage.name for stage in self.recipe.stages()]

    @property
    def finished(self) -> bool:
        """Whether every stage was evaluated."""
        return len(self.results.steps) == len(self.stages)


def read_run(folder: Path) -> RunData:
    """Read a run directory.

    Classes of other packages that its recipe names are not imported.

    Raises:
        MuhdiError: it is not a run directory, or nothing was evaluated yet.
    """
    recipe = folder / RECIPE
    results = folder / "results.json"
    if not recipe.is_file():
        raise MuhdiError(
            f"{folder}: is not a run directory; give a folder such as experiments/snapshots/NAME"
        )
    if not results.is_file():
        raise MuhdiError(
            f"{folder}: nothing was evaluated yet; continue it with muhdi train --resume"
        )
    return RunData(
        folder=folder,
        recipe=load_recipe(recipe, trust_code=False),
        text=recipe.read_text(encoding="utf-8"),
        results=Results.load(results),
        metrics=_read_metrics(folder / "metrics.jsonl"),
        sessions=_read_list(folder / "environment.json"),
        change=_read_list(folder / CHANGE),
    )


def _read_list(path: Path) -> list[dict[str, Any]]:
    """The rows of a file that not every run has."""
    if not path.is_file():
        return []
    rows: list[dict[str, Any]] = read_json(path)
    return rows


def _read_metrics(path: Path) -> list[dict[str, Any]]:
    """Lines of the metrics, without one that a crash cut short."""
    if not path.is_file():
        return []
    entries = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and {"stage", "iteration"} <= entry.keys():
            entries.append(entry)
    return entries


# --- samples --------------------------------------------------------------------------------------


def samples_of(run: RunData) -> dict[str, list[dict[str, Path]]]:
    """Images by domain and sample.

    ``image``, ``label``, and ``<stage>:<statistics>`` for predictions after a stage.
    """
    found: dict[str, list[dict[str, Path]]] = {}
    for domain in run.results.domains:
        samples = [_sample_files(run, image) for image in sample_images(run.folder, domain)]
        if samples:
            found[domain] = samples
    return found


def _sample_files(run: RunData, image: Path) -> dict[str, Path]:
    """The files of one sample that exist, by what they show."""
    stem = stem_of(image)
    last = len(run.results.steps) - 1
    files = {"image": image, "label": image.with_name(f"{stem}_label.png")}
    for statistics in run.results.statistics:
        for stage in range(last):
            files[f"{stage}:{statistics}"] = image.with_name(after_name(stem, stage, statistics))
        # Predictions after the last stage are those that the run itself wrote, without a number.
        files[f"{last}:{statistics}"] = image.with_name(predicted_name(stem, statistics))
    return {key: path for key, path in files.items() if path.is_file()}


def embedded(path: Path, *, photo: bool) -> str:
    """An image as a ``data:`` address.

    Photos become JPEG, which is small; class maps stay as they are, bit for bit.
    """
    if not photo:
        return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
    buffer = io.BytesIO()
    with Image.open(path) as image:
        # 90: no artefacts that one would see next to a class map.
        image.convert("RGB").save(buffer, "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def shared_statistics(runs: Sequence[RunData]) -> list[str]:
    """Statistics with which all runs were scored, the main one of the first run first.

    Raises:
        MuhdiError: there are none.
    """
    shared = runs[0].results.main_statistics_first
    for run in runs[1:]:
        known = run.results.statistics
        left = [statistics for statistics in shared if statistics in known]
        if not left:
            raise MuhdiError(
                f"{run.folder}: is scored with {', '.join(known)} statistics, {runs[0].folder} with"
                f" {', '.join(shared)}, so they cannot be compared"
            )
        shared = left
    return shared
