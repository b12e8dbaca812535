"""Domains: where images and labels come from."""

from __future__ import annotations

from functools import partial
from pathlib import PurePath
from typing import Annotated, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    model_validator,
)

from muhdi.errors import RecipeError
from muhdi.recipe import plugins
from muhdi.recipe.section import (
    RGB,
    Buildable,
    Name,
    NotNegative,
    Opaque,
    Positive,
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
    def channels(self) -> int | None:
        """Channels of its images; None: only its files can tell."""
        return None

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
    def channels(self) -> int:
        """Red, green and blue."""
        return RGB

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
    bands: list[str] = []
    """Patterns, as those of labels, of further files of each image, such as `nir/{stem}.png`. Their
    channels come after red, green and blue, in this order: one of a grey file, three of a colour
    file. None: where `channels` is more than 3, the image's own file holds all of them."""
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
    """A public data set in its official directory layout, see `muhdi.data.public.known`."""

    builds: ClassVar[str] = "muhdi.data.catalog:open_public"

    dataset: Literal[
        "gta5",
        "synthia",
        "cityscapes",
        "idd",
        "mapillary",
        "bdd100k",
        "wilddash2",
        "kitti",
        "railsem19",
        "vaihingen",
    ]
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
    label_format: Literal["auto", "ids", "train_ids", "colours", "polygons"] = "auto"
    """What label files hold: raw `ids`, `train_ids` (0-18), `colours` of the data set's palette, or
    `polygons` from which ids are drawn; `auto` takes the first that is there."""
    strict: bool = False
    """Refuse a raw id that the data set does not define, instead of ignoring and counting it."""

    @property
    def domain_name(self) -> str:
        """``name``, or else the data set."""
        return self.name or self.dataset

    @property
    def channels(self) -> int:
        """Red, green and blue, unless a data set has more."""
        return RGB

    @property
    def variant(self) -> str:
        """What stands for ``{variant}`` in the data set's layout; ``*`` is any."""
        return "*"


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

    @property
    def variant(self) -> str:
        """The condition."""
        return self.condition or "*"


class DarkZurichConfig(PublicConfig):
    """Dark Zurich: the same streets by day, at dusk and by night."""

    dataset: Literal["dark_zurich"]  # type: ignore[assignment]
    """The data set's name."""
    condition: Literal["day", "twilight", "night"] = "night"
    """Which of its training images; those with labels, for the evaluation, are of the night."""

    @property
    def domain_name(self) -> str:
        """``name``, or else the data set with the condition."""
        return self.name or f"{self.dataset}_{self.condition}"

    @property
    def variant(self) -> str:
        """The condition."""
        return self.condition


DENSITIES = (0.005, 0.01, 0.02)
"""Of the fog in Foggy Cityscapes, per metre."""


def _is_a_density(beta: float) -> float:
    if beta not in DENSITIES:
        known = ", ".join(map(str, DENSITIES))
        raise plugins.explained(f"must be one of {known} (it is {beta})")
    return beta


class FoggyCityscapesConfig(PublicConfig):
    """Foggy Cityscapes: the images of Cityscapes with fog computed into them."""

    dataset: Literal["foggy_cityscapes"]  # type: ignore[assignment]
    """The data set's name."""
    beta: Annotated[
        float, AfterValidator(_is_a_density), Field(json_schema_extra={"enum": list(DENSITIES)})
    ] = 0.02
    """Density of the fog, per metre: one sees 600, 300 or 150 metres."""

    @property
    def variant(self) -> str:
        """The density, as file names have it."""
        return str(self.beta)


class RainyCityscapesConfig(PublicConfig):
    """Rainy Cityscapes: images of Cityscapes with rain and haze computed into them."""

    dataset: Literal["rainy_cityscapes"]  # type: ignore[assignment]
    """The data set's name."""
    rain: Name = "*"
    """Which of the 36 kinds of rain that each image has, as file names say it behind `_rain_`, such
    as `alpha_0.01_beta_0.005_dropsize_0.01_pattern_1`; `*` stands for any text."""

    @property
    def variant(self) -> str:
        """The kind of rain."""
        return self.rain


class A2D2Config(PublicConfig):
    """A2D2, the data set of Audi's cars."""

    dataset: Literal["a2d2"]  # type: ignore[assignment]
    """The data set's name."""
    camera: Literal[
        "front_center",
        "front_left",
        "front_right",
        "side_left",
        "side_right",
        "rear_center",
        "all",
    ] = "front_center"
    """Which of its cameras."""

    @property
    def variant(self) -> str:
        """The camera's folder."""
        return "*" if self.camera == "all" else f"cam_{self.camera}"


_OF_CAMERA = {"eon": "imgs/*", "road": "imgs2/*_f_*", "wide": "imgs2/*_e_*"}
"""Pattern of a camera's images in comma10k."""


class Comma10kConfig(PublicConfig):
    """comma10k, crowd-sourced labels of frames behind windscreens."""

    dataset: Literal["comma10k"]  # type: ignore[assignment]
    """The data set's name."""
    camera: Literal["eon", "road", "wide"] = "eon"
    """The first device's, `imgs/`, or the later device's: `road` and `wide` of `imgs2/`."""

    @property
    def domain_name(self) -> str:
        """``name``, or else the data set with the camera."""
        return self.name or f"{self.dataset}_{self.camera}"

    @property
    def variant(self) -> str:
        """Pattern of the camera's images."""
        return _OF_CAMERA[self.camera]


class LoveDAConfig(PublicConfig):
    """LoveDA: Chinese towns and country from above."""

    dataset: Literal["loveda"]  # type: ignore[assignment]
    """The data set's name."""
    area: Literal["urban", "rural"] | None = None
    """One of its two domains; none: both."""

    @property
    def domain_name(self) -> str:
        """``name``, or else the area, or the data set."""
        return self.name or self.area or self.dataset

    @property
    def variant(self) -> str:
        """The area's folder."""
        return "*" if self.area is None else self.area.capitalize()


_OF_BANDS = {"rgb": "2_Ortho_RGB", "irrg": "3_Ortho_IRRG", "rgbir": "4_Ortho_RGBIR"}
"""Folder of the images with these channels."""


class PotsdamConfig(PublicConfig):
    """Potsdam of the ISPRS benchmark: true orthophotos, 5 cm per pixel."""

    dataset: Literal["potsdam"]  # type: ignore[assignment]
    """The data set's name."""
    bands: Literal["rgb", "irrg", "rgbir"] = "rgb"
    """Which channels the images hold; Vaihingen's are infrared, red and green (`irrg`). `rgbir` is
    all four, infrared the last, and needs `channels: 4`."""

    @property
    def channels(self) -> int:
        """Four with infrared beside red, green and blue."""
        return RGB + 1 if self.bands == "rgbir" else RGB

    @property
    def variant(self) -> str:
        """The bands' folder."""
        return _OF_BANDS[self.bands]


class NuImagesConfig(DomainConfig):
    """nuImages: photographs of six cameras in Boston and Singapore."""

    builds: ClassVar[str] = "muhdi.data.public.nuimages:open_nuimages"

    dataset: Literal["nuimages"]
    """The data set's name."""
    root: str | None = None
    """Its folder, relative to `runtime.root`; none: `data/nuimages`."""
    camera: (
        Literal["front", "front_left", "front_right", "back", "back_left", "back_right"] | None
    ) = None
    """One of its cameras; none: all of them."""
    train: Name = "v1.0-train"
    """Folder of the training split's tables; `v1.0-mini` is a small one."""
    val: Name = "v1.0-val"
    """Folder of the evaluation split's tables."""

    @property
    def channels(self) -> int:
        """Red, green and blue."""
        return RGB

    @property
    def domain_name(self) -> str:
        """``name``, or else the data set."""
        return self.name or self.dataset


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
