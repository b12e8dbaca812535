"""What is inside a shard: the file format of litdata, which its own readers read too.

A shard begins with the number of its items, N, and N + 1 offsets. Item i lies from offset i to
offset i + 1. An item begins with the length of each of its parts, and the parts follow. All these
numbers are uint32, little endian. An array is a part that begins with the number of its type, the
number of its axes and their lengths.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from muhdi.data.files import decode_rgb
from muhdi.data.label_image import decode_image
from muhdi.data.sets import WHOLE, Sample, Size

PARTS = ("image", "name", "notes", "label")
"""Of an item, in order; the label is the last, so that it is not even read where it must not be."""
MOST_BYTES = 2**32 - 1
"""Of a shard: offsets have four bytes."""
_UINT8 = 4
"""What litdata calls the type."""

Pixels = npt.NDArray[np.uint8]


def pack_item(sample: Sample, image: bytes | None, *, decoded: bool) -> bytes:
    """An item.

    Args:
        sample: with its label, if the shard holds labels.
        image: the contents of the image's file; None: there is none, and the pixels are kept.
        decoded: whether pixels are kept as they are; else images and labels are files: those of
            labels, and of images without a file, are PNG.
    """
    notes: dict[str, Any] = {}
    if sample.unlisted:
        notes["unlisted"] = sample.unlisted
    if sample.window != WHOLE:
        notes["window"] = sample.window
    pack = _pack_array if decoded else _png
    if decoded or image is None:
        image = pack(sample.image)
    parts = [image, sample.name.encode("utf-8", "surrogateescape"), json.dumps(notes).encode()]
    if sample.label is not None:
        parts.append(pack(sample.label))
    lengths = struct.pack(f"<{len(parts)}I", *map(len, parts))
    return b"".join([lengths, *parts])


def pack_shard(items: Sequence[bytes]) -> bytes:
    """A shard."""
    offsets = [4 * (len(items) + 2)]
    for item in items:
        offsets.append(offsets[-1] + len(item))
    return b"".join([struct.pack(f"<{len(items) + 2}I", len(items), *offsets), *items])


def read_offsets(file: io.RawIOBase, count: int) -> list[int]:
    """Where the items of a shard begin, and where the last one ends.

    Raises:
        ValueError: the file does not begin as a shard of ``count`` items does.
    """
    file.seek(0)
    head = file.read(4 * (count + 2)) or b""
    if len(head) != 4 * (count + 2):
        raise ValueError("it is cut")
    found, *offsets = struct.unpack(f"<{count + 2}I", head)
    if found != count or offsets[0] != len(head) or sorted(offsets) != offsets:
        raise ValueError("it does not begin as a shard does")
    return offsets


def read_parts(
    file: io.RawIOBase, start: int, stop: int, *, labelled: bool, with_label: bool
) -> list[memoryview]:
    """The parts of an item; the label's bytes are read only if asked for.

    Args:
        file: the shard.
        start: offset of the item.
        stop: offset of the next one.
        labelled: whether the shard holds labels.
        with_label: whether this one's is wanted.

    Raises:
        ValueError: its lengths do not add up, or the file is cut.
    """
    count = len(PARTS) if labelled else len(PARTS) - 1
    file.seek(start)
    head = file.read(4 * count) or b""
    if len(head) != 4 * count:
        raise ValueError("it is cut")
    lengths = struct.unpack(f"<{count}I", head)
    if start + len(head) + sum(lengths) != stop:
        raise ValueError("the lengths in it do not add up")
    wanted = lengths if with_label else lengths[: len(PARTS) - 1]
    # Into an array of our own, which a sample's pixels may then be a part of.
    buffer = np.empty(sum(wanted), np.uint8).data
    done = 0
    while done < len(buffer):
        read = file.readinto(buffer[done:])
        if not read:
            raise ValueError("it is cut")
        done += read
    parts = []
    end = 0
    for length in wanted:
        parts.append(buffer[end : end + length])
        end += length
    return parts


def unpack_item(parts: Sequence[memoryview], *, decoded: bool, draft: Size | None = None) -> Sample:
    """The sample of an item's parts.

    Args:
        parts: as `read_parts` gives them.
        decoded: as for `pack_item`.
        draft: as for `ImageSet.read`.

    Raises:
        DataError: it is not an image that can be read.
        ValueError: it is not an item.
    """
    name = bytes(parts[1]).decode("utf-8", "surrogateescape")
    notes = json.loads(bytes(parts[2]))
    window = tuple(notes.get("window", WHOLE))
    image = _unpack_array(parts[0], 3) if decoded else decode_rgb(bytes(parts[0]), name, draft)
    if len(parts) < len(PARTS):
        # What the label does not list would tell of the label.
        return Sample(name, image, None, window=window)
    label = _unpack_array(parts[-1], 2) if decoded else _read_png(parts[-1], f"{name} (label)")
    return Sample(name, image, label, notes.get("unlisted", {}), window)


def index_config(labelled: bool, decoded: bool) -> dict[str, Any]:
    """What litdata wants to know of the items: the types of their parts, and how they nest."""
    pixels = "numpy" if decoded else "bytes"
    names = PARTS if labelled else PARTS[:-1]
    kinds = {"image": pixels, "name": "str", "notes": "str", "label": pixels}
    leaf: dict[str, Any] = {"type": None, "context": None, "children_spec": []}
    tree = {
        "type": "builtins.dict",
        "context": json.dumps(names),
        "children_spec": [leaf] * len(names),
    }
    return {
        "chunk_bytes": None,
        "chunk_size": None,
        "compression": None,
        "data_format": [kinds[name] for name in names],
        "data_spec": json.dumps([1, tree]),
        "encryption": None,
        "item_loader": "PyTreeLoader",
    }


def _pack_array(pixels: Pixels) -> bytes:
    head = struct.pack(f"<{pixels.ndim + 2}I", _UINT8, pixels.ndim, *pixels.shape)
    return head + pixels.tobytes()


def _unpack_array(part: memoryview, axes: int) -> Pixels:
    """A view of the part; no pixel is copied."""
    head = 4 * (axes + 2)
    kind, found, *shape = struct.unpack(f"<{axes + 2}I", part[:head])
    if (kind, found) != (_UINT8, axes):
        raise ValueError("it is of another type")
    return np.frombuffer(part, np.uint8, offset=head).reshape(shape)


def _png(pixels: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _read_png(part: memoryview, name: str) -> Pixels:
    return np.asarray(decode_image(io.BytesIO(part), name))
