"""Image sets at one size, or at their own, remembered in memory and on the disk."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from muhdi.data.cache import SampleCache
from muhdi.data.resize import pad_label, resize_image, resize_label, shown_window
from muhdi.data.sets import WHOLE, Fit, ImageSet, Sample, Size, Window
from muhdi.errors import DataError


@dataclass(frozen=True)
class Loading:
    """How samples are decoded and remembered.

    Attributes:
        memory: bytes of decoded samples that one set keeps; the rest is read again each time.
        cache: on the disk; samples are looked for there before they are decoded.
        draft: decode JPEG files at a fraction of their size if that is enough.
        channels: that every image must have; None: any number.
    """

    memory: int = 0
    cache: SampleCache | None = None
    draft: bool = False
    channels: int | None = None


class PreparedSet:
    """An image set at a fixed size, or at each image's own.

    Args:
        images: the set; its ``fit`` says how other aspect ratios are brought to the size.
        size: width and height of the images; None: as stored, and nothing is padded.
        label_size: of the labels; None: as stored (if images are padded, padded to their aspect
            ratio).
        with_labels: whether labels are opened at all.
        loading: how samples are decoded and remembered; by default nothing is remembered.
    """

    def __init__(
        self,
        images: ImageSet,
        size: Size | None,
        label_size: Size | None,
        *,
        with_labels: bool,
        loading: Loading = Loading(),
    ) -> None:
        self.images = images
        self.size = size
        self.label_size = label_size
        self.with_labels = with_labels
        self.loading = loading
        self._length = len(images)
        self._kept: dict[int, Sample] = {}
        self._free = loading.memory

    def __len__(self) -> int:
        return self._length

    def first(self, count: int) -> PreparedSet:
        """The same set with up to ``count`` images, and as much memory for each of them."""
        few = copy(self)
        few._length = min(count, len(self))
        few._kept = {}
        few._free = self.loading.memory * few._length // len(self)
        return few

    @property
    def lead(self) -> int:
        """How many draws before its turn `expect` is to name a sample; 0: it need not."""
        return self.images.lead

    def epoch_order(self, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """The order in which training draws the images in an epoch."""
        return self.images.epoch_order(len(self), rng)

    def expect(self, index: int) -> None:
        """Told that a sample will be wanted soon."""
        if index not in self._kept:
            self.images.expect(index)

    def __getitem__(self, index: int) -> Sample:
        if index in self._kept:
            return self._kept[index]
        sample = self._cached(index)
        cost = sample.image.nbytes
        if sample.label is not None:
            cost += sample.label.nbytes
        if cost <= self._free:
            self._free -= cost
            self._kept[index] = sample
        return sample

    def _cached(self, index: int) -> Sample:
        """From the cache on the disk, or decoded and put there."""
        cache = self.loading.cache
        key = self._key(index)
        if cache is None or key is None:
            return self._decoded(index)
        found = cache.get(key)
        if found is not None:
            arrays, unlisted = found
            # Caches of earlier versions do not say where padding begins.
            if "image" in arrays and ("window" in arrays or not self._pads):
                name = self.images.name(index)
                window = self._window_of(arrays)
                return Sample(name, arrays["image"], arrays.get("label"), unlisted, window)
        sample = self._decoded(index)
        kept: dict[str, npt.NDArray[Any]] = {"image": sample.image}
        if self._pads:
            kept["window"] = np.array(sample.window)
        if sample.label is not None:
            kept["label"] = sample.label
        cache.put(key, kept, sample.unlisted)
        return sample

    @property
    def _pads(self) -> bool:
        """Whether images are padded; one that stays as it is cannot be."""
        return self.size is not None and self.images.fit == "pad"

    @staticmethod
    def _window_of(arrays: dict[str, npt.NDArray[Any]]) -> Window:
        if "window" not in arrays:
            return WHOLE
        left, upper, right, lower = arrays["window"].tolist()
        return left, upper, right, lower

    def _key(self, index: int) -> Any:
        """What a prepared sample depends on; None if it is not worth a cache."""
        if self.loading.cache is None:
            return None  # keys of files ask the file system
        inside = self.images.key(index, self.with_labels)
        if inside is None:
            return None
        # The order and the types stay as they are: caches that exist are found by this text.
        fit = self.images.fit
        draft = self.loading.draft
        return [inside, self.size, self.label_size, self.with_labels, fit, draft]

    def _decoded(self, index: int) -> Sample:
        draft = self.size if self.loading.draft else None
        sample = self.images.read(index, self.with_labels, draft)
        image = sample.image
        if self.loading.channels not in (None, image.shape[2]):
            raise DataError(
                f"{sample.name}: has {image.shape[2]} channels, but {self.loading.channels} are"
                f" wanted; set channels: {image.shape[2]}, or give another data set"
            )
        label = sample.label
        window = WHOLE
        fit: Fit = "pad" if self._pads else "stretch"
        if self.size is not None:
            given = (image.shape[1], image.shape[0])
            # One that was padded before keeps what it says about that.
            window = sample.window if given == self.size else shown_window(given, self.size, fit)
            image = resize_image(image, self.size, fit)
        if label is not None and self.label_size is not None:
            label = resize_label(label, self.label_size, fit)
        elif label is not None and self.size is not None and fit == "pad":
            label = pad_label(label, self.size)
        return replace(sample, image=image, label=label, window=window)
