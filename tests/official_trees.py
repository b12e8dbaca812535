"""Miniature trees of public data sets in their official layouts, image by image.

`tests.trees` has those six that come with every format of labels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.trees import colours_of, raw_ids, write_image, write_label

Pairs = dict[str, str]
"""Image -> label, relative to the root."""


@dataclass(frozen=True)
class Tree:
    """What lies in the folder of a data set.

    Attributes:
        train: images of the training split and their labels, in the order in which they are read.
        val: the same of the evaluation's.
        classes: class set to read the labels with.
        colours: whether labels hold colours.
        options: of the section that reads it.
        beside: further images of the data set that no split of these options has.
    """

    train: Pairs
    val: Pairs
    classes: str = "urban19"
    colours: bool = False
    options: dict[str, object] = field(default_factory=dict)
    beside: tuple[str, ...] = ()


def _foggy(split: str, number: int, beta: str = "0.02") -> str:
    folder = f"leftImg8bit_foggy/{split}/aachen"
    return f"{folder}/aachen_{number:06d}_000019_leftImg8bit_foggy_beta_{beta}.png"


def _gt_fine(split: str, number: int) -> str:
    return f"gtFine/{split}/aachen/aachen_{number:06d}_000019_gtFine_labelIds.png"


def _rainy(split: str, number: int, pattern: int) -> str:
    kind = f"rain_alpha_0.01_beta_0.005_dropsize_0.01_pattern_{pattern}"
    folder = f"leftImg8bit_rain/{split}/aachen"
    return f"{folder}/aachen_{number:06d}_000019_leftImg8bit_{kind}.png"


def _numbered(image: str, label: str, *numbers: int) -> Pairs:
    return {image.format(n=n): label.format(n=n) for n in numbers}


def _zurich(split: str, condition: str, number: int) -> str:
    name = f"GOPR0356_frame_{number:06d}"
    return f"rgb_anon/{split}/{condition}/GOPR0356/{name}_rgb_anon.png"


def _zurich_label(split: str, condition: str, number: int) -> str:
    name = f"GOPR0356_frame_{number:06d}"
    return f"gt/{split}/{condition}/GOPR0356/{name}_gt_labelIds.png"


_A2D2 = (
    "camera_lidar_semantic/{s}/{k}/cam_front_center/20180807145028_{k}_frontcenter_00000009{n}.png"
)
_DRIVES = ("20180807_145028", "20180810_142822", "20180925_101535")


def _a2d2(drive: str, number: int = 1) -> Pairs:
    image = _A2D2.format(s=drive, k="camera", n=number)
    return {image: _A2D2.format(s=drive, k="label", n=number)}


def _a2d2_side(drive: str) -> Pairs:
    ((image, label),) = _a2d2(drive).items()
    return {
        image.replace("cam_front_center", "cam_side_left"): label.replace(
            "cam_front_center", "cam_side_left"
        )
    }


_COMMA = "{k}/{n:04d}_a2a0ccea32023010_2018-08-19--13-26-08_11_86{d}.png"
_COMMA2 = "{k}/{n:05d}_{c}_20f59690c1da9379_2021-02-08--09-26-00_7_64{d}.png"


def _comma(number: int, digit: int) -> Pairs:
    image = _COMMA.format(k="imgs", n=number, d=digit)
    return {image: _COMMA.format(k="masks", n=number, d=digit)}


def _comma2(number: int, digit: int, camera: str) -> Pairs:
    image = _COMMA2.format(k="imgs2", n=number, d=digit, c=camera)
    return {image: _COMMA2.format(k="masks2", n=number, d=digit, c=camera)}


def _loveda(split: str, area: str, *numbers: int) -> Pairs:
    folder = f"{split}/{area}"
    return _numbered(f"{folder}/images_png/{{n}}.png", f"{folder}/masks_png/{{n}}.png", *numbers)


def _potsdam(folder: str, bands: str, *tiles: str) -> Pairs:
    image = f"{folder}/top_potsdam_{{n}}_{bands}.tif"
    label = "5_Labels_all/top_potsdam_{n}_label.tif"
    return {image.format(n=tile): label.format(n=tile) for tile in tiles}


_TOP = "top/top_mosaic_09cm_area{n}.tif"
_TRUTH = "ISPRS_semantic_labeling_Vaihingen_ground_truth_COMPLETE/top_mosaic_09cm_area{n}.tif"

TREES: dict[str, Tree] = {
    "foggy_cityscapes": Tree(
        train={_foggy("train", n): _gt_fine("train", n) for n in (1, 2)},
        val={_foggy("val", 3): _gt_fine("val", 3)},
        beside=(_foggy("train", 1, "0.01"), _foggy("val", 3, "0.005")),
    ),
    "rainy_cityscapes": Tree(
        train={_rainy("train", n, p): _gt_fine("train", n) for n in (1, 2) for p in (1, 2)},
        val={_rainy("val", 3, 1): _gt_fine("val", 3)},
    ),
    "dark_zurich": Tree(
        train={_zurich("train", "night", n): _zurich_label("train", "night", n) for n in (1, 2)},
        val={_zurich("val", "night", 3): _zurich_label("val", "night", 3)},
        beside=(_zurich("train", "day", 4), _zurich("train", "twilight", 5)),
    ),
    "bdd100k": Tree(
        train=_numbered(
            "images/10k/train/{n}.jpg", "labels/sem_seg/masks/train/{n}.png", 11, 12, 13
        ),
        val=_numbered("images/10k/val/{n}.jpg", "labels/sem_seg/masks/val/{n}.png", 14),
    ),
    "wilddash2": Tree(
        train=_numbered("images/aa{n:04d}.jpg", "labels/aa{n:04d}.png", 2, 3, 4, 5),
        val=_numbered("images/aa{n:04d}.jpg", "labels/aa{n:04d}.png", 1, 6),
    ),
    "kitti": Tree(
        train=_numbered(
            "training/image_2/{n:06d}_10.png", "training/semantic/{n:06d}_10.png", 1, 2, 3, 4
        ),
        val=_numbered("training/image_2/{n:06d}_10.png", "training/semantic/{n:06d}_10.png", 0, 5),
    ),
    "a2d2": Tree(
        train={**_a2d2(_DRIVES[1]), **_a2d2(_DRIVES[2])},
        val={**_a2d2(_DRIVES[0], 1), **_a2d2(_DRIVES[0], 2)},
        colours=True,
    ),
    "comma10k": Tree(
        train={**_comma(1, 4), **_comma(3, 8)},
        val=_comma(2, 9),
        classes="comma5",
        colours=True,
        beside=(*_comma2(7, 1, "e"), *_comma2(7, 1, "f")),
    ),
    "railsem19": Tree(
        train=_numbered("jpgs/rs19_val/rs{n:05d}.jpg", "uint8/rs19_val/rs{n:05d}.png", 1, 2, 3),
        val=_numbered("jpgs/rs19_val/rs{n:05d}.jpg", "uint8/rs19_val/rs{n:05d}.png", 0),
        classes="rail19",
    ),
    "loveda": Tree(
        train=_loveda("Train", "Rural", 0, 1) | _loveda("Train", "Urban", 2),
        val=_loveda("Val", "Rural", 3) | _loveda("Val", "Urban", 4),
        classes="loveda7",
    ),
    "potsdam": Tree(
        train=_potsdam("2_Ortho_RGB", "RGB", "2_10", "7_7"),
        val=_potsdam("2_Ortho_RGB", "RGB", "2_13", "7_13"),
        classes="isprs6",
        colours=True,
        beside=tuple(_potsdam("3_Ortho_IRRG", "IRRG", "2_10", "2_13")),
    ),
    "vaihingen": Tree(
        train=_numbered(_TOP, _TRUTH, 1, 3),
        val=_numbered(_TOP, _TRUTH, 2),
        classes="isprs6",
        colours=True,
    ),
}
"""By the data set's name in recipes."""

VARIANTS: dict[str, tuple[str, Tree]] = {
    "thin fog": (
        "foggy_cityscapes",
        Tree(
            train={_foggy("train", 1, "0.005"): _gt_fine("train", 1)},
            val={_foggy("val", 3, "0.005"): _gt_fine("val", 3)},
            options={"beta": 0.005},
            beside=(_foggy("train", 1), _foggy("val", 3)),
        ),
    ),
    "one kind of rain": (
        "rainy_cityscapes",
        Tree(
            train={_rainy("train", 1, 2): _gt_fine("train", 1)},
            val={_rainy("val", 3, 2): _gt_fine("val", 3)},
            options={"rain": "*_pattern_2"},
            beside=(_rainy("train", 1, 1), _rainy("train", 1, 12), _rainy("val", 3, 1)),
        ),
    ),
    "twilight": (
        "dark_zurich",
        Tree(
            train={_zurich("train", "twilight", 1): _zurich_label("train", "twilight", 1)},
            val={_zurich("val", "night", 3): _zurich_label("val", "night", 3)},
            options={"condition": "twilight"},
            beside=(_zurich("train", "night", 4),),
        ),
    ),
    "older release": (
        "bdd100k",
        Tree(
            train=_numbered("images/train/{n}.jpg", "labels/train/{n}_train_id.png", 11, 12),
            val=_numbered("images/val/{n}.jpg", "labels/val/{n}_train_id.png", 14),
        ),
    ),
    "all cameras": (
        "a2d2",
        Tree(
            train={**_a2d2(_DRIVES[1]), **_a2d2_side(_DRIVES[1])},
            val=_a2d2(_DRIVES[0]),
            colours=True,
            options={"camera": "all"},
        ),
    ),
    "later device": (
        "comma10k",
        Tree(
            train={**_comma2(1, 1, "e"), **_comma2(3, 1, "e")},
            val=_comma2(2, 9, "e"),
            classes="comma5",
            colours=True,
            options={"camera": "wide"},
            beside=(*_comma2(1, 1, "f"), *_comma(4, 4)),
        ),
    ),
    "country": (
        "loveda",
        Tree(
            train=_loveda("Train", "Rural", 0, 1),
            val=_loveda("Val", "Rural", 3),
            classes="loveda7",
            options={"area": "rural"},
            beside=tuple(_loveda("Train", "Urban", 2)),
        ),
    ),
    "infrared": (
        "potsdam",
        Tree(
            train=_potsdam("3_Ortho_IRRG", "IRRG", "2_10"),
            val=_potsdam("3_Ortho_IRRG", "IRRG", "2_13"),
            classes="isprs6",
            colours=True,
            options={"bands": "irrg"},
            beside=tuple(_potsdam("2_Ortho_RGB", "RGB", "2_10")),
        ),
    ),
    "all images": (
        "kitti",
        Tree(
            train=_numbered(
                "training/image_2/{n:06d}_10.png", "training/semantic/{n:06d}_10.png", 0, 1, 2
            ),
            val=_numbered("training/image_2/{n:06d}_10.png", "training/semantic/{n:06d}_10.png", 0),
            options={"train": "all"},
        ),
    ),
}
"""Trees of which a section reads a part, or another release, by what is special."""


def ids_of(dataset: str, label: str) -> np.ndarray:
    """The raw ids of a label; every label has its own."""
    return raw_ids(dataset, sum(map(ord, label)))


def write_official(
    dataset: str, root: Path, tree: Tree | None = None, *, labels: bool = True
) -> None:
    """Write the tree of a data set, without its labels if these are not wanted."""
    tree = TREES[dataset] if tree is None else tree
    for image in (*tree.train, *tree.val, *tree.beside):
        write_image(root / image, image)
    if not labels:
        return
    for label in {*tree.train.values(), *tree.val.values()}:
        ids = ids_of(dataset, label)
        pixels = colours_of(dataset, ids) if tree.colours else ids
        write_label(root / label, pixels)
