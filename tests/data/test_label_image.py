"""Label images are read exactly, whatever writes them; what cannot be exact is refused."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from muhdi.data.label_image import holds_colours, read_colours, read_ids
from muhdi.errors import DataError

IDS = np.array([[0, 1, 2, 3], [3, 2, 1, 0]], np.uint8)


def grey_png(path: Path, ids: np.ndarray, bits: int) -> Path:
    """A grey PNG of 1, 2 or 4 bits, which Pillow reads but does not write."""
    height, width = ids.shape
    rows = b""
    for row in ids:
        packed = "".join(f"{value:0{bits}b}" for value in row)
        packed += "0" * (-len(packed) % 8)
        rows += b"\0" + bytes(int(packed[i : i + 8], 2) for i in range(0, len(packed), 8))

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    return path


@given(bits=st.sampled_from((1, 2, 4)), seed=st.integers(0, 99), width=st.integers(1, 9))
@settings(max_examples=20, deadline=None)
def test_grey_png_of_few_bits_hold_their_ids(
    tmp_path_factory: pytest.TempPathFactory, bits: int, seed: int, width: int
) -> None:
    ids = np.random.default_rng(seed).integers(0, 2**bits, (3, width)).astype(np.uint8)
    path = grey_png(tmp_path_factory.getbasetemp() / "few.png", ids, bits)
    assert np.array_equal(read_ids(path), ids)


def sixteen(path: Path, order: str) -> None:
    mode = "I;16B" if order == ">" else "I;16"
    data = (1000 + IDS.astype(f"{order}u2")).astype(f"{order}u2").tobytes()
    Image.frombytes(mode, (4, 2), data).save(path)


def pgm(path: Path) -> None:
    path.write_bytes(b"P5 4 2 3\n" + IDS.tobytes())


def of_bits_tiff(path: Path) -> None:
    Image.fromarray(IDS == 1).save(path)


@pytest.mark.parametrize(
    ("name", "write", "expected"),
    [
        ("a.tif", lambda p: sixteen(p, ">"), 1000 + IDS.astype(int)),
        ("a.tif", lambda p: sixteen(p, "<"), 1000 + IDS.astype(int)),
        ("a.pgm", pgm, IDS),
        ("a.png", lambda p: Image.fromarray(np.repeat(IDS[..., None], 3, 2)).save(p), IDS),
        ("a.png", lambda p: Image.fromarray(IDS).convert("LA").save(p), IDS),
        ("a.webp", lambda p: Image.fromarray(IDS).convert("RGB").save(p, lossless=True), IDS),
        ("a.png", lambda p: Image.fromarray(IDS == 1).save(p), IDS == 1),
        ("a.tif", of_bits_tiff, IDS == 1),
    ],
    ids=["high byte first", "low byte first", "pgm", "rgb", "alpha", "webp", "1 bit", "tiff 1 bit"],
)
def test_ids_are_what_the_file_holds(tmp_path: Path, name, write, expected) -> None:
    write(tmp_path / name)
    assert np.array_equal(read_ids(tmp_path / name), expected)


@pytest.mark.parametrize(
    ("name", "options", "called"),
    [("a.jpg", {}, "JPEG"), ("a.webp", {}, "lossy WebP"), ("a.jp2", {}, "JPEG 2000")],
)
def test_lossy_labels_are_refused_with_the_share_of_pixels(
    tmp_path: Path, name: str, options: dict, called: str
) -> None:
    label = np.kron(np.arange(12).reshape(3, 4) * 20, np.ones((7, 7))).astype(np.uint8)
    Image.fromarray(label).convert("RGB").save(tmp_path / name, **options)
    for read in (read_ids, read_colours):
        with pytest.raises(DataError, match=rf"must not be {called}, .* at least \d+\.\d % of"):
            read(tmp_path / name)


def test_colours_are_told_from_ids(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2), (128, 64, 128)).save(tmp_path / "colour.png")
    Image.new("RGB", (2, 2), (3, 3, 3)).save(tmp_path / "grey.png")
    assert holds_colours(tmp_path / "colour.png")
    assert not holds_colours(tmp_path / "grey.png")
    assert read_colours(tmp_path / "colour.png").tolist() == [[0x804080] * 2] * 2
    with pytest.raises(DataError, match="RGB, with colours; set label_format: colours"):
        read_ids(tmp_path / "colour.png")
