"""The public data sets: where their official directory layouts keep images and labels.

| data set | images | labels |
|---|---|---|
| gta5 | images/ | labels/ |
| synthia | RGB/ | GT/CLASSES/, or GT/LABELS/ (16-bit RGB), GT/COLOR/ (colours) |
| cityscapes | leftImg8bit/SPLIT/CITY/ | gtFine/SPLIT/CITY/ |
| idd | leftImg8bit/SPLIT/SEQUENCE/ | gtFine/SPLIT/SEQUENCE/ |
| mapillary | SPLIT/images/ | SPLIT/labels/, SPLIT/v1.2/labels/ or SPLIT/v2.0/labels/ |
| acdc | rgb_anon/CONDITION/SPLIT/SEQUENCE/ | gt/CONDITION/SPLIT/SEQUENCE/ |

GTA5 and SYNTHIA have no splits: ``train`` (or ``all``) is every image, ``val`` every 50th of them
in the order of their names, so both share images; lists may divide them otherwise. Labels are
paired with images by name. Of Mapillary's two versions the older is taken where both are there; a
``config.json`` (``config_v1.2.json``, ``config_v2.0.json``) in the root says what its ids mean, and
without one the official lists do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path
from typing import Literal

from muhdi.data.paths import (
    SplitImages,
    all_or_none,
    find_list,
    fixed_part,
    label_files,
    matches,
    read_list,
)
from muhdi.data.public.labels import (
    MAPILLARY_V1,
    MAPILLARY_V2,
    Labels,
    raw_labels,
    read_mapillary_config,
)
from muhdi.data.sets import Fit
from muhdi.errors import DataError, RecipeError
from muhdi.recipe.domains import ACDCConfig, PublicConfig

Format = Literal["ids", "train_ids", "colours"]


@dataclass(frozen=True)
class LabelKind:
    """One way in which a data set comes with labels.

    Attributes:
        format: what a label image holds.
        pattern: path below the root; ``{split}``, ``{parent}`` and ``{stem}`` are filled in per
            image.
        first_channel: the id is the first of an RGB image's three channels.
        table: the raw labels' name in `muhdi.data.public.labels.raw_labels`, where it is not the
            data set's.
        configs: files in the root of which the first that exists is read instead of ``table``.
    """

    format: Format
    pattern: str
    first_channel: bool = False
    table: str | None = None
    configs: tuple[str, ...] = ()

    def labels(self, dataset: str, root: Path) -> Labels:
        """The raw labels that such images hold."""
        for name in self.configs:
            if (root / name).is_file():
                return read_mapillary_config(root / name)
        return raw_labels(self.table or dataset)


@dataclass(frozen=True)
class Layout:
    """Where a data set keeps its files, below its root.

    Attributes:
        root: where the documentation puts the data set.
        folder: of the images; lists are relative to it. May hold ``{split}``.
        images: pattern of the images below ``folder``, without ``endings``; may hold ``{split}``,
            ``{condition}``.
        endings: of the images' names; what comes before is the stem that labels share.
        labels: the kinds of labels; ``auto`` takes the first that is there.
        train: names that the split's folder may have; the first that exists counts.
        val: the same.
        every: where splits have no folders: name of a split -> n, where every n-th image belongs to
            it.
        fit: how images come to the size that the network sees.
    """

    root: str
    folder: str
    images: str
    endings: tuple[str, ...]
    labels: tuple[LabelKind, ...]
    train: tuple[str, ...] = ("train",)
    val: tuple[str, ...] = ("val",)
    every: Mapping[str, int] = field(default_factory=dict)
    fit: Fit = "stretch"


def _suffixed(pattern: str, ids: str, train_ids: str, colours: str) -> tuple[LabelKind, ...]:
    """Kinds of labels that lie side by side, told apart by how their names end."""
    return (
        LabelKind("ids", f"{pattern}_{ids}.png"),
        LabelKind("train_ids", f"{pattern}_{train_ids}.png"),
        LabelKind("colours", f"{pattern}_{colours}.png"),
    )


def _mapillary(format: Format) -> tuple[LabelKind, ...]:
    v1 = "config_v1.2.json"
    v2 = "config_v2.0.json"
    return (
        LabelKind(
            format, "{split}/labels/{stem}.png", table=MAPILLARY_V1, configs=("config.json", v1, v2)
        ),
        LabelKind(format, "{split}/v1.2/labels/{stem}.png", table=MAPILLARY_V1, configs=(v1,)),
        LabelKind(format, "{split}/v2.0/labels/{stem}.png", table=MAPILLARY_V2, configs=(v2,)),
    )


_FORMATS: tuple[Format, ...] = ("ids", "train_ids", "colours")
_EVERY = {"train": 1, "all": 1, "val": 50}

LAYOUTS: dict[str, Layout] = {
    "gta5": Layout(
        root="data/GTA5",
        folder="images",
        images="*",
        endings=(".png", ".jpg"),
        labels=tuple(LabelKind(format, "labels/{stem}.png") for format in _FORMATS),
        train=("train", "all"),
        every=_EVERY,
    ),
    "synthia": Layout(
        root="data/SYNTHIA",
        folder="RGB",
        images="*",
        endings=(".png", ".jpg"),
        labels=(
            LabelKind("ids", "GT/CLASSES/{stem}.png"),
            LabelKind("ids", "GT/LABELS/{stem}.png", first_channel=True),
            LabelKind("train_ids", "GT/CLASSES/{stem}.png"),
            LabelKind("colours", "GT/COLOR/{stem}.png"),
        ),
        train=("train", "all"),
        every=_EVERY,
    ),
    "cityscapes": Layout(
        root="data/cityscapes",
        folder="leftImg8bit/{split}",
        images="*/*",
        endings=("_leftImg8bit.png",),
        labels=_suffixed(
            "gtFine/{split}/{parent}/{stem}_gtFine", "labelIds", "labelTrainIds", "color"
        ),
    ),
    "idd": Layout(
        root="data/IDD",
        folder="leftImg8bit/{split}",
        images="*/*",
        endings=("_leftImg8bit.png", "_leftImg8bit.jpg"),
        labels=_suffixed(
            "gtFine/{split}/{parent}/{stem}_gtFine", "labelids", "labelcsTrainIds", "color"
        ),
    ),
    "mapillary": Layout(
        root="data/mapillary",
        folder="{split}/images",
        images="*",
        endings=(".jpg", ".jpeg", ".png"),
        labels=tuple(kind for format in _FORMATS for kind in _mapillary(format)),
        train=("train", "training"),
        val=("validation", "val"),
        fit="pad",
    ),
    "acdc": Layout(
        root="data/ACDC",
        folder="rgb_anon",
        images="{condition}/{split}/*/*",
        endings=("_rgb_anon.png",),
        labels=_suffixed("gt/{parent}/{stem}_gt", "labelIds", "labelTrainIds", "labelColor"),
    ),
}
"""Layout by the data set's name in recipes."""


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
    layout = LAYOUTS[config.dataset]
    names = _split_names(config, layout, split)
    list_file = config.train_list if split == "train" else config.val_list
    if list_file is not None:
        files = [list_file.replace("{split}", name).replace("{}", name) for name in names]
        path = find_list(list_folders, files, f"{split}_list")
        name = _first_with_folder(names, lambda name: _folder(layout, root, name))
        base = _folder(layout, root, name)
        return SplitImages(read_list(path, base, _condition(config)), name, base)
    if layout.every and names[0] not in layout.every:
        raise RecipeError(
            f"{split}: {config.dataset} has no split {names[0]!r}; name one of"
            f" {', '.join(layout.every)}, or set train_list and val_list to files that divide the"
            " images"
        )
    name, images = _walk(config, layout, root, names)
    kept = images[:: layout.every.get(name, 1)]
    return SplitImages(kept, name, _folder(layout, root, name))


def _split_names(config: PublicConfig, layout: Layout, split: str) -> tuple[str, ...]:
    """What the folders of a split may be called."""
    given = config.train if split == "train" else config.val
    if given is not None:
        return (given,)
    return layout.train if split == "train" else layout.val


def _condition(config: PublicConfig) -> str | None:
    return config.condition if isinstance(config, ACDCConfig) else None


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
    condition = _condition(config) or "*"
    patterns = {}
    for name in names:
        pattern = f"{layout.folder}/{layout.images}".replace("{split}", escape(name))
        patterns[name] = pattern.replace("{condition}", condition)
    name = _first_with_folder(names, lambda name: root / fixed_part(patterns[name]))
    pattern = patterns[name]
    folder = root / fixed_part(pattern)
    expected = f"{config.dataset} keeps its images as {root / pattern}{layout.endings[0]}"
    if not folder.is_dir():
        raise DataError(
            f"{folder}: this folder is missing; {expected}; correct the root, or the split's name"
        )
    endings = tuple(ending.lower() for ending in layout.endings)
    images = []
    for path in matches(root, pattern):
        hidden = path.name.startswith(".")  # macOS leaves "._name.png" next to every copied file
        if path.name.lower().endswith(endings) and not hidden:
            images.append(path)
    if not images:
        raise DataError(
            f"{folder}: holds no image of the split; {expected}; correct the root, or the split's"
            " name"
        )
    return name, images


def label_kinds(config: PublicConfig) -> list[LabelKind]:
    """The kinds of labels that ``label_format`` allows, the preferred one first."""
    kinds: dict[str, LabelKind] = {}
    for kind in LAYOUTS[config.dataset].labels:
        if config.label_format in ("auto", kind.format):
            # Several formats may share a pattern: the first is what such files hold.
            kinds.setdefault(kind.pattern, kind)
    return list(kinds.values())


def label_paths(
    config: PublicConfig, kind: LabelKind, images: SplitImages, root: Path
) -> list[Path]:
    """Where the labels of a kind should lie, one per image.

    Raises:
        DataError: an image of a list has no ending of the data set's images.
    """
    endings = LAYOUTS[config.dataset].endings
    stems = []
    for image in images.paths:
        for ending in endings:
            if image.name.lower().endswith(ending.lower()):
                stems.append(image.name[: -len(ending)])
                break
        else:
            raise DataError(
                f"{image}: images of {config.dataset} end in {' or '.join(endings)}; correct the"
                " list"
            )
    return label_files(root, kind.pattern, images, stems, config.domain_name)


def find_labels(
    config: PublicConfig, images: SplitImages, root: Path
) -> tuple[LabelKind, list[Path]] | None:
    """Kind and files of the labels, or None if no image has one.

    Raises:
        DataError: some images have a label and some do not.
    """
    for kind in label_kinds(config):
        wanted = label_paths(config, kind, images, root)
        advice = images.advice("add the missing labels, or take all of them away")
        domain = config.domain_name
        files = all_or_none(images.paths, wanted, required=False, domain=domain, advice=advice)
        if files is not None:
            return kind, files
    return None
