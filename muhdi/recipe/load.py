"""Reading recipes: find the file, merge what it extends and what is set on the command line, check, explain errors."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from muhdi.errors import MuhdiError, nearest
from muhdi.recipe.reference_yaml import in_its_own_words, is_legacy, translate
from muhdi.recipe.schema import Recipe

Mapping = dict[Any, Any]
MAX_BYTES = 1_000_000
MAX_VALUES = 20_000


def shipped_recipes() -> dict[str, Path]:
    """Recipes that come with the package: name -> file."""
    folder = Path(str(resources.files("muhdi") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yml"))}


def load_recipe(
    recipe: str | Path, settings: Sequence[str] = (), seed: int | None = None
) -> Recipe:
    """A checked recipe.

    Args:
        recipe: a YAML file, or the name of a shipped recipe.
        settings: ``key=value`` in order, ``steps.0.iterations=5`` for example; values are YAML.
        seed: replaces the recipe's seed; the run is then called ``<name>_seed<seed>``.

    Raises:
        MuhdiError: names the file or the key, and says what to do.
    """
    path = find_recipe(recipe)
    data = _read_extended(path, ())
    for setting in settings:
        _set(data, setting)
    if seed is not None:
        data["seed"] = seed
        data["name"] = f"{data.get('name', path.stem)}_seed{seed}"
    data.setdefault("name", path.stem)
    shared = data.get("every_step", {})
    try:
        return Recipe.model_validate(_spread(data))
    except ValidationError as error:
        message = _explain(error, data, shared)
    except MuhdiError as error:
        message = str(error)
    raise MuhdiError(
        f"{path.name}: {in_its_own_words(message) if is_legacy(_read(path)) else message}"
    )


def find_recipe(recipe: str | Path) -> Path:
    """The file of a recipe that is given by path or by the name of a shipped one."""
    path = Path(recipe)
    if path.is_file():
        return path
    shipped = shipped_recipes()
    if path.suffix in (".yml", ".yaml") or len(path.parts) > 1:
        raise MuhdiError(f"{recipe}: the recipe file does not exist")
    if str(recipe) not in shipped:
        hint = nearest(str(recipe), list(shipped))
        raise MuhdiError(
            f"{recipe}: no recipe of that name, nor a file{hint} ('muhdi recipes' lists them)"
        )
    return shipped[str(recipe)]


def save_recipe(recipe: Recipe) -> str:
    """The whole recipe, every default written out, as YAML."""
    return yaml.safe_dump(
        recipe.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=True
    )


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key that stands twice, and reads 1e-3 as a number."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Mapping:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key.value!r} stands twice", problem_mark=key.start_mark
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


def _parse(text: str, where: str) -> Any:
    """YAML text -> plain values, of which there may be so many and no more."""
    try:
        data = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise MuhdiError(f"{where}: {line}{error.problem or error.context}") from None
    except RecursionError:
        raise MuhdiError(f"{where}: nested too deeply for a recipe") from None
    except (
        yaml.YAMLError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
    ) as error:  # bad dates, numbers, keys
        raise MuhdiError(
            f"{where}: not YAML that can be read: {' '.join(str(error).split())[:200]}"
        ) from None
    pending, count = [data], 0
    while pending:  # aliases can make a small text stand for endless values
        value = pending.pop()
        count += 1
        if count > MAX_VALUES:
            raise MuhdiError(f"{where}: holds more than {MAX_VALUES} values, which no recipe needs")
        if isinstance(value, int) and value.bit_length() > 256:
            raise MuhdiError(
                f"{where}: holds a number of more than 256 bits, which no recipe needs"
            )
        pending += (
            value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
        )
    return data


def _read(path: Path) -> Mapping:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise MuhdiError(f"{path}: larger than {MAX_BYTES} bytes, which no recipe is")
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise MuhdiError(f"{path}: not UTF-8 text") from None
    except OSError as error:
        raise MuhdiError(f"{path}: cannot be read: {error.strerror}") from None
    data = _parse(text, str(path))
    if not isinstance(data, dict):
        raise MuhdiError(
            f"{path}: a recipe must hold keys and values, such as 'image_size: [640, 320]'"
        )
    return data


def _read_extended(path: Path, chain: tuple[Path, ...]) -> Mapping:
    """A recipe merged over the one that its key ``extends`` names (a file beside it, or a shipped recipe)."""
    if path in chain:
        raise MuhdiError(f"{path}: extends itself")
    data = _read(path)
    if is_legacy(data):
        data, notes = translate(data, str(path))
        return data | {"notes": notes}
    if "extends" not in data:
        return data
    base = str(data.pop("extends"))
    beside = path.parent / base
    parent = beside if beside.is_file() else find_recipe(base)
    inherited = _read_extended(parent, (*chain, path))
    inherited.pop("name", None)
    return _merge(inherited, data)


def _merge(base: Mapping, top: Mapping) -> Mapping:
    """``top`` over ``base``: mappings are merged key by key, everything else is replaced."""
    merged = dict(base)
    for key, value in top.items():
        below = _method(key, merged.get(key))
        both = isinstance(value, dict) and isinstance(below, dict)
        # Another method's options are of no use to this one.
        same = both and value.get("method", below.get("method")) == below.get("method")
        merged[key] = _merge(below, value) if same else value
    return merged


def _method(key: str, value: Any) -> Any:
    """``adaptation: advent`` is short for ``adaptation: {method: advent}``."""
    return (
        {"method": value}
        if key in ("adaptation", "retention") and isinstance(value, str)
        else value
    )


def _spread(data: Mapping) -> Mapping:
    """``every_step`` holds what all steps share; it is merged under each of them."""
    data = dict(data)
    shared = data.pop("every_step", {})
    if not isinstance(shared, dict):
        raise MuhdiError("every_step: must hold keys of a step, such as 'iterations: 100'")
    steps = data.get("steps")
    if isinstance(steps, list):
        data["steps"] = [_merge(shared, step) if isinstance(step, dict) else step for step in steps]
    return data


def _set(data: Mapping, setting: str) -> None:
    key, equals, text = setting.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise MuhdiError(
            f"--set {setting}: must read key=value, such as --set every_step.iterations=100"
        )
    value = _parse(text, f"--set {_shown(setting)}")
    here: Any = data
    for position, part in enumerate(parts):
        last = position == len(parts) - 1
        if isinstance(here, list):
            if not (part.isascii() and part.isdigit()) or int(part) >= len(here):
                raise MuhdiError(
                    f"--set {setting}: {part!r} must be a number from 0 to {len(here) - 1}"
                )
            index: Any = int(part)
        elif isinstance(here, dict):
            index = part
        else:
            raise MuhdiError(
                f"--set {setting}: {'.'.join(parts[:position])} holds a value, so it has no keys"
            )
        if last:
            here[index] = value
            return
        child = here[index] if isinstance(here, list) else here.get(index)
        child = _method(part, child)
        here[index] = {} if child is None else child
        here = here[index]


# --- errors ---------------------------------------------------------------------------------------


def _explain(error: ValidationError, data: Mapping, shared: Mapping) -> str:
    """The first error as ``key: what is wrong; what to do``."""
    first = error.errors(include_url=False)[0]
    location = _location(first["loc"], _spread(data))
    if len(location) > 2 and location[0] == "steps" and _holds(shared, location[2:]):
        location = ("every_step", *location[2:])
    key = ".".join(map(str, location)) or "recipe"
    context, kind, value = first.get("ctx", {}), first["type"], first.get("input")
    if kind == "extra_forbidden":
        hint = nearest(str(location[-1]), _known_keys(first["loc"][:-1]))
        return f"{key}: unknown key{hint}"
    if kind == "missing":
        return f"{key}: this key is missing"
    if kind == "union_tag_not_found":
        return f"{key}: needs the key {context['discriminator']}"
    if kind == "union_tag_invalid":
        known = re.findall(r"'([^']+)'", context["expected_tags"])
        what = context["discriminator"].strip("'").replace("dataset", "data set")
        hint = nearest(str(context["tag"]), known)
        return (
            f"{key}: unknown {what} {_shown(repr(context['tag']))}{hint} (known:"
            f" {', '.join(sorted(known))})"
        )
    if kind == "literal_error":
        known = re.findall(r"'([^']+)'", context["expected"])
        return (
            f"{key}: unknown value {_shown(repr(value))}{nearest(str(value), known)} (known:"
            f" {', '.join(known)})"
        )
    return f"{key}: {first['msg'][0].lower()}{first['msg'][1:]} (it is {_shown(repr(value))})"


def _shown(text: str) -> str:
    """A value in a message: one short line."""
    text = " ".join(text.split())
    return text if len(text) <= 80 else text[:77] + "..."


def _location(loc: tuple[int | str, ...], data: Any) -> tuple[int | str, ...]:
    """The keys of an error as the user wrote them: pydantic adds the names of union members."""
    keys: list[int | str] = []
    for position, part in enumerate(loc):
        inside = (
            part in data
            if isinstance(data, dict)
            else isinstance(data, list) and part in range(len(data))
        )
        if inside:
            data = data[part]
        elif position < len(loc) - 1 or not isinstance(data, (dict, list)):
            continue
        keys.append(part)
    return tuple(keys)


def _holds(data: Any, keys: tuple[int | str, ...]) -> bool:
    for key in keys:
        if not isinstance(data, dict) or key not in data:
            return False
        data = data[key]
    return True


def _known_keys(loc: tuple[int | str, ...]) -> list[str]:
    """Keys of the recipe part at ``loc``, by walking the types of the fields."""
    if not loc:
        return [*Recipe.model_fields, "extends", "every_step"]
    parts: list[type[BaseModel]] = [Recipe]
    for key in loc:
        if isinstance(key, int):
            continue
        fields = [part.model_fields[key].annotation for part in parts if key in part.model_fields]
        if fields:
            parts = [model for field in fields for model in _models(field)]
        else:  # the tag of a union: the data set or the method
            parts = [part for part in parts if key in _tags(part)] or parts
    return sorted({name for part in parts for name in part.model_fields})


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models(part)]


def _tags(part: type[BaseModel]) -> tuple[str, ...]:
    """The data sets or the method that a part of a union is for."""
    for name in ("dataset", "method"):
        if name in part.model_fields:
            return get_args(part.model_fields[name].annotation)
    return ()
