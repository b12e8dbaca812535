"""Methods, backbones and data sets by name: this package's, and those of other packages.

A class is known to recipes in one of four ways: it is built in; it was defined in this process; an
installed package announces it by an entry point; or a recipe names it, ``class: "package:Name"``.
Nothing foreign is imported unless the reader of a recipe trusts it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points, packages_distributions, version
from typing import Any

from pydantic import ValidationInfo
from pydantic_core import PydanticCustomError

from muhdi.errors import RecipeError, nearest

SectionClass = Any
"""A class derived from `muhdi.recipe.section.Buildable`, which imports this module."""

GROUPS = {
    "adaptation": "muhdi.adaptations",
    "retention": "muhdi.retentions",
    "backbone": "muhdi.backbones",
    "dataset": "muhdi.datasets",
}
"""Entry point groups by kind."""

_BASES = {
    "adaptation": "muhdi.adaptation.base:Adaptation",
    "retention": "muhdi.retention.base:Retention",
    "backbone": "muhdi.models.backbones.base:Backbone",
    "dataset": "muhdi.data.sets:ImageSet",
}
"""What a class of a kind must be derived from."""

_sections: dict[str, dict[str, SectionClass]] = {kind: {} for kind in GROUPS}
_imported: dict[str, str] = {}


def register_section(kind: str, name: str, section: SectionClass) -> None:
    """Make a section known under a name; sections do so themselves by being defined."""
    if kind in _sections:
        _sections[kind][name] = section


def register(cls: type[Any]) -> None:
    """Let the section of a class, ``cls.config_class``, build it; classes call it when defined."""
    section = cls.__dict__.get("config_class")
    if section is not None and not section.builds:
        section.builds = _name_of(cls)


def sections(kind: str, *, installed: bool = False) -> dict[str, SectionClass]:
    """The known sections of a kind by name.

    Args:
        kind: a key of `GROUPS`.
        installed: import what installed packages announce, too.

    Raises:
        RecipeError: an announced class cannot be imported.
    """
    if installed:
        for name, reference in _announced(kind).items():
            if name not in _sections[kind]:
                _sections[kind][name] = _section_of(kind, reference)
    return dict(_sections[kind])


def imported() -> dict[str, str]:
    """Foreign classes that recipes have imported -> the version of their distribution."""
    return dict(_imported)


def import_name(reference: str) -> Any:
    """What ``package.module:Name`` stands for.

    Raises:
        RecipeError: the module or the name is not there, or importing fails.
    """
    module_name, colon, name = reference.partition(":")
    if not (colon and module_name and name):
        raise RecipeError(f"class {reference}: must read package.module:Name")
    try:
        value: Any = import_module(module_name)
    except Exception as error:  # whatever a foreign module does when it is imported
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise RecipeError(
            f"class {reference}: cannot be imported ({reason}); install its package, or correct "
            "the name"
        ) from None
    for part in name.split("."):
        if not hasattr(value, part):
            hint = nearest(part, [known for known in dir(value) if not known.startswith("_")])
            raise RecipeError(f"class {reference}: {module_name} has no {part}{hint}")
        value = getattr(value, part)
    return value


def read_section(base: SectionClass, value: Any, info: ValidationInfo) -> Any:
    """A section from what a recipe holds: a name, or a mapping with a name or a class.

    Args:
        base: of the kind's sections.
        value: from the recipe.
        info: pydantic's; its context may hold ``trust_code``, which is true if it is missing.
    """
    if isinstance(value, str):
        value = {base.key_field: value}
    if not isinstance(value, Mapping):
        return value  # a section already, or something that pydantic refuses
    trust = bool((info.context or {}).get("trust_code", True))
    reference = value.get("class")
    name = value.get(base.key_field)
    if reference is None and name is None:
        message = f"needs the key {base.key_field!r}"
        raise PydanticCustomError("explained", "{message}", {"message": message})
    section = None if reference is not None else _sections[base.kind].get(str(name))
    if section is not None and not _is_foreign(section):
        return section.model_validate(value, context=info.context)
    if not trust:
        return opaque(base).model_validate(dict(value))
    if reference is None:
        reference = section.builds if section is not None else _announced(base.kind).get(str(name))
    if reference is None:
        raise PydanticCustomError("explained", "{message}", {"message": _unknown(base, str(name))})
    section = _section_of(base.kind, str(reference))
    return section.model_validate({**value, "class": str(reference)}, context=info.context)


def opaque(base: SectionClass) -> SectionClass:
    """The section of a kind that keeps what it has read, and imports nothing."""
    found: SectionClass = getattr(sys.modules[base.__module__], f"Opaque{base.__name__}")
    return found


def config_class_of(reference: str) -> SectionClass:
    """The section of a foreign class that was imported already; None if it was not."""
    if reference not in _imported:
        return None
    return import_name(reference).config_class


def refuse_foreign(reference: str) -> RecipeError:
    """The error of whoever needs a foreign class that is not trusted."""
    return RecipeError(
        f"this names code of another package, {reference}; add --trust-code (trust_code=True) if "
        "you trust it"
    )


def _announced(kind: str) -> dict[str, str]:
    """Names that installed packages announce -> ``package.module:Name``."""
    return {point.name: point.value for point in entry_points(group=GROUPS[kind])}


def _section_of(kind: str, reference: str) -> SectionClass:
    """The section of a foreign class.

    Raises:
        RecipeError: it cannot be imported, or is no class of this kind.
    """
    cls = import_name(reference)
    base = import_name(_BASES[kind])
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise RecipeError(
            f"class {reference}: is no {kind}; derive it from {_BASES[kind].replace(':', '.')}"
        )
    section: SectionClass = cls.__dict__.get("config_class")
    if section is None:
        raise RecipeError(
            f"class {reference}: has no config_class; set it to a section with the class's options"
        )
    distributions = packages_distributions().get(cls.__module__.partition(".")[0], [])
    _imported[reference] = version(distributions[0]) if distributions else "unknown"
    return section


def _is_foreign(section: SectionClass) -> bool:
    package = str(section.__module__).partition(".")[0]
    return package != "muhdi"


def _unknown(base: SectionClass, name: str) -> str:
    known = sorted({*_sections[base.kind], *_announced(base.kind)})
    what = {"dataset": "data set", "name": "backbone"}.get(base.key_field, base.key_field)
    shown = repr(name) if len(name) < 60 else f"{name[:60]!r}..."
    return f"unknown {what} {shown}{nearest(name, known)} (known: {', '.join(known)})"


def _name_of(cls: type[Any]) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"
