"""Recipes of version 0.1: one function brings what they hold to today's keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from muhdi.errors import RecipeError

MOVED = {
    **{
        key: f"runtime.{key}"
        for key in (
            "device",
            "devices",
            "nodes",
            "strategy",
            "cache",
            "root",
            "snapshots",
            "logs",
            "log_every",
            "save_every",
            "keep",
            "skip_bad",
        )
    },
    "loader.workers": "runtime.workers",
    "loader.memory_mb": "runtime.memory_mb",
    "augment.color": "augment.colour",
}
"""Keys of version 0.1, and American spellings -> today's keys."""


def upgrade(data: Mapping[Any, Any], where: str) -> dict[Any, Any]:
    """The data of a recipe file with today's keys.

    Args:
        data: of a file of this version or of version 0.1.
        where: the file, for messages.

    Raises:
        RecipeError: a value is given under its old and its new key.
    """
    upgraded = dict(data)
    for old, new in MOVED.items():
        section, _, key = old.rpartition(".")
        holder = upgraded.get(section) if section else upgraded
        if not isinstance(holder, Mapping) or key not in holder:
            continue
        value = holder[key]
        rest = {name: other for name, other in holder.items() if name != key}
        if section:
            upgraded[section] = rest
        else:
            upgraded = rest
        new_section, _, new_key = new.partition(".")
        target = upgraded.get(new_section) or {}
        if not isinstance(target, Mapping):
            raise RecipeError(f"{where}: {new_section}: must hold keys and values")
        if new_key in target:
            raise RecipeError(f"{where}: {old}: is called {new} now; give it once")
        upgraded[new_section] = {**target, new_key: value}
    if upgraded.get("loader") == {}:
        del upgraded["loader"]
    british: dict[Any, Any] = _british(upgraded, where)
    return british


def upgrade_key(key: str) -> str:
    """Today's name of a key that a setting changes."""
    if key in MOVED:
        return MOVED[key]
    return key.replace("color_jitter", "colour_jitter")


def _british(data: Any, where: str) -> Any:
    """``color_jitter`` of a method is spelt ``colour_jitter``.

    A class of another package spells its options as it likes.
    """
    if isinstance(data, list):
        return [_british(value, where) for value in data]
    if not isinstance(data, dict):
        return data
    british = {key: _british(value, where) for key, value in data.items()}
    if "color_jitter" in british and "class" not in british:
        if "colour_jitter" in british:
            raise RecipeError(f"{where}: color_jitter: is called colour_jitter now; give it once")
        british["colour_jitter"] = british.pop("color_jitter")
    return british
