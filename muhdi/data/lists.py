"""Lists of a folder's images, with or without their labels, in a text file."""

from __future__ import annotations

import re
from pathlib import Path

from muhdi.errors import DataError

_BETWEEN = re.compile(r"\t+|\s*,\s*| +")
"""What may stand between an image and its label."""


def is_list(pattern: str) -> bool:
    """Whether a recipe's pattern of images names a list of them."""
    return pattern.lower().endswith(".txt")


def listed_lines(path: Path, what: str) -> list[tuple[int, str]]:
    """Number and text of the lines of a list that say something.

    Blank lines and lines that begin with ``#`` are skipped.

    Args:
        path: of the list.
        what: each line holds, for the message.

    Raises:
        DataError: the list cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        raise DataError(
            f"{path}: cannot be read as a list of images: one {what} per line, in UTF-8"
        ) from None
    numbered = [(number, line.strip()) for number, line in enumerate(lines, 1)]
    return [(number, text) for number, text in numbered if text and not text.startswith("#")]


def read_pairs(path: Path, base: Path) -> tuple[list[Path], list[Path] | None]:
    """The images that a list names, one per line, and their labels if each line names one too.

    An image and its label are separated by a tab, a comma or a space. Blank lines and lines that
    begin with ``#`` are skipped, and an image that is listed twice counts once.

    Args:
        path: of the list.
        base: the folder that its lines are relative to.

    Raises:
        DataError: the list cannot be read or is empty, a file is missing, or labels are named in
            some lines only.
    """
    found: dict[Path, Path | None] = {}
    for number, text in listed_lines(path, "path"):
        image, label = _pair(text, base, f"{path}: line {number}")
        found.setdefault(image, label)
    if not found:
        raise DataError(f"{path}: the list names no image; give one per line, relative to {base}")
    labels = [label for label in found.values() if label is not None]
    if labels and len(labels) < len(found):
        raise DataError(
            f"{path}: {len(labels)} of {len(found)} lines name a label; give one in each, or in"
            " none and a pattern in 'labels'"
        )
    return list(found), labels or None


def _pair(text: str, base: Path, place: str) -> tuple[Path, Path | None]:
    """The files that a line names; names may hold spaces and commas themselves."""
    image = base / text
    if image.is_file():
        return image, None
    for gap in _BETWEEN.finditer(text):
        first = base / text[: gap.start()]
        second = base / text[gap.end() :]
        if first.is_file() and second.is_file():
            return first, second
    raise DataError(
        f"{place}: the file {image} is missing; a line names an image, or an image and its label,"
        f" relative to {base}"
    )
