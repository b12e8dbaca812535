"""Scores that were computed before, by everything that they depend on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from muhdi.data.unlisted import UnlistedIds
from muhdi.errors import MuhdiError
from muhdi.evaluation.results import Entry
from muhdi.files import read_json, write_json
from muhdi.recipe.load import RECIPE

FILE = "scores.json"


class ScoreCache:
    """Rows of scores in ``scores.json``, in the run's directory or next to a lone snapshot.

    Args:
        folder: of a snapshot.

    Raises:
        MuhdiError: the file holds something else.
    """

    def __init__(self, folder: Path) -> None:
        run = folder.parent if (folder.parent / RECIPE).is_file() else folder
        self.path = run / FILE
        self._known: dict[str, Any] = read_json(self.path) if self.path.exists() else {}
        if not (isinstance(self._known, dict) and all(map(_is_row, self._known.values()))):
            raise MuhdiError(
                f"{self.path}: holds no cached scores; delete it, and they are computed again"
            )

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


def _is_row(entry: Any) -> bool:
    """Whether a value has the shape of what `ScoreCache.put` writes."""
    try:
        scores = _scores_in(entry["scores"])
        counts = _counts_in(entry["unlisted"])
    except (AttributeError, KeyError, TypeError):
        return False
    known = all(value is None or isinstance(value, (int, float)) for value in scores)
    return bool(entry["scores"]) and known and all(isinstance(count, int) for count in counts)


def _scores_in(by_statistics: Any) -> list[Any]:
    """Every mIoU and IoU of a row."""
    found = []
    for by_domain in by_statistics.values():
        for entry in by_domain.values():
            found.append(entry["miou"])
            found += entry.get("iou", {}).values()
    return found


def _counts_in(by_domain: Any) -> list[Any]:
    """Every count of a raw id that was met in a label."""
    found: list[Any] = []
    for files in by_domain.values():
        for ids in files.values():
            found += ids.values()
    return found
