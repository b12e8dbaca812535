"""Red, green, blue and near infrared from the images to an exported network."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from muhdi.data.catalog import DataContext, open_split
from muhdi.data.domains import Domains
from muhdi.deploy.exported import ExportedPredictor
from muhdi.deploy.predictor import Predictor
from muhdi.errors import DataError, Interrupted
from muhdi.evaluation.scored_images import scored_images
from muhdi.models.checkpoint import load_checkpoint
from muhdi.recipe.load import load_recipe
from muhdi.training.stage import StageTrainer
from muhdi.workflows.adapt import plan_adaptation
from muhdi.workflows.train import train
from tests.models.fake_timm import write_timm

SIZE = (48, 32)
Muhdi = Callable[..., tuple[int, str, str]]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Two places of noise, in which near infrared of 12 bit alone tells the classes apart."""
    rng = np.random.default_rng(0)
    for place in ("field", "wood"):
        for number in range(4):
            label = np.zeros((SIZE[1], SIZE[0]), np.uint8)
            label[:, 4 * number + 12 :] = 1
            near = np.where(label, 3900, 200).astype(np.uint16)
            colours = rng.integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)
            for kind, pixels in (("rgb", colours), ("nir", near), ("label", label)):
                path = tmp_path / f"data/{place}/{kind}/{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    data = {
        "name": "nir",
        "image_size": list(SIZE),
        "channels": 4,
        "pixel_range": [0, 4095],
        "classes": ["soil", "plant"],
        "source": _section("field"),
        "augment": {"flip": True, "colour": 0.2},
        "optimizer": {"name": "adamw"},
        "source_training": {"iterations": 30, "batch_size": 2, "learning_rate": 0.01},
        "every_step": {"iterations": 3, "batch_size": 2, "learning_rate": 1e-4},
        "steps": [
            {
                "target": _section("wood"),
                "adaptation": {"method": "selftrain", "masked": {}},
                "retention": {"method": "style"},
            }
        ],
        "evaluation": {"samples": 1, "statistics": ["running"]},
        "runtime": {"root": str(tmp_path / "data"), "cache": str(tmp_path / "cache")},
    }
    path = tmp_path / "nir.yml"
    path.write_text(yaml.safe_dump(data))
    return path


def _section(place: str) -> dict[str, object]:
    return {
        "dataset": "folder",
        "root": place,
        "images": "rgb/*.png",
        "bands": ["nir/{stem}.png"],
        "labels": "label/{stem}.png",
    }


BANDS = ['steps.0.target.bands=["../nir/{stem}.png"]', "steps.0.retention=none"]


def test_four_channels_from_images_to_an_exported_network(
    muhdi: Muhdi, recipe: Path, tmp_path: Path
) -> None:
    status, _, errors = muhdi("train", recipe, "--quiet")
    assert status == 0, errors
    run = tmp_path / "experiments/snapshots/nir"
    scores = json.loads((run / "results.json").read_text())
    # Colours are noise: only the fourth channel can have taught it.
    assert scores["steps"][0]["scores"]["running"]["field"]["miou"] > 80

    network = run / "1_wood/model_3.safetensors"
    checkpoint = load_checkpoint(network)
    assert (checkpoint.network.channels, checkpoint.pixel_range) == (4, (0, 4095))
    with Image.open(run / "samples/field_0_image.png") as picture:
        assert (picture.mode, picture.size) == ("RGB", SIZE)

    status, _, errors = muhdi("evaluate", run, "--quiet")
    assert status == 0, errors

    wanted = ("--bands", "{parent:rgb=nir}/{stem}.png", "--quiet")
    images = tmp_path / "data/wood/rgb"
    status, _, errors = muhdi("predict", run, images, "-o", tmp_path / "seen", *wanted)
    assert status == 0, errors
    ids = np.asarray(Image.open(tmp_path / "seen/ids/0.png"))
    label = np.asarray(Image.open(tmp_path / "data/wood/label/0.png"))
    assert (ids == label).mean() > 0.8

    status, output, errors = muhdi("export", run, "nir.onnx")
    assert status == 0, errors
    assert "verified on" in output
    status, _, errors = muhdi("predict", "nir.onnx", images, "-o", tmp_path / "again", *wanted)
    assert status == 0, errors
    again = np.asarray(Image.open(tmp_path / "again/ids/0.png"))
    assert (again == ids).mean() > 0.99
    exported = ExportedPredictor(tmp_path / "nir.onnx")
    assert (exported.channels.count, exported.channels.pixel_range) == (4, (0, 4095))

    # What does not have the channels is refused, file by file.
    status, _, errors = muhdi("predict", run, images, "-o", tmp_path / "none", "--quiet")
    assert status == 1
    assert "0.png: has 3 channels, but 4 are wanted" in errors

    plan = plan_adaptation(run, images, source_free=True, settings=BANDS)
    assert (plan.recipe.channels, plan.recipe.pixel_range) == (4, (0, 4095))
    target = open_split(plan.recipe.steps[0].target, "train", DataContext.of(plan.recipe))
    assert target.read(0, False).image.shape == (SIZE[1], SIZE[0], 4)

    plain = ("--set", "channels=3", "--set", "online={}", "--set", "pixel_range=null")
    status, _, errors = muhdi("adapt", run, "--online", recipe, *plain)
    assert status == 2
    assert "takes images of 4 channels, the recipe 'nir' has channels: 3" in errors

    predictor = Predictor.load(run)
    files = [images / "0.png", tmp_path / "data/wood/nir/0.png"]
    found = predictor.predict(files)
    assert np.array_equal(found.ids, ids)
    assert found.overlay().size == SIZE
    assert np.array_equal(predictor.predict(found.image).ids, ids)
    with pytest.raises(DataError, match=r"array of uint8 \[H, W, 4\]"):
        predictor.predict(found.image[..., :3].copy())


def test_a_run_that_is_stopped_goes_on_to_the_same_bits(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_recipe(recipe, ["source_training.iterations=3"])
    train(loaded, tmp_path / "whole", quiet=True)
    original = StageTrainer.iterate
    iterations = []

    def iterate(self: StageTrainer, *arguments: Any) -> Any:
        iterations.append(1)
        if len(iterations) == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(StageTrainer, "iterate", iterate)
        with pytest.raises(Interrupted):
            train(loaded, tmp_path / "stopped", quiet=True)
    train(loaded, tmp_path / "stopped", resume=True, quiet=True)
    files = [tmp_path / name / "snapshots/nir/1_wood" for name in ("whole", "stopped")]
    whole, resumed = [(file / "model_3.safetensors").read_bytes() for file in files]
    assert resumed == whole


def test_what_cannot_be_is_refused_in_one_line(muhdi: Muhdi, recipe: Path) -> None:
    for setting, words in {
        "channels=5": "has 3 channels and its bands 1, but 5 are wanted",
        "channels=2": "channels: input should be greater than or equal to 3",
        "pixel_range=[5, 5]": "pixel_range: must be [low, high] with low below high",
        "source.bands=[]": "has 3 channels, but 4 are wanted (channels: 4)",
        "source={dataset: scenes, domain: day}": "images of 'day' have 3 channels",
    }.items():
        status, _, errors = muhdi("train", recipe, "--quiet", "--set", setting)
        assert status == 2, setting
        assert words in errors
        assert errors.count("\n") == 1


@pytest.fixture
def fake_timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package like timm is imported in place of timm."""
    write_timm(tmp_path / "packages")
    monkeypatch.syspath_prepend(tmp_path / "packages")
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    yield
    sys.modules.pop("timm", None)


@pytest.mark.usefixtures("fake_timm")
def test_a_network_of_timm_learns_from_four_channels(
    muhdi: Muhdi, recipe: Path, tmp_path: Path
) -> None:
    few = ("--set", "steps=[]", "--set", "augment.flip=false", "--quiet")
    backbone = "model.backbone={name: 'timm:tiny', pretrained: false, layers: [1, 2]}"
    status, _, errors = muhdi("train", recipe, "--set", backbone, *few)
    assert status == 0, errors
    run = tmp_path / "experiments/snapshots/nir"
    scores = json.loads((run / "results.json").read_text())
    # Colours are noise: only the fourth channel can have taught it.
    assert scores["steps"][0]["scores"]["running"]["field"]["miou"] > 80
    words = ("--bands", "{parent:rgb=nir}/{stem}.png", "--method", "tent", "--quiet")
    images = tmp_path / "data/wood/rgb"
    status, _, errors = muhdi("adapt", run, "--online", images, *words)
    assert status == 0, errors
    assert load_checkpoint(tmp_path / "adapted/network.safetensors").network.channels == 4

    status, _, errors = muhdi("train", recipe, "--set", "model.backbone=timm:colours", *few)
    assert status == 2
    assert "channels: TimmBackbone takes images of 3 channels, not of 4" in errors
    assert errors.count("\n") == 1


def test_scores_of_other_channels_are_of_other_images(recipe: Path) -> None:
    contents = []
    for settings in ([], ["pixel_range=[0, 4000]"], ["channels=3", "source.bands=[]"]):
        loaded = load_recipe(recipe, [*settings, "steps=[]"])
        (scored,) = scored_images(Domains(loaded, training=False), loaded).values()
        contents.append(scored.content)
    assert len(set(contents)) == 3
