"""`muhdi predict` and `muhdi.load`.

What is written for which inputs, at which sizes, and what is refused.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import muhdi as library
from muhdi.deploy.inputs import find_inputs
from muhdi.deploy.predictor import Predictor
from muhdi.deploy.video import VideoWriter
from muhdi.deploy.view import View
from muhdi.errors import MuhdiError
from muhdi.evaluation.argmax import classes_at
from muhdi.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from muhdi.models.segmenter import build_segmenter
from muhdi.models.statistics import batch_norms
from muhdi.recipe.backbones import read_backbone
from muhdi.run.directory import RunDirectory
from muhdi.taxonomy import CLASS_SETS


def picture(path: Path, width: int = 50, height: int = 30, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(
        np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    ).save(path)
    return path


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_a_folder_tree_becomes_ids_colours_overlays_and_probabilities(
    muhdi, trained: Path, tmp_path: Path
) -> None:
    picture(tmp_path / "in/a/x.jpg", 70, 40)
    picture(tmp_path / "in/y.PNG", 33, 90, 1)
    status, output, errors = muhdi(
        "predict", trained, "in", "-o", "out", "--probabilities", "--batch-size", 2
    )
    assert status == 0, errors
    assert "2 images predicted" in output
    assert {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*")} == {
        "classes.json",
        *(f"{kind}/{name}.png" for kind in ("ids", "colour", "overlay") for name in ("a/x", "y")),
        *(f"probabilities/{name}.npz" for name in ("a/x", "y")),
    }
    ids = read(tmp_path / "out/ids/a/x.png")
    assert ids.shape == (40, 70)
    assert read(tmp_path / "out/ids/y.png").shape == (90, 33)
    palette = CLASS_SETS["urban7"].palette()
    assert (
        np.asarray(Image.open(tmp_path / "out/colour/a/x.png").convert("RGB")) == palette[ids]
    ).all()
    image = np.asarray(Image.open(tmp_path / "in/a/x.jpg")).astype(float)
    assert np.abs(read(tmp_path / "out/overlay/a/x.png") - (image + palette[ids]) / 2).max() <= 1
    shares = np.load(tmp_path / "out/probabilities/a/x.npz")["probabilities"]
    assert shares.shape == (7, 40, 70)
    assert np.abs(shares.astype(float).sum(0) - 1).max() < 5e-3
    best = np.take_along_axis(shares, ids[None].astype(int), 0)[0]
    assert (best >= shares.max(0) - 1e-3).all()
    legend = json.loads((tmp_path / "out/classes.json").read_text())
    assert legend["classes"][6] == {"id": 6, "name": "vehicle", "colour": "#00008e"}


def test_patterns_files_and_several_folders_keep_their_names(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one/s/x.png", "two/s/x.png", "x.jpg", "x.png", "out/ids/x.png"):
        picture(Path(name))

    def names(*arguments):
        return {str(i.path): str(i.name) for i in find_inputs(arguments, [Path("out/ids")])}

    assert names("one", "two") == {"one/s/x.png": "one/s/x", "two/s/x.png": "two/s/x"}
    assert names("one/**/*.png") == {"one/s/x.png": "s/x"}
    assert names("x.jpg", "x.png", "./x.png") == {"x.jpg": "x.jpg", "x.png": "x.png"}
    assert "out/ids/x.png" not in names(".")
    with pytest.raises(
        MuhdiError, match=r"two/s/x\.png: its outputs would have the name of those of one/s/x\.png"
    ):
        names("one/s/x.png", "two/s/x.png")


def test_a_bad_file_is_listed_and_does_not_stop_the_rest(
    muhdi, trained: Path, tmp_path: Path
) -> None:
    picture(tmp_path / "in/a.png")
    (tmp_path / "in/b.png").write_bytes(b"\x89PNG no more")
    picture(tmp_path / "in/c.png")
    status, output, errors = muhdi("predict", trained, "in", "-o", "out")
    assert status == 1
    assert errors.splitlines() == ["failed: in/b.png: not an image", "1 of 3 files failed"]
    assert sorted(path.name for path in (tmp_path / "out/ids").iterdir()) == ["a.png", "c.png"]
    assert "Traceback" not in output + errors


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["in", "--head", "agnostik"],
            "head agnostik: the network has the heads agnostic, specialist; did you mean 'agno",
        ),
        (["in", "--statistics", "domain"], "'domain' needs a domain's name"),
        (
            ["in", "--statistics", "running", "--domain", "city"],
            "'domain' needs a domain's name, the other choices none",
        ),
        (["in", "--domain", "nigth"], "holds no statistics of it; did you mean 'night'?"),
        (["in", "--statistics", "mean"], "must be one of running, domain, image"),
        (["nowhere.png"], "nowhere.png: there is no such file or folder"),
        (["*.bmp"], "*.bmp: the pattern matches no image"),
        (["empty"], "empty: holds no image"),
        (["in", "--overlap", "1"], "must be a fraction of the window"),
        (["in", "--overlap", "0.3"], "overlap 0.3: is that of windows; ask for windows, too"),
        (["in", "--scales", "0.5,x"], "--scales '0.5,x': must be numbers with commas"),
        (["in", "--scales", "1,0"], "scales: 0.0 must be above 0 and at most 10"),
        (["in", "--scales", "1,nan"], "scales: nan must be above 0 and at most 10"),
        (["in", "--scales", "0.4,1"], "scales: 0.4 makes images of 64x32 smaller than 16 pixels"),
        (["in", "--device", "cuda:99"], "device cuda:99: this machine has no such device"),
        (["in", "--device", "abacus"], "device abacus: is not a device"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(
    muhdi, trained, tmp_path, words, message
) -> None:
    picture(tmp_path / "in/a.png")
    (tmp_path / "empty").mkdir()
    status, _, errors = muhdi("predict", trained, *words, "-o", "out")
    assert status == 2
    assert message in errors
    assert errors.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_inputs_are_never_overwritten_and_outputs_only_if_asked(
    muhdi, trained: Path, tmp_path: Path
) -> None:
    for name in ("ids/a.png", "b.png"):
        picture(tmp_path / name)
    before = (tmp_path / "ids/a.png").read_bytes()
    status, _, errors = muhdi("predict", trained, "ids/a.png", "-o", ".", "--overwrite")
    assert status == 2
    assert "ids/a.png: is an input, and would be overwritten" in errors
    os.symlink("ids", tmp_path / "link")  # the same place by another name
    assert muhdi("predict", trained, "link/a.png", "-o", ".", "--overwrite")[0] == 2
    assert (tmp_path / "ids/a.png").read_bytes() == before
    assert not (tmp_path / "colour").exists()
    assert muhdi("predict", trained, "b.png", "-o", "out")[0] == 0
    status, _, errors = muhdi("predict", trained, "b.png", "-o", "out")
    assert status == 2
    assert "exists already" in errors
    assert muhdi("predict", trained, "b.png", "-o", "out", "--overwrite")[0] == 0


def test_head_and_statistics_choose_the_prediction(trained: Path, tmp_path: Path) -> None:
    """Each is what the network gives by the way that evaluation goes."""
    image = np.asarray(Image.open(trained / "samples/night_0_image.png"))
    checkpoint = load_checkpoint(RunDirectory(trained).last_model())
    batch = torch.from_numpy(image.copy()).permute(2, 0, 1)[None]
    model = checkpoint.network.eval()
    expected = {
        "running": model.segment(batch),
        "specialist": model.segment(batch, "specialist"),
    }
    for norm in batch_norms(model).values():
        norm.training = True
    expected["image"] = model.segment(batch)
    found = {
        "running": library.Predictor.load(trained),
        "specialist": library.Predictor.load(trained, head="specialist"),
        "image": library.Predictor.load(trained, statistics="image"),
        "night": library.Predictor.load(trained, domain="night"),
    }
    kept = np.asarray(Image.open(trained / "samples/night_0_predicted_domain.png"))
    assert (found["night"].predict(image).ids == kept).mean() > 0.99
    for name, logits in expected.items():
        classes = classes_at(logits, image.shape[:2], align_corners=True)[0]
        same = found[name].predict(image).ids == classes.numpy()
        assert same.mean() > (0.99 if name == "image" else 0.9999), name
    assert (found["running"].predict(image).ids != found["image"].predict(image).ids).any()


def test_each_image_has_its_own_statistics_in_any_batch(trained: Path) -> None:
    predictor = library.Predictor.load(trained, statistics="image")
    images = [
        np.asarray(Image.open(trained / f"samples/{name}_0_image.png"))
        for name in ("city", "night", "sim")
    ]
    together = predictor.predict_many(images, View(batch_size=3), probabilities=True)
    for image, one in zip(images, together, strict=True):
        alone = predictor.predict(image, probabilities=True).probabilities
        assert np.abs(alone - one.probabilities).max() < 1e-5


class Brightness(torch.nn.Module):
    """A stand-in for a network that sees a pixel's surroundings.

    Low-resolution logits of its brightness.
    """

    heads = ("agnostic",)
    statistics_choices = ("none",)
    align_corners = True
    channels = 3

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def segment(self, images: torch.Tensor, head: str) -> torch.Tensor:
        grey = torch.nn.functional.avg_pool2d(images.float().mean(1, keepdim=True) / 32, 2)
        return torch.cat([grey, 8 - grey], 1)


def brightness() -> Predictor:
    return Predictor(Checkpoint(Brightness(), read_backbone("small"), ("bright", "dark"), (40, 24)))  # type: ignore[arg-type]


@pytest.mark.parametrize(("width", "height"), [(40, 24), (101, 77), (64, 24), (30, 200)])
def test_windows_cover_an_image_of_any_size_without_seams(width: int, height: int) -> None:
    ramp = np.linspace(0, 255, width)[None, :, None] * np.linspace(0.6, 1, height)[:, None, None]
    image = np.repeat(ramp, 3, 2).astype(np.uint8)
    view = View(window=True, overlap=0.5, batch_size=3)
    found = brightness().predict(image, view)
    assert found.ids.shape == (height, width)
    clear = np.abs(image[..., 0].astype(int) - 128) > 8
    assert (found.ids == (image[..., 0] < 128))[clear].all()
    whole = brightness().predict(image, view, probabilities=True)
    assert (whole.ids == found.ids)[clear].all()
    assert whole.probabilities is not None
    assert np.abs(whole.probabilities.sum(0) - 1).max() < 1e-5


def test_windows_and_size_through_the_command(muhdi, trained: Path, tmp_path: Path) -> None:
    picture(tmp_path / "big.png", 300, 170)
    picture(tmp_path / "small.png", 9, 9)
    assert muhdi("predict", trained, "big.png", "-o", "w", "--window", "--overlap", 0.3)[0] == 0
    assert muhdi("predict", trained, "big.png", "-o", "s", "--size", 128, 64)[0] == 0
    assert (
        read(tmp_path / "w/ids/big.png").shape
        == read(tmp_path / "s/ids/big.png").shape
        == (170, 300)
    )
    assert (read(tmp_path / "w/ids/big.png") != read(tmp_path / "s/ids/big.png")).any()
    status, _, errors = muhdi("predict", trained, "small.png", "big.png", "-o", "o", "--window")
    assert status == 1
    assert "small.png: a side is smaller than 16 pixels" in errors
    pytest.importorskip("av")
    writer = VideoWriter(tmp_path / "low.mp4", 10)
    writer.add(np.zeros((12, 32, 3), np.uint8))
    writer.close()
    status, _, errors = muhdi("predict", trained, "low.mp4", "big.png", "-o", "f", "--window")
    assert status == 1
    assert "low.mp4: a side is smaller than 16 pixels" in errors
    assert (tmp_path / "f/ids/big.png").is_file(), "the others go on"
    status, _, errors = muhdi("export", trained, "net.pt2", "--images", "low.mp4")
    assert (status, errors) == (
        2,
        "error: --images: holds films alone, but an export is compared on images\n",
    )
    words = ["--images", "low.mp4", "--images", "big.png"]
    status, printed, errors = muhdi("export", trained, "net.pt2", *words)
    assert status == 0, errors
    assert errors == "note: low.mp4 is a film; exports are compared on images only\n"
    assert "verified on 1 image at its own size" in printed
    assert (tmp_path / "o/ids/big.png").is_file()


def test_mirror_images_and_scales_through_the_command(muhdi, trained: Path, tmp_path: Path) -> None:
    """The mean of the probabilities of four predictions, each of which can be had alone."""
    picture(tmp_path / "x.png", 64, 32)
    words = ["x.png", "--flip", "--scales", "1,1.5", "--probabilities"]
    assert muhdi("predict", trained, *words, "-o", "mean")[0] == 0
    predictor = library.Predictor.load(trained)
    image = read(tmp_path / "x.png")
    expected = np.zeros((7, 32, 64))
    for scale in (1.0, 1.5):
        for step in (1, -1):
            one = predictor.predict(image[:, ::step], View(scales=[scale]), probabilities=True)
            assert one.probabilities is not None
            expected += one.probabilities[:, :, ::step] / 4
    found = np.load(tmp_path / "mean/probabilities/x.npz")["probabilities"]
    assert np.abs(found - expected).max() < 1e-3, "they are kept as float16"
    assert (read(tmp_path / "mean/ids/x.png") == expected.argmax(0)).mean() > 0.999
    assert not np.allclose(predictor.predict(image, probabilities=True).probabilities, expected)
    picture(tmp_path / "low.png", 64, 31, 2)
    status, _, errors = muhdi("predict", trained, "low.png", "--window", "--scales", 0.5, "-o", "o")
    assert status == 1
    assert "low.png: a side is smaller than 32 pixels" in errors


def test_a_video_gives_ids_per_frame_and_an_overlay_video(
    muhdi, trained: Path, tmp_path: Path
) -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'muhdi[video]'")
    writer = VideoWriter(tmp_path / "in/drive.mp4", 10)
    for number in range(7):
        writer.add(np.full((48, 64, 3), 30 * number, np.uint8))
    writer.close()
    picture(tmp_path / "in/a.png")
    (tmp_path / "in/broken.mp4").write_bytes(b"no video")
    status, output, errors = muhdi(
        "predict", trained, "in", "-o", "out", "--every", 2, "--batch-size", 3
    )
    assert status == 1
    assert "5 images predicted" in output
    assert "in/broken.mp4: not a video that can be read" in errors
    for kind in ("ids", "colour"):
        assert sorted(p.name for p in (tmp_path / "out" / kind / "drive").iterdir()) == [
            f"{i:06d}.png" for i in range(4)
        ]
    with av.open(str(tmp_path / "out/overlay/drive.mp4")) as film:
        assert film.streams.video[0].average_rate == 5
        assert len(list(film.decode(video=0))) == 4
    assert not list((tmp_path / "out").rglob("*tmp*"))


def test_a_network_of_ones_own_classes_has_colours(muhdi, tmp_path: Path) -> None:
    checkpoint = Checkpoint(
        build_segmenter("small", 3), read_backbone("small"), ("a", "b", "c"), (48, 32)
    )
    save_checkpoint(tmp_path / "net.safetensors", checkpoint)
    picture(tmp_path / "x.png")
    assert muhdi("predict", "net.safetensors", "x.png", "-o", "out")[0] == 0
    legend = json.loads((tmp_path / "out/classes.json").read_text())["classes"]
    assert len({entry["colour"] for entry in legend}) == 3
    status, _, errors = muhdi("predict", "net.pth", "x.png", "-o", "out2")
    assert status == 2
    assert "net.pth: there is no such run directory or network file" in errors


def test_real_images(muhdi, trained: Path, camvid: Path, tmp_path: Path) -> None:
    folder = camvid / "target2_camvid_dusk_0001TP" / "val" / "images"
    status, output, _ = muhdi(
        "predict", trained, f"{folder}/*0.jpg", "-o", "out", "--statistics", "image"
    )
    assert status == 0
    images = sorted(folder.glob("*0.jpg"))
    assert f"{len(images)} images" in output
    assert {p.stem for p in (tmp_path / "out/ids").iterdir()} == {p.stem for p in images}
    assert read(tmp_path / f"out/ids/{images[0].stem}.png").shape == (360, 480)
