"""A split whose images lie in shards."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from muhdi.data.sets import ImageSet, Sample, Size
from muhdi.data.shards.chunk import read_offsets, read_parts, unpack_item
from muhdi.data.shards.index import Decoding, SplitIndex
from muhdi.data.shards.kept import Ahead, KeptShards, check_shard
from muhdi.data.shards.storage import Storage
from muhdi.errors import DataError

_TRIES = 5
"""Times that a shard is fetched again because another process has removed it at once."""


@dataclass(frozen=True)
class Reading:
    """How shards are read.

    Attributes:
        domain: name of the domain.
        labels: whether labels are wanted.
        table: label in the shards -> label, uint8 [256]; None: they are the same.
        mixed: shards whose images are drawn together.
        kept: where those of an address are kept; None: they are read where they lie.
    """

    domain: str
    labels: bool
    table: npt.NDArray[np.uint8] | None
    mixed: int
    kept: KeptShards | None


@dataclass
class _Open:
    """What one process has open."""

    process: int
    lock: threading.Lock = field(default_factory=threading.Lock)
    files: OrderedDict[int, tuple[io.FileIO, list[int]]] = field(default_factory=OrderedDict)
    checked: set[int] = field(default_factory=set)
    ahead: Ahead | None = None


class ShardSet(ImageSet):
    """Images in shards, each of which is read by its index alone.

    Args:
        storage: where they lie.
        index: of them.
        reading: how they are read.
    """

    def __init__(self, storage: Storage, index: SplitIndex, reading: Reading) -> None:
        self.domain = reading.domain
        self.labelled = reading.labels and index.labelled
        self.advice = (
            f"the shards in {storage} were written without; write those of a recipe that reads them"
        )
        self.fit = index.fit
        self.storage = storage
        self.index = index
        self.reading = reading
        self._starts = index.starts()
        if reading.kept is not None:
            # What is drawn in one window is on its way while the one before it is drawn.
            self.lead = reading.mixed * max(shard.chunk_size for shard in index.shards)
        self._own = _Open(os.getpid())

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_own": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._own = _Open(os.getpid())

    def __len__(self) -> int:
        return len(self.index)

    def name(self, index: int) -> str:
        # No path of a file: those that the images came from are of another machine.
        return f"{self.storage}/{self.index.names[index]}"

    def stored_size(self, index: int) -> Size | None:
        return self.index.size(index)

    def key(self, index: int, with_label: bool) -> Any:
        if self.index.decoded:
            return None
        meaning: Any = "no label"
        if with_label:
            meaning = None if self.reading.table is None else self.reading.table.tolist()
        return ["shards", self.index.digest, index, meaning]

    def fingerprint(self) -> str:
        return self.index.digest

    def epoch_order(self, count: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """The shards in a new order; of the images, those of `Reading.mixed` shards together."""
        shards = rng.permutation(bisect_right(self._starts, count - 1))
        windows = []
        for first in range(0, len(shards), self.reading.mixed):
            members = [
                np.arange(self._starts[shard], min(self._starts[shard + 1], count))
                for shard in shards[first : first + self.reading.mixed]
            ]
            windows.append(rng.permutation(np.concatenate(members)))
        return np.concatenate(windows)

    def expect(self, index: int) -> None:
        kept = self.reading.kept
        if kept is None:
            return
        own = self._mine()
        shard = self.index.shards[self._shard_of(index)]
        if own.ahead is None:
            own.ahead = Ahead(kept)
        own.ahead.ask(shard)

    def read(self, index: int, with_label: bool, draft: Size | None = None) -> Sample:
        number = self._shard_of(index)
        labelled = self.index.labelled
        if with_label and not self.labelled:
            raise DataError(f"{self.name(index)}: a label is needed; {self.advice}")
        own = self._mine()
        with self._reading(number):
            with own.lock:
                file, offsets = self._opened(own, number)
                place = index - self._starts[number]
                parts = read_parts(
                    file,
                    offsets[place],
                    offsets[place + 1],
                    labelled=labelled,
                    with_label=labelled and with_label,
                )
            sample = unpack_item(parts, decoded=self.index.decoded, draft=draft)
        label = sample.label
        if label is not None and self.reading.table is not None:
            label = self.reading.table[label]
        return replace(sample, name=self.name(index), label=label)

    def _shard_of(self, index: int) -> int:
        return bisect_right(self._starts, index) - 1

    def _mine(self) -> _Open:
        """What this process has open: it may have begun as a copy of another."""
        if self._own.process != os.getpid():
            self._own = _Open(os.getpid())
        return self._own

    def _opened(self, own: _Open, number: int) -> tuple[io.FileIO, list[int]]:
        """A shard's file and the offsets of its items; a few files stay open."""
        if number in own.files:
            own.files.move_to_end(number)
            return own.files[number]
        while len(own.files) >= self.reading.mixed + 1:
            _, (oldest, _) = own.files.popitem(last=False)
            oldest.close()
        file = self._open(own, number)
        try:
            offsets = read_offsets(file, self.index.shards[number].chunk_size)
        except Exception:
            file.close()
            raise
        own.files[number] = file, offsets
        return own.files[number]

    def _open(self, own: _Open, number: int) -> io.FileIO:
        shard = self.index.shards[number]
        kept = self.reading.kept
        if kept is None:
            assert self.storage.folder is not None
            path = self.storage.folder / shard.filename
            if number not in own.checked:
                check_shard(path, shard, str(path))
                own.checked.add(number)
            return io.FileIO(path)
        for _ in range(_TRIES):
            path = kept.fetch(shard)
            try:
                return io.FileIO(path)
            except FileNotFoundError:  # removed by another process, to make room
                continue
        raise DataError(f"{kept.folder}: has no room for the shards in use; raise keep_mb")

    @contextmanager
    def _reading(self, number: int) -> Iterator[None]:
        """Name the shard in which something is wrong."""
        try:
            yield
        except (ValueError, KeyError, TypeError, OSError) as error:
            name = self.index.shards[number].filename
            raise DataError(
                f"{self.storage}/{name}: the shard cannot be read: {error}; write it once more"
            ) from None


def kept_folder(base: Path, storage: Storage, index: SplitIndex) -> Path:
    """Where the shards of an address are kept: other ones, or changed ones, lie elsewhere."""
    text = f"{storage} {index.digest}"
    return base / hashlib.sha256(text.encode()).hexdigest()[:16]


def check_decoding(
    images: ImageSet, size: Size | None, label_size: Size | None, draft: bool
) -> None:
    """Refuse shards of pixels that were decoded for another purpose: they would be others.

    Args:
        images: any set.
        size: width and height at which its images are wanted; None: as stored.
        label_size: of the labels; None: as stored, or none are wanted.
        draft: of the recipe.

    Raises:
        DataError: they were.
    """
    decoding = images.index.decoding if isinstance(images, ShardSet) else None
    if decoding is None:
        return
    assert isinstance(images, ShardSet)
    wanted = Decoding(size, label_size if images.labelled else decoding.label_size, draft)
    if wanted != decoding:
        raise DataError(
            f"{images.storage}: was decoded for {decoding}, but the recipe wants {wanted}; write"
            " shards of this recipe, or without --decoded"
        )
