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
from muhdi.recipe.load import load_recipe
from muhdi.recipe.schema import Recipe
from muhdi.run.sample_files import after_name, sample_images

CHANGE = "change.json"
"""What ``muhdi adapt`` measured without labels, see `muhdi.workflows.adapt.record_change`."""


@dataclass(frozen=True)
class RunData:
    """One run.

    Attributes:
        folder: its directory.
        recipe: of the run.
        text: the recipe as it is written there.
        results: scores so far.
        metrics: lines of ``metrics.jsonl``: stage, iteration and losses.
        sittings: of ``environment.json``; empty for a run that recorded none.
        change: of ``change.json``; empty but for runs of ``muhdi adapt``.
    """

    folder: Path
    recipe: Recipe
    text: str
    results: Results
    metrics: list[dict[str, Any]]
    sittings: list[dict[str, Any]]
    change: list[dict[str, Any]]

    @property
    def stages(self) -> list[str]:
        """Names of all stages, the source's first."""
        return ["source", *(step.target.domain_name for step in self.recipe.steps)]

    @property
    def finished(self) -> bool:
        """Whether every stage was evaluated."""
        return len(self.results.steps) == len(self.stages)


def read_run(folder: Path) -> RunData:
    """Read a run directory.

    Raises:
        MuhdiError: it is none, or nothing was evaluated yet.
    """
    if not (folder / "recipe.yml").is_file():
        raise MuhdiError(
            f"{folder}: is no run directory; give a folder such as experiments/snapshots/NAME"
        )
    if not (folder / "results.json").is_file():
        raise MuhdiError(f"{folder}: nothing was evaluated yet; go on with muhdi train --resume")
    metrics = folder / "metrics.jsonl"
    lines = metrics.read_text(encoding="utf-8").splitlines() if metrics.is_file() else []
    environment, change = folder / "environment.json", folder / CHANGE
    return RunData(
        folder,
        load_recipe(folder / "recipe.yml", trust_code=False),
        (folder / "recipe.yml").read_text(encoding="utf-8"),
        Results.from_json(read_json(folder / "results.json")),
        [entry for line in lines if (entry := _entry(line)) is not None],
        read_json(environment) if environment.is_file() else [],
        read_json(change) if change.is_file() else [],
    )


def _entry(line: str) -> dict[str, Any] | None:
    """A line of the metrics; None for one that a crash cut short."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and {"stage", "iteration"} <= entry.keys() else None


# --- samples --------------------------------------------------------------------------------------


def samples_of(run: RunData) -> dict[str, list[dict[str, Path]]]:
    """Pictures by domain and sample.

    ``image``, ``label``, and ``<stage>:<kind>`` for predictions after a stage.
    """
    last = len(run.results.steps) - 1
    found: dict[str, list[dict[str, Path]]] = {}
    for domain in run.results.domains:
        for image in sample_images(run.folder, domain):
            stem = image.name.removesuffix("_image.png")
            pictures = {"image": image, "label": image.with_name(f"{stem}_label.png")}
            for kind in run.results.kinds():
                pictures |= {
                    f"{s}:{kind}": image.with_name(after_name(stem, s, kind)) for s in range(last)
                }
                pictures[f"{last}:{kind}"] = image.with_name(f"{stem}_predicted_{kind}.png")
            found.setdefault(domain, []).append(
                {key: path for key, path in pictures.items() if path.is_file()}
            )
    return found


def embedded(path: Path, *, photo: bool) -> str:
    """A picture as a ``data:`` address; photos as JPEG, which is small, class maps bit for bit."""
    if not photo:
        return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
    buffer = io.BytesIO()
    with Image.open(path) as picture:
        picture.convert("RGB").save(buffer, "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def shared_kinds(runs: Sequence[RunData]) -> list[str]:
    """Kinds of statistics that all runs were scored with."""
    return [
        kind for kind in runs[0].results.kinds() if all(kind in run.results.kinds() for run in runs)
    ]
