"""Domains: where images and labels come from, and how they are loaded."""

from __future__ import annotations

from pathlib import PurePath
from typing import Annotated, Literal

from pydantic import Field

from muhdi.recipe.section import Fraction, Name, NotNegative, Part, Positive, Size


class DomainConfig(Part):
    """What every domain may say.

    ``name``: what results call it. ``image_size``: of its training images, where it differs from
    the recipe's.
    """

    name: Name | None = None
    image_size: Size | None = None

    @property
    def domain_name(self) -> str:
        """What results call the domain."""
        raise NotImplementedError


class ScenesConfig(DomainConfig):
    """Built-in drawn street scenes.

    ``domain``: which look. ``train`` and ``val``: images per split. ``seed``: of the drawing; left
    out, the run's.
    """

    dataset: Literal["scenes"]
    domain: Literal["sim", "city", "dust", "night", "rain"]
    train: Positive = 300
    val: Positive = 80
    seed: NotNegative | None = None

    @property
    def domain_name(self) -> str:
        """``name``, else the look."""
        return self.name or self.domain


class FolderConfig(DomainConfig):
    """Images and labels of one's own, found by pattern.

    Patterns are relative to ``root`` and may hold ``*``, ``**`` and ``{split}`` (train or val);
    label patterns also ``{stem}`` (the image's name without its ending), ``{name}`` and
    ``{parent}`` (its folder, relative to the part of the image pattern before the first ``*``).
    Without ``{split}`` and without ``val_images`` both splits hold the same images.

    ``ids``: raw id -> class name or ``ignore``; left out, a raw id is the class position and 255 is
    ignored. ``strict``: refuse a raw id that ``ids`` does not list, instead of ignoring and
    counting it.
    """

    dataset: Literal["folder"]
    root: str = "."
    images: str
    labels: str | None = None
    val_images: str | None = None
    val_labels: str | None = None
    ids: dict[int, str] | None = None
    strict: bool = False

    @property
    def domain_name(self) -> str:
        """``name``, else the last part of ``root``, else the data set."""
        return self.name or PurePath(self.root).name or self.dataset


class PublicConfig(DomainConfig):
    """A public data set in its official directory layout.

    See `muhdi.data.public.layouts` for what is looked for where.

    ``root``: its folder; left out, the documented one (``data/GTA5`` and so on). ``train`` and
    ``val``: names of the splits, where they are not the data set's own. ``train_list`` and
    ``val_list``: a file with one image per line, in which ``{split}`` or ``{}`` stands for the
    split's name; left out, the folders are walked. ``label_format``: what label images hold: raw
    ``ids``, ``train_ids`` (0-18), or ``colours`` of the data set's palette; ``auto`` takes the
    first kind that is there. ``strict``: refuse a raw id that the data set does not define, instead
    of ignoring and counting it.
    """

    dataset: Literal["gta5", "synthia", "cityscapes", "idd", "mapillary"]
    root: str | None = None
    train: Name | None = None
    val: Name | None = None
    train_list: str | None = None
    val_list: str | None = None
    label_format: Literal["auto", "ids", "train_ids", "colours"] = "auto"
    strict: bool = False

    @property
    def domain_name(self) -> str:
        """``name``, else the data set."""
        return self.name or self.dataset


class ACDCConfig(PublicConfig):
    """ACDC; ``condition``: one of its four, left out all of them."""

    dataset: Literal["acdc"]  # type: ignore[assignment]
    condition: Literal["fog", "night", "rain", "snow"] | None = None

    @property
    def domain_name(self) -> str:
        """``name``, else the condition, else the data set."""
        return self.name or self.condition or self.dataset


DataConfig = Annotated[
    ScenesConfig | FolderConfig | PublicConfig | ACDCConfig, Field(discriminator="dataset")
]


class AugmentConfig(Part):
    """Random changes of training images; the default changes nothing.

    ``crop``: the smallest window cut out, as a fraction of the image's sides, resized back to the
    full size. ``flip``: mirror half of the images. ``colour``: brightness, contrast and saturation
    by up to 1 +- this.
    """

    crop: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    flip: bool = False
    colour: Fraction = 0.0


class LoaderConfig(Part):
    """``workers``: processes that load ahead for each training process (0: in itself).

    ``memory_mb``: decoded images
    that each process keeps."""

    workers: NotNegative = 0
    memory_mb: NotNegative = 1024
