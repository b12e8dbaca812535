"""Files of further channels beside an image: streams and exports read them as `predict` does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import muhdi as library
from muhdi.data.channels import Channels
from muhdi.deploy import inputs
from muhdi.errors import MuhdiError, RecipeError
from muhdi.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from muhdi.models.segmenter import build_segmenter
from muhdi.recipe.backbones import SmallConfig

Muhdi = Callable[..., tuple[int, str, str]]
SIZE = (48, 32)
PATTERN = "{parent:rgb=nir}/{stem}.png"
BANDS = ("--bands", PATTERN)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a network of four channels of 12 bit, one of colours, and images.

    Nobody may change it.
    """
    folder = tmp_path_factory.mktemp("bands")
    for name, channels in (("four", 4), ("colours", 3)):
        torch.manual_seed(0)
        network = build_segmenter("small", 2, channels=channels)
        for part in network.modules():
            if isinstance(part, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
        ends = (0, 4095) if channels == 4 else None
        saved = Checkpoint(network, SmallConfig(), ("soil", "plant"), SIZE, pixel_range=ends)
        save_checkpoint(folder / f"{name}.safetensors", saved)
    rng = np.random.default_rng(0)
    for number in range(3):
        width, height = SIZE[0] + 8 * number, SIZE[1]
        near = np.full((height, width), 200, np.uint16)
        near[:, width // 2 :] = 3900
        colours = rng.integers(0, 256, (height, width, 3), np.uint8)
        for kind, pixels in (("rgb", colours), ("nir", near)):
            path = folder / f"city/{kind}/{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return folder


@pytest.fixture
def place(written: Path, tmp_path: Path) -> Path:
    """A copy of it, where commands run."""
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    return tmp_path


def files(place: Path) -> list[list[Path]]:
    """Of each image, its files."""
    return [[place / f"city/{kind}/{number}.png" for kind in ("rgb", "nir")] for number in range(3)]


def ids(place: Path, folder: str, name: str) -> np.ndarray:
    return np.asarray(Image.open(place / folder / f"ids/{name}.png"))


def test_patterns_name_the_files_of_an_image() -> None:
    image = Path("city/rgb/a_rgb.png")
    patterns = ["{parent:rgb=nir}/{stem:_rgb}.tif", "{parent}/{name}.depth"]
    found = inputs.band_files(image, patterns)
    assert found == [Path("city/nir/a.tif"), Path("city/rgb/a_rgb.png.depth")]
    inputs.check_channels([image], Channels(5), patterns)
    inputs.check_channels([Path("drive.mp4")], Channels(3, (0, 4095)), [])
    with pytest.raises(MuhdiError, match=r"drive\.mp4: a film has 3 channels, the network takes 4"):
        inputs.check_channels([image, Path("drive.mp4")], Channels(4), [])
    with pytest.raises(RecipeError, match=r"'{split}/a\.png' may hold {parent}, {stem} an"):
        inputs.check_channels([image], Channels(4), ["{split}/a.png"])


def test_a_stream_is_read_as_predict_reads_it(muhdi: Muhdi, place: Path) -> None:
    status, _, errors = muhdi("predict", "four.safetensors", "city/rgb", "-o", "seen", *BANDS)
    assert status == 0, errors
    for method in ("none", "bn"):
        words = ("--online", "city/rgb", "-o", method, "--method", method)
        status, output, errors = muhdi("adapt", "four.safetensors", *words, *BANDS)
        assert status == 0, errors
        assert f"3 images predicted and adapted to by {method}" in output
    for number in range(3):
        assert np.array_equal(ids(place, "none", str(number)), ids(place, "seen", str(number)))

    # The fourth channel is the files', in 12 bit, and what adapts is what Python adapts.
    predictor = library.Predictor.load("four.safetensors", device="cpu")
    for number, image in enumerate(files(place)):
        prediction = predictor.adapt(image)
        assert set(np.unique(prediction.image[:, :, 3])) == {12, 243}
        assert np.array_equal(prediction.ids, ids(place, "bn", str(number)))
    predictor.save_adapted(place / "python.safetensors")
    ours = load_checkpoint(place / "python.safetensors")
    theirs = load_checkpoint(place / "bn/network.safetensors")
    assert (theirs.network.channels, theirs.pixel_range) == (4, (0, 4095))
    before = load_checkpoint(place / "four.safetensors").network.state_dict()
    adapted = theirs.network.state_dict()
    assert all(
        torch.equal(value, adapted[name]) for name, value in ours.network.state_dict().items()
    )
    assert any(not torch.equal(value, adapted[name]) for name, value in before.items())

    # The adapted network predicts from the same folders.
    status, _, errors = muhdi("predict", "bn/network.safetensors", "city/rgb", "-o", "x", *BANDS)
    assert status == 0, errors


def test_lists_and_iterables_have_bands_too(muhdi: Muhdi, place: Path) -> None:
    words = ("--method", "none", *BANDS)
    status, _, errors = muhdi("adapt", "four.safetensors", "--online", "city/rgb", *words)
    assert status == 0, errors
    (place / "list.txt").write_text("city/rgb/2.png\ncity/rgb/0.png\n")
    status, _, errors = muhdi(
        "adapt", "four.safetensors", "--online", "list.txt", *words, "-o", "listed"
    )
    assert status == 0, errors
    assert np.array_equal(ids(place, "listed", "2"), ids(place, "adapted", "2"))
    images = iter(files(place))
    run = library.adapt_online("four.safetensors", images, "numbered", method="none")
    assert run.images == 3
    assert np.array_equal(ids(place, "numbered", "000002"), ids(place, "adapted", "2"))
    with pytest.raises(RecipeError, match="of an iterable, give each image as the list of its fil"):
        library.adapt_online("four.safetensors", iter(files(place)), "no", bands=[PATTERN])
    with pytest.raises(RecipeError, match="bands: must be of type list or tuple"):
        library.adapt_online("four.safetensors", "city/rgb", "no", bands=PATTERN)
    assert not (place / "no").exists()


def test_files_of_four_channels_need_no_bands(muhdi: Muhdi, place: Path) -> None:
    (place / "whole").mkdir()
    for number, image in enumerate(files(place)):
        pixels = library.Predictor.load("four.safetensors", device="cpu").predict(image).image
        Image.fromarray(pixels, "RGBA").save(place / f"whole/{number}.png")
    for stream, folder, bands in (("city/rgb", "apart", BANDS), ("whole", "together", ())):
        words = ("--online", stream, "-o", folder, "--method", "tent", *bands)
        status, _, errors = muhdi("adapt", "four.safetensors", *words)
        assert status == 0, errors
    for number in "012":
        assert np.array_equal(ids(place, "apart", number), ids(place, "together", number))
    apart, together = (
        load_checkpoint(place / folder / "network.safetensors").network.state_dict()
        for folder in ("apart", "together")
    )
    assert all(torch.equal(value, together[name]) for name, value in apart.items())


def test_exports_are_verified_on_images_with_bands(muhdi: Muhdi, place: Path) -> None:
    # An array of another program beside an image is none of its channels.
    np.save(place / "city/rgb/0.npy", np.zeros((2, 2)))
    for target in ("four.pt2", "folder"):
        words = ("--images", "city/rgb", *BANDS)
        status, output, errors = muhdi("export", "four.safetensors", target, *words)
        assert status == 0, errors
        assert "verified on 3 images at their own size" in output
    with Image.open(place / "folder/example.png") as picture:
        assert (picture.mode, picture.size) == ("RGB", (2 * SIZE[0], SIZE[1]))
    _, verified = library.export(
        "four.safetensors", "again", images=[place / "city/rgb/1.png"], bands=(PATTERN,)
    )
    assert verified.images == 1

    network = library.Predictor.load("folder", device="cpu")
    expected = network.predict(files(place)[0]).ids
    status, _, errors = muhdi("predict", "four.pt2", "city/rgb/0.png", "-o", "x", *BANDS)
    assert status == 0, errors
    assert (ids(place, "x", "0") == expected).mean() > 0.99


def test_a_band_that_is_missing_is_one_files_failure(muhdi: Muhdi, place: Path) -> None:
    (place / "city/nir/1.png").unlink()
    status, output, errors = muhdi("adapt", "four.safetensors", "--online", "city/rgb", *BANDS)
    assert status == 1
    assert "2 images predicted" in output
    assert errors.splitlines()[0].startswith("failed: city/nir/1.png: ")
    assert json.loads((place / "adapted/online.json").read_text())["images"] == 2

    status, _, errors = muhdi("export", "four.safetensors", "x", "--images", "city/rgb", *BANDS)
    assert status == 2
    assert "city/nir/1.png: " in errors
    assert errors.count("\n") == 1
    assert not (place / "x").exists()


def test_a_band_is_not_overwritten(muhdi: Muhdi, place: Path) -> None:
    (place / "city/nir").rename(place / "ids")
    before = (place / "ids/0.png").read_bytes()
    pattern = "{parent:city/rgb=ids}/{stem}.png"
    for command in (("predict", "four.safetensors"), ("adapt", "four.safetensors", "--online")):
        words = ("-o", ".", "--overwrite", "--bands", pattern)
        status, _, errors = muhdi(*command, "city/rgb", *words)
        assert status == 2
        assert "ids/0.png: is an input, and would be overwritten" in errors
        assert (place / "ids/0.png").read_bytes() == before


FILM = "drive.mp4: a film has 3 channels, the network takes 4; give its frames as images"
COLOURS = "bands: '{stem}.png' names further channels, but the network takes 3; leave it out"
BRACES = "bands: '{split}/a.png' may hold {parent}, {stem} and {name} only"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("adapt four.safetensors --online drive.mp4", FILM),
        ("predict four.safetensors drive.mp4", FILM),
        ("adapt colours.safetensors --online city/rgb --bands {stem}.png", COLOURS),
        ("predict colours.safetensors city/rgb --bands {stem}.png", COLOURS),
        ("export colours.safetensors x.pt2 --images city/rgb --bands {stem}.png", COLOURS),
        ("adapt four.safetensors --online city/rgb --bands {split}/a.png", BRACES),
        ("predict four.safetensors city/rgb --bands {split}/a.png", BRACES),
        ("export four.safetensors x.pt2 --images city/rgb --bands {split}/a.png", BRACES),
        (
            "export four.safetensors x.pt2 --images city/rgb",
            "0.png: has 3 channels, but 4 are wanted (channels: 4); name files that have the others"
            " as bands",
        ),
        (
            "export four.safetensors x.pt2 --bands {stem}.png",
            "bands: are further files of the images to verify on, but none are named; name some:"
            " --images",
        ),
        (
            "export four.safetensors x.pt2 --images drive.mp4 --bands {stem}.png",
            "--images: holds films alone, but an export is compared on images",
        ),
        (
            "adapt four.safetensors --images city/rgb --bands {stem}.png",
            "--bands: is for --online; for --images, whose patterns are those of a recipe, give"
            " --set 'steps.0.target.bands=",
        ),
        (
            "adapt four.safetensors --bands {stem}.png",
            "--bands: is for --online; name a stream with it",
        ),
        (
            "adapt four.safetensors --online scenes --bands {stem}.png",
            "--bands: with --online scenes the recipe says it; leave it out",
        ),
    ],
)
def test_what_cannot_have_the_channels_is_one_line(
    muhdi: Muhdi, place: Path, words: str, message: str
) -> None:
    (place / "drive.mp4").write_bytes(b"a film")
    status, output, errors = muhdi(*words.split())
    assert status == 2
    assert message in errors
    assert errors.count("\n") == 1
    assert "Traceback" not in output + errors
    written = [name for name in ("adapted", "predictions", "x.pt2") if (place / name).exists()]
    assert not written
