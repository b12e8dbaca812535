"""Telling one mask per class from labels that hold all classes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath

import numpy as np

from muhdi.data.label_image import read_ids
from muhdi.errors import MuhdiError

_KEY = "{stem"
_KIND = re.compile(r"[-_. ]?(masks?|labels?)$", re.IGNORECASE)
"""What a name says of the kind of file, after that of the class."""


def mask_patterns(labels: Mapping[str, Sequence[Path]]) -> dict[str, str]:
    """The pattern of each class's masks; empty where the files are something else.

    Files are masks if two or more patterns give every image one, all hold one value besides 0, and
    the patterns differ in one folder, or in what stands beside the image's name.

    Args:
        labels: some of the files that every pattern gives.
    """
    if len(labels) < 2 or not all(map(_are_masks, labels.values())):
        return {}
    names = [_KIND.sub("", name) for name in _class_names(list(labels))]
    distinct = len(set(names)) == len(labels) and all(names)
    return dict(zip(names, labels, strict=True)) if distinct else {}


def _are_masks(files: Sequence[Path]) -> bool:
    values: set[int] = set()
    try:
        for path in files:
            values.update(np.unique(read_ids(path)).tolist())
    except MuhdiError:
        return False
    return len(values - {0}) <= 1


def _class_names(patterns: Sequence[str]) -> list[str]:
    """What tells patterns apart; nothing where they differ in more than one part."""
    parts = [PurePath(pattern).parts for pattern in patterns]
    if len({len(part) for part in parts}) > 1:
        return []
    differing = [index for index, names in enumerate(zip(*parts, strict=True)) if _differ(names)]
    if len(differing) != 1:
        return []
    names = [part[differing[0]] for part in parts]
    if any(_KEY in name for name in names):
        return [_beside_stem(name) for name in names]
    return names


def _differ(names: Sequence[str]) -> bool:
    return len(set(names)) > 1


def _beside_stem(name: str) -> str:
    """``{stem}_road.png`` -> ``road``."""
    before, _, rest = name.partition(_KEY)
    after = rest.partition("}")[2].rpartition(".")[0]
    return f"{before}{after}".strip("_-. ")
