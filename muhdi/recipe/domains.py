"""Domains: where images and labels come from, and how they are loaded."""

from __future__ import annotations

from functools import partial
from pathlib import PurePath
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    SerializeAsAny,
    Tag,
    model_validator,
)

from muhdi.errors import RecipeError
from muhdi.recipe import plugins
from muhdi.recipe.section import (
    Buildable,
    Fraction,
    Name,
    NotNegative,
    Opaque,
    Positive,
    Section,
    Size,
)
from muhdi.taxonomy import ClassSet


class DomainConfig(Buildable):
    """A domain: a data set, or a part of one."""

    kind: ClassVar[str] = "dataset"
    key_field: ClassVar[str] = "dataset"

    dataset: str = ""
    """The data set's name."""
    name: Name | None = None
    """What results call the domain; none: a name that the data set gives it."""
    image_size: Size | None = None
    """Width and height of its training images, where they differ from the recipe's."""

    @property
    def domain_name(self) -> str:
        """What results call the domain."""
        return self.name or self.key.rpartition(":")[2].lower()


class ScenesConfig(DomainConfig):
    """Built-in drawn street scenes."""

    builds: ClassVar[str] = "muhdi.data.catalog:open_scenes"

    dataset: Literal["scenes"]
    """The data set's name."""
    domain: Literal[
        "day",
        "snow",
        "wet_night",
        "autumn",
        "abroad",
        "fog",
        "sim",
        "city",
        "dust",
        "night",
        "rain",
    ]
    """Which look the scenes have: of the second edition (`day` is the source), or from `sim` on of
    the first."""
    train: Positive = 300
    """Number of training images."""
    val: Positive = 80
    """Number of evaluation images."""
    seed: NotNegative | None = None
    """Of the drawing; none: the run's."""

    @property
    def domain_name(self) -> str:
        """``name``, or else the look."""
        return self.name or self.domain


HexColour = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$"), AfterValidator(str.lower)]


class FolderConfig(DomainConfig):
    """Your own images and labels, found by pattern.

    Patterns are relative to ``root`` and may hold ``*``, ``**`` and ``{split}`` (train or val);
    label patterns also ``{stem}`` (the image's name without its ending), ``{name}`` and
    ``{parent}`` (its folder, relative to the part of the image pattern before the first ``*``).
    Without ``{split}`` and without ``val_images`` both splits hold the same images.
    """

    builds: ClassVar[str] = "muhdi.data.catalog:open_folder"

    dataset: Literal["folder"]
    """The data set's name."""
    root: str = "."
    """Folder below which the patterns look, relative to `runtime.root`."""
    images: str
    """Pattern of the images, or a list of them: a `.txt` file below `root` with one image per line,
    or an image and its label."""
    labels: str | None = None
    """Pattern of the label images; none: there are no labels."""
    val_images: str | None = None
    """Pattern of the evaluation's images, where `{split}` cannot say it; none: `images`."""
    val_labels: str | None = None
    """Pattern of the evaluation's labels; none: `labels`."""
    masks: dict[str, str] | None = None
    """Class -> pattern of its masks, where labels are one mask per class; pixels that are not 0
    belong to the class, and to the last of several. An image may lack those that it does not
    show."""
    unmasked: str | None = None
    """Class of the pixels that no mask covers; none: they are ignored."""
    ids: dict[int, str] | None = None
    """Raw id in the label images -> class name or `ignore`; none: as in the source, if that is a
    folder too; else a raw id is the class position, and 255 is ignored."""
    colours: dict[HexColour, str] | None = None
    """Colour in the label images, as `"#804080"` -> class name or `ignore`; none: labels hold raw
    ids."""
    val_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Share of the images that is held out for evaluation, where there is no separate split; none:
    the same images serve for both."""
    strict: bool = False
    """Refuse a raw id or colour that `ids` or `colours` does not list, instead of ignoring and
    counting it."""

    @property
    def has_table(self) -> bool:
        """Whether it says itself what its labels mean; else it has the source's table."""
        return any(table is not None for table in (self.ids, self.colours, self.masks))

    def check_classes(self, key: str, classes: ClassSet) -> None:
        """Refuse a table that names a class which is not in the set.

        Raises:
            RecipeError: it does; ``key`` says where the section is.
        """
        tables = {
            "ids": self.ids or {},
            "colours": dict(enumerate((self.colours or {}).values())),
            "masks": dict(enumerate(self.masks or {})),
            "unmasked": {} if self.unmasked is None else {0: self.unmasked},
        }
        for name, table in tables.items():
            try:
                classes.lookup(table)
            except RecipeError as error:
                raise RecipeError(f"{key}.{name}: {error}") from None

    @model_validator(mode="after")
    def _one_meaning(self) -> FolderConfig:
        if self.ids is not None and self.colours is not None:
            raise ValueError("give ids or colours, not both: labels hold numbers or colours")
        others = (self.labels, self.val_labels, self.ids, self.colours)
        if self.masks is not None and any(other is not None for other in others):
            raise ValueError(
                "masks: say themselves which class each is; leave labels, val_labels, ids and"
                " colours out"
            )
        if self.masks is None and self.unmasked is not None:
            raise ValueError("unmasked: is for masks; leave it out, or say where the masks are")
        split = "{split}" in self.images or self.val_images is not None
        if self.val_fraction is not None and split:
            raise ValueError(
                "val_fraction: the images have a separate split already; leave it out, or take"
                " {split} out of 'images'"
            )
        return self

    @property
    def domain_name(self) -> str:
        """``name``, or else the last part of ``root``, or the data set."""
        return self.name or PurePath(self.root).name or self.dataset


class PublicConfig(DomainConfig):
    """A public data set in its official directory layout, see `muhdi.data.public.layouts`."""

    builds: ClassVar[str] = "muhdi.data.catalog:open_public"

    dataset: Literal["gta5", "synthia", "cityscapes", "idd", "mapillary"]
    """The data set's name."""
    root: str | None = None
    """Its folder, relative to `runtime.root`; none: the documented one, such as `data/GTA5`."""
    train: Name | None = None
    """Name of the training split, where it is not the data set's own."""
    val: Name | None = None
    """Name of the evaluation split, where it is not the data set's own."""
    train_list: str | None = None
    """File with one training image per line; `{split}` or `{}` is the split's name. None: the
    folders are walked."""
    val_list: str | None = None
    """File with one evaluation image per line; none: the folders are walked."""
    label_format: Literal["auto", "ids", "train_ids", "colours"] = "auto"
    """What label images hold: raw `ids`, `train_ids` (0-18), or `colours` of the data set's
    palette; `auto` takes the first that is there."""
    strict: bool = False
    """Refuse a raw id that the data set does not define, instead of ignoring and counting it."""

    @property
    def domain_name(self) -> str:
        """``name``, or else the data set."""
        return self.name or self.dataset


class ACDCConfig(PublicConfig):
    """The ACDC data set of adverse conditions."""

    dataset: Literal["acdc"]  # type: ignore[assignment]
    """The data set's name."""
    condition: Literal["fog", "night", "rain", "snow"] | None = None
    """One of its conditions; none: all of them."""

    @property
    def domain_name(self) -> str:
        """``name``, or else the condition, or the data set."""
        return self.name or self.condition or self.dataset


class ShardsConfig(DomainConfig):
    """A domain in shards that `muhdi prepare --shards` has written."""

    builds: ClassVar[str] = "muhdi.data.shards.opening:open_shards"

    dataset: Literal["shards"]
    """The data set's name."""
    root: str
    """Folder of the domain's shards, relative to `runtime.root`, or an address such as
    `s3://bucket/shards/day`."""
    mixed: Positive = 8
    """Shards whose images are drawn in one random order; an epoch goes through all of them so."""
    kept: str | None = None
    """Folder where shards of an address are kept, relative to `runtime.root`; none:
    `~/.cache/muhdi/shards`."""
    keep_mb: Positive = 8192
    """MiB of an address's shards that are kept of each split; those that were not used for the
    longest time go first."""

    @property
    def domain_name(self) -> str:
        """``name``, or else the last part of ``root``, or the data set."""
        return self.name or PurePath(self.root).name or self.dataset


class OpaqueDomainConfig(Opaque, DomainConfig):
    """A data set of another package, read without trust: it imports nothing."""

    model_config = ConfigDict(extra="allow")


DomainField = Annotated[
    SerializeAsAny[DomainConfig],
    BeforeValidator(partial(plugins.read_section, DomainConfig)),
]


def _kind_of_crop(crop: Any) -> str:
    return "window" if isinstance(crop, (list, tuple)) else "share"


def _is_a_share(crop: Any) -> Any:
    """Refuse pixels without a height in words that say how they are given."""
    if isinstance(crop, (int, float)) and crop > 1:
        message = f"must be a share from 0 to 1, or [width, height] in pixels (it is {crop})"
        raise plugins.explained(message)
    return crop


Share = Annotated[float, Field(gt=0.0, le=1.0)]
Crop = Annotated[
    Annotated[Share, BeforeValidator(_is_a_share), Tag("share")] | Annotated[Size, Tag("window")],
    Discriminator(_kind_of_crop),
]
LARGEST_CLASS = 0.75
"""Share of a window that one class may fill, where nobody chooses (mmsegmentation)."""


class AugmentConfig(Section):
    """Random changes of training images; the default changes nothing."""

    crop: Crop = 1.0
    """The smallest window that is cut out, as a fraction of the image's sides; it is resized to the
    full size. Or `[width, height]` in pixels: a window of exactly this size, which is what training
    sees then; evaluation sees whole images."""
    crop_max_class: Share | None = None
    """With a crop in pixels of a labelled image: a window of which one class fills more than this
    share, of its labelled pixels, is drawn again, up to 10 times. None: 0.75; 1: never."""
    flip: bool = False
    """Mirror half of the images."""
    colour: Fraction = 0.0
    """Brightness, contrast and saturation change by up to 1 +- this."""

    @property
    def window(self) -> Size | None:
        """Width and height of a crop in pixels; None without one."""
        return self.crop if isinstance(self.crop, tuple) else None

    @property
    def crops(self) -> bool:
        """Whether training sees random parts of images."""
        return self.crop != 1.0

    @property
    def largest_class(self) -> float:
        """The share of a crop in pixels that one class may fill."""
        return LARGEST_CLASS if self.crop_max_class is None else self.crop_max_class

    @model_validator(mode="after")
    def _one_meaning(self) -> AugmentConfig:
        if self.crop_max_class is not None and self.window is None:
            raise RecipeError(
                "augment.crop_max_class: is of a crop in pixels; leave it out, or set augment.crop"
                " to [width, height]"
            )
        return self

    def check_fits(self, key: str, size: Size) -> None:
        """Refuse a crop in pixels that is larger than the images.

        Args:
            key: of the images' size.
            size: width and height.

        Raises:
            RecipeError: names both keys.
        """
        window = self.window
        if window is None or (window[0] <= size[0] and window[1] <= size[1]):
            return
        raise RecipeError(
            f"augment.crop: {window[0]}x{window[1]} is larger than {key}, {size[0]}x{size[1]}; set"
            " a smaller crop or a larger image_size"
        )
