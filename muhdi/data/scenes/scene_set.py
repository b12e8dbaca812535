"""The drawn scenes as a data set."""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt

from muhdi.data.scenes.draw import draw_scene
from muhdi.data.scenes.looks import LOOKS
from muhdi.data.sets import ImageSet, Sample, Size
from muhdi.recipe.domains import ScenesConfig


class SceneSet(ImageSet):
    """A split of drawn scenes.

    Args:
        config: which look, and how many.
        split: ``train`` or ``val``; they share no scene.
        seed: of the drawing.
        size: width and height.
        table: from positions in `muhdi.data.scenes.styles.CLASSES` to labels, uint8 [256 or more].
    """

    labelled = True

    def __init__(
        self,
        config: ScenesConfig,
        split: str,
        seed: int,
        size: Size,
        table: npt.NDArray[np.uint8],
    ) -> None:
        self.domain = config.domain_name
        self.look = config.domain
        self.count = config.train if split == "train" else config.val
        self.seed: tuple[int, ...] = (seed, zlib.crc32(split.encode()))
        if self.look in LOOKS:
            # One seed is one street in all of them; two domains share none.
            self.seed = (*self.seed, zlib.crc32(self.look.encode()))
        self.size = size
        self.table = table

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        return f"{self.domain}_{index:05d}"

    def fingerprint(self) -> str:
        table = zlib.crc32(self.table.tobytes())
        return f"{self.look} {self.count} {self.seed} {self.size} {table}"

    def stored_size(self, index: int) -> Size:
        return self.size

    def read(self, index: int, with_label: bool, draft: Size | None = None) -> Sample:
        image, label = draw_scene(self.look, (*self.seed, index), self.size)
        return Sample(self.name(index), image, self.table[label] if with_label else None)
