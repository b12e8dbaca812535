"""Recipes of version 0.1: one function brings what they hold to today's keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from muhdi.errors import RecipeError
from muhdi.recipe import plugins

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

AMERICAN = "color_jitter"
BRITISH = "colour_jitter"
"""An option of a shipped method, as version 0.1 spelt it and as it is spelt today."""
_OTHER_SPELLING: dict[Any, str] = {AMERICAN: BRITISH, BRITISH: AMERICAN}


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
    spelled: dict[Any, Any] = british(upgraded, where)
    return spelled


def upgrade_key(key: str) -> str:
    """Today's name of a key that a setting changes."""
    return MOVED.get(key, key)


def put(section: dict[Any, Any], key: Any, value: Any) -> None:
    """Set a key of a section; what it held under the key's other spelling is replaced, too."""
    section.pop(_OTHER_SPELLING.get(key), None)
    section[key] = value


def british(data: Any, where: str) -> Any:
    """``color_jitter`` of a shipped method is spelt ``colour_jitter``.

    A class of another package spells its options as it likes, so a section that does not say yet
    which method it is of stays as it is: what it is merged with will say so.
    """
    if isinstance(data, list):
        return [british(value, where) for value in data]
    if not isinstance(data, dict):
        return data
    result = {key: british(value, where) for key, value in data.items()}
    if AMERICAN not in result or "class" in result:
        return result
    if not plugins.is_shipped("adaptation", str(result.get("method"))):
        return result
    if BRITISH in result:
        raise RecipeError(f"{where}: {AMERICAN}: is called {BRITISH} now; give it once")
    result[BRITISH] = result.pop(AMERICAN)
    return result
