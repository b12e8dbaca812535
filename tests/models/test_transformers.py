"""Networks of transformers as backbones, from configurations and weights on the disk."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from muhdi.data.domains import Domains
from muhdi.deploy.exported import ExportedPredictor
from muhdi.deploy.predictor import Predictor
from muhdi.deploy.view import View
from muhdi.errors import DataError, MuhdiError, RecipeError
from muhdi.models.backbones import probed
from muhdi.models.backbones.transformers import LICENCES
from muhdi.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from muhdi.models.initial import initialise
from muhdi.models.segmenter import build_segmenter
from muhdi.recipe.backbones import TransformersConfig, read_backbone
from muhdi.recipe.load import load_recipe
from muhdi.run.directory import RunDirectory
from muhdi.training.start import start
from muhdi.workflows.train import train
from tests.models.tiny_transformers import (
    CONFIGURATIONS,
    configuration,
    folder_of,
    transformers,
)
from tests.models.tiny_transformers import section as section_of
from tests.testers import BackboneTester
from tests.workflows.test_train import assert_same_run, train_through_crashes

CLASSES = ("a", "b", "c")
CLASSIFIERS = {
    "segformer": "SegformerForSemanticSegmentation",
    "convnext": "ConvNextForImageClassification",
    "convnextv2": "ConvNextV2ForImageClassification",
    "swin": "SwinForImageClassification",
    "swinv2": "Swinv2ForImageClassification",
    "dinov2": "Dinov2ForImageClassification",
    "dinov2_with_registers": "Dinov2WithRegistersForImageClassification",
    "dinov3_vit": "DINOv3ViTModel",
    "dinov3_convnext": "DINOv3ConvNextModel",
    "pvt_v2": "PvtV2ForImageClassification",
    "resnet": "ResNetForImageClassification",
    "bit": "BitForImageClassification",
    "focalnet": "FocalNetForImageClassification",
    "hiera": "HieraForImageClassification",
    "beit": "BeitForImageClassification",
}
"""What published files hold."""


@pytest.mark.parametrize(
    "kind", ["segformer", "convnext", "swin", "dinov2", "dinov3_vit", "hiera", "beit"]
)
def test_they_are_backbones(kind: str, tmp_path: Path) -> None:
    BackboneTester(TransformersConfig(name=f"hf:{folder_of(kind, tmp_path)}")).run_all()


@pytest.mark.parametrize("kind", CONFIGURATIONS)
def test_published_files_fill_them(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    published = getattr(transformers, CLASSIFIERS[kind])(configuration(kind))
    published.save_pretrained(tmp_path / kind)
    network = build_segmenter(f"hf:{tmp_path / kind}", 3)
    weights = network.backbone.pretrained()
    assert weights is not None
    assert weights.tensors.keys() == network.backbone.state_dict().keys()
    known = [value for value in published.state_dict().values() if value.ndim > 1]
    for name, value in weights.tensors.items():
        if value.ndim > 1:
            same = [one for one in known if one.shape == value.shape and torch.equal(one, value)]
            assert same, name
    assert bool(weights.notes) == (kind in LICENCES)


@pytest.mark.parametrize(
    ("kind", "family", "strides", "decoder"),
    [
        ("segformer", "pyramid", [4, 8, 16, 32], "segformer"),
        ("swin", "pyramid", [4, 8, 16, 32], "segformer"),
        ("resnet", "pyramid", [4, 8, 16, 32], "segformer"),
        ("dinov2", "plain", [14, 14, 14, 14], "light"),
        ("dinov3_vit", "plain", [16, 16, 16, 16], "light"),
    ],
)
def test_features_are_found_without_weights(
    kind: str, family: str, strides: list[int], decoder: str, tmp_path: Path
) -> None:
    backbone = read_backbone(f"hf:{folder_of(kind, tmp_path)}").build()
    assert backbone.family == family
    assert [feature.stride for feature in backbone.features] == strides
    assert backbone.multiple == strides[-1]
    assert backbone.decoder == decoder
    # ImageNet's mean, since the folder says nothing else.
    assert [round(value, 2) for value in backbone.padding] == [123.67, 116.28, 103.53]


@pytest.mark.parametrize(
    ("kind", "block", "depth"),
    [
        ("dinov3_vit", "model.model.layer.3.mlp.up_proj.weight", 5),
        ("segformer", "model.stages.3.blocks.0.layernorm_before.weight", 4),
        ("convnext", "model.encoder.stages.3.layers.0.pwconv1.weight", 5),
        ("swin", "model.swin.encoder.layers.3.blocks.0.mlp.fc1.weight", 5),
    ],
)
def test_their_layers_are_their_blocks(kind: str, block: str, depth: int, tmp_path: Path) -> None:
    backbone = read_backbone(f"hf:{folder_of(kind, tmp_path)}").build()
    names = [name for name, _ in backbone.named_parameters()]
    assert block in names, [name for name in names if "3" in name]
    assert backbone.depth == depth
    assert backbone.layer_of(block) == depth - 1
    assert backbone.layer_of(names[0]) == 0
    assert {backbone.layer_of(name) for name in names} - {depth} == set(range(depth))


def test_layers_options_and_normalisation_are_the_recipes(tmp_path: Path) -> None:
    folder = folder_of("dinov2", tmp_path)
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.1]})
    )
    section = read_backbone(
        {"name": f"hf:{folder}", "layers": [2, 4], "options": {"drop_path_rate": 0.25}}
    )
    backbone = section.build()
    assert len(backbone.features) == 2
    assert backbone.configuration.drop_path_rate == 0.25
    assert backbone.padding == (127.5, 102.0, 76.5)
    assert backbone.normalise.std.flatten().tolist() == pytest.approx([51.0, 51.0, 25.5])
    own = read_backbone({"name": f"hf:{folder}", "mean": [0, 0, 0], "std": [1, 1, 1]}).build()
    assert own.padding == (0.0, 0.0, 0.0)


def test_a_file_needs_neither_folder_nor_network(tmp_path: Path) -> None:
    folder = folder_of("convnext", tmp_path)
    section = read_backbone({"name": f"hf:{folder}", "options": {"drop_path_rate": 0.5}})
    network = build_segmenter(section, 3).eval()
    path = tmp_path / "network.safetensors"
    save_checkpoint(path, Checkpoint(network, section, CLASSES, (64, 32)))
    shutil.rmtree(folder)
    loaded = load_checkpoint(path)
    loaded.network.eval()
    images = torch.randint(0, 256, (1, 3, 33, 70), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(loaded.network.segment(images), network.segment(images))
    assert loaded.network.backbone.configuration.drop_path_rate == 0.5
    # Saved again, it is the same file.
    again = tmp_path / "again.safetensors"
    save_checkpoint(again, loaded)
    assert again.read_bytes() == path.read_bytes()


def test_a_whole_run_resumes_to_the_bit_continues_predicts_and_is_adapted(
    tmp_path: Path, tiny, muhdi, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = transformers.SegformerForSemanticSegmentation(configuration("segformer"))
    published.save_pretrained(tmp_path / "published")
    settings = [
        f"model.backbone=hf:{tmp_path / 'published'}",
        "model.decoder={name: segformer, width: 16}",
        "every_step.adaptation=selftrain",
        "every_step.retention=muhdi",
        "evaluation.statistics=[running]",
    ]
    city = {"dataset": "scenes", "domain": "city", "train": 4, "val": 2}
    recipe = load_recipe(tiny(steps=[{"target": city}]), settings)
    begun = start(recipe, Domains(recipe))
    assert any("no commercial use" in note for note in begun.notes)
    weight = begun.carried.network.backbone.model.state_dict()
    for name, value in published.segformer.state_dict().items():
        assert torch.equal(weight[name], value), name
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(recipe, whole, quiet=True)
    train_through_crashes(recipe, broken, monkeypatch, 5)
    assert_same_run(whole, broken, recipe)
    shutil.rmtree(tmp_path / "published")
    run = RunDirectory.of(recipe, whole).folder
    predictor = Predictor.load(run)
    assert predictor.predict(run / "samples/city_0_image.png").ids.shape == (32, 48)
    # A recipe that continues from the run's network finds what the name stood for in its file.
    settings[-2:] = [f"model.init={RunDirectory.of(recipe, whole).last_model()}"]
    network = start(load_recipe(tiny(), settings), Domains(recipe)).carried.network
    assert network.backbone.configuration.model_type == "segformer"
    # So does the next model, for images of a new place.
    (tmp_path / "photos").mkdir()
    for number in range(2):
        Image.new("RGB", (90, 60), (90, 120, 150 + number)).save(tmp_path / f"photos/{number}.png")
    words = ["--images", "photos", "--set", "every_step.iterations=1"]
    status, _, errors = muhdi("adapt", run, *words)
    assert status == 0, errors
    adapted = RunDirectory(tmp_path / "experiments/snapshots/tiny_photos")
    last = load_checkpoint(adapted.last_model())
    assert last.network.backbone.configuration.model_type == "segformer"
    assert list(last.network.heads) == ["agnostic", "specialist"]
    status, output, errors = muhdi("check", adapted.folder / "recipe.yml")
    assert status == 0, errors
    assert "photos" in output


def test_what_cannot_be_built_is_said_in_one_line(
    muhdi, tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    folder = folder_of("dinov2", tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    gpt = tmp_path / "gpt"
    transformers.GPT2Config().save_pretrained(gpt)
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "config.json").write_text("{")
    cases = {
        "backbone=hf:nvidia/mit-b7": "did you mean 'nvidia/mit-b",
        f"backbone=hf:{empty}": "holds no config.json",
        f"backbone=hf:{folder}": "holds no weights (model.safetensors)",
        f"backbone=hf:{gpt}": "is a gpt2, which transformers' AutoBackbone does not know",
        f"backbone=hf:{damaged}": str(damaged),
        f"backbone={{name: 'hf:{folder}', layers: [1, 9]}}": "has 4; give their numbers",
        f"backbone={{name: 'hf:{folder}', options: {{drop_pth_rate: 1}}}}": "'drop_path_rate'",
        "backbone=hf:": "model.backbone",
    }
    for setting, words in cases.items():
        status, _, errors = muhdi("train", tiny(), "--set", f"model.{setting}")
        assert status == 2, setting
        assert words in errors, errors
        assert "Traceback" not in errors
    assert not (tmp_path / "experiments").exists()
    settings = ["--set", f"model.backbone=hf:{folder}", "--set", "model.decoder=segformer"]
    status, _, errors = muhdi("train", tiny(), *settings)
    assert status == 2
    assert "segformer does not suit a plain backbone" in errors
    monkeypatch.setattr("muhdi.models.backbones.transformers.find_spec", lambda name: None)
    status, _, errors = muhdi("train", tiny(), *settings)
    assert status == 2
    assert "pip install 'muhdi[transformers]'" in errors


def test_a_configuration_in_half_precision_builds_a_network_in_full(tmp_path: Path) -> None:
    for kind in ("convnext", "dinov2"):
        half = configuration(kind)
        half.dtype = torch.float16
        half.save_pretrained(tmp_path / kind)
        assert json.loads((tmp_path / kind / "config.json").read_text())["dtype"] == "float16"
        backbone = read_backbone(f"hf:{tmp_path / kind}").build()
        assert all(weight.dtype == torch.float32 for weight in backbone.parameters())


def test_a_file_that_leaves_something_open_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it leaves open would be fetched from wherever it says."""

    def asked(*arguments: object, **options: object) -> None:
        raise AssertionError("the hub was asked")

    path = saved("convnext", tmp_path)
    section = load_checkpoint(path).backbone
    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", asked)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", asked)
    network = load_checkpoint(path).network
    forged = tmp_path / "forged.safetensors"
    for key in ("configuration", "mean", "std"):
        monkeypatch.setattr(
            type(network.backbone),
            "recorded",
            lambda self, _, key=key: section.model_copy(update={key: None}),
        )
        save_checkpoint(forged, Checkpoint(network, section, CLASSES, (64, 32)))
        with pytest.raises(DataError, match=f"its backbone has no {key}"):
            load_checkpoint(forged)
    elsewhere = {"model_type": "timm_backbone", "backbone": "hf-hub:evil/net"}
    monkeypatch.setattr(
        type(network.backbone),
        "recorded",
        lambda self, _: section.model_copy(update={"configuration": elsewhere}),
    )
    save_checkpoint(forged, Checkpoint(network, section, CLASSES, (64, 32)))
    with pytest.raises(DataError, match="timm_backbone is not a network of transformers' own"):
        load_checkpoint(forged)


def test_how_a_run_started_does_not_keep_another_from_going_on(tmp_path: Path) -> None:
    path = saved("convnext", tmp_path)
    section = read_backbone({"name": f"hf:{tmp_path / 'convnext'}", "pretrained": False})
    network = build_segmenter(section, 3)
    initialise(network, path, section, CLASSES)


def test_normalisation_that_cannot_be_had_now_is_not_guessed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    folder = folder_of("convnext", tmp_path)
    known = transformers.AutoConfig.from_pretrained(folder)
    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", lambda *_, **__: known)

    def offline(*arguments: object) -> None:
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    with pytest.raises(DataError, match=r"without a network, fetch config\.json"):
        read_backbone("hf:some/where").build()

    def has_none(*arguments: object) -> None:
        raise EntryNotFoundError("404")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", has_none)
    assert round(read_backbone("hf:some/where").build().mean[0], 3) == 0.485


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    folder = folder_of("convnext", tmp_path)
    other = configuration("convnext")
    other.hidden_sizes = [8, 16, 24, 40]
    transformers.ConvNextModel(other).save_pretrained(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "model.safetensors", folder)
    with pytest.raises(DataError, match=r"model\.backbone: hf:"):
        build_segmenter(f"hf:{folder}", 3).backbone.pretrained()


def test_code_that_comes_with_a_configuration_is_not_run(tmp_path: Path) -> None:
    folder = folder_of("convnext", tmp_path)
    text = json.loads((folder / "config.json").read_text())
    text["auto_map"] = {"AutoConfig": "evil.Config", "AutoBackbone": "evil.Backbone"}
    (folder / "config.json").write_text(json.dumps(text))
    (folder / "evil.py").write_text("raise SystemExit('it ran')")
    assert len(build_segmenter(f"hf:{folder}", 3).backbone.features) == 4
    text["model_type"] = "foreign"
    (folder / "config.json").write_text(json.dumps(text))
    with pytest.raises((DataError, RecipeError), match=r"model\.backbone: hf:"):
        build_segmenter(f"hf:{folder}", 3)


def test_a_network_is_probed_once_and_weights_do_not_depend_on_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(probed, "_SHAPES", {})
    built = []
    for kind in ("convnext", "convnext", "dinov2"):
        torch.manual_seed(3)
        built.append(section_of(kind).build())
    assert len(probed._SHAPES) == 2
    first, second, other = built
    assert first.features == second.features != other.features
    assert first.features is not second.features
    for one, two in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize(("kind", "ending"), [("segformer", "pt2"), ("dinov2", "onnx")])
def test_their_exports_take_images_of_any_size(
    kind: str, ending: str, tmp_path: Path, muhdi
) -> None:
    # Tracing takes a second for each layer.
    shallow = {"num_hidden_layers": 2} if kind == "dinov2" else {}
    network = saved(kind, tmp_path, **shallow)
    image = tmp_path / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (51, 83, 3), np.uint8)).save(image)
    target = tmp_path / f"network.{ending}"
    options = ("--input-size", "native", "--images", image)
    status, output, errors = muhdi("export", network, target, *options)
    assert status == 0, errors
    assert "100.000 % of the pixels" in output
    predictor = ExportedPredictor(target)
    pixels = np.asarray(Image.open(image))
    assert predictor.predict_many([pixels], View())[0].ids.shape == (51, 83)
    smallest = 15 if kind == "dinov2" else 33
    with pytest.raises(MuhdiError, match=f"takes sides of at least {max(smallest, 16)}"):
        predictor.predict_many([pixels[:12]], View())


def test_what_cannot_be_exported_is_one_line(
    tmp_path: Path, muhdi, monkeypatch: pytest.MonkeyPatch
) -> None:
    def guards(*args: object, **options: object) -> None:
        raise ValueError("Constraints violated (height, width)! For more, run\nwith TORCH_LOGS.")

    monkeypatch.setattr(torch.export, "export", guards)  # for Swin it takes minutes to find out
    network = saved("swin", tmp_path)
    image = tmp_path / "image.png"
    Image.fromarray(np.zeros((51, 83, 3), np.uint8)).save(image)
    target = tmp_path / "network.pt2"
    options = ("--input-size", "native", "--images", image)
    status, _, errors = muhdi("export", network, target, *options)
    assert status != 0
    assert "cannot export this network's operations (Constraints violated (height, w" in errors
    assert "give --input-size trained, or export a folder" in errors
    assert "Traceback" not in errors
    assert not target.exists()


def saved(kind: str, folder: Path, **changes: Any) -> Path:
    """The file of a random network of a kind."""
    section = read_backbone(f"hf:{folder_of(kind, folder, **changes)}")
    torch.manual_seed(0)
    path = folder / f"{kind}.safetensors"
    network = build_segmenter(section, 3)
    save_checkpoint(path, Checkpoint(network, section, CLASSES, (64, 32)))
    return path
