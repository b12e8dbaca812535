"""From a recipe's file and settings to the plain values that it stands for."""

from __future__ import annotations

from collections.abc import Mapping as AnyMapping
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from muhdi.errors import RecipeError, check_type, nearest
from muhdi.recipe.reference_yaml import is_reference, translate
from muhdi.recipe.upgrade import british, put, upgrade, upgrade_key
from muhdi.recipe.yaml_text import Mapping, parse_yaml, read_yaml

SHORT_KEYS = {
    "adaptation": "method",
    "retention": "method",
    "backbone": "name",
    "decoder": "name",
    "tune": "method",
}
"""Sections that may be given by a word, and the key that the word stands for."""

RUN_RECIPE = "recipe.yml"
RUN_FILES = (
    ".lock",
    "results.json",
    "environment.json",
    "metrics.jsonl",
    "training_state_*.pt",
    "*.safetensors",
    "*/model_*.safetensors",
)
"""What a run directory, or a folder that was made of one, holds next to its recipe."""


def shipped_recipes() -> dict[str, Path]:
    """Recipes that come with the package: name -> file."""
    folder = Path(str(resources.files("muhdi") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yml"))}


def find_recipe(recipe: str | Path) -> Path:
    """The file of a recipe that is given by path or by the name of a shipped one."""
    check_type("recipe", recipe, str, Path)
    path = Path(recipe)
    if path.is_file():
        return path
    shipped = shipped_recipes()
    if path.suffix in (".yml", ".yaml") or len(path.parts) > 1:
        raise RecipeError(f"{recipe}: the recipe file does not exist")
    if str(recipe) not in shipped:
        hint = nearest(str(recipe), list(shipped))
        raise RecipeError(
            f"{recipe}: no recipe of that name, nor a file{hint} ('muhdi recipes' lists them)"
        )
    return shipped[str(recipe)]


def read_recipe(
    path: Path, settings: Sequence[str] = (), changes: AnyMapping[str, Any] | None = None
) -> Mapping:
    """What a recipe file holds, with everything that it extends and what is changed.

    Args:
        path: of the file.
        settings: ``key=value`` in order; values are YAML.
        changes: values by key; keys may be dotted.

    Raises:
        RecipeError: a file or a setting cannot be read.
    """
    data = _read_extended(path, ())
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not all(key.strip().split(".")):
            raise RecipeError(
                f"--set {setting}: must read key=value, such as --set every_step.iterations=100"
            )
        set_value(data, key.strip(), parse_yaml(text, f"--set {shortened(setting)}"), setting)
    for key, value in (changes or {}).items():
        set_value(data, key, value, f"{key}={value!r}")
    # A setting may hold a whole section with old keys: loader={workers: 2}.
    return upgrade(data, "--set")


def is_of_reference(path: Path) -> bool:
    """Whether a file is a configuration of the 2022 code."""
    return is_reference(read_yaml(path))


def came_with_run(path: Path) -> bool:
    """Whether a recipe is, or extends, the one in a run directory: nobody here has written it."""
    path = path.resolve()
    if path.name == RUN_RECIPE and any(any(path.parent.glob(name)) for name in RUN_FILES):
        return True
    data = read_yaml(path)
    if is_reference(data) or "extends" not in data:
        return False
    return came_with_run(_extended(path, data["extends"]))


def shortened(text: str) -> str:
    """A value in a message: one short line."""
    text = " ".join(text.split())
    return text if len(text) <= 80 else text[:77] + "..."


def _read_extended(path: Path, chain: tuple[Path, ...]) -> Mapping:
    """A recipe merged over the one that its key ``extends`` names.

    That is a file in the same folder, or a shipped recipe.
    """
    if path in chain:
        raise RecipeError(f"{path}: extends itself")
    data = read_yaml(path)
    if is_reference(data):
        translated, notes = translate(data, str(path))
        return translated | {"notes": notes}
    data = upgrade(data, str(path))
    if "extends" not in data:
        return data
    parent = _extended(path, data.pop("extends"))
    inherited = _read_extended(parent, (*chain, path))
    inherited.pop("name", None)
    return merged(inherited, data)


def _extended(path: Path, base: object) -> Path:
    """The file of the recipe that a file calls ``base``."""
    sibling = path.parent / str(base)
    return sibling if sibling.is_file() else find_recipe(str(base))


def merged(base: Mapping, top: Mapping) -> Mapping:
    """``top`` over ``base``: mappings are merged key by key, everything else is replaced."""
    result = dict(base)
    for key, value in top.items():
        below = _spelled_out(key, result.get(key))
        both = isinstance(value, dict) and isinstance(below, dict)
        if both and _same_class(SHORT_KEYS.get(key, "class"), value, below):
            put(result, key, merged(below, value))
        else:
            put(result, key, value)
    return result


def _same_class(word: str, top: Mapping, base: Mapping) -> bool:
    """Whether two sections describe one method or class: another one's options are of no use.

    Args:
        word: the key that names what such sections are of.
        top: the section that is laid over the other.
        base: the other.
    """
    for key in (word, "class"):
        if key in top and top[key] != base.get(key):
            return False
    # A section that names a method leaves a class behind.
    return not (word in top and "class" in base and "class" not in top)


def _spelled_out(key: str, value: Any) -> Any:
    """``adaptation: advent`` is short for ``adaptation: {method: advent}``."""
    if key in SHORT_KEYS and isinstance(value, str):
        return {SHORT_KEYS[key]: value}
    return value


def spread_steps(data: Mapping) -> Mapping:
    """``every_step`` holds what all steps share; it is merged under each of them."""
    data = dict(data)
    shared = data.pop("every_step", {})
    if not isinstance(shared, dict):
        raise RecipeError("every_step: must hold keys of a step, such as 'iterations: 100'")
    steps = data.get("steps")
    if isinstance(steps, list):
        whole = [merged(shared, step) if isinstance(step, dict) else step for step in steps]
        # Only now every section says which method it is of.
        data["steps"] = british(whole, "steps")
    return data


def set_value(data: Mapping, key: str, value: Any, setting: str) -> None:
    """Change one value, at a dotted key.

    Args:
        data: changed in place.
        key: ``steps.0.iterations``, for example.
        value: to put there.
        setting: as the user gave it, for messages.
    """
    parts = upgrade_key(key).split(".")
    here: Any = data
    for position, part in enumerate(parts):
        index: Any = part
        if isinstance(here, list):
            if not (part.isascii() and part.isdigit()) or int(part) >= len(here):
                last = len(here) - 1
                raise RecipeError(f"--set {setting}: {part!r} must be a number from 0 to {last}")
            index = int(part)
        elif not isinstance(here, dict):
            holder = ".".join(parts[:position])
            raise RecipeError(f"--set {setting}: {holder} holds a value, so it has no keys")
        if position == len(parts) - 1:
            if isinstance(here, dict):
                put(here, index, value)
            else:
                here[index] = value
            return
        child = here[index] if isinstance(here, list) else here.get(index)
        child = _spelled_out(part, child)
        here[index] = {} if child is None else child
        here = here[index]
