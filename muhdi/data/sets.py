"""Image sets: what every split of a domain can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from muhdi.recipe import plugins

Size = tuple[int, int]
"""Width and height."""
Fit = Literal["stretch", "pad"]
"""How an image of another aspect ratio is brought to a size.

Either stretched, or scaled to fit inside and then padded.
"""
Unlisted = dict[str, int]
"""Raw id, or colour as ``#rrggbb`` -> number of pixels."""


Window = tuple[float, float, float, float]
"""Left, upper, right and lower edge of a part of an image, as shares of its width and height.

With the left edge beyond the right one it is seen in a mirror; what lies outside 0 to 1 is padding.
"""
WHOLE: Window = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class Sample:
    """One image.

    Attributes:
        name: of the file, for messages.
        image: uint8 RGB [H, W, 3]; [H, W, C] where a recipe has more `channels`.
        label: uint8 [H', W'], class positions and 255; None if there is none or none was asked
            for.
        unlisted: pixels by raw id, or colour, that the label table does not list; they are ignored.
        window: which part of the whole image it shows.
    """

    name: str
    image: npt.NDArray[np.uint8]
    label: npt.NDArray[np.uint8] | None
    unlisted: Unlisted = field(default_factory=dict)
    window: Window = WHOLE


class ImageSet(ABC):
    """A split of a domain: images, with or without labels.

    A data set of another package has a ``config_class``, the section of the recipe that describes
    it, and is built as ``Class(config, split, context, labels)``.

    Attributes:
        config_class: of data sets that recipes can name.
        domain: name of the domain.
        labelled: whether every image has a label.
        advice: what to do if labels are needed and there are none.
        fit: how its images are brought to the size that the network sees.
        lead: how many draws before its turn `expect` is to name an image; 0: it need not.
    """

    config_class: ClassVar[type[Any]]
    domain: str
    labelled: bool
    advice: str = "set 'labels' to where they are"
    fit: Fit = "stretch"
    lead: int = 0

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        plugins.register(cls)

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def name(self, index: int) -> str:
        """What messages call an image."""

    @abstractmethod
    def read(self, index: int, with_label: bool, draft: Size | None = None) -> Sample:
        """Image ``index`` as it is stored; its label is opened only if asked for.

        Args:
            index: of the image.
            with_label: whether to read its label too.
            draft: a JPEG may be decoded at a half, a quarter or an eighth of its size, as long as
                it is not smaller than this; faster, but the pixels differ.

        Raises:
            DataError: the image or its label cannot be read.
        """

    def read_label(self, index: int) -> npt.NDArray[np.uint8]:
        """The label of image ``index`` as it is stored, of a set that has labels: `read` without
        the image, where a set can do that.

        Raises:
            DataError: it cannot be read.
        """
        label = self.read(index, True).label
        assert label is not None
        return label

    def stored_size(self, index: int) -> Size | None:
        """Width and height of an image as `read` gives it, without decoding it.

        None if only reading it can tell.
        """
        return None

    def key(self, index: int, with_label: bool) -> Any:
        """Everything that the pixels of a sample depend on, as JSON.

        None if reading is no slower than a cache.
        """
        return None

    def epoch_order(self, count: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """The order in which training draws the first ``count`` images in an epoch: each once.

        It may depend on nothing else than the set, ``count`` and ``rng``. A set whose images are
        slow to reach one by one keeps those together that lie together.
        """
        return rng.permutation(count)

    def expect(self, index: int) -> None:
        """Told that image ``index`` will be read soon; a set may begin to fetch it."""
        return

    @abstractmethod
    def fingerprint(self) -> str:
        """A text that changes when images, labels or their meaning do.

        Files count by path, size and date.
        """


def spread_indices(length: int, count: int) -> list[int]:
    """Up to ``count`` different indices, evenly spaced over 0..length - 1."""
    positions = np.linspace(0, length - 1, min(count, length)).round().astype(int)
    indices: list[int] = np.unique(positions).tolist()
    return indices
