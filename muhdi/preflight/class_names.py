"""Names of classes from the files that annotation tools write next to their labels.

| file | written by | what a line holds |
|---|---|---|
| classes.txt, names.txt | many | `sky`, `0: sky`, or `sky,60,120,220` |
| labels.txt | LabelMe | `__ignore__` (stored as 255), then names from id 0 on |
| labelmap.txt | CVAT | `road:128,64,128::` |
| _classes.csv | Roboflow | `Pixel Value, Class` and then `0, background` |
| class_dict.csv | CamVid and others | `name,r,g,b` and then `road,128,64,128` |
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from muhdi.errors import DataError
from muhdi.taxonomy import hex_colour

FILES = (
    *("classes.txt", "labelmap.txt", "labels.txt", "names.txt"),
    *("_classes.csv", "class_dict.csv"),
)
"""In the order in which they are looked for."""
_FOLDERS = ("", "train", "val", "valid", "test")
"""Folders below the data set's in which they are looked for."""
_IGNORED = ("__ignore__", "ignore", "void")
_COLOUR = re.compile(
    r"^(.+?)\s*[,:;]\s*(\d{1,3})\s*[,; ]\s*(\d{1,3})\s*[,; ]\s*(\d{1,3})\s*(:.*)?$"
)
_NUMBER_FIRST = re.compile(r"^(\d{1,5})\s*[:,;=\t ]\s*(.+)$")
_HEADERS = re.compile(r"^(#.*|name\s*,\s*r\s*,.*|pixel value\s*,.*|id\s*,\s*(name|class))$", re.I)


@dataclass(frozen=True)
class ClassNames:
    """What a file says about classes.

    Attributes:
        path: of the file.
        by_id: raw id -> name, or ``ignore``.
        by_colour: ``#rrggbb`` -> name; empty where the file has no colours.
    """

    path: Path
    by_id: dict[int, str] = field(default_factory=dict)
    by_colour: dict[str, str] = field(default_factory=dict)


def class_names(root: Path) -> ClassNames | None:
    """The names in the first known file of a data set's folder; None if there is none.

    Raises:
        DataError: the file is not a list of class names.
    """
    for folder in _FOLDERS:
        for file in FILES:
            path = root / folder / file
            if path.is_file():
                return read_class_names(path)
    return None


def read_class_names(path: Path) -> ClassNames:
    """Read one of `FILES`.

    Raises:
        DataError: it is not a list of class names.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path}: not UTF-8 text; it must hold one class name per line") from None
    # Only these end a line: str.splitlines knows others, which may be part of a name.
    lines = [line.strip() for line in re.split(r"\r\n|\r|\n", text)]
    lines = [line for line in lines if line and not _HEADERS.match(line)]
    found = ClassNames(path)
    position = 0
    for line in lines:
        name, colour, number = _parts(line)
        if name.lower() == "__ignore__":
            found.by_id[255] = "ignore"  # LabelMe's number -1, as a byte
            continue
        raw = position if number is None else number
        kept = "ignore" if name.lower() in _IGNORED else name
        if raw in found.by_id:
            raise DataError(f"{path}: the id {raw} is named twice; correct the file")
        found.by_id[raw] = kept
        if colour is not None:
            found.by_colour[colour] = kept
        position = raw + 1
    names = [name for name in found.by_id.values() if name != "ignore"]
    if len(names) < 2 or len(set(names)) < len(names):
        raise DataError(f"{path}: must hold two or more class names, each once, one per line")
    return found


def _parts(line: str) -> tuple[str, str | None, int | None]:
    """The name, the colour and the id of a line; the last two where it has them."""
    coloured = _COLOUR.match(line)
    if coloured is not None:
        values = tuple(int(coloured[position]) for position in (2, 3, 4))
        if max(values) <= 255:
            return coloured[1].strip(), hex_colour((values[0], values[1], values[2])), None
    numbered = _NUMBER_FIRST.match(line)
    if numbered is not None:
        return numbered[2].strip(), None, int(numbered[1])
    return line, None, None
