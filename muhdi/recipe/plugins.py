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
from typing import Any, get_args

from pydantic import ValidationInfo, create_model
from pydantic_core import PydanticCustomError

from muhdi.errors import RecipeError, nearest

ANY = "NAME"
"""Stands behind the colon where a section takes all names with a prefix."""
SectionClass = Any
"""A class derived from `muhdi.recipe.section.Buildable`, which imports this module."""

GROUPS = {
    "adaptation": "muhdi.adaptations",
    "retention": "muhdi.retentions",
    "online method": "muhdi.online_methods",
    "backbone": "muhdi.backbones",
    "dataset": "muhdi.datasets",
}
"""Entry point groups by kind."""

_BASES = {
    "adaptation": "muhdi.adaptation.base:Adaptation",
    "retention": "muhdi.retention.base:Retention",
    "online method": "muhdi.online.base:Online",
    "backbone": "muhdi.models.backbones.base:Backbone",
    "dataset": "muhdi.data.sets:ImageSet",
}
"""What a class of a kind must be derived from."""

_sections: dict[str, dict[str, SectionClass]] = {kind: {} for kind in GROUPS}
_imported: set[str] = set()


def register_section(kind: str, name: str, section: SectionClass) -> None:
    """Make a section known under a name; sections do so themselves by being defined.

    Raises:
        RecipeError: another module's section has this name.
    """
    if kind not in _sections:
        return
    known = _sections[kind].get(name)
    if known is not None and _file_of(known) != _file_of(section):
        raise RecipeError(
            f"{section.key_field} {name!r}: is the name of {_name_of(known)}, so "
            f"{_name_of(section)} needs another one"
        )
    _sections[kind][name] = section


def register(cls: type[Any]) -> None:
    """Let the section of a class, ``cls.config_class``, build it; classes call it when defined.

    A section builds one class. A class whose section is the base of its kind, since it has no
    options, or builds another class already, gets one that is derived from it.
    """
    section = getattr(cls, "config_class", None)
    if section is None:
        return
    if is_base(section) or section.__dict__.get("builds", _name_of(cls)) != _name_of(cls):
        section = _derived_section(cls, section)
        cls.config_class = section
    section.builds = _name_of(cls)


def is_base(section: SectionClass) -> bool:
    """Whether a section stands for all of its kind: it says what the kind is."""
    return bool(section.__dict__.get("kind"))


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


def find_section(kind: str, name: str) -> SectionClass:
    """The known section of a name, or of its part before a colon; None where there is none."""
    prefix, colon, _ = name.partition(":")
    return _sections[kind].get(f"{prefix}:{ANY}" if colon else name)


def is_shipped(kind: str, name: str) -> bool:
    """Whether a name is that of a section of this package."""
    section = find_section(kind, name)
    return section is not None and not _is_foreign(section)


def version_of(reference: str) -> str:
    """The version of the distribution that a class is of; the class itself is not imported."""
    package = reference.partition(":")[0].partition(".")[0]
    distributions = packages_distributions().get(package, [])
    return version(distributions[0]) if distributions else "unknown"


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
    if isinstance(value, base) and _is_foreign(type(value)):
        return _spelled_out(value)
    if isinstance(value, str):
        value = {base.key_field: value}
    if not isinstance(value, Mapping):
        return value  # a section already, or something that pydantic refuses
    trust = bool((info.context or {}).get("trust_code", True))
    reference = value.get("class")
    name = value.get(base.key_field)
    if reference is None and name is None:
        raise explained(f"needs the key {base.key_field!r}")
    section = None if reference is not None else find_section(base.kind, str(name))
    if section is not None and not _is_foreign(section):
        return section.model_validate(value, context=info.context)
    if reference is None:
        reference = _class_of_name(base, str(name), section)
    if not trust:
        return opaque(base).model_validate(dict(value))
    section = _section_of(base.kind, str(reference))
    options = {**value, "class": str(reference)}
    words = get_args(section.model_fields[base.key_field].annotation)
    if "class" not in value and words and name not in words:
        # A package may announce its class by another word than the section's.
        del options[base.key_field]
    return _spelled_out(section.model_validate(options, context=info.context))


def _class_of_name(base: SectionClass, name: str, section: SectionClass | None) -> str:
    """The foreign class that a word stands for, as ``package.module:Name``; none is imported.

    Args:
        base: of the kind's sections.
        name: the word.
        section: the section that was defined in this process with this name, if any.
    """
    if section is None:
        announced = _announced(base.kind)
        if name not in announced:
            raise explained(_unknown(base, name))
        return announced[name]
    reference = section.__dict__.get("builds")
    if not reference:
        raise explained(
            f"no class builds {name!r}; set config_class = {section.__name__} in one of kind "
            f"{base.kind}"
        )
    return str(reference)


def _spelled_out(section: Any) -> Any:
    """A foreign section that names its class, and a data set also what results call it.

    So it is saved with all that a reader needs who does not trust its code.
    """
    known: dict[str, Any] = {}
    if section.class_ is None and section.builds and "<locals>" not in section.builds:
        known["class_"] = section.builds
    if section.kind == "dataset" and section.name is None:
        known["name"] = section.domain_name
        if not (isinstance(known["name"], str) and known["name"]):
            raise explained(f"its domain_name is {known['name']!r}; it must be a word")
    return section.model_copy(update=known)


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
        RecipeError: it cannot be imported, or is not a class of this kind.
    """
    cls = import_name(reference)
    base = import_name(_BASES[kind])
    if not (isinstance(cls, type) and issubclass(cls, base)):
        article = f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"
        raise RecipeError(
            f"class {reference}: is not {article}; derive it from {_BASES[kind].replace(':', '.')}"
        )
    section: SectionClass = getattr(cls, "config_class", None)
    if section is None:
        raise RecipeError(
            f"class {reference}: has no config_class; set it to a section with the class's options"
        )
    _imported.add(reference)
    return section


def _derived_section(cls: type[Any], section: SectionClass) -> SectionClass:
    """A section for a class that shares another one, found again as ``cls.config_class``."""
    derived = create_model(
        f"{cls.__name__}Config",
        __base__=section,
        __module__=cls.__module__,
        __doc__=cls.__doc__ or section.__doc__,
    )
    derived.__qualname__ = f"{cls.__qualname__}.config_class"  # for pickle
    return derived


def _is_foreign(section: SectionClass) -> bool:
    package = str(section.__module__).partition(".")[0]
    return package != "muhdi"


def explained(message: str) -> PydanticCustomError:
    """An error of a value whose message `muhdi.recipe.explain` takes as it is."""
    return PydanticCustomError("explained", "{message}", {"message": message})


def _unknown(base: SectionClass, name: str) -> str:
    known = sorted({*_sections[base.kind], *_announced(base.kind)})
    what = {"dataset": "data set", "name": "backbone"}.get(base.key_field, base.key_field)
    shown = repr(name) if len(name) < 60 else f"{name[:60]!r}..."
    return f"unknown {what} {shown}{nearest(name, known)} (known: {', '.join(known)})"


def _name_of(cls: type[Any]) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _file_of(section: SectionClass) -> str:
    """Where a section is defined: a script's ``__main__`` may be imported by its name, too."""
    module = sys.modules.get(section.__module__)
    return str(getattr(module, "__file__", section.__module__))
