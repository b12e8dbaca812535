"""Image sets at a fixed size, remembered in memory and on the disk."""

from __future__ import annotations

from dataclasses import replace

from muhdi.data.cache import SampleCache
from muhdi.data.resize import pad_label, resize_image, resize_label
from muhdi.data.sets import ImageSet, Sample, Size


class PreparedSet:
    """An image set at a fixed size, whose decoded samples are remembered up to a budget.

    Args:
        images: the set; its ``fit`` says how other aspect ratios come to the size.
        size: width and height of the images.
        label_size: of the labels; None: as stored (where images are padded, padded to their aspect
            ratio).
        with_labels: whether labels are opened at all.
        memory: bytes of samples to remember; what does not fit is read anew each time.
        cache: on the disk, where samples are looked for before they are decoded.
        draft: decode JPEG files at a fraction of their size where that is enough.
    """

    def __init__(
        self,
        images: ImageSet,
        size: Size,
        label_size: Size | None,
        *,
        with_labels: bool,
        memory: int = 0,
        cache: SampleCache | None = None,
        draft: bool = False,
    ) -> None:
        self.images, self.size, self.label_size, self.with_labels = (
            images,
            size,
            label_size,
            with_labels,
        )
        self.memory, self.cache, self.draft = memory, cache, draft
        self._kept: dict[int, Sample] = {}

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        if index in self._kept:
            return self._kept[index]
        sample = self._cached(index)
        cost = sample.image.nbytes + (0 if sample.label is None else sample.label.nbytes)
        if cost <= self.memory:
            self.memory -= cost
            self._kept[index] = sample
        return sample

    def _cached(self, index: int) -> Sample:
        """From the disk's cache, or decoded and put there."""
        inside = None if self.cache is None else self.images.key(index, self.with_labels)
        if self.cache is None or inside is None:
            return self._decoded(index)
        key = [inside, self.size, self.label_size, self.with_labels, self.images.fit, self.draft]
        if (found := self.cache.get(key)) is not None and "image" in found[0]:
            return Sample(
                self.images.name(index), found[0]["image"], found[0].get("label"), found[1]
            )
        sample = self._decoded(index)
        arrays = {"image": sample.image} | ({} if sample.label is None else {"label": sample.label})
        self.cache.put(key, arrays, sample.unlisted)
        return sample

    def _decoded(self, index: int) -> Sample:
        sample = self.images.read(index, self.with_labels, self.size if self.draft else None)
        label, fit = sample.label, self.images.fit
        if label is not None and self.label_size is not None:
            label = resize_label(label, self.label_size, fit)
        elif label is not None and fit == "pad":
            label = pad_label(label, self.size)
        return replace(sample, image=resize_image(sample.image, self.size, fit), label=label)
