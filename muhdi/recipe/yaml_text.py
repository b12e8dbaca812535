"""YAML texts as plain values: safe, of limited size, and strict about what is easily got wrong."""

from __future__ import annotations

import re
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from muhdi.errors import RecipeError

Mapping = dict[Any, Any]
MAX_BYTES = 1_000_000
MAX_VALUES = 20_000
MAX_BITS = 256
"""Of a whole number."""


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key that is given twice, and reads 1e-3 as a number."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Mapping:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key.value!r} is given twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _tuple(loader: _Loader, node: yaml.SequenceNode) -> list[Any]:
    return loader.construct_sequence(node)


_Loader.add_constructor(
    "tag:yaml.org,2002:python/tuple", _tuple
)  # the reference's files may hold some
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def parse_yaml(text: str, where: str) -> Any:
    """YAML text -> plain values.

    Args:
        text: to read.
        where: it comes from, for messages.

    Raises:
        RecipeError: it is not YAML, or holds more than any recipe does.
    """
    try:
        data = deepcopy(_values(text))
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise RecipeError(f"{where}: {line}{error.problem or error.context}") from None
    except RecursionError:
        raise RecipeError(f"{where}: nested too deeply for a recipe") from None
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError) as error:
        # Bad dates, numbers and keys.
        reason = " ".join(str(error).split())[:200]
        raise RecipeError(f"{where}: not YAML that can be read: {reason}") from None
    _check_size(data, where)
    return data


@lru_cache(maxsize=64)
def _values(text: str) -> Any:
    """What a text holds, which nobody may change: a run reads its own recipe four times."""
    return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader


def _check_size(data: Any, where: str) -> None:
    """Aliases can make a small text stand for endless values."""
    pending = [data]
    count = 0
    while pending:
        value = pending.pop()
        count += 1
        if count > MAX_VALUES:
            raise RecipeError(
                f"{where}: holds more than {MAX_VALUES} values, which no recipe needs"
            )
        if isinstance(value, int) and value.bit_length() > MAX_BITS:
            raise RecipeError(
                f"{where}: holds a number of more than {MAX_BITS} bits, which no recipe needs"
            )
        if isinstance(value, dict):
            pending += value.values()
        elif isinstance(value, list):
            pending += value


def read_yaml(path: Path) -> Mapping:
    """The keys and values of a YAML file.

    Raises:
        RecipeError: the file cannot be read, or holds something else.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise RecipeError(f"{path}: larger than {MAX_BYTES} bytes, which no recipe is")
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise RecipeError(f"{path}: not UTF-8 text") from None
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}") from None
    data = parse_yaml(text, str(path))
    if not isinstance(data, dict):
        raise RecipeError(
            f"{path}: a recipe must hold keys and values, such as 'image_size: [640, 320]'"
        )
    return data
