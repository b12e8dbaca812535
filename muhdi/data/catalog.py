"""The data sets: one function each, from a recipe's description of a domain to an image set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from muhdi.data.files import FileSet, LabelFiles, Palette
from muhdi.data.paths import (
    SplitImages,
    all_or_none,
    expand,
    expand_root,
    fixed_part,
    label_files,
    matches,
)
from muhdi.data.public.labels import colour_ids, label_table
from muhdi.data.public.layouts import (
    LAYOUTS,
    LabelKind,
    find_images,
    find_labels,
    label_kinds,
    label_paths,
)
from muhdi.data.scenes.scene_set import SceneSet
from muhdi.data.scenes.styles import CLASSES
from muhdi.data.sets import ImageSet, Size
from muhdi.errors import DataError, RecipeError
from muhdi.recipe.domains import DomainConfig, FolderConfig, PublicConfig, ScenesConfig
from muhdi.recipe.schema import Recipe
from muhdi.taxonomy import UNLISTED, ClassSet


@dataclass(frozen=True)
class DataContext:
    """What a data set may need besides its own section: parts of the recipe.

    Attributes:
        classes: that labels are mapped to.
        image_size: width and height that the network sees, unless the section has its own.
        root: folder below which the data sets' roots lie.
        seed: of the run.
    """

    classes: ClassSet
    image_size: Size
    root: str
    seed: int

    @classmethod
    def of(cls, recipe: Recipe) -> DataContext:
        """The parts of a recipe."""
        return cls(recipe.class_set(), recipe.image_size, recipe.runtime.root, recipe.seed)


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
    found = matches(root, pattern)
    if not found:
        raise DataError(
            f"{key}: the pattern {pattern!r} matches no file in {root}; correct it, or the root"
        )
    # Also without labels, so that a wrong table is reported as early as a wrong pattern.
    table = context.classes.lookup(config.ids)
    files = None
    if labels and label_pattern is not None:
        images = SplitImages(found, split, root / fixed_part(pattern))
        files = _folder_labels(config, images, label_pattern, root)
    if files is None:
        return FileSet(config.domain_name, found)
    return FileSet(config.domain_name, found, LabelFiles(files, table, config.strict))


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
) -> list[Path] | None:
    """The labels of a folder's images.

    None if no image has one and the pattern names the split, which may then be without labels.
    """
    domain = config.domain_name
    stems = [image.stem for image in images.paths]
    files = label_files(root, pattern, images, stems, domain)
    return all_or_none(
        images.paths,
        files,
        required="{split}" not in pattern,
        domain=domain,
        advice="add the labels, or leave 'labels' out of the data set",
    )


def open_public(config: PublicConfig, split: str, context: DataContext, labels: bool) -> ImageSet:
    """A split of a public data set in its published layout.

    Raises:
        RecipeError: the recipe's classes share none with the data set.
        DataError: files are missing.
    """
    layout = LAYOUTS[config.dataset]
    root = expand_root(context.root, layout.root if config.root is None else config.root)
    list_folders = [Path(expand(context.root, "runtime.root")), root, Path()]
    found = find_images(config, split, root, list_folders)
    labelled = find_labels(config, found, root) if labels else None
    if labelled is not None:
        kind, files = labelled
        decoded = _public_labels(config, kind, files, root, context.classes)
        return FileSet(config.domain_name, found.paths, decoded, fit=layout.fit)
    images = FileSet(config.domain_name, found.paths, fit=layout.fit)
    if labels:
        first = label_paths(config, label_kinds(config)[0], found, root)[0]
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
            " name classes of urban19 or urban7, or the data set's own labels"
        )
    palette = None
    if kind.format == "colours":
        palette = Palette(colour_ids(known, table))
    return LabelFiles(files, table, config.strict, palette, kind.first_channel)
