"""A network adapts while it predicts: streams, rounds of a recipe, and what breaks."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import muhdi as library
from muhdi.models.checkpoint import load_checkpoint
from muhdi.online.bn import Moments
from muhdi.run.directory import RunDirectory


def take_photos(folder: Path, count: int = 3) -> list[np.ndarray]:
    """Photos of different sizes."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    photos = []
    for number in range(count):
        photos.append(rng.integers(0, 256, (40 + 10 * number, 70, 3), np.uint8))
        Image.fromarray(photos[-1]).save(folder / f"{number}.png")
    return photos


def state(path: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(path).network.state_dict()


def moved(trained: Path, path: Path) -> set[str]:
    """Names of what differs from the run's network."""
    before = state(RunDirectory(trained).last_model())
    return {name for name, value in state(path).items() if not torch.equal(value, before[name])}


def test_a_folder_is_predicted_and_adapted_to(muhdi, trained: Path, tmp_path: Path) -> None:
    take_photos(tmp_path / "photos")
    status, output, errors = muhdi(
        "adapt", trained, "--online", "photos", "--method", "tent", "--set", "learning_rate=1e-3"
    )
    assert status == 0, errors
    assert "3 images predicted and adapted to by tent, in adapted; " in output
    assert re.search(r"\d+ ms an image \(95 %: \d+ ms\), 0 resets", output)
    assert Image.open(tmp_path / "adapted/ids/2.png").size == (70, 60)
    facts = json.loads((tmp_path / "adapted/online.json").read_text())
    assert facts["method"]["learning_rate"] == 1e-3
    assert facts["images"] == facts["latency"]["images"] == 3
    names = moved(trained, tmp_path / "adapted/network.safetensors")
    assert names
    assert all(name.endswith(("weight", "bias")) for name in names)
    assert muhdi("predict", "adapted/network.safetensors", "photos", "-o", "again")[0] == 0
    loaded = library.Predictor.load(tmp_path / "adapted/network.safetensors")
    assert loaded.statistics == "image", "as the method has normalised"


def test_python_does_what_the_command_does(muhdi, trained: Path, tmp_path: Path) -> None:
    photos = take_photos(tmp_path / "photos")
    assert muhdi("adapt", trained, "--online", "photos", "-o", "command")[0] == 0
    predictor = library.Predictor.load(trained)
    first = predictor.predict(photos[0], probabilities=True)
    found = [predictor.adapt(photo, probabilities=True) for photo in photos]
    for number, prediction in enumerate(found):
        written = np.asarray(Image.open(tmp_path / f"command/ids/{number}.png"))
        assert np.array_equal(prediction.ids, written)
    assert not np.allclose(found[0].probabilities, first.probabilities), "bn, the usual method"
    predictor.save_adapted(tmp_path / "python.safetensors")
    ours, theirs = (
        state(tmp_path / "python.safetensors"),
        state(tmp_path / "command/network.safetensors"),
    )
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert {
        name.rpartition(".")[2] for name in moved(trained, tmp_path / "python.safetensors")
    } == {
        "running_mean",
        "running_var",
    }
    run = library.adapt_online(trained, iter(photos), tmp_path / "iterator")
    assert run.images == 3
    again = np.asarray(Image.open(tmp_path / "iterator/ids/000002.png"))
    assert np.array_equal(again, found[2].ids)


@pytest.mark.parametrize("domain", [None, "night"])
def test_plain_prediction_is_predict(trained: Path, tmp_path: Path, domain: str | None) -> None:
    (photo,) = take_photos(tmp_path / "photos", 1)
    predictor = library.Predictor.load(trained, domain=domain)
    expected = predictor.predict(photo, probabilities=True)
    predictor.adapt_by("none")
    found = predictor.adapt(photo, probabilities=True)
    assert np.array_equal(found.ids, expected.ids)
    assert np.allclose(found.probabilities, expected.probabilities, atol=1e-6)
    predictor.save_adapted(tmp_path / "same.safetensors")
    loaded = library.Predictor.load(tmp_path / "same.safetensors")
    again = loaded.predict(photo, probabilities=True)
    assert np.allclose(again.probabilities, expected.probabilities, atol=1e-6)


MOVING = {
    "bn": {},
    "tent": {"learning_rate": 1e-2},
    "cotta": {"learning_rate": 1e-2, "teacher_momentum": 0.5, "scales": [1.0]},
    "sar": {"learning_rate": 1e-1, "margin": 1.0},
}
STAYING = [("none", {}), ("bn", {"moments": "blend"}), ("bn", {"moments": "batch"})]


@pytest.mark.parametrize(("method", "options"), [*MOVING.items(), *STAYING])
def test_predict_uses_what_was_adapted_and_so_do_its_files(
    trained: Path, tmp_path: Path, method: str, options: dict
) -> None:
    photos = take_photos(tmp_path / "photos")
    predictor = library.Predictor.load(trained, statistics="running")
    session = predictor.adapt_by(method, **options)
    before = predictor.predict(photos[0], probabilities=True).probabilities
    for photo in photos:
        predictor.adapt(photo)
    after = predictor.predict(photos[0], probabilities=True).probabilities
    moves = options == MOVING.get(method)
    assert np.allclose(after, before, atol=1e-4) is not moves
    predictor.save_adapted(tmp_path / "adapted.safetensors")
    predictor.save_pretrained(tmp_path / "folder")
    for written in ("adapted.safetensors", "folder"):
        loaded = library.Predictor.load(tmp_path / written)
        found = loaded.predict(photos[0], probabilities=True).probabilities
        assert np.allclose(found, after, atol=1e-6), written
    session.reset()
    again = predictor.predict(photos[0], probabilities=True).probabilities
    assert np.allclose(again, before, atol=1e-6)


def test_a_mean_teacher_is_what_the_file_names(trained: Path, tmp_path: Path) -> None:
    (photo,) = take_photos(tmp_path / "photos", 1)
    predictor = library.Predictor.load(trained)
    predictor.adapt_by("cotta", teacher_momentum=0.5, learning_rate=1e-2)
    predictor.adapt(photo)
    predictor.save_adapted(tmp_path / "taught.safetensors")
    loaded = library.Predictor.load(tmp_path / "taught.safetensors")
    assert loaded.weights == "teacher"
    taught = predictor.online.method.teacher()
    own = dict(loaded.used.network.named_parameters())
    assert all(torch.equal(own[name], value) for name, value in taught.items())
    before = state(RunDirectory(trained).last_model())
    assert any(not torch.equal(value, before[name]) for name, value in taught.items())


def test_another_method_goes_on_from_the_mean_teacher(trained: Path, tmp_path: Path) -> None:
    (photo,) = take_photos(tmp_path / "photos", 1)
    predictor = library.Predictor.load(trained)
    predictor.adapt_by("cotta", teacher_momentum=0.9, learning_rate=1e-1)
    predictor.adapt(photo)
    answered = predictor.predict(photo, probabilities=True).probabilities
    predictor.adapt_by("none")
    again = predictor.predict(photo, probabilities=True).probabilities
    assert np.allclose(again, answered, atol=1e-6)


def test_films_and_lists_are_streams(muhdi, trained: Path, tmp_path: Path) -> None:
    pytest.importorskip("av")
    from fractions import Fraction

    from muhdi.deploy.video import VideoWriter

    photos = take_photos(tmp_path / "photos")
    writer = VideoWriter(tmp_path / "drive.mp4", Fraction(10))
    for _ in range(5):
        writer.add(photos[0][:40, :64])
    writer.close()
    status, output, _ = muhdi(
        "adapt", trained, "--online", "drive.mp4", "-o", "film", "--every", "2"
    )
    assert status == 0
    assert "3 images predicted" in output
    (tmp_path / "list.txt").write_text("photos/2.png\nphotos/0.png\n")
    assert muhdi("adapt", trained, "--online", "list.txt", "-o", "listed")[0] == 0
    assert sorted(path.name for path in (tmp_path / "listed/ids").iterdir()) == ["0.png", "2.png"]
    (tmp_path / "labels.txt").write_text("photos/2.png photos/0.png\n")
    status, _, errors = muhdi("adapt", trained, "--online", "labels.txt", "-o", "refused")
    assert status == 2
    assert "labels.txt: names labels, whose meaning only a recipe can say" in errors


def test_a_file_that_cannot_be_read_is_listed_and_the_rest_adapts(
    muhdi, trained: Path, tmp_path: Path
) -> None:
    take_photos(tmp_path / "photos")
    (tmp_path / "photos/1.png").write_bytes(b"\x89PNG no more")
    status, output, errors = muhdi("adapt", trained, "--online", "photos")
    assert status == 1
    assert "2 images predicted" in output
    assert errors.splitlines() == [
        "failed: photos/1.png: not an image",
        "1 files of photos failed",
    ]
    assert (tmp_path / "adapted/network.safetensors").is_file()


def test_a_stream_that_breaks_leaves_what_was_adapted(trained: Path, tmp_path: Path) -> None:
    photos = take_photos(tmp_path / "photos")

    def camera() -> Iterator[np.ndarray]:
        yield photos[0]
        yield photos[1]
        raise ConnectionError("the cable\nis out")

    with pytest.raises(library.DataError) as caught:
        library.adapt_online(trained, camera(), tmp_path / "out")
    text = str(caught.value)
    assert text.startswith("stream: broke (ConnectionError: the cable is out); what was adapted to")
    assert "the 2 images before is in" in text
    assert "\n" not in text
    assert json.loads((tmp_path / "out/online.json").read_text())["images"] == 2
    assert moved(trained, tmp_path / "out/network.safetensors")
    with pytest.raises(library.DataError, match="stream: broke"):
        library.adapt_online(trained, (1 / 0 for _ in "a"), tmp_path / "none")
    assert not (tmp_path / "none/network.safetensors").exists()


def test_a_signal_stops_between_two_images(trained: Path, tmp_path: Path) -> None:
    photos = take_photos(tmp_path / "photos")

    def stopped() -> Iterator[np.ndarray]:
        yield photos[0]
        os.kill(os.getpid(), signal.SIGINT)
        yield photos[1]
        raise AssertionError("nobody asks for another image")

    with pytest.raises(library.Interrupted):
        library.adapt_online(trained, stopped(), tmp_path / "out")
    assert json.loads((tmp_path / "out/online.json").read_text())["images"] == 1
    assert moved(trained, tmp_path / "out/network.safetensors")


def test_a_collapse_is_told(muhdi, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for path in sorted(trained.glob("samples/*_image.png")):
        if "predicted" not in path.name:
            shutil.copy(path, tmp_path / "photos")
    options = ["moves=all", "learning_rate=0.1", "check_every=1", "reset_below=0.9"]
    words = [word for option in options for word in ("--set", option)]
    status, output, errors = muhdi(
        "adapt", trained, "--online", "photos", "--method", "tent", *words
    )
    assert status == 0
    assert re.search(r"^tent: image \d+: the network has collapsed and is reset", errors, re.M)
    assert "0 resets" not in output
    facts = json.loads((tmp_path / "adapted/online.json").read_text())
    assert facts["resets"] == len(facts["remarks"]) >= 1


def test_rounds_compare_methods_on_one_stream(muhdi, trained: Path, tmp_path: Path) -> None:
    recipe = trained / "recipe.yml"
    few = ["--set", "online.split=val", "--set", "online.domains=[night, city]"]
    status, output, errors = muhdi(
        *("adapt", trained, "--online", recipe, "--rounds", "2", *few),
        *("--method", "none", "--method", "tent", "--learning-rates", "1e-4,1e-2"),
    )
    assert status == 0, errors
    for words in ("mIoU while adapting, mean over 2 rounds", "tent_lr0.01", "online.json"):
        assert words in output
    facts = json.loads((tmp_path / "adapted/online.json").read_text())
    assert facts["images"] == {"night": 3, "city": 3}
    assert list(facts["arms"]) == ["none", "tent_lr0.0001", "tent_lr0.01"]
    control = facts["arms"]["none"]
    results = library.evaluate(trained, statistics="running")
    row = dict(zip(results.domains, results.matrix("running")[0], strict=True))
    for one in control["rounds"]:
        scores = {name: entry["miou"] for name, entry in one["domains"].items()}
        assert scores == pytest.approx({name: row[name] for name in ("night", "city")}, abs=1e-6)
        assert one["mean"] == pytest.approx(sum(scores.values()) / 2)
    assert control["rounds"][0] == control["rounds"][1]
    assert control["mean"] == control["rounds"][0]["mean"]
    slow, fast = (facts["arms"][f"tent_lr{rate}"] for rate in ("0.0001", "0.01"))
    assert slow["images"] == fast["images"] == 12
    assert slow["rounds"] != fast["rounds"]
    assert moved(trained, tmp_path / "adapted" / fast["network"])
    status, output, _ = muhdi(
        *("adapt", trained, "--online", recipe, "--rounds", "1", *few, "-o", "one"),
        *("--method", "bn", "--set", "online.images=1", "--quiet"),
    )
    assert status == 0
    assert "mIoU of bn by round" in output
    assert "mIoU while adapting, one round; " in output
    assert "first round" not in output, "it would be the mean once more"


def test_rounds_say_what_batch_norms_normalise_with(muhdi, trained: Path, tmp_path: Path) -> None:
    few = ["--set", "online.images=1", "--set", "online.domains=[night]", "--rounds", "1"]
    words = ["adapt", trained, "--online", trained / "recipe.yml", *few, "--statistics", "image"]
    status, output, errors = muhdi(*words, "--method", "none", "--method", "bn")
    assert status == 0, errors
    assert "statistics" in output
    begun = "begins with the running statistics, where plain prediction uses image statistics"
    assert errors.count(f"bn: {begun}") == errors.count("bn:") == 1
    arms = json.loads((tmp_path / "adapted/online.json").read_text())["arms"]
    assert [arm["statistics"] for arm in arms.values()] == ["image", "running"]
    assert arms["bn"]["remarks"] == [begun]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--images: is missing; name a folder of images, or a stream by --online"),
        (["--method", "tent"], "--method: is for --online; name a stream with it"),
        (["--online", "photos", "--images", "photos"], "--images: trains a step, but --online"),
        (["--online", "photos", "--resume"], "--resume: trains a step, but --online does not"),
        (["--online", "photos", "--seed", "0"], "--seed: trains a step, but --online does not"),
        (["--online", "photos", "--rounds", "2"], "--rounds: is for a recipe, but --online is"),
        (["--online", "photos", "--method", "tnt"], "unknown method 'tnt'; did you mean 'tent'?"),
        (["--online", "photos", "--set", "momentun=1"], "unknown key; did you mean 'momentum'?"),
        (["--online", "photos", "--set", "momentum"], "--set momentum: must read key=value"),
        (["--online", "photos", "--method", "bn", "--method", "sar"], "--method: a stream has one"),
        (["--online", "nowhere"], "nowhere: there is no such file or folder"),
        (["--online", "photos", "--head", "agnostik"], "did you mean 'agnostic'"),
        (
            ["--online", "photos", "--method", "cotta", "--set", "scales=[0.25]"],
            "cotta: scale 0.25 makes images of 64x32 smaller than 16 pixels a side",
        ),
        (["--online", "scenes"], "scenes: has no section online; add one"),
        (
            ["--online", "scenes", "--set", "online.domains=[nihgt]"],
            "online.domains: no domain is called 'nihgt'; did you mean 'night'?",
        ),
        (["--online", "scenes", "--learning-rates", "fast"], "--learning-rates 'fast': must be"),
        (
            ["--online", "scenes", "--method", "bn", "--method", "bn"],
            "online.methods: two are called 'bn', or have folders of one name; give one of them",
        ),
        (
            ["--online", "scenes", "--set", "online.domains=[city, dust, city]"],
            "online.domains: 'city' is listed twice; name each once, it comes back in the next",
        ),
        (
            ["--online", "photos", "--set", "moments=blend", "--set", "momentum=0.5"],
            "momentum: is that of moments: exponential; leave it out",
        ),
        (
            ["--online", "photos", "--method", "sar", "--set", "moves=all", "--set", "resting=0.9"],
            "resting: is for moves: norms; leave it out",
        ),
        (
            ["--online", "scenes", "--rounds", "1", "--set", "classes=urban19"],
            "classes are not those of the recipe 'scenes'",
        ),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(
    muhdi, trained: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    take_photos(tmp_path / "photos", 1)
    status, output, errors = muhdi("adapt", trained, *words)
    assert status == 2
    assert message in errors
    assert errors.count("\n") == 1
    assert "Traceback" not in output + errors
    assert not list((tmp_path / "adapted").glob("*/*"))
    assert not (tmp_path / "adapted/network.safetensors").exists()


def test_outputs_are_only_replaced_if_asked(muhdi, trained: Path, tmp_path: Path) -> None:
    take_photos(tmp_path / "photos", 1)
    assert muhdi("adapt", trained, "--online", "photos")[0] == 0
    status, _, errors = muhdi("adapt", trained, "--online", "photos")
    assert status == 2
    assert "adapted/network.safetensors: exists already" in errors
    assert muhdi("adapt", trained, "--online", "photos", "--overwrite")[0] == 0


def test_nothing_to_save_before_anything_has_adapted(trained: Path, tmp_path: Path) -> None:
    predictor = library.Predictor.load(trained)
    with pytest.raises(library.RecipeError, match="nothing has adapted yet"):
        predictor.save_adapted(tmp_path / "x.safetensors")
    session = predictor.adapt_by("bn")
    with pytest.raises(library.RecipeError, match="each seen once"):
        session.check(library.View(flip=True), probabilities=False)


def test_after_a_signal_the_command_says_where_everything_is(
    muhdi, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_photos(tmp_path / "photos")
    observe = Moments.observe

    def interrupted(self: Moments, images: torch.Tensor) -> torch.Tensor:
        os.kill(os.getpid(), signal.SIGINT)
        return observe(self, images)

    monkeypatch.setattr(Moments, "observe", interrupted)
    status, _, errors = muhdi("adapt", trained, "--online", "photos", "--quiet")
    assert status == 128 + signal.SIGINT
    assert errors == "Stopped; what was adapted so far is in adapted\n"
    assert json.loads((tmp_path / "adapted/online.json").read_text())["images"] == 1
