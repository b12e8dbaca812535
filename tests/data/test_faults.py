"""Faults of data, one by one: what docs/data-faults.md says of each."""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image, ImageOps

from muhdi.data.catalog import open_split
from muhdi.data.files import FileSet, LabelFiles
from muhdi.data.prepared import PreparedSet
from muhdi.data.stream import Draw, EndlessSampler
from muhdi.errors import MuhdiError
from muhdi.preflight.check import check
from muhdi.recipe.load import load_recipe
from muhdi.recipe.schema import Recipe
from muhdi.run.directory import RunDirectory
from muhdi.taxonomy import CLASS_SETS
from muhdi.training.stage import StageTrainer
from muhdi.workflows.train import train
from tests.data.test_data import context, folder
from tests.folders import day, rain
from tests.trees import write_16_bit_rgb
from tests.workflows.test_train import assert_same_run

TABLE = CLASS_SETS["urban7"].lookup(None)
Own = Callable[..., Recipe]


def image_set(path: Path, label: Path | None = None) -> FileSet:
    return FileSet("d", [path], None if label is None else LabelFiles([label], TABLE))


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(path: Path) -> None:
    """A PNG of 67 bytes that says it has 400 million pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 20000, 20000, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b""))


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "zero-byte": (lambda path: path.write_bytes(b""), "not an image"),
    "no image": (lambda path: path.write_text("<html>404</html>"), "not an image"),
    "truncated": (
        lambda path: path.write_bytes(path.read_bytes()[:2000]),
        "the image cannot be read: .*truncated",
    ),
    "bomb": (bomb, "has more than 178 million pixels; cut it into tiles"),
    "missing": (lambda path: path.unlink(), "the file is missing"),
    "loop": (
        lambda path: (path.unlink(), path.symlink_to(path)),
        "the image cannot be read: .*symbolic links",
    ),
    "folder": (lambda path: (path.unlink(), path.mkdir()), "the image cannot be read: .*directory"),
}


@pytest.mark.parametrize("what", BROKEN)
@pytest.mark.parametrize("role", ["image", "label"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, what: str, role: str) -> None:
    paths = {"image": tmp_path / "image.png", "label": tmp_path / "label.png"}
    Image.fromarray(noise((40, 60, 3))).save(paths["image"])
    Image.fromarray(noise((40, 60)) % 7).save(paths["label"], compress_level=0)
    fault, words = BROKEN[what]
    fault(paths[role])
    with pytest.raises(MuhdiError, match=rf"{role}\.png: {words}") as error:
        image_set(paths["image"], paths["label"]).read(0, True)
    assert "\n" not in str(error.value)


def test_grey_images_have_three_equal_channels(tmp_path: Path) -> None:
    grey = noise((4, 5))
    Image.fromarray(grey).save(tmp_path / "x.png")
    assert np.array_equal(
        image_set(tmp_path / "x.png").read(0, False).image, grey[..., None].repeat(3, 2)
    )


def test_of_rgba_images_the_alpha_channel_is_dropped(tmp_path: Path) -> None:
    rgba = noise((4, 5, 4))
    Image.fromarray(rgba).save(tmp_path / "x.png")
    assert np.array_equal(image_set(tmp_path / "x.png").read(0, False).image, rgba[..., :3])


def test_palette_images_have_their_colours(tmp_path: Path) -> None:
    index, colours = noise((4, 5)) % 8, noise((8, 3))
    picture = Image.fromarray(index)
    picture.putpalette(colours.flatten().tolist())
    picture.save(tmp_path / "x.png")
    assert np.array_equal(image_set(tmp_path / "x.png").read(0, False).image, colours[index])


def test_cmyk_images_are_converted(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 5, 4), [255, 0, 0, 0], np.uint8), "CMYK").save(tmp_path / "x.tif")
    assert (image_set(tmp_path / "x.tif").read(0, False).image == [0, 255, 255]).all(), "cyan"


def test_of_16_bit_images_the_high_bytes_count(tmp_path: Path) -> None:
    grey = np.array([[0, 255, 256, 30000, 65535]], np.uint16)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    assert image_set(tmp_path / "grey.png").read(0, False).image[0, :, 1].tolist() == [
        0,
        0,
        1,
        117,
        255,
    ]
    write_16_bit_rgb(tmp_path / "rgb.png", grey[..., None].repeat(3, 2))
    assert image_set(tmp_path / "rgb.png").read(0, False).image[0, :, 1].tolist() == [
        0,
        0,
        1,
        117,
        255,
    ]


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.full((2, 2), 70000, np.int32), "more than 16 bit"),
        (np.full((2, 2), 0.5, np.float32), "not integers"),
    ],
)
def test_images_of_other_numbers_are_refused(
    tmp_path: Path, pixels: np.ndarray, words: str
) -> None:
    Image.fromarray(pixels).save(tmp_path / "x.tif")
    with pytest.raises(MuhdiError, match=rf"x\.tif: its pixels .*{words}"):
        image_set(tmp_path / "x.tif").read(0, False)


def held(path: Path, pixels: np.ndarray, orientation: int) -> None:
    """Save an image as a camera does that was held in one of eight ways."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif, quality=95)


@pytest.mark.parametrize("ending", ["jpg", "png"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_the_way_up_that_exif_says(
    tmp_path: Path, orientation: int, ending: str
) -> None:
    path = tmp_path / f"x.{ending}"
    smooth = np.asarray(
        Image.fromarray(noise((3, 4, 3))).resize((320, 240), Image.Resampling.BICUBIC)
    )
    held(path, smooth, orientation)
    image = image_set(path).read(0, False).image
    assert np.array_equal(image, np.asarray(ImageOps.exif_transpose(Image.open(path))))
    assert image.shape == ((320, 240, 3) if orientation > 4 else (240, 320, 3))
    assert FileSet("turned", [path]).stored_size(0) == (image.shape[1], image.shape[0])
    if ending == "jpg":  # decoded at a quarter, and turned
        size = image.shape[1] // 4, image.shape[0] // 4
        draft = image_set(path).read(0, False, size).image
        assert draft.shape == (size[1], size[0], 3)
        whole = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))
        assert np.abs(draft.astype(int) - whole).mean() < 4


def test_labels_of_turned_images_are_those_of_the_picture_as_it_is_shown(tmp_path: Path) -> None:
    held(tmp_path / "x.jpg", noise((24, 36, 3)), 6)
    Image.fromarray(noise((36, 24)) % 7).save(tmp_path / "upright.png")
    Image.fromarray(noise((24, 36)) % 7).save(tmp_path / "lying.png")
    sample = image_set(tmp_path / "x.jpg", tmp_path / "upright.png").read(0, True)
    assert sample.label.shape == sample.image.shape[:2] == (36, 24)
    with pytest.raises(MuhdiError, match=r"lying\.png: the label is 36x24, its image 24x36"):
        image_set(tmp_path / "x.jpg", tmp_path / "lying.png").read(0, True)


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiff_files_are_turned_too(
    tmp_path: Path, orientation: int, compression: str | None
) -> None:
    pixels = noise((24, 36))
    ways = [
        pixels,
        pixels[:, ::-1],
        pixels[::-1, ::-1],
        pixels[::-1],
        pixels.T,
        np.rot90(pixels, -1),
        np.rot90(pixels, 2).T,
        np.rot90(pixels),
    ]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "x.tif"
    Image.fromarray(pixels).save(path, exif=exif, compression=compression)
    image = image_set(path).read(0, False).image
    assert np.array_equal(image[..., 0], ways[orientation - 1])


def test_images_of_16_bit_are_turned_too(tmp_path: Path) -> None:
    pixels = noise((24, 36)).astype(np.uint16) << 8
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.fromarray(pixels).save(tmp_path / "x.png", exif=exif)
    image = image_set(tmp_path / "x.png").read(0, False).image
    assert np.array_equal(image[..., 0], np.rot90(pixels >> 8))


def test_broken_exif_counts_as_none(tmp_path: Path) -> None:
    pixels = noise((24, 36, 3))
    Image.fromarray(pixels).save(tmp_path / "x.png", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert np.array_equal(image_set(tmp_path / "x.png").read(0, False).image, pixels)


# --- whole runs ---


@pytest.fixture
def own(folders: Path, tmp_path: Path) -> Own:
    """A recipe on the folders, as it stands after whatever the test did to them."""

    def write(*settings: str, **changes: object) -> Recipe:
        recipe = {
            "name": "own",
            "image_size": [48, 32],
            "root": str(folders),
            "log_every": 1,
            "save_every": 100,
            "source": day({0: "flat", 7: "vehicle", 9: "ignore"}),
            "source_training": {"iterations": 3, "batch_size": 2},
            "loader": {"memory_mb": 0},
            "steps": [
                {
                    "target": rain(),
                    "iterations": 6,
                    "batch_size": 2,
                    "adaptation": "minent",
                    "retention": "muhdi",
                }
            ],
            "evaluation": {"statistics": ["running"], "samples": 0, "domain_images": 2},
        }
        path = tmp_path / "own.yml"
        path.write_text(yaml.safe_dump(recipe | changes))
        return load_recipe(path, settings)

    return write


def test_labels_that_are_all_ignored_train_to_finite_numbers(
    own: Own, folders: Path, tmp_path: Path
) -> None:
    for path in (folders / "day_labels").rglob("*.png"):
        Image.new("L", (36, 24), 9).save(path)
    recipe = own()
    results = train(recipe, tmp_path, quiet=True)
    text = RunDirectory.of(recipe, tmp_path).metrics.read_text()
    assert "NaN" not in text
    assert json.loads(text.splitlines()[0])["seg_main"] == 0
    assert results.matrix("running")[-1][0] is None, "no score, rather than 0"
    assert any("no label holds flat" in line for line in check(recipe, 1).problems)


def test_a_domain_of_one_image_trains(own: Own, folders: Path, tmp_path: Path) -> None:
    for kind in ("day", "rain"):
        for split in ("train", "val"):
            for path in sorted((folders / kind / split).iterdir())[1:]:
                path.unlink()
    results = train(own(), tmp_path, quiet=True)
    assert len(results.steps) == 2


def test_an_empty_split_stops_before_anything_is_written(
    own: Own, folders: Path, tmp_path: Path
) -> None:
    for path in (folders / "rain" / "val").iterdir():
        path.unlink()
    with pytest.raises(
        MuhdiError,
        match=r"steps\.0\.target: images: the pattern 'rain/val/\*\.png' matches no file",
    ):
        train(own(), tmp_path / "e", quiet=True)
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_vanishes_while_training_costs_nothing(
    own: Own, folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """Nothing but the vanishing makes this run save anything within the step."""
    recipe = own(f"loader.workers={workers}")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(recipe, whole, quiet=True)
    lost, aside = folders / "rain" / "train" / "img 2.png", tmp_path / "aside.png"
    original = StageTrainer.fit

    def fit(self, *arguments):
        if self.number == 1:
            lost.rename(aside)
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(StageTrainer, "fit", fit)
        with pytest.raises(MuhdiError, match=r"img 2\.png: the file is missing"):
            train(recipe, broken, quiet=True)
    aside.rename(lost)
    run = RunDirectory.of(recipe, broken)
    done = run.states.load()[0]["trainer"]["iteration"]
    order = [draw.index for batch in _first(EndlessSampler(4, 2, (0, 1, 1)), 4) for draw in batch]
    assert done == order.index(2) // 2 == 1, (
        "every iteration before the one that needs the file is saved"
    )
    train(recipe, broken, resume=True, quiet=True)
    assert_same_run(whole, broken, recipe)


def _first(sampler: EndlessSampler, count: int) -> list[list[Draw]]:
    return [batch for _, batch in zip(range(count), sampler)]


def test_labels_of_another_size_are_scaled_in_one_aspect_ratio(folders: Path) -> None:
    """Any size in the image's aspect ratio is scaled; any other is refused."""
    path = folders / "day_labels/val/img 0_ids.png"
    Image.new("L", (72, 48), 7).save(path)
    sample = PreparedSet(
        open_split(folder(), "val", context(folders)), (48, 32), (48, 32), with_labels=True
    )[0]
    assert sample.label.shape == (32, 48)
    Image.new("L", (30, 36), 7).save(path)
    with pytest.raises(MuhdiError, match="the label is 30x36, its image 36x24"):
        open_split(folder(), "val", context(folders)).read(0, True)


KILLED = """
import faulthandler, multiprocessing, os, signal, sys
from pathlib import Path
faulthandler.dump_traceback_later(45, exit=True)
from muhdi.recipe.augment import AugmentConfig
from muhdi.data.catalog import open_split
from muhdi.data.prepared import PreparedSet
from muhdi.data.stream import endless_batches, worker_ended
from muhdi.errors import MuhdiError
from tests.data.test_data import context, folder
folders = Path(sys.argv[1])
images = open_split(folder(), "train", context(folders))
samples = PreparedSet(images, (48, 32), (48, 32), with_labels=True)
batches = endless_batches(samples, 2, AugmentConfig(), (0,), workers=1)
try:
    next(batches)
    for process in multiprocessing.active_children():
        os.kill(process.pid, signal.SIGKILL)
    list(batches)  # those that it had loaded, and then the message
except MuhdiError as error:
    print(error)
except RuntimeError as error:  # PyTorch may raise it here as well
    print(worker_ended(error))
"""


def test_a_loading_process_that_is_ended_is_one_message(folders: Path) -> None:
    """In a process of its own: PyTorch raises at any point of the program when a loader is gone.

    Python's exit after that has been seen to hang, rarely, in its own code or PyTorch's; the script
    ends itself then, and a warning shows where.
    """
    command = [sys.executable, "-c", KILLED, str(folders)]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=90
    )
    assert done.stdout.startswith("runtime.workers: a data-loading worker was killed"), done.stderr
    if done.returncode:
        warnings.warn(f"the exit hung: {done.stderr}", stacklevel=1)


@pytest.mark.parametrize(("page", "least"), [("data-faults", 20), ("reliability", 25)])
def test_every_row_of_the_page_names_a_test_that_exists(page: str, least: int) -> None:
    root = Path(__file__).parents[2]
    lines = (root / f"docs/{page}.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith("| ") and ".py::" in line]
    assert len(rows) >= least
    for file, test in re.findall(r"`(test_\w+)\.py::(test_\w+)`", "\n".join(rows)):
        assert any(
            f"def {test}(" in found.read_text() for found in (root / "tests").rglob(f"{file}.py")
        ), test
    if page == "data-faults":
        assert len(rows) == len([line for line in lines if line.startswith("| ")]) - 1, (
            "every row names one"
        )
