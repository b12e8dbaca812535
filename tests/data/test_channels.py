"""More than three channels, and more than 8 bits: what is read, scaled, cached and refused."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from muhdi.data.augment import augment
from muhdi.data.cache import SampleCache
from muhdi.data.catalog import DataContext, open_split
from muhdi.data.channels import Channels, read_channels, scaled
from muhdi.data.files import read_image
from muhdi.data.prepared import Loading, PreparedSet
from muhdi.data.resize import resize_image
from muhdi.data.sets import Sample
from muhdi.errors import DataError, RecipeError
from muhdi.recipe.augment import AugmentConfig
from muhdi.recipe.domains import FolderConfig, PotsdamConfig
from muhdi.taxonomy import custom

CLASSES = custom(["road", "car"])
RED = (200, 100, 50)


def save(path: Path, pixels: object, kind: type = np.uint8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(pixels, kind)).save(path)
    return path


def deep_png(path: Path, pixels: np.ndarray) -> Path:
    """A colour PNG of 16 bit, which Pillow cannot write: uint16 [H, W, 3]."""
    height, width, _ = pixels.shape
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    data = b"\x89PNG\r\n\x1a\n"
    for name, content in chunks:
        checksum = struct.pack(">I", zlib.crc32(name + content))
        data += struct.pack(">I", len(content)) + name + content + checksum
    path.write_bytes(data)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two colour images of 4x2, and near infrared of 12 bit beside them at twice their size."""
    for number, name in enumerate(("a", "b")):
        colours = np.full((2, 4, 3), RED)
        colours[..., 0] -= number
        save(tmp_path / f"rgb/{name}.png", colours)
        save(tmp_path / f"nir/{name}.png", np.full((4, 8), 1365 + number), np.uint16)
        save(tmp_path / f"labels/{name}.png", [[0, 0, 1, 1]] * 2)
    return tmp_path


def config(root: Path, **keys: object) -> FolderConfig:
    values = {"dataset": "folder", "root": str(root), "images": "rgb/*.png"}
    further = {"labels": "labels/{stem}.png", "bands": ["nir/{stem}.png"]}
    return FolderConfig.model_validate(values | further | keys)


def context(count: int = 4, ends: tuple[int, int] | None = (0, 4095)) -> DataContext:
    return DataContext(CLASSES, (4, 2), ".", 0, channels=Channels(count, ends))


def test_a_scale_is_linear_and_cut_off_at_its_ends() -> None:
    values = np.array([0, 99, 100, 101, 102, 355, 356, 65535], np.uint16)
    assert scaled(values, (100, 355)).tolist() == [0, 0, 0, 1, 2, 255, 255, 255]
    assert scaled(np.array([0, 8, 9, 4087, 4095]), (0, 4095)).tolist() == [0, 0, 1, 255, 255]


def test_bands_come_after_the_colours(root: Path) -> None:
    found = open_split(config(root), "train", context()).read(1, True)
    assert found.image.shape == (2, 4, 4)
    assert found.image.reshape(-1, 4).tolist() == [[199, 100, 50, 85]] * 8  # 1366 / 4095 * 255
    high = open_split(config(root), "train", context(ends=None)).read(0, False)
    assert high.image[0, 0].tolist() == [*RED, 1365 // 256]


def test_a_file_of_four_bands_needs_no_others(tmp_path: Path) -> None:
    pixels = np.arange(2 * 4 * 4, dtype=np.uint8).reshape(2, 4, 4)
    for name, mode in (("a.png", "RGBA"), ("b.tif", "RGBX")):
        Image.frombytes(mode, (4, 2), pixels.tobytes()).save(tmp_path / name)
        assert np.array_equal(read_image(tmp_path / name, None, Channels(4)), pixels)
        assert np.array_equal(read_image(tmp_path / name), pixels[..., :3])
    # With a band of its own, what a picture has beside its colours is its transparency.
    nir = save(tmp_path / "nir.png", np.full((2, 4), 7))
    joined = read_image(tmp_path / "a.png", None, Channels(4), [nir])
    assert np.array_equal(joined[..., :3], pixels[..., :3])
    assert (joined[..., 3] == 7).all()
    assert read_image(tmp_path / "a.png", None, Channels(5), [nir]).shape == (2, 4, 5)


def test_all_16_bits_of_colours_count(tmp_path: Path) -> None:
    values = np.array([[[0, 2048, 4095], [16, 17, 5000]]], np.uint16)
    path = deep_png(tmp_path / "deep.png", values)
    expected = [[[0, 128, 255], [1, 1, 255]]]
    assert read_image(path, None, Channels(3, (0, 4095))).tolist() == expected
    assert read_image(path).tolist() == (values >> 8).tolist()


def test_grey_levels_that_pillow_stretches_are_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "grey.pgm"
    path.write_bytes(b"P5 2 1 4095\n" + np.array([1365, 4095], ">u2").tobytes())
    assert read_channels(path, (0, 4095))[..., 0].tolist() == [[85, 255]]


def test_each_channel_is_resized_by_itself() -> None:
    image = np.random.default_rng(0).integers(0, 256, (6, 8, 5), np.uint8)
    found = resize_image(image, (5, 4))
    assert np.array_equal(
        found[..., :3], resize_image(np.ascontiguousarray(image[..., :3]), (5, 4))
    )
    for channel in range(5):
        alone = np.ascontiguousarray(image[..., channel])
        assert np.array_equal(found[..., channel], resize_image(alone, (5, 4)))
    padded = resize_image(image, (16, 6), "pad")
    assert np.array_equal(padded[:, :8], image)
    assert not padded[:, 8:].any()


def test_colour_changes_leave_the_other_channels() -> None:
    image = np.random.default_rng(0).integers(0, 256, (6, 8, 5), np.uint8)
    config = AugmentConfig(colour=0.5)
    colours = np.ascontiguousarray(image[..., :3])
    found = augment(Sample("a", image, None), config, np.random.default_rng(3)).image
    alone = augment(Sample("a", colours, None), config, np.random.default_rng(3)).image
    assert np.array_equal(found[..., :3], alone)
    assert not np.array_equal(alone, colours)
    assert np.array_equal(found[..., 3:], image[..., 3:])
    config = AugmentConfig(crop=0.5, flip=True)
    whole = augment(Sample("a", image, None), config, np.random.default_rng(4)).image
    alone = augment(Sample("a", colours, None), config, np.random.default_rng(4)).image
    assert whole.shape == image.shape
    assert np.array_equal(whole[..., :3], alone)


def test_a_cache_gives_what_it_was_given_and_notices_changes(root: Path, tmp_path: Path) -> None:
    images = open_split(config(root), "train", context())
    loading = Loading(cache=SampleCache(tmp_path / "cache"), channels=4)
    prepared = PreparedSet(images, (8, 6), None, with_labels=True, loading=loading)
    first, again = prepared[0], prepared[0]
    assert first.image.shape == (6, 8, 4)
    assert np.array_equal(first.image, again.image)
    others = [
        open_split(config(root), "train", context(ends=(0, 2000))),
        open_split(config(root, bands=["nir/{stem}.png"] * 2), "train", context(5)),
    ]
    for other in others:
        assert other.key(0, True) != images.key(0, True)
        assert other.fingerprint() != images.fingerprint()
    before = images.key(0, True), images.fingerprint()
    save(root / "nir/a.png", np.zeros((4, 8)), np.uint16)
    assert images.key(0, True) != before[0]
    assert images.fingerprint() != before[1]
    plain = open_split(config(root, bands=[]), "train", context(3, None))
    assert len(plain.key(0, True)) == 2  # as before there were channels: its cache is found


@pytest.mark.parametrize(
    ("keys", "count", "words"),
    [
        ({"bands": []}, 4, r"a\.png: has 3 channels, but 4 are wanted \(channels: 4\)"),
        ({}, 3, r"a\.png: has 3 channels and its bands 1, but 3 are wanted"),
        ({"bands": ["rgb/{stem}.png"]}, 4, "has 3 channels and its bands 3, but 4 are wanted"),
        ({"bands": ["wide/{stem}.png"]}, 4, r"wide/a\.png: is 8x2, its image .*a\.png 4x2; bands"),
        ({"bands": ["float/{stem}.tif"]}, 4, r"a\.tif: its pixels are not integers"),
    ],
)
def test_files_that_do_not_give_the_channels_are_refused(
    root: Path, keys: dict[str, object], count: int, words: str
) -> None:
    for name in ("a", "b"):
        save(root / f"wide/{name}.png", np.zeros((2, 8)))
        save(root / f"float/{name}.tif", np.zeros((2, 4)), np.float32)
    images = open_split(config(root, **keys), "train", context(count))
    with pytest.raises(DataError, match=words):
        images.read(0, False)


def test_bands_that_are_missing_are_refused_before_anything_is_read(root: Path) -> None:
    (root / "nir/b.png").unlink()
    with pytest.raises(DataError, match=r"b\.png: its band .*nir/b\.png is missing \(1 files of"):
        open_split(config(root), "train", context())
    with pytest.raises(RecipeError, match=r"bands of .*'\{else\}\.png' may hold"):
        open_split(config(root, bands=["{else}.png"]), "train", context())


def test_a_data_set_of_another_package_must_have_the_channels(root: Path) -> None:
    images = open_split(config(root, bands=[]), "train", context(3, None))
    prepared = PreparedSet(images, (4, 2), None, with_labels=False, loading=Loading(channels=4))
    with pytest.raises(DataError, match=r"a\.png: has 3 channels, but 4 are wanted"):
        prepared[0]


def test_potsdam_has_all_four_bands(tmp_path: Path) -> None:
    pixels = np.arange(2 * 4 * 4, dtype=np.uint8).reshape(2, 4, 4)
    path = tmp_path / "4_Ortho_RGBIR/top_potsdam_2_10_RGBIR.tif"
    path.parent.mkdir()
    Image.frombytes("RGBX", (4, 2), pixels.tobytes()).save(path)
    section = PotsdamConfig(dataset="potsdam", root=str(tmp_path), bands="rgbir")
    images = open_split(section, "train", context(4, None), labels=False)
    assert np.array_equal(images.read(0, False).image, pixels)
    assert section.channels == 4
