"""Scores that were computed before, by the contents of all that they depend on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from muhdi.errors import MuhdiError
from muhdi.evaluation.results import Entry
from muhdi.files import read_json, write_json
from muhdi.training.domains import UnlistedIds
from muhdi.training.rundir import RECIPE

FILE = "scores.json"


class ScoreCache:
    """Rows of scores in ``scores.json``, in the run's directory, or beside snapshots that lie in none.

    Args:
        folder: of a snapshot.

    Raises:
        MuhdiError: the file holds something else.
    """

    def __init__(self, folder: Path) -> None:
        run = folder.parent if (folder.parent / RECIPE).is_file() else folder
        self.path = run / FILE
        self._known: dict[str, Any] = read_json(self.path) if self.path.exists() else {}
        whole = isinstance(self._known, dict) and all(
            isinstance(entry, dict) and entry.keys() == {"scores", "unlisted"} for entry in self._known.values()
        )
        if not whole:
            raise MuhdiError(f"{self.path}: holds no cached scores; delete it, and they are computed anew")

    def has(self, key: str) -> bool:
        """Whether the scores of a key are known."""
        return key in self._known

    def row(self, key: str, unlisted: UnlistedIds) -> dict[str, dict[str, Entry]]:
        """The scores of a key; what was met then in the labels is added to ``unlisted``."""
        entry = self._known[key]
        for domain, files in entry["unlisted"].items():
            for name, counts in files.items():
                unlisted.add(domain, name, counts)
        scores: dict[str, dict[str, Entry]] = entry["scores"]
        return scores

    def put(self, key: str, row: dict[str, dict[str, Entry]], unlisted: UnlistedIds) -> None:
        """Remember scores at once, so that nothing is lost when the rest is interrupted."""
        self._known[key] = {"scores": row, "unlisted": unlisted.files}
        write_json(self.path, self._known)
