"""Scores of finished runs, kept in ``benchmarks/runs/`` with a digest of each recipe."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from muhdi.evaluation.results import Results
from muhdi.recipe.load import load_recipe

RUNS = Path(__file__).parent / "runs"
KINDS = ("method", "name", "dataset")
"""Keys that tell sections of one place apart: methods, networks, data sets."""


def finished_run(experiments: Path, run: str) -> dict[str, Any] | None:
    """What is kept of a run; None where it has not ended."""
    folder = experiments / "snapshots" / run
    if not (folder / "samples").is_dir():  # the last thing that a run writes
        return None
    return _kept(Results.from_json(json.loads((folder / "results.json").read_text())))


def write(name: str, runs: dict[str, Any]) -> None:
    """Keep the runs of a benchmark, one a line; no file where there is none."""
    if not runs:
        return
    RUNS.mkdir(exist_ok=True)
    lines = [f"{json.dumps(run)}: {json.dumps(entry)}" for run, entry in sorted(runs.items())]
    (RUNS / f"{name}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


def _kept(results: Results) -> dict[str, Any]:
    """What is kept of a run: its scores, but not where its images lay."""
    data = results.to_json() | {"confusion": {}}
    del data["summary"]
    for images in data["scored"].values():
        images["root"] = ""
    return data


def read(name: str) -> dict[str, Any]:
    """The finished runs of a benchmark, by name."""
    path = RUNS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def digest(recipe: str, seed: int, settings: Sequence[str] = ()) -> str:
    """Identifies what a run computes, by what its recipe says.

    Options that are left out do not count, so that a new one changes no digest.
    """
    loaded = load_recipe(recipe, settings, seed)
    unsaid = {"description", "notes", "runtime"}
    whole = loaded.model_dump(mode="json", exclude=unsaid)
    said = loaded.model_dump(mode="json", exclude=unsaid, exclude_defaults=True)
    text = json.dumps(_with_kinds(said, whole), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _with_kinds(said: Any, whole: Any) -> Any:
    """What is said, and of each section what kind it is, which is a default of its class."""
    if isinstance(said, dict):
        found = {key: _with_kinds(value, whole[key]) for key, value in said.items()}
        kinds = {key: whole[key] for key in KINDS if key in whole}
        return found | kinds
    if isinstance(said, list):
        return [_with_kinds(*pair) for pair in zip(said, whole, strict=True)]
    return said
