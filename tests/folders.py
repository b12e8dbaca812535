"""Sections of recipes for the folders that the fixture ``folders`` writes."""

from __future__ import annotations

from typing import Any


def day(ids: dict[int, str]) -> dict[str, Any]:
    """The labelled folder, with a table of its raw ids 0, 7 and 9."""
    return {
        "dataset": "folder",
        "name": "day",
        "images": "day/{split}/*.png",
        "labels": "day_labels/{split}/{stem}_ids.png",
        "ids": ids,
    }


def rain() -> dict[str, Any]:
    """The folder without labels."""
    return {"dataset": "folder", "name": "rain", "images": "rain/{split}/*.png"}
