"""Values that a key takes in turn, so that one recipe becomes an arm for each of them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from muhdi.errors import RecipeError, check_type
from muhdi.files import file_name, short_name
from muhdi.recipe.read import SHORT_KEYS, shortened
from muhdi.recipe.yaml_text import parse_yaml

Varied = Mapping[str, Sequence[Any]]
"""Values by the key that takes them."""
_ELSEWHERE = {
    "seed": "give each seed with --seed, which pairs the arms",
    "name": "runs are named after the values of other keys; leave it out",
}


@dataclass(frozen=True)
class Variation:
    """One value of every varied key.

    Attributes:
        settings: ``key=value`` changes of a recipe.
        name: what tells them apart in the name of a run: ``retention-style``.
    """

    settings: tuple[str, ...]
    name: str


def read_varied(words: Sequence[str]) -> dict[str, list[Any]]:
    """What ``--vary KEY=[VALUE, VALUE]`` asks for, once or several times.

    Raises:
        RecipeError: there is no list, or a key is given twice.
    """
    varied: dict[str, list[Any]] = {}
    for word in words:
        key, equals, text = word.partition("=")
        key = key.strip()
        where = f"--vary {shortened(word)}"
        if not equals or not key:
            raise RecipeError(
                f"{where}: must read KEY=[VALUE, VALUE], such as --vary"
                " 'every_step.retention=[none, style]'"
            )
        if key in varied:
            raise RecipeError(f"{where}: {key} is varied twice; give all its values in one list")
        varied[key] = parse_yaml(text, where)
    return varied


def variations(varied: Varied) -> list[Variation]:
    """Every combination of the values, the first key's values changing slowest.

    Raises:
        RecipeError: a key has no list of two values or more or cannot be varied, or two values look
            alike in the name of a run.
    """
    check_type("vary", varied, Mapping)
    of_keys = []
    for key, values in varied.items():
        if key in _ELSEWHERE:
            raise RecipeError(f"--vary {key}: {_ELSEWHERE[key]}")
        if isinstance(values, str) or not isinstance(values, Sequence) or len(values) < 2:
            raise RecipeError(
                f"--vary {key}: must be a list of at least two values, such as [none, style]"
            )
        of_keys.append([_one(key, value) for value in values])
    found: dict[str, Variation] = {}
    for parts in itertools.product(*of_keys):
        settings = tuple(setting for part in parts for setting in part.settings)
        name = short_name("_".join(part.name for part in parts))
        if name in found:
            raise RecipeError(
                f"--vary: {' '.join(found[name].settings)} and {' '.join(settings)} would both be"
                f" called {name!r}; give every value once"
            )
        found[name] = Variation(settings, name)
    return list(found.values())


def _one(key: str, value: Any) -> Variation:
    last = key.rpartition(".")[2]
    text = json.dumps(value, ensure_ascii=False, default=str)
    return Variation((f"{key}={text}",), f"{last}-{_words(value)}")


def _words(value: Any) -> str:
    """A value as a part of a run's name.

    ``style-average`` of ``[style, average]``, ``ewc-weight-10`` of ``{method: ewc, weight: 10}``.
    """
    if isinstance(value, Mapping):
        return "-".join(_entry(key, one) for key, one in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "-".join(_words(one) for one in value) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else file_name(str(value))


def _entry(key: Any, value: Any) -> str:
    words = _words(value)
    return words if key in SHORT_KEYS.values() else f"{file_name(str(key))}-{words}"
