"""What a recipe may hold, for editors (JSON schema) and for readers (a page), both from the classes themselves."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from muhdi.recipe.schema import Recipe
from muhdi.recipe.section import Part

Schema = dict[str, Any]

_NAMED = re.compile(r"``(\w+)``(?: and ``(\w+)``)?:\s")
"""How a docstring begins to tell of a field, or of two."""


def json_schema() -> Schema:
    """The JSON schema of a recipe file, as people write it.

    Beside the keys of `Recipe` a file may hold ``extends`` and ``every_step``, and methods may be
    named by a word. No key is required, since another file may hold it.
    """
    schema = Recipe.model_json_schema()
    _loosen(schema)
    for part in _parts(Recipe):
        own = schema if part is Recipe else schema["$defs"].get(part.__name__)
        for name, words in field_words(part).items():
            if own is not None and name in own["properties"]:
                own["properties"][name]["description"] = words
    step = schema["$defs"]["StepConfig"]["properties"]
    for key in ("adaptation", "retention"):
        names = list(step[key].pop("discriminator")["mapping"])
        step[key] = {
            "anyOf": [{"enum": names}, *step[key]["anyOf"]],
            "description": f"One of {', '.join(names)}.",
        }
    size = schema["$defs"]["EvaluationConfig"]["properties"]["size"]
    size["anyOf"].append({"const": "native"})
    schema["properties"] |= {
        "extends": {
            "type": "string",
            "description": "Another recipe, beside this file or shipped, to start from.",
        },
        "every_step": {"$ref": "#/$defs/StepConfig", "description": "What all steps share."},
    }
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "muhdi recipe"}
    return head | {key: value for key, value in schema.items() if key != "title"}


def _loosen(node: Any) -> None:
    """No key is required but the name of a data set, and several parts may fit."""
    if isinstance(node, dict):
        if "required" in node:
            node["required"] = [key for key in node["required"] if key == "dataset"]
        if "oneOf" in node:
            node["anyOf"] = node.pop("oneOf")
        if isinstance(node.get("title"), str):
            del node["title"]
        for value in node.values():
            _loosen(value)
    elif isinstance(node, list):
        for value in node:
            _loosen(value)


def reference_page() -> str:
    """A Markdown page: every part of a recipe with its keys, types and defaults."""
    lines, schema = ["# Recipes", "", REFERENCE_INTRO], Recipe.model_json_schema()
    for part in _parts(Recipe):
        title = "A recipe" if part is Recipe else part.__name__.removesuffix("Config")
        lines += [
            f"## {title}",
            "",
            _sentence(part),
            "",
            "| key | type | default | |",
            "| --- | --- | --- | --- |",
        ]
        words, own = field_words(part), schema if part is Recipe else schema["$defs"][part.__name__]
        for name, field in part.model_fields.items():
            default = (
                ""
                if field.is_required()
                else f"`{_shown(field.get_default(call_default_factory=True))}`"
            )
            said = words.get(name, "").replace("``", "`").replace("|", "\\|")
            lines.append(f"| `{name}` | {_type(own['properties'][name])} | {default} | {said} |")
        lines.append("")
    return "\n".join(lines)


REFERENCE_INTRO = """A recipe is a YAML file. This page is made from the classes that check it, so it is complete.

Beside the keys below, `extends: NAME` starts from another recipe, and what stands in `every_step` counts for every one.
A method may be named by a word, `adaptation: selftrain`, or with its options,
`adaptation: {method: selftrain, threshold: 0.8}`. For an editor that knows JSON schemas,
`muhdi recipes --schema > recipe.schema.json` writes one; a recipe names it in its first line,
`# yaml-language-server: $schema=recipe.schema.json`.
"""


def field_words(part: type[BaseModel]) -> dict[str, str]:
    """What the docstring of a part, or of one that it is made from, says of its fields."""
    words: dict[str, str] = {}
    for base in reversed(part.__mro__):
        if (
            base is not Part
            and isinstance(base, type)
            and issubclass(base, BaseModel)
            and base.__doc__
        ):
            names: list[str] = []
            _, *pieces = _NAMED.split(inspect.cleandoc(base.__doc__))
            for first, second, text in zip(pieces[::3], pieces[1::3], pieces[2::3], strict=True):
                told = " ".join(text.split())
                if first in part.model_fields:
                    names = [name for name in (first, second) if name]
                    words |= dict.fromkeys(names, told)
                else:  # a value of the field before
                    words |= {name: f"{words[name]} ``{first}``: {told}" for name in names}
    return words


def _sentence(part: type[BaseModel]) -> str:
    """The first paragraph of a part's docstring, up to what it says of single fields."""
    text = " ".join(inspect.cleandoc(part.__doc__ or "").split("\n\n")[0].split())
    return re.split(r"[ ;]*``\w+``(?: and ``\w+``)?: ", text)[0].rstrip(";") or part.__name__


def _parts(part: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """A part and all parts inside it, each once, outside first."""
    seen: dict[type[BaseModel], None] = {}
    pending = [part]
    while pending:
        one = pending.pop(0)
        if one not in seen:
            seen[one] = None
            pending += [
                model for field in one.model_fields.values() for model in _models(field.annotation)
            ]
    yield from seen


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models(part)]


def _type(schema: Schema) -> str:
    """A type in words, from its JSON schema."""
    some: list[Schema] = schema.get("anyOf") or schema.get("oneOf") or []
    choices = [choice for choice in some if choice.get("type") != "null"]
    if choices:
        return " or ".join(dict.fromkeys(map(_type, choices)))
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2].removesuffix("Config")
        return f"[{name}](#{name.lower()})"
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        items = schema.get("prefixItems")
        return f"[{', '.join(map(_type, items))}]" if items else f"list of {_type(schema['items'])}"
    if schema.get("type") == "object" and "additionalProperties" in schema:
        return f"mapping to {_type(schema['additionalProperties'])}"
    low, high = schema.get("minimum", schema.get("exclusiveMinimum")), schema.get("maximum")
    more = (
        ""
        if low is None
        else f" above {low:g}"
        if "exclusiveMinimum" in schema
        else f" from {low:g}"
    )
    return f"{schema.get('type', 'any')}{more}{f' to {high:g}' if high is not None and high < 1e6 else ''}"


def _shown(value: Any) -> str:
    if isinstance(value, BaseModel):
        return str(getattr(value, "method", "its defaults"))
    return "null" if value is None else json.dumps(value)
