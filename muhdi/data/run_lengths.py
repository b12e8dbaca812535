"""Masks as COCO's tools compress them: lengths of runs, column by column."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from muhdi.errors import DataError

_FIRST = 48
"""The character that stands for 0."""
_MORE = 32
"""Set in a character that is not the last of its number."""
_BITS = 5
"""Of a number in each character."""


def read_runs(text: bytes) -> list[int]:
    """The lengths of runs, outside and inside the mask in turn, that a compressed text holds.

    A number is in groups of five bits, the lowest first, with its sign; from the fourth on it
    is the difference to the last but one (``rleFrString`` of COCO's API).

    Raises:
        DataError: the text ends within a number, or holds other characters.
    """
    runs: list[int] = []
    value = 0
    shift = 0
    for character in text:
        group = character - _FIRST
        if not 0 <= group < 2 * _MORE:
            raise DataError("the mask holds characters that no compressed mask has")
        value |= (group & (_MORE - 1)) << shift
        shift += _BITS
        if group & _MORE:
            continue
        if group & (_MORE >> 1):  # negative
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = 0
        shift = 0
    if shift:
        raise DataError("the mask ends within a number")
    return runs


def mask_of(runs: list[int], size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """The mask that runs describe, [H, W].

    Args:
        runs: lengths outside and inside the mask in turn, column by column.
        size: height and width.

    Raises:
        DataError: they do not fill the mask.
    """
    height, width = size
    if min(runs, default=0) < 0 or sum(runs) != height * width:
        raise DataError(f"the mask does not fill its {width}x{height} pixels")
    inside = np.arange(len(runs)) % 2 == 1
    covered: npt.NDArray[np.bool_] = np.repeat(inside, runs).reshape(width, height).T
    return covered
