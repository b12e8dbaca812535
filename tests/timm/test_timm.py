"""Networks of timm as backbones; `make test-timm` runs this, in an environment of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch

from muhdi.deploy.export import export
from muhdi.deploy.predictor import Predictor
from muhdi.errors import DataError, RecipeError
from muhdi.models.channels import widened, with_channels
from muhdi.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from muhdi.models.segmenter import build_segmenter
from muhdi.recipe.backbones import read_backbone
from muhdi.recipe.load import load_recipe
from muhdi.run.directory import RunDirectory
from muhdi.workflows.train import train
from tests.testers import BackboneTester
from tests.workflows.test_train import assert_same_run, train_through_crashes

NAMES = ("tf_efficientnet_lite0", "convnext_atto", "vit_tiny_patch16_224")


def section(name: str, **options: Any) -> Any:
    """The section of a network from random weights."""
    return read_backbone({"name": f"timm:{name}", "pretrained": False, **options})


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {}) for name in NAMES),
        ("resnet18", {"output_stride": 8}),
        ("hiera_tiny_224", {}),
        ("maxvit_nano_rw_256", {"options": {"img_size": 64}}),
    ],
)
def test_they_are_backbones(name: str, options: dict[str, Any]) -> None:
    BackboneTester(section(name, **options)).run_all()


@pytest.mark.parametrize(
    ("name", "options", "family", "strides", "depth"),
    [
        ("tf_efficientnet_lite0", {}, "pyramid", [4, 8, 16, 32], 17),
        ("tf_efficientnet_lite0", {"output_stride": 16}, "dilated", [4, 8, 16, 16], 17),
        ("convnext_atto", {}, "pyramid", [4, 8, 16, 32], 13),
        ("swin_tiny_patch4_window7_224", {}, "pyramid", [4, 8, 16, 32], 13),
        ("pvt_v2_b0", {}, "pyramid", [4, 8, 16, 32], 5),
        ("mobilenetv3_small_050", {"output_stride": 8}, "dilated", [4, 8, 8, 8], 13),
        ("resnet18", {"output_stride": 8}, "dilated", [4, 8, 8, 8], 9),
        ("resnet18", {"layers": [1, 2, 5]}, "pyramid", [2, 4, 32], 9),
        ("poolformer_s12", {}, "pyramid", [4, 8, 16, 32], 5),
        ("vit_tiny_patch16_224", {"layers": [1, 2]}, "plain", [16, 16], 3),
        ("eva02_tiny_patch14_224", {}, "plain", [14, 14, 14, 14], 13),
        ("vit_small_patch16_dinov3", {}, "plain", [16, 16, 16, 16], 13),
        ("hiera_tiny_224", {}, "pyramid", [4, 8, 16, 32], 13),
    ],
)
def test_features_are_found_without_weights(
    name: str, options: dict[str, Any], family: str, strides: list[int], depth: int
) -> None:
    backbone = section(name, **options).build().eval()
    assert backbone.family == family
    assert [feature.stride for feature in backbone.features] == strides
    assert backbone.multiple == strides[-1]
    assert backbone.depth == depth
    side = 4 * backbone.multiple
    with torch.no_grad():
        maps = backbone(torch.zeros(1, 3, side, 2 * side))
    sizes = [
        (info.channels, side // info.stride, 2 * side // info.stride) for info in backbone.features
    ]
    assert [tuple(one.shape[1:]) for one in maps] == sizes
    trained = [name for name, weight in backbone.named_parameters() if weight.requires_grad]
    names = [name for name, _ in backbone.named_parameters()]
    assert trained == names, "what no feature needs is left out"
    layers = {backbone.layer_of(name) for name in names}
    assert layers - {depth} == set(range(depth))
    assert depth not in layers or backbone.layer_of("model.model.norm.weight") == depth


@pytest.mark.parametrize(
    ("name", "options", "strides", "multiple"),
    [
        ("hiera_tiny_224", {"layers": [1, 2]}, [4, 8], 32),
        ("maxvit_nano_rw_256", {}, [4, 8, 16, 32], 256),
        ("maxvit_nano_rw_256", {"options": {"img_size": [64, 96]}}, [4, 8, 16, 32], 192),
    ],
)
def test_sides_that_windows_divide(
    name: str, options: dict[str, Any], strides: list[int], multiple: int
) -> None:
    backbone = section(name, **options).build()
    assert [feature.stride for feature in backbone.features] == strides
    assert backbone.multiple == multiple


@pytest.mark.parametrize("name", ["hiera_tiny_224", "hiera_small_abswin_256"])
def test_hiera_is_timms_own_at_the_size_that_it_knows(name: str) -> None:
    torch.manual_seed(0)
    own = timm.create_model(name, features_only=True).eval()
    backbone = section(name).build().eval()
    backbone.model.load_state_dict(own.state_dict())
    side = 224 if name.endswith("224") else 256
    images = torch.randint(0, 256, (1, 3, side, side))
    with torch.no_grad():
        maps = backbone(images)
        expected = own(backbone.normalise(images))
    for one, other in zip(maps, expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", NAMES)
def test_a_whole_run_resumes_to_the_bit_predicts_and_exports(
    name: str, tmp_path: Path, tiny, muhdi, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [
        f"model.backbone={{name: 'timm:{name}', pretrained: false}}",
        "every_step.adaptation=selftrain",
        "every_step.retention=muhdi",
    ]
    recipe = load_recipe(tiny(), settings)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(recipe, whole, quiet=True)
    train_through_crashes(recipe, broken, monkeypatch, 5)
    assert_same_run(whole, broken, recipe)
    run = RunDirectory.of(recipe, whole).folder
    ids = Predictor.load(run).predict(run / "samples/city_0_image.png").ids
    assert ids.shape == (32, 48)
    for target in ("net.pt2", "net.onnx", "folder"):
        _, verified = export(run, str(tmp_path / target))
        assert verified.same > 0.999, target
    if name.startswith("vit"):  # its positions are resampled to any size, inside
        _, verified = export(run, str(tmp_path / "native.onnx"), input_size="native")
        assert verified.same > 0.999
    status, output, _ = muhdi("info", run)
    assert status == 0
    assert f"timm:{name}" in output


@pytest.mark.parametrize("name", [*NAMES, "vit_small_patch14_dinov2"])
def test_a_file_needs_no_network(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = section(name, options={"drop_path_rate": 0.25})
    network = build_segmenter(asked, 3).eval()
    path = tmp_path / "network.safetensors"
    save_checkpoint(path, Checkpoint(network, asked, ("a", "b", "c"), (64, 32)))
    # Whatever later versions of timm say of the weights that its name stands for.
    monkeypatch.setattr("timm.models._builder.get_pretrained_cfg", lambda name: None)
    loaded = load_checkpoint(path)
    images = torch.randint(0, 256, (1, 3, 33, 70), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(loaded.network.eval().segment(images), network.segment(images))
    backbone: Any = loaded.network.backbone
    assert backbone.config.options == {"drop_path_rate": 0.25}
    assert backbone.mean == network.backbone.mean
    again = tmp_path / "again.safetensors"
    save_checkpoint(again, loaded)
    assert again.read_bytes() == path.read_bytes()


def published(name: str, folder: Path) -> Path:
    """A file of weights in timm's names."""
    torch.manual_seed(5)
    path = folder / f"{name}.safetensors"
    safetensors.torch.save_file(timm.create_model(name).state_dict(), path)
    return path


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("tf_efficientnet_lite0", None),
        ("vit_tiny_patch16_224", None),
        ("swin_tiny_patch4_window7_224", None),
        ("convnextv2_atto", "no commercial use"),
        ("vit_small_patch16_dinov3", "DINOv3 License"),
        ("mobilevit_xxs", "'cvnets-license'"),
        ("hiera_tiny_224", "no commercial use"),
        ("maxvit_nano_rw_256", None),
    ],
)
def test_a_file_of_weights_fills_them(name: str, note: str | None, tmp_path: Path) -> None:
    file = published(name, tmp_path)
    backbone = read_backbone({"name": f"timm:{name}", "file": str(file)}).build()
    before = torch.get_rng_state()
    weights = backbone.pretrained()
    assert torch.equal(torch.get_rng_state(), before)
    assert weights.tensors.keys() == backbone.state_dict().keys()
    known = list(safetensors.torch.load_file(file).values())
    for tensor_name, value in weights.tensors.items():
        if value.ndim > 1:
            assert any(value.shape == one.shape and torch.equal(value, one) for one in known), (
                tensor_name
            )
    assert [note is not None and note in line for line in weights.notes] == [True] * bool(note)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        *((name, 1) for name in NAMES),
        ("resnet18", 1),
        ("swin_tiny_patch4_window7_224", 1),
        ("vit_small_patch16_dinov3", 1),
        ("hiera_tiny_224", 1),
        ("maxvit_nano_rw_256", 1),
        ("mobilevit_xxs", 1),
        ("repvgg_a0", 2),  # its first block has two convolutions of colours
    ],
)
def test_they_take_more_channels(name: str, count: int, tmp_path: Path) -> None:
    file = published(name, tmp_path)
    asked = read_backbone({"name": f"timm:{name}", "file": str(file)})
    torch.manual_seed(0)
    narrow = build_segmenter(asked, 2).backbone
    torch.manual_seed(0)
    network = build_segmenter(asked, 2, channels=5).eval()
    wide: Any = network.backbone
    own = wide.state_dict()
    wider = [key for key, value in narrow.state_dict().items() if value.shape != own[key].shape]
    assert len(wider) == count
    for key, value in narrow.state_dict().items():
        expected = widened(value, 5) if key in wider else value
        assert torch.equal(own[key], expected), key
    trained = [key for key, weight in narrow.named_parameters() if weight.requires_grad]
    assert trained == [key for key, weight in wide.named_parameters() if weight.requires_grad]
    assert wide.layer_of(wider[0]) == 0

    weights = wide.pretrained()
    state = with_channels(weights.tensors, own)
    assert {key: value.shape for key, value in state.items()} == {
        key: value.shape for key, value in own.items()
    }
    for key in wider:
        assert torch.equal(state[key], widened(weights.tensors[key], 5)), key

    path = tmp_path / "five.safetensors"
    save_checkpoint(path, Checkpoint(network, asked, ("a", "b"), (64, 32)))
    loaded = load_checkpoint(path).network.eval()
    images = torch.randint(0, 256, (1, 5, 33, 70), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(loaded.segment(images), network.segment(images))
    shown = images.float().requires_grad_()
    network.segment(shown).square().sum().backward()
    assert shown.grad is not None
    assert all(shown.grad[:, channel].any() for channel in range(5)), "every channel counts"


def test_what_is_no_convolution_of_colours_takes_no_more_channels() -> None:
    # It brings 4x4 pixels together before its first convolution.
    with pytest.raises(
        RecipeError, match=r"channels: timm:tresnet_m takes images to \S+, which is"
    ):
        build_segmenter(section("tresnet_m"), 2, channels=4)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    file = published("resnet18", tmp_path)
    for name in ("convnext_atto", "resnet34", "resnet50", "vit_tiny_patch16_224"):
        backbone = read_backbone({"name": f"timm:{name}", "file": str(file)}).build()
        with pytest.raises(DataError, match=r"resnet18\.safetensors"):
            backbone.pretrained()


def test_what_cannot_be_built_is_said_in_one_line(
    muhdi, tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    cases = {
        "name: 'timm:convnext_ato'": "did you mean 'convnext_atto'?",
        "name: 'timm:resnet18.a1_in2k'": "did you mean 'resnet18.a1_in1k'? (known: ",
        "name: 'timm:convnext_atto'": "hf download timm/convnext_atto.d2_in1k model.safetensors",
        "name: 'timm:efficientnet_b8'": "timm knows no weights of it",
        "name: 'timm:beit_base_patch16_224'": "does not take images of any size",
        "name: 'timm:crossvit_tiny_240'": "brings images to one size inside",
        "name: 'timm:inception_v3'": "leaves out the borders",
        "name: 'timm:vit_tiny_patch16_224', output_stride: 8": "backbone.output_stride: ",
        "name: 'timm:hrnet_w18_small', output_stride: 8": "cannot be built",
        "name: 'timm:resnet18', layers: [4, 9]": "has 5; give their numbers",
        "name: 'timm:resnet18', options: {drop_pth_rate: 1}": "'drop_path_rate'",
        "name: 'timm:resnet18', options: {in_chans: 1}": "is not one of the options",
        "name: 'timm:resnet18', file: nowhere.pth": "nowhere.pth",
    }
    for setting, words in cases.items():
        status, _, errors = muhdi("train", tiny(), "--set", f"model.backbone={{{setting}}}")
        assert status == 2, setting
        assert words in errors, errors
        assert "Traceback" not in errors
        assert len(errors.strip().splitlines()) == 1, errors
    assert not (tmp_path / "experiments").exists()
