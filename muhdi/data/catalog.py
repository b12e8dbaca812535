"""The data sets: one function each, from a recipe's description of a domain to an image set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from muhdi.data.files import FileSet, Palette
from muhdi.data.paths import all_or_none, expand, expand_root, fixed_part, label_files, matches
from muhdi.data.public.labels import colour_ids, label_table
from muhdi.data.public.layouts import LAYOUTS, find_images, find_labels, label_kinds, label_paths
from muhdi.data.scenes.draw import SceneSet
from muhdi.data.scenes.styles import CLASSES
from muhdi.data.sets import ImageSet, Size
from muhdi.errors import MuhdiError
from muhdi.recipe.domains import DomainConfig, FolderConfig, PublicConfig, ScenesConfig
from muhdi.recipe.schema import Recipe
from muhdi.taxonomy import UNLISTED, ClassSet


@dataclass(frozen=True)
class Context:
    """What an entry may need beside the domain's own description: parts of the recipe."""

    classes: ClassSet
    image_size: Size
    root: str
    seed: int

    @classmethod
    def of(cls, recipe: Recipe) -> Context:
        """The parts of a recipe."""
        return cls(recipe.class_set(), recipe.image_size, recipe.runtime.root, recipe.seed)


def open_split(
    config: DomainConfig, split: str, context: Context, *, labels: bool = True
) -> ImageSet:
    """The images of one split (``train`` or ``val``) of a domain.

    Without ``labels`` they are not even looked for.

    Raises:
        MuhdiError: the root is missing, a pattern matches nothing, or an image lacks its label.
    """
    images: ImageSet = config.build(split, context, labels)
    return images


def open_scenes(config: ScenesConfig, split: str, context: Context, labels: bool) -> ImageSet:
    """The built-in scenes of a domain and split.

    Raises:
        MuhdiError: the recipe's classes lack one that the scenes draw.
    """
    absent = [name for name in CLASSES if name not in context.classes.classes]
    if absent:
        raise MuhdiError(
            f"classes: the built-in scenes draw the class {absent[0]!r}, which"
            f" {context.classes.name!r} lacks; use classes: urban7"
        )
    table = context.classes.lookup(dict(enumerate(CLASSES)))
    count = config.train if split == "train" else config.val
    seed = context.seed if config.seed is None else config.seed
    size = config.image_size or context.image_size
    return SceneSet(config.domain_name, config.domain, split, count, seed, size, table)


def open_folder(config: FolderConfig, split: str, context: Context, labels: bool) -> ImageSet:
    """Images of a folder, by the patterns of a recipe, with their labels if asked for.

    Raises:
        MuhdiError: the root is missing, a pattern matches nothing, or an image lacks its label.
    """
    root = expand_root(context.root, config.root)
    key, pattern, label_pattern = "images", config.images, config.labels
    if split == "val" and config.val_images is not None:
        key, pattern, label_pattern = "val_images", config.val_images, None
    if split == "val" and config.val_labels is not None:
        label_pattern = config.val_labels
    pattern = pattern.replace("{split}", split)
    images = matches(root, pattern)
    if not images:
        raise MuhdiError(
            f"{key}: the pattern {pattern!r} matches no file in {root}; correct it, or the root"
        )
    files, domain = None, config.domain_name
    if labels and label_pattern is not None:
        base = root / fixed_part(pattern)
        stems = [image.stem for image in images]
        files = label_files(root, label_pattern, images, stems, base, split=split, domain=domain)
        advice = "add the labels, or leave 'labels' out of the data set"
        files = all_or_none(
            images, files, required="{split}" not in label_pattern, domain=domain, advice=advice
        )
    return FileSet(domain, images, files, context.classes.lookup(config.ids), config.strict)


def open_public(config: PublicConfig, split: str, context: Context, labels: bool) -> ImageSet:
    """A split of a public data set in its published layout.

    Raises:
        MuhdiError: files are missing, or the recipe's classes share none with the data set.
    """
    layout = LAYOUTS[config.dataset]
    root = expand_root(context.root, layout.root if config.root is None else config.root)
    lists = [Path(expand(context.root, "root")), root, Path()]
    found = find_images(config, split, root, lists)
    labelled = find_labels(config, found, root) if labels else None
    if labelled is None:
        images = FileSet(
            config.domain_name, found.images, None, context.classes.lookup(None), fit=layout.fit
        )
        first = label_paths(config, label_kinds(config)[0], found, root)[0] if labels else None
        images.advice = f"add them; the first was looked for as {first}"
        return images
    kind, files = labelled
    known = kind.labels(config.dataset, root)
    table = label_table(
        config.dataset, context.classes, known, train_ids=kind.format == "train_ids"
    )
    if (table >= UNLISTED).all():
        raise MuhdiError(
            f"classes: no label of {config.dataset} is any of {', '.join(context.classes.classes)};"
            " name classes of urban19 or urban7, or the data set's own labels"
        )
    return FileSet(
        config.domain_name,
        found.images,
        files,
        table,
        config.strict,
        palette=Palette(colour_ids(known, table)) if kind.format == "colours" else None,
        first_channel=kind.first_channel,
        fit=layout.fit,
    )
