"""The index of a split's shards, ``index.json``: what lies where, and what it means."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

from pydantic import TypeAdapter

from muhdi.data.sets import Fit, Size
from muhdi.data.shards.chunk import index_config
from muhdi.data.shards.storage import Storage
from muhdi.errors import DataError

INDEX = "index.json"
"""Written last: shards without it are not finished."""
VERSION = 1


@dataclass(frozen=True)
class Decoding:
    """What pixels that are kept as such were made for: those of another purpose would differ.

    Attributes:
        size: width and height of the images; None: each has its own.
        label_size: of the labels; None: each has its own.
        draft: whether JPEG files were decoded at a fraction of their size.
    """

    size: Size | None
    label_size: Size | None
    draft: bool

    def __str__(self) -> str:
        size = "images of their own size" if self.size is None else f"images of {_text(self.size)}"
        labels = "of their own size" if self.label_size is None else f"of {_text(self.label_size)}"
        return f"{size}, labels {labels}, draft: {str(self.draft).lower()}"


def _text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


@dataclass(frozen=True)
class Shard:
    """One file.

    Attributes:
        filename: of it.
        chunk_size: number of its images.
        chunk_bytes: its length.
        sha256: of its contents.
    """

    filename: str
    chunk_size: int
    chunk_bytes: int
    sha256: str


@dataclass(frozen=True)
class SplitIndex:
    """The shards of one split.

    Attributes:
        shards: in order.
        decoding: how images were decoded; None: they are files, as they were.
        classes: names of the classes whose positions labels hold.
        labelled: whether every image has a label.
        fit: how images are brought to a size, or were.
        names: of the images, in order.
        sizes: width and height of each image; a single one: of all.
        plan: a digest of what was written, so that it is not written twice.
    """

    shards: tuple[Shard, ...]
    decoding: Decoding | None
    classes: tuple[str, ...]
    labelled: bool
    fit: Fit
    names: tuple[str, ...]
    sizes: tuple[Size, ...]
    plan: str

    def __len__(self) -> int:
        return len(self.names)

    @property
    def decoded(self) -> bool:
        """Whether pixels are kept instead of files."""
        return self.decoding is not None

    def size(self, index: int) -> Size:
        """Width and height of an image."""
        return self.sizes[index if len(self.sizes) > 1 else 0]

    def starts(self) -> list[int]:
        """The index of each shard's first image, and at last the number of images."""
        return list(accumulate((shard.chunk_size for shard in self.shards), initial=0))

    @cached_property
    def digest(self) -> str:
        """Of everything: it changes when images, labels or their meaning do."""
        text = json.dumps(asdict(self))
        return hashlib.sha256(text.encode()).hexdigest()

    def to_json(self) -> str:
        """The index as litdata reads it; what only this package reads is below ``muhdi``."""
        own = asdict(self)
        shards = own.pop("shards")
        data = {
            "chunks": [shard | {"dim": None} for shard in shards],
            "config": index_config(self.labelled, self.decoded),
            "muhdi": {"version": VERSION, **own},
        }
        return json.dumps(data)

    def check(self) -> None:
        """Refuse an index that contradicts itself.

        Raises:
            ValueError: it does.
        """
        if not self.names or sum(shard.chunk_size for shard in self.shards) != len(self.names):
            raise ValueError("the number of its images is not that of its names")
        if len(self.sizes) not in (1, len(self.names)):
            raise ValueError("the number of its images is not that of its sizes")
        for shard in self.shards:
            if shard.chunk_size < 1 or "/" in shard.filename or "\\" in shard.filename:
                raise ValueError("it names files that no shard has")


def read_index(storage: Storage) -> SplitIndex | None:
    """The index of the shards in a folder or at an address; None if there is none.

    Raises:
        DataError: it cannot be reached, or is not one.
    """
    data = storage.read(INDEX)
    if data is None:
        return None
    try:
        return parse_index(json.loads(data))
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{storage}/{INDEX}: is not an index of muhdi's shards ({reason}); write them with"
            " muhdi prepare RECIPE --shards FOLDER"
        ) from None


def parse_index(data: Any) -> SplitIndex:
    """The index that JSON holds.

    Raises:
        ValueError: it is not one, or contradicts itself.
    """
    if not isinstance(data, dict) or not isinstance(data.get("muhdi"), dict):
        raise ValueError("muhdi did not write it")
    own = dict(data["muhdi"])
    version = own.pop("version", None)
    if version != VERSION:
        raise ValueError(f"its version is {version!r}, and this muhdi reads {VERSION}")
    shards = [
        {name: value for name, value in shard.items() if name != "dim"}
        if isinstance(shard, dict)
        else shard
        for shard in data.get("chunks", ())
    ]
    index = _INDICES.validate_python({**own, "shards": shards})
    index.check()
    return index


_INDICES = TypeAdapter(SplitIndex)
