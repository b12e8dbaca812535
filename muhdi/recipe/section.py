"""What all sections of a recipe share."""

from __future__ import annotations

from collections.abc import Iterable
from inspect import get_annotations
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, NoReturn, Union, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from muhdi.recipe import plugins


def _no_truth_value(value: Any) -> Any:
    """Pydantic takes true for 1."""
    if isinstance(value, bool):
        word = str(value).lower()
        raise plugins.explained(f"must be a number (it is {word}; YAML reads yes and on as true)")
    return value


Positive = Annotated[int, Field(gt=0, lt=2**63)]
"""An integer above 0: the type of an option such as a width or a number of iterations."""
NotNegative = Annotated[int, Field(ge=0, lt=2**63)]
Weight = Annotated[float, Field(ge=0.0, le=1e12, allow_inf_nan=False)]
"""A finite number of at least 0: the type of an option that is the factor of a loss."""
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
"""A number from 0 to 1: the type of an option such as a momentum or a share."""
MeanOver = Literal["labelled", "all"]
"""Pixels whose number a loss is divided by."""
Rate = Annotated[float, Field(gt=0.0, le=1e6, allow_inf_nan=False)]
Side = Annotated[int, Field(ge=8, le=32768), BeforeValidator(_no_truth_value)]
Size = tuple[Side, Side]
"""Width and height in pixels."""
Name = Annotated[str, Field(min_length=1)]
RGB = 3
"""Channels of an image that holds nothing but colours."""
Value = Annotated[int, Field(ge=0, lt=2**16), BeforeValidator(_no_truth_value)]


def _ascends(ends: tuple[int, int]) -> tuple[int, int]:
    low, high = ends
    if low >= high:
        raise plugins.explained(f"must be [low, high] with low below high (it is [{low}, {high}])")
    return ends


PixelRange = Annotated[tuple[Value, Value], AfterValidator(_ascends)]
"""Two values of pixels of up to 16 bit, the lower one first."""


def _scalars_in(annotation: Any) -> set[Any]:
    """The types of single values that a field takes, such as int and None."""
    if get_origin(annotation) in (Union, UnionType, Annotated):
        return {found for one in get_args(annotation) for found in _scalars_in(one)}
    return {annotation} if isinstance(annotation, type) else set()


class Section(BaseModel):
    """A section of a recipe: unknown keys are refused, values never change.

    The docstring below a field is its help, its text in the JSON schema and in the documentation.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, serialize_by_alias=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _numbers_are_no_truth_values(cls, value: Any, info: ValidationInfo) -> Any:
        types = _scalars_in(cls.model_fields[str(info.field_name)].annotation)
        # What may also be something else, such as a file, has a check of its own.
        is_number = bool({int, float} & types) and types <= {int, float, NoneType}
        return _no_truth_value(value) if is_number else value


def plain(section: BaseModel) -> dict[str, Any]:
    """A section or a whole recipe as its file holds it, every default but None written out."""
    return section.model_dump(mode="json", exclude_none=True)


class Worded(Section):
    """A section that may be given by a word alone, ``light`` for ``{name: light}``.

    Attributes:
        word_field: the key that the word stands for.
    """

    word_field: ClassVar[str]

    @model_validator(mode="before")
    @classmethod
    def _by_word(cls, value: Any) -> Any:
        return {cls.word_field: value} if isinstance(value, str) else value


class Buildable(Section):
    """A section that says which class it builds: a method, a backbone or a data set.

    A section is registered under the values of its key (``method: Literal["advent"]``) by being
    defined, if it defines that key itself: the names of another section stay that one's. Classes of
    other packages are named by ``class: "package.module:Name"``.

    Attributes:
        kind: what is built, such as ``adaptation``.
        key_field: the key that names it, such as ``method``.
        prefix: what stands before a colon in all names of the section; empty: it lists its names.
        builds: the class, as ``package.module:Name``; it is imported when it is needed, so that
            recipes are read without torch.
    """

    kind: ClassVar[str] = ""
    key_field: ClassVar[str] = "method"
    prefix: ClassVar[str] = ""
    builds: ClassVar[str] = ""

    class_: str | None = Field(None, alias="class")
    """A class of another package, as `package.module:Name`; none: one of this package's."""

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        super().__pydantic_init_subclass__(**options)
        if cls.key_field not in get_annotations(cls):
            return
        if cls.prefix:
            plugins.register_section(cls.kind, f"{cls.prefix}:{plugins.ANY}", cls)
        field = cls.model_fields.get(cls.key_field)
        for name in get_args(field.annotation) if field is not None else ():
            if isinstance(name, str):
                plugins.register_section(cls.kind, name, cls)

    @property
    def key(self) -> str:
        """What recipes call it: its class, or its name."""
        return self.class_ or str(getattr(self, self.key_field))

    def target_class(self) -> Any:
        """The class, or function, that the section builds.

        Raises:
            RecipeError: it cannot be imported.
        """
        return plugins.import_name(self.class_ or self.builds)

    def build(self, *arguments: Any, **options: Any) -> Any:
        """What the section describes: its class, called with the section and the arguments."""
        return self.target_class()(self, *arguments, **options)


class Opaque(Buildable):
    """A section that was read without trust: it keeps its text and imports nothing."""

    def build(self, *arguments: Any, **options: Any) -> NoReturn:
        """Refused: what it describes is of another package."""
        raise plugins.refuse_foreign(self.key)

    def target_class(self) -> NoReturn:
        """Refused, like `build`."""
        raise plugins.refuse_foreign(self.key)

    @model_serializer(mode="wrap")
    def _as_read(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Only what was read: a default such as ``method: ""`` would not be read again."""
        read = {"class" if name == "class_" else name for name in self.model_fields_set}
        return {key: value for key, value in handler(self).items() if key in read}


def refuse_untrusted(sections: Iterable[Buildable]) -> None:
    """Refuse sections whose classes are of other packages, and were read without trust.

    Raises:
        RecipeError: names the first of them.
    """
    for section in sections:
        if isinstance(section, Opaque):
            raise plugins.refuse_foreign(section.key)
