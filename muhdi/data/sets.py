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
"""How an image of another aspect ratio comes to a size.

Stretched, or scaled to fit inside and padded.
"""
Unlisted = dict[str, int]
"""Raw id, or colour as ``#rrggbb`` -> number of pixels."""


@dataclass(frozen=True)
class Sample:
    """One image.

    Attributes:
        name: of the file, for messages.
        image: uint8 RGB [H, W, 3].
        label: uint8 [H', W'], class positions and 255; None where there is none or none was asked
            for.
        unlisted: pixels by raw id, or colour, for those that the label table does not list (they
            are ignored).
    """

    name: str
    image: npt.NDArray[np.uint8]
    label: npt.NDArray[np.uint8] | None
    unlisted: Unlisted = field(default_factory=dict)


class ImageSet(ABC):
    """A split of a domain: images, with or without labels.

    A data set of another package has a ``config_class``, the section of the recipe that describes
    it, and is built as ``Class(config, split, context, labels)``.

    Attributes:
        config_class: of data sets that recipes can name.
        domain: name of the domain.
        labelled: whether every image has a label.
        advice: what to do where labels are needed and there are none.
        fit: how its images come to the size that the network sees.
    """

    config_class: ClassVar[type[Any]]
    domain: str
    labelled: bool
    advice: str = "set 'labels' to where they are"
    fit: Fit = "stretch"

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

        ``draft``: a JPEG may be decoded at a half, a quarter or an eighth of its size, as long as
        it is not smaller than this; quicker, and not the same pixels.
        """

    def key(self, index: int, with_label: bool) -> Any:
        """What the pixels of a sample depend on, as JSON.

        None where reading is no slower than a cache.
        """
        return None

    @abstractmethod
    def fingerprint(self) -> str:
        """A text that changes when images, labels or their meaning do.

        Files count by place, size and date.
        """
