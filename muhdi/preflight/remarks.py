"""What `muhdi check` remarks on files, apart from what is in one of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from muhdi.data.files import FileSet, LabelFiles
from muhdi.data.paths import expand_root, list_files
from muhdi.data.sets import Fit, ImageSet, Size
from muhdi.errors import MuhdiError
from muhdi.recipe.domains import FolderConfig
from muhdi.recipe.schema import Recipe
from muhdi.recipe.section import RGB

SQUEEZED = 1.25
"""Images whose shape is changed by more than this factor are remarked on: GTA5's own is 1.10."""
DARK = 32
"""Images of which no pixel is brighter than this, of 255, are remarked on."""


def shared_labels(images: ImageSet) -> str:
    """A note on labels that serve several images; empty if none does."""
    if not isinstance(images, FileSet) or images.labels is None:
        return ""
    if isinstance(images.labels, LabelFiles) and images.labels.shared:
        return ""
    path, count = Counter(images.labels.paths).most_common(1)[0]
    if count < 2:
        return ""
    return f"the label {path} serves {count} images; the pattern of the labels may be too short"


def squeezed(sizes: Counter[str], size: Size, fit: Fit) -> str:
    """A note on images whose shape the network does not see; empty if it does.

    Args:
        sizes: images by size, as ``640x360``.
        size: width and height that the network sees.
        fit: how images come to that size.
    """
    if not sizes or fit != "stretch":
        return ""
    shown = sizes.most_common(1)[0][0]
    width, height = parsed_size(shown)
    stretched = (width / height) / (size[0] / size[1])
    factor = max(stretched, 1 / stretched)
    if factor <= SQUEEZED:
        return ""
    how = "narrow" if stretched > 1 else "wide"
    return (
        f"images of {shown} are shown as {size[0]}x{size[1]}, {factor:.1f} times as {how};"
        " image_size is width and height"
    )


def parsed_size(text: str) -> Size:
    """Width and height of ``640x360``."""
    width, height = map(int, text.split("x"))
    return width, height


def dark(brightest: int) -> str:
    """A note on images that are almost black; empty if they are not."""
    if brightest >= DARK:
        return ""
    return (
        f"no pixel is brighter than {brightest} of 255; of 16-bit files the high byte counts, so 10"
        " or 12-bit data must be scaled to 16 bits"
    )


def unused_channels(extremes: Sequence[tuple[int, int]]) -> str:
    """A note on channels beyond the colours that are the same everywhere; empty if none is.

    Args:
        extremes: lowest and highest value of any pixel, by channel.
    """
    same = {number: ends for number, ends in enumerate(extremes, 1) if number > RGB}
    unused = [f"{number} is {low}" for number, (low, high) in same.items() if low == high]
    if not unused:
        return ""
    return (
        f"channel {' and channel '.join(unused)} in every pixel, as the transparency of a picture"
        " is; leave it out of 'channels' if it holds no data"
    )


def left_out(recipe: Recipe, opened: list[ImageSet]) -> list[str]:
    """A note on every folder of a recipe that holds images which no pattern matches."""
    used: set[Path] = set()
    label_folders: set[Path] = set()
    for images in opened:
        if isinstance(images, FileSet):
            used.update(path.absolute() for path in images.images)
            labels = images.labels.paths if images.labels is not None else []
            used.update(path.absolute() for path in labels)
            label_folders.update(path.absolute().parent for path in labels)
    notes = []
    roots: dict[Path, str] = {}
    for _, data in recipe.domains():
        if isinstance(data, FolderConfig):
            try:
                root = expand_root(recipe.runtime.root, data.root)
            except MuhdiError:  # reported where it is opened
                continue
            roots.setdefault(root, data.domain_name)
    for root, domain in roots.items():
        beside = [path for path in list_files(root).files if path.absolute() not in used]
        others = [path for path in beside if not _is_label_of_training(path, label_folders)]
        if others:
            count = f"{len(others)} images in {root} match no pattern"
            notes.append(f"{domain}: {count}, for example {others[0]}")
    return notes


def _is_label_of_training(path: Path, label_folders: set[Path]) -> bool:
    """Whether it may be a label of a target's training images, which are never read."""
    names = {folder.name for folder in label_folders}
    return path.parent.name in names | {"labels", "masks", "annotations"}
