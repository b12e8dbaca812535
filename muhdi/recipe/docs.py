"""What a recipe may hold, for editors (JSON schema) and for readers (a page).

Both come from the classes that check recipes: the docstring below a field is its text.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Iterator
from typing import Any, TypeGuard

from pydantic import BaseModel

from muhdi.recipe import plugins
from muhdi.recipe.explain import nested_models
from muhdi.recipe.schema import Recipe
from muhdi.recipe.section import Buildable, Worded

Schema = dict[str, Any]

INTRO = """A recipe is a YAML file. This page is made from the classes that check it.

In addition to the keys below, `extends: NAME` starts from another recipe, and what `every_step`
holds counts for every step. A method may be named by a word, `adaptation: selftrain`, or with its
options, `adaptation: {method: selftrain, threshold: 0.8}`. For an editor that knows JSON schemas,
`muhdi recipes --schema > recipe.schema.json` writes one; a recipe names it in its first line,
`# yaml-language-server: $schema=recipe.schema.json`.
"""


def json_schema() -> Schema:
    """The JSON schema of a recipe file, as people write it.

    In addition to the keys of `Recipe` a file may hold ``extends`` and ``every_step``, and sections
    such as methods, backbones and decoders may be named by a word. No key is required, since
    another file may hold it. Methods, backbones and data sets that installed packages announce are
    listed, too.
    """
    schema = Recipe.model_json_schema()
    definitions = schema["$defs"]
    for base in _bases():
        _list_sections(definitions, base)
    _loosen(schema)
    size = definitions["EvaluationConfig"]["properties"]["size"]
    size["anyOf"].append({"const": "native"})
    for section in sections(Recipe):
        if issubclass(section, Worded):
            own = definitions[section.__name__]
            word = own["properties"][section.word_field]
            definitions[section.__name__] = {"anyOf": [{"enum": word["enum"]}, own]}
    extends = "Another recipe to start from: a file in the same folder, or a shipped one."
    schema["properties"]["extends"] = {"type": "string", "description": extends}
    schema["properties"]["every_step"] = {
        "$ref": "#/$defs/StepConfig",
        "description": "What all steps share.",
    }
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "muhdi recipe"}
    return head | {key: value for key, value in schema.items() if key != "title"}


def _bases() -> list[type[Buildable]]:
    """The kinds of sections of which recipes choose one by a key."""
    found: list[type[Buildable]] = []
    for section in sections(Recipe):
        if _is_base(section):
            found.append(section)
    return found


def _is_base(section: type[BaseModel]) -> TypeGuard[type[Buildable]]:
    return plugins.is_base(section)


def _list_sections(definitions: Schema, base: type[Buildable]) -> None:
    """Let the schema of a kind be any of its sections, or a word."""
    known = plugins.sections(base.kind, installed=True)
    choices: list[Schema] = []
    for section in dict.fromkeys(known.values()):
        schema = section.model_json_schema(ref_template="#/$defs/{model}")
        definitions |= schema.pop("$defs", {})
        definitions[section.__name__] = schema
        choices.append({"$ref": f"#/$defs/{section.__name__}"})
    foreign = {
        "type": "object",
        "required": ["class"],
        "properties": {"class": {"type": "string", "pattern": r"^[\w.]+:[\w.]+$"}},
    }
    words = _words(known) if base.kind != "dataset" else []
    # A step may have several retentions.
    itself = {"$ref": f"#/$defs/{base.__name__}"}
    lists = [{"type": "array", "items": itself}] if base.kind == "retention" else []
    definitions[base.__name__] = {"anyOf": [*words, *choices, foreign, *lists]}


def _words(names: Iterable[str]) -> list[Schema]:
    """The names that may stand for a section: words, and everything with a prefix."""
    words = sorted(name for name in names if ":" not in name)
    prefixes = sorted(name.partition(":")[0] for name in names if ":" in name)
    return [{"enum": words}, *({"type": "string", "pattern": f"^{one}:"} for one in prefixes)]


def _loosen(node: Any) -> None:
    """No key is required but the name of a data set or a class."""
    if isinstance(node, dict):
        if "required" in node:
            node["required"] = [key for key in node["required"] if key in ("dataset", "class")]
        if isinstance(node.get("title"), str):
            del node["title"]
        for value in node.values():
            _loosen(value)
    elif isinstance(node, list):
        for value in node:
            _loosen(value)


def reference_page() -> str:
    """A Markdown page: every section of a recipe with its keys, types and defaults."""
    lines = ["# Recipes", "", INTRO]
    for section in all_sections():
        if not _is_base(section):
            lines += _section_lines(section)
    return "\n".join(lines)


def all_sections() -> list[type[BaseModel]]:
    """Every section that a recipe may hold: each once, the recipe first."""
    found: dict[type[BaseModel], None] = {}
    for section in sections(Recipe):
        found[section] = None
        if _is_base(section):
            for known in plugins.sections(section.kind).values():
                found |= dict.fromkeys(sections(known))
    return list(found)


def sections(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """A model and all models inside it, each once, outside first."""
    seen: dict[type[BaseModel], None] = {}
    pending = [model]
    while pending:
        one = pending.pop(0)
        if one in seen:
            continue
        seen[one] = None
        for field in one.model_fields.values():
            pending += nested_models(field.annotation)
    yield from seen


def title_of(section: type[BaseModel]) -> str:
    """What the page calls a section."""
    return "A recipe" if section is Recipe else section.__name__.removesuffix("Config")


def _section_lines(section: type[BaseModel]) -> list[str]:
    schema = section.model_json_schema()
    summary = inspect.cleandoc(section.__doc__ or "").split("\n\nAttributes:")[0]
    lines = [f"## {title_of(section)}", "", summary, ""]
    lines += ["| key | type | default | |", "| --- | --- | --- | --- |"]
    for name, field in section.model_fields.items():
        default = ""
        if not field.is_required():
            default = f"`{_shown(field.get_default(call_default_factory=True))}`"
        key = field.alias or name
        text = " ".join((field.description or "").split()).replace("|", "\\|")
        kind = _type(schema["properties"][key])
        lines.append(f"| `{key}` | {kind} | {default} | {text} |")
    return [*lines, ""]


def _type(schema: Schema) -> str:
    """A type in words, from its JSON schema."""
    listed = schema.get("anyOf") or schema.get("oneOf", [])
    choices = [one for one in listed if one.get("type") != "null"]
    if choices:
        return " or ".join(dict.fromkeys(map(_type, choices)))
    if "$ref" in schema:
        return _reference(schema["$ref"].rpartition("/")[2])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        items = schema.get("prefixItems")
        if items:
            return f"[{', '.join(map(_type, items))}]"
        return f"list of {_type(schema['items'])}"
    if schema.get("type") == "object" and "additionalProperties" in schema:
        values = schema["additionalProperties"]
        return "mapping" if values is True else f"mapping to {_type(values)}"
    return _number(schema)


def _reference(name: str) -> str:
    """A link to a section, or to all sections of a kind."""
    for base in _bases():
        if base.__name__ == name:
            known = dict.fromkeys(plugins.sections(base.kind).values())
            return " or ".join(_link(section.__name__) for section in known)
    return _link(name)


def _link(name: str) -> str:
    title = name.removesuffix("Config")
    return f"[{title}](#{title.lower()})"


def _number(schema: Schema) -> str:
    text = str(schema.get("type", "any"))
    if "exclusiveMinimum" in schema:
        text += f" above {schema['exclusiveMinimum']:g}"
    elif "minimum" in schema:
        text += f" from {schema['minimum']:g}"
    high = schema.get("maximum")
    if high is not None and high < 1e6:
        text += f" to {high:g}"
    return text


def _shown(value: Any) -> str:
    if isinstance(value, Buildable):
        return value.key
    if isinstance(value, BaseModel):
        return "its defaults"
    if isinstance(value, list) and all(isinstance(one, Buildable) for one in value) and value:
        return f"[{', '.join(one.key for one in value)}]"
    return "null" if value is None else json.dumps(value)
