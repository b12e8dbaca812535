"""The data sets: one function each, from a recipe's description of a domain to an image set."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from muhdi.data.channels import COLOURS, Channels
from muhdi.data.files import FileSet, LabelFiles, Palette
from muhdi.data.lists import is_list, read_pairs
from muhdi.data.masks import MaskFiles, find_masks
from muhdi.data.paths import (
    SplitImages,
    all_or_none,
    expand,
    expand_root,
    fixed_part,
    label_files,
    matches,
)
from muhdi.data.polygons import PolygonIds
from muhdi.data.public.labels import colour_ids, label_table
from muhdi.data.public.layout import LabelKind
from muhdi.data.public.layouts import (
    find_images,
    find_labels,
    find_layout,
    find_root,
    label_kinds,
    label_paths,
)
from muhdi.data.public.sources import own_classes
from muhdi.data.scenes.scene_set import SceneSet
from muhdi.data.scenes.styles import CLASSES
from muhdi.data.sets import ImageSet, Size
from muhdi.errors import DataError, RecipeError
from muhdi.recipe.domains import (
    DomainConfig,
    FolderConfig,
    PublicConfig,
    ScenesConfig,
    ShardsConfig,
)
from muhdi.recipe.schema import Recipe
from muhdi.taxonomy import UNLISTED, ClassSet, parsed_colour


@dataclass(frozen=True)
class DataContext:
    """What a data set may need besides its own section: parts of the recipe.

    Attributes:
        classes: that labels are mapped to.
        image_size: width and height that the network sees, unless the section has its own.
        root: folder below which the data sets' roots lie.
        seed: of the run.
        source: the source's section, if it is a folder: another folder without a table of ids or
            colours of its own has the source's.
        channels: of the images.
        only: names of the images whose labels are wanted; None: all. A set may then leave the
            others out, and need not have labels for them.
    """

    classes: ClassSet
    image_size: Size
    root: str
    seed: int
    source: FolderConfig | None = None
    channels: Channels = COLOURS
    only: frozenset[str] | None = None

    @classmethod
    def of(cls, recipe: Recipe) -> DataContext:
        """The parts of a recipe."""
        source = recipe.source if isinstance(recipe.source, FolderConfig) else None
        return cls(
            recipe.class_set(),
            recipe.image_size,
            recipe.runtime.root,
            recipe.seed,
            source,
            Channels(recipe.channels, recipe.pixel_range),
        )

    def wanted(self, found: list[Path]) -> list[Path]:
        """Those of a set's image files that `only` names, in their order."""
        if self.only is None:
            return found
        return [path for path in found if str(path) in self.only]


def open_split(
    config: DomainConfig, split: str, context: DataContext, *, labels: bool = True
) -> ImageSet:
    """The images of one split (``train`` or ``val``) of a domain.

    Without ``labels`` they are not even looked for.

    Raises:
        RecipeError: the section does not fit the recipe's classes, or the class that it names
            cannot be imported.
        DataError: the root is missing, a pattern matches nothing, or an image lacks its label.
    """
    images: ImageSet = config.build(split, context, labels)
    return images


def open_scenes(config: ScenesConfig, split: str, context: DataContext, labels: bool) -> ImageSet:
    """The built-in scenes of a domain and split.

    Raises:
        RecipeError: the recipe's classes lack one that the scenes draw.
    """
    for name in CLASSES:
        if name not in context.classes.classes:
            raise RecipeError(
                f"classes: the built-in scenes draw the class {name!r}, which"
                f" {context.classes.name!r} lacks; use classes: urban7"
            )
    table = context.classes.lookup(dict(enumerate(CLASSES)))
    seed = context.seed if config.seed is None else config.seed
    size = config.image_size or context.image_size
    return SceneSet(config, split, seed, size, table)


def open_folder(config: FolderConfig, split: str, context: DataContext, labels: bool) -> ImageSet:
    """Images of a folder, by the patterns of a recipe, with their labels if asked for.

    Raises:
        RecipeError: a pattern or the table of ids is wrong.
        DataError: the root is missing, a pattern matches nothing, or an image lacks its label.
    """
    root = expand_root(context.root, config.root)
    key, pattern, label_pattern = _patterns(config, split)
    found, listed_labels = _listed(root, pattern, key)
    if config.val_fraction is not None:
        found = _held_out(found, split, config.val_fraction, root)
    found = context.wanted(found)
    # Also without labels, so that a wrong table is reported as early as a wrong pattern.
    table, palette = _folder_table(config, context)
    base = root if is_list(pattern) else root / fixed_part(pattern)
    listed = SplitImages(found, split, base, chosen=context.only is not None)
    bands = _bands(config, listed, root)
    opened = partial(FileSet, config.domain_name, found, channels=context.channels, bands=bands)
    images = opened()
    if listed_labels and config.masks is not None:
        raise DataError(
            f"{root / pattern}: names labels, but {config.domain_name!r} has masks; leave out one"
            " of them"
        )
    if labels and listed_labels:
        files = [listed_labels[image] for image in found]
        return opened(LabelFiles(files, table, config.strict, palette))
    if labels and config.masks is not None:
        masks = _masks(config, listed, root, context.classes)
        if masks is None:
            images.advice = "'masks' is set, but no file of this split is there"
        return opened(masks) if masks is not None else images
    if not labels or label_pattern is None:
        return images
    files = _folder_labels(config, listed, label_pattern, root)
    if all_or_none(
        found,
        files,
        required="{split}" not in label_pattern or listed.chosen,
        domain=config.domain_name,
        advice=listed.advice("add the labels, or leave 'labels' out of the data set"),
    ):
        return opened(LabelFiles(files, table, config.strict, palette))
    images.advice = f"'labels' is set, but no file is there; the first was looked for as {files[0]}"
    return images


def _bands(config: FolderConfig, images: SplitImages, root: Path) -> list[list[Path]]:
    """The further files of each image, all of which are there; empty where a folder has none."""
    if not config.bands:
        return []
    stems = [image.stem for image in images.paths]
    domain = config.domain_name
    by_pattern = [
        label_files(root, pattern, images, stems, domain, "bands") for pattern in config.bands
    ]
    bands = [list(files) for files in zip(*by_pattern, strict=True)]
    missing = [
        (image, band)
        for image, files in zip(images.paths, bands, strict=True)
        for band in files
        if not os.path.isfile(band)
    ]
    if missing:
        image, band = missing[0]
        raise DataError(
            f"{image}: its band {band} is missing ({len(missing)} files of {domain!r} are); add"
            " them, or correct 'bands' of the data set"
        )
    return bands


def _masks(
    config: FolderConfig, images: SplitImages, root: Path, classes: ClassSet
) -> MaskFiles | None:
    """The masks of a folder with one for each class; None where this split has none."""
    assert config.masks is not None
    masks = find_masks(config, images, root, classes)
    if masks is None and not any("{split}" in pattern for pattern in config.masks.values()):
        raise DataError(
            f"masks of {config.domain_name!r}: no file is there for any image; correct the"
            " patterns, or leave 'masks' out"
        )
    return masks


def _listed(root: Path, pattern: str, key: str) -> tuple[list[Path], dict[Path, Path]]:
    """The images that a pattern or a list names, and the labels that a list gives them."""
    if is_list(pattern):
        images, labels = read_pairs(root / pattern, root)
        return images, {} if labels is None else dict(zip(images, labels, strict=True))
    images = matches(root, pattern)
    if not images:
        raise DataError(
            f"{key}: the pattern {pattern!r} matches no file in {root}; correct it, or the root"
        )
    return images, {}


def _held_out(found: list[Path], split: str, fraction: float, root: Path) -> list[Path]:
    """The images of a split where one pattern finds those of both.

    Which images are held out depends on their names alone, so that more images change nothing for
    those that are there already.

    Raises:
        DataError: there are too few images for both splits.
    """

    def order(path: Path) -> bytes:
        return hashlib.sha256(os.fsencode(os.path.relpath(path, root))).digest()

    count = round(fraction * len(found))
    if not 0 < count < len(found):
        raise DataError(
            f"val_fraction: {fraction} of {len(found)} images leaves none for one of the splits;"
            " choose another fraction"
        )
    held_out = set(sorted(found, key=order)[:count])
    return [path for path in found if (path in held_out) == (split == "val")]


def _folder_table(
    config: FolderConfig, context: DataContext
) -> tuple[npt.NDArray[np.uint8], Palette | None]:
    """The table from raw ids to classes; of labels that hold colours, also the colours' ids."""
    described = config if config.has_table or context.source is None else context.source
    if described.colours is None:
        return context.classes.lookup(described.ids), None
    numbers = {parsed_colour(colour): number for number, colour in enumerate(described.colours)}
    table = context.classes.lookup(dict(enumerate(described.colours.values())))
    return table, Palette(numbers)


def _patterns(config: FolderConfig, split: str) -> tuple[str, str, str | None]:
    """The key of the images' pattern, the pattern, and the labels' pattern."""
    key = "images"
    pattern = config.images
    label_pattern = config.labels
    if split == "val" and config.val_images is not None:
        key = "val_images"
        pattern = config.val_images
        label_pattern = None  # the pattern of other images' labels
    if split == "val" and config.val_labels is not None:
        label_pattern = config.val_labels
    return key, pattern.replace("{split}", split), label_pattern


def _folder_labels(
    config: FolderConfig, images: SplitImages, pattern: str, root: Path
) -> list[Path]:
    """Where the label of each of a folder's images should be."""
    stems = [image.stem for image in images.paths]
    return label_files(root, pattern, images, stems, config.domain_name)


def open_public(config: PublicConfig, split: str, context: DataContext, labels: bool) -> ImageSet:
    """A split of a public data set in its published layout.

    Raises:
        RecipeError: the recipe's classes share none with the data set.
        DataError: files are missing.
    """
    root = find_root(config, context.root)
    layout = find_layout(config, split, root)
    list_folders = [Path(expand(context.root, "runtime.root")), root, Path()]
    found = find_images(config, split, root, list_folders)
    if context.only is not None:
        found = SplitImages(context.wanted(found.paths), found.name, found.base, chosen=True)
    opened = partial(
        FileSet, config.domain_name, found.paths, fit=layout.fit, channels=context.channels
    )
    labelled = find_labels(config, found, root, layout) if labels else None
    if labelled is not None:
        kind, files = labelled
        decoded = _public_labels(config, kind, files, root, context.classes)
        decoded = replace(decoded, shared=layout.shares_labels)
        return opened(decoded)
    images = opened()
    if labels:
        first = label_paths(config, label_kinds(config, layout)[0], found, root, layout)[0]
        images.advice = f"add them; the first was looked for as {first}"
    return images


def _public_labels(
    config: PublicConfig, kind: LabelKind, files: list[Path], root: Path, classes: ClassSet
) -> LabelFiles:
    """Label files of a kind, with the table from their ids to the recipe's classes."""
    known = kind.labels(config.dataset, root)
    train_ids = kind.format == "train_ids"
    table = label_table(config.dataset, classes, known, train_ids=train_ids)
    if (table >= UNLISTED).all():
        raise RecipeError(
            f"classes: no label of {config.dataset} is any of {', '.join(classes.classes)};"
            f" set classes: {own_classes(config.dataset)}, or name the data set's own labels"
        )
    palette = None
    if kind.format == "colours":
        palette = Palette(colour_ids(known, table))
    polygons = None
    if kind.format == "polygons":
        polygons = PolygonIds({label.name: label.id for label in known}, kind.undrawn)
    return LabelFiles(files, table, config.strict, palette, kind.first_channel, polygons)


def labelling_advice(config: DomainConfig, context: DataContext) -> str:
    """What to do so that a recipe finds further labels of a domain's training images."""
    if isinstance(config, ScenesConfig):
        return "their labels are drawn with them"
    if isinstance(config, ShardsConfig):
        return "draw their labels, and write the shards once more from a recipe with them"
    patterns: list[str] = []
    if isinstance(config, PublicConfig):
        root = find_root(config, context.root)
        layout = find_layout(config, "train", root)
        patterns = [label_kinds(config, layout)[0].pattern]
    elif isinstance(config, FolderConfig):
        root = expand_root(context.root, config.root)
        patterns = list((config.masks or {}).values())
        if config.labels is not None:
            patterns = [config.labels]
    if not patterns:
        return "draw their labels, and say in the target's section where they are"
    places = [str(root / pattern.replace("{split}", "train")) for pattern in patterns]
    return f"draw their labels, and put them where the run looks: {' and '.join(places)}"
