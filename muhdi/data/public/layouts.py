"""Finding the images and labels of the public data sets in their official directory layouts.

Labels are paired with images by name. A data set whose splits have no folders is divided by a rule
that its layout names, see `muhdi.data.public.layout.Layout`; lists may divide it otherwise. Of
Mapillary's two versions the older is taken where both are there; a ``config.json``
(``config_v1.2.json``, ``config_v2.0.json``) in the root says what its ids mean, and without one the
official lists do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from glob import escape
from pathlib import Path

from muhdi.data.paths import (
    SplitImages,
    all_or_none,
    expand_root,
    find_list,
    fixed_part,
    label_files,
    matches,
    read_list,
)
from muhdi.data.public.known import LAYOUTS
from muhdi.data.public.layout import LabelKind, Layout, stem_of
from muhdi.data.public.sources import whence
from muhdi.errors import DataError, RecipeError
from muhdi.recipe.domains import PublicConfig


def find_root(config: PublicConfig, base: str) -> Path:
    """The folder of a data set.

    Args:
        config: of the data set.
        base: the recipe's ``runtime.root``.

    Raises:
        DataError: it does not exist; the message says where the data set is to be had.
    """
    documented = LAYOUTS[config.dataset].root
    try:
        return expand_root(base, documented if config.root is None else config.root)
    except DataError as error:
        raise DataError(f"{error}; {whence(config.dataset)}") from None


def find_layout(config: PublicConfig, split: str, root: Path) -> Layout:
    """The layout of the release that lies in a folder, with the variant that the recipe chooses.

    Args:
        config: of the data set.
        split: ``train`` or ``val``.
        root: of the data set.
    """
    newest = LAYOUTS[config.dataset]
    for layout in (newest, *newest.older):
        chosen = _of_variant(layout, config, split)
        names = _split_names(config, layout, split)
        if any((root / fixed_part(_pattern(chosen, name))).is_dir() for name in names):
            return chosen
    return _of_variant(newest, config, split)


def _of_variant(layout: Layout, config: PublicConfig, split: str) -> Layout:
    """A layout with a variant filled in."""
    variant = config.variant
    if split == "val" and layout.val_variant is not None:
        variant = layout.val_variant
    return replace(
        layout,
        folder=layout.folder.replace("{variant}", variant),
        images=layout.images.replace("{variant}", variant),
        endings=tuple(ending.replace("{variant}", variant) for ending in layout.endings),
    )


def _pattern(layout: Layout, name: str) -> str:
    """The pattern of a split's images, without their endings."""
    return f"{layout.folder}/{layout.images}".replace("{split}", escape(name))


def find_images(
    config: PublicConfig, split: str, root: Path, list_folders: list[Path]
) -> SplitImages:
    """The images of ``train`` or ``val``, from the list in ``config``, else from the folders.

    Args:
        config: of the data set.
        split: ``train`` or ``val``.
        root: of the data set.
        list_folders: where list files are looked for.

    Raises:
        RecipeError: the data set has no such split.
        DataError: a folder, the list, an image of it, or every image is missing.
    """
    layout = find_layout(config, split, root)
    names = _split_names(config, layout, split)
    list_file = config.train_list if split == "train" else config.val_list
    if list_file is not None:
        files = [list_file.replace("{split}", name).replace("{}", name) for name in names]
        path = find_list(list_folders, files, f"{split}_list")
        name = _first_with_folder(names, lambda name: _folder(layout, root, name))
        base = _folder(layout, root, name)
        return SplitImages(read_list(path, base, _listed_folder(config)), name, base)
    if layout.splits and names[0] not in layout.splits:
        raise RecipeError(
            f"{split}: {config.dataset} has no split {names[0]!r}; name one of"
            f" {', '.join(layout.splits)}, or set train_list and val_list to files that divide the"
            " images"
        )
    name, images = _walk(config, layout, root, names)
    folder = _folder(layout, root, name)
    return SplitImages(_of_split(layout, name, images, folder), name, folder)


def _of_split(layout: Layout, name: str, images: list[Path], folder: Path) -> list[Path]:
    """The images of a split, of all that its folder holds.

    Raises:
        DataError: there are none.
    """
    if layout.held_out is None or name == "all":
        return images[:: layout.every.get(name, 1)]
    held_out = _held_out(layout.held_out, images, folder)
    found = [image for image in images if (image in held_out) == (name == "val")]
    if not found:
        raise DataError(
            f"{folder}: none of its {len(images)} images belongs to {name}; complete the data set,"
            f" take another split, or set {name}_list"
        )
    return found


def _held_out(rule: int | tuple[str, ...], images: list[Path], folder: Path) -> set[Path]:
    """The images that are held out for evaluation, see `Layout.held_out`."""
    if not isinstance(rule, int):
        return {path for path in images if any(fnmatchcase(path.name, one) for one in rule)}
    groups = {path: path.relative_to(folder).parts[0] for path in images}
    # Ordered as the images are, so each group once.
    chosen = set(list(dict.fromkeys(groups.values()))[::rule])
    return {path for path, group in groups.items() if group in chosen}


def _split_names(config: PublicConfig, layout: Layout, split: str) -> tuple[str, ...]:
    """What the folders of a split may be called."""
    given = config.train if split == "train" else config.val
    if given is not None:
        return (given,)
    return layout.train if split == "train" else layout.val


def _listed_folder(config: PublicConfig) -> str | None:
    """The folder that a list's images must lie in, where the recipe chooses one of several."""
    chooses = LAYOUTS[config.dataset].images.startswith("{variant}/")
    return config.variant if chooses and config.variant != "*" else None


def _folder(layout: Layout, root: Path, name: str) -> Path:
    return root / layout.folder.replace("{split}", name)


def _first_with_folder(names: Sequence[str], folder_of: Callable[[str], Path]) -> str:
    """The first name whose folder exists; if none does, the first, for the message."""
    for name in names:
        if folder_of(name).is_dir():
            return name
    return names[0]


def _walk(
    config: PublicConfig, layout: Layout, root: Path, names: Sequence[str]
) -> tuple[str, list[Path]]:
    """Name of the first split that has folders, and its images."""
    patterns = {name: _pattern(layout, name) for name in names}
    name = _first_with_folder(names, lambda name: root / fixed_part(patterns[name]))
    pattern = patterns[name]
    folder = root / fixed_part(pattern)
    expected = f"{config.dataset} keeps its images as {root / pattern}{layout.endings[0]}"
    if not folder.is_dir():
        raise DataError(
            f"{folder}: this folder is missing; {expected}; correct the root, or the split's name;"
            f" {whence(config.dataset)}"
        )
    images = []
    for path in matches(root, pattern):
        hidden = path.name.startswith(".")  # macOS leaves "._name.png" next to every copied file
        if not hidden and stem_of(path.name, layout.endings) is not None:
            images.append(path)
    if not images:
        raise DataError(
            f"{folder}: holds no image of the split; {expected}; correct the root, or the split's"
            " name"
        )
    return name, images


def label_kinds(config: PublicConfig, layout: Layout) -> list[LabelKind]:
    """The kinds of labels that ``label_format`` allows, the preferred one first.

    Raises:
        RecipeError: the data set has none of them.
    """
    kinds: dict[str, LabelKind] = {}
    for kind in layout.labels:
        if config.label_format in ("auto", kind.format):
            # Several formats may share a pattern: the first is what such files hold.
            kinds.setdefault(kind.pattern, kind)
    if not kinds:
        formats = dict.fromkeys(kind.format for kind in layout.labels)
        raise RecipeError(
            f"label_format: {config.dataset} has no labels as {config.label_format}; choose one of"
            f" auto, {', '.join(formats)}"
        )
    return list(kinds.values())


def label_paths(
    config: PublicConfig, kind: LabelKind, images: SplitImages, root: Path, layout: Layout
) -> list[Path]:
    """Where the labels of a kind should lie, one per image.

    Raises:
        DataError: an image of a list has no ending of the data set's images.
    """
    stems = []
    for image in images.paths:
        stem = stem_of(image.name, layout.endings)
        if stem is None:
            raise DataError(
                f"{image}: images of {config.dataset} end in {' or '.join(layout.endings)};"
                " correct the list"
            )
        stems.append(stem)
    return label_files(root, kind.pattern, images, stems, config.domain_name)


def find_labels(
    config: PublicConfig, images: SplitImages, root: Path, layout: Layout
) -> tuple[LabelKind, list[Path]] | None:
    """Kind and files of the labels, or None if no image has one.

    Raises:
        RecipeError: the data set has no labels of the format that is asked for.
        DataError: some images have a label and some do not.
    """
    for kind in label_kinds(config, layout):
        wanted = label_paths(config, kind, images, root, layout)
        advice = images.advice("add the missing labels, or take all of them away")
        domain = config.domain_name
        files = all_or_none(images.paths, wanted, required=False, domain=domain, advice=advice)
        if files is not None:
            return kind, files
    return None
