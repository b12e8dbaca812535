"""What is wrong with a recipe, in one line: ``key: what is wrong; what to do``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from muhdi.errors import nearest
from muhdi.recipe import plugins
from muhdi.recipe.read import shortened, spread_steps

Location = tuple[int | str, ...]

FILE_KEYS = ("extends", "every_step")
"""Keys that a file may hold in addition to those of a recipe."""


def explain(error: ValidationError, data: dict[Any, Any], model: type[BaseModel]) -> str:
    """The first error.

    Args:
        error: pydantic's.
        data: of the recipe, as it was read.
        model: the recipe's.
    """
    first = _likeliest(error.errors(include_url=False))
    spread = spread_steps(data)
    location = _as_written(first["loc"], spread)
    if _is_of_every_step(location, data):
        location = ("every_step", *location[2:])
    key = ".".join(map(str, location)) or "recipe"
    return f"{key}: {_problem(first, location, spread, model)}"


def _is_of_every_step(location: Location, data: Mapping[Any, Any]) -> bool:
    """Whether a key of a step stands in ``every_step``, and not in the step itself."""
    if len(location) < 3 or location[0] != "steps":
        return False
    own = _inside(data.get("steps"), location[1])
    return _holds(data.get("every_step", {}), location[2:]) and not _holds(own, location[2:])


def _likeliest(errors: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The first error, or the one of the same key that says what a list or mapping lacks."""
    first = errors[0]
    for other in errors:
        of_this_key = other["loc"][:1] == first["loc"][:1]
        if of_this_key and _lacks_quotes(other) and isinstance(first.get("input"), (list, dict)):
            return other
    return first


def _lacks_quotes(error: Mapping[str, Any]) -> bool:
    """Whether text is wanted, and YAML has read a number or a truth value."""
    return error["type"] == "string_type" and isinstance(error.get("input"), (bool, int, float))


def _problem(
    first: Mapping[str, Any], location: Location, data: Any, model: type[BaseModel]
) -> str:
    kind = first["type"]
    value = first.get("input")
    if kind == "explained":
        return str(first["msg"])
    if kind == "missing":
        return "this key is missing"
    if kind == "extra_forbidden":
        known = _known_keys(first["loc"][:-1], data, model)
        return f"unknown key{nearest(str(location[-1]), known)}"
    if kind == "literal_error":
        known = re.findall(r"'([^']+)'", first["ctx"]["expected"])
        hint = nearest(str(value), known)
        return f"unknown value {shortened(repr(value))}{hint} (known: {', '.join(known)})"
    if _lacks_quotes(first):
        return (
            f"must be text, but is {value}: write it in quotes (without them YAML reads yes, no, on"
            " and off as true and false, and digits as numbers)"
        )
    if kind == "value_error":
        return str(first["ctx"]["error"])
    if kind == "model_type":
        return f"must hold keys and values ({{}}: the defaults), but is {shortened(repr(value))}"
    message = first["msg"]
    return f"{message[0].lower()}{message[1:]} (it is {shortened(repr(value))})"


def _as_written(loc: Location, data: Any) -> Location:
    """The keys of an error as the user wrote them: pydantic adds the names of union members."""
    keys: list[int | str] = []
    for position, part in enumerate(loc):
        if isinstance(data, dict):
            inside = part in data
        else:
            inside = isinstance(data, list) and part in range(len(data))
        if inside:
            data = data[part]
        elif position < len(loc) - 1 or not isinstance(data, (dict, list)):
            continue
        keys.append(part)
    return tuple(keys)


def _holds(data: Any, keys: Location) -> bool:
    for key in keys:
        if not isinstance(data, dict) or key not in data:
            return False
        data = data[key]
    return True


def _known_keys(loc: Location, data: Any, model: type[BaseModel]) -> list[str]:
    """Keys of the section at ``loc``, by walking the types of the fields."""
    if not loc:
        return [*_keys(model), *FILE_KEYS]
    models = [model]
    for key in loc:
        data = _inside(data, key)
        if isinstance(key, str):
            fields = [m.model_fields[key].annotation for m in models if key in m.model_fields]
            models = [nested for annotation in fields for nested in nested_models(annotation)]
        models = [_registered(nested, data) for nested in models]
    return sorted({key for nested in models for key in _keys(nested)})


def _keys(model: type[BaseModel]) -> list[str]:
    """What recipes call the fields."""
    return [field.alias or name for name, field in model.model_fields.items()]


def _inside(data: Any, key: int | str) -> Any:
    try:
        return data[key]
    except (KeyError, IndexError, TypeError):
        return None


def _registered(model: type[BaseModel], data: Any) -> type[BaseModel]:
    """The section that a method, backbone or data set has; any other model as it is."""
    kind = getattr(model, "kind", "")
    if not kind or not isinstance(data, dict):
        return model
    if "class" in data:
        return plugins.config_class_of(str(data["class"])) or model
    name = data.get(getattr(model, "key_field", ""))
    found: type[BaseModel] | None = plugins.find_section(kind, str(name))
    return found or model


def nested_models(annotation: Any) -> list[type[BaseModel]]:
    """The models inside a type, such as a list or a union of them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    inner = getattr(annotation, "__args__", ())
    return [model for part in inner for model in nested_models(part)]
