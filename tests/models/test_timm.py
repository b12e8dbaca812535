"""Networks of timm as sections and files, and what is said where timm cannot be had.

The networks themselves are in `tests/timm`, which needs timm and torchvision.
"""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
import torch

from muhdi.errors import DataError, RecipeError
from muhdi.models.backbones import timm_package
from muhdi.models.backbones.timm_package import licence_notes, without_weights
from muhdi.models.channels import with_channels
from muhdi.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from muhdi.models.segmenter import build_segmenter
from muhdi.models.tensor_files import save_tensors
from muhdi.recipe.backbones import TimmConfig, read_backbone
from tests.models.fake_timm import write_timm


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes a package like timm, and has it imported in place of timm."""

    def write(**options: str) -> None:
        monkeypatch.delitem(sys.modules, "timm", raising=False)
        folder = tmp_path / f"packages {len(list(tmp_path.iterdir()))}"
        write_timm(folder, **options)
        monkeypatch.syspath_prepend(folder)

    yield write
    sys.modules.pop("timm", None)


def test_sections_are_read() -> None:
    section = read_backbone("timm:convnext_atto.d2_in1k")
    assert isinstance(section, TimmConfig)
    assert section.is_pretrained
    assert section.model_name == "convnext_atto.d2_in1k"
    section = read_backbone({"name": "timm:resnet18", "output_stride": 8, "pretrained": False})
    assert section.output_stride == 8
    wrong = [
        {"name": "timm:"},
        {"name": "timm:hf-hub:someone/something"},
        {"name": "timm:resnet18", "output_stride": 4},
        {"name": "timm:resnet18", "file": "a.pth", "pretrained": False},
        {"name": "timm:resnet18", "layers": [1]},
    ]
    for value in wrong:
        with pytest.raises(RecipeError, match="backbone: "):
            read_backbone(value)


def test_a_file_keeps_all_that_builds_it_again(fake: Any, tmp_path: Path) -> None:
    fake()
    section = read_backbone({"name": "timm:tiny", "layers": [1, 3], "options": {"width": 4}})
    network = build_segmenter(section, 3).eval()
    backbone: Any = network.backbone
    assert [tuple(feature) for feature in backbone.features] == [(4, 4), (4, 16)]
    assert (backbone.family, backbone.multiple) == ("pyramid", 16)
    assert backbone.padding == (127.5, 63.75, 31.875)
    assert backbone.normalise.std.flatten().tolist() == [127.5, 127.5, 63.75]
    assert backbone.depth == 3
    assert [backbone.layer_of(f"model.{name}.bias") for name in ("stem", "blocks.1")] == [0, 2]
    path = tmp_path / "network.safetensors"
    save_checkpoint(path, Checkpoint(network, section, ("a", "b", "c"), (64, 32)))
    found: Any = load_checkpoint(path)
    assert found.backbone.configuration["tag"] == "few"
    assert found.backbone.mean == (0.5, 0.25, 0.125)
    # A later timm says otherwise of the same name.
    sys.modules["timm"].CONFIGURATION.update(mean=(0, 0, 0), std=(1, 1, 1), tag="many")
    loaded: Any = load_checkpoint(path)
    images = torch.randint(0, 256, (1, 3, 20, 40), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(loaded.network.eval().segment(images), network.segment(images))
    save_checkpoint(tmp_path / "again.safetensors", loaded)
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"name": "timm:tinny"}, r"timm 1\.0\.31 has no such network; did you mean 'tiny'\?"),
        ({"name": "timm:tiny.fev"}, r"no such weights; did you mean 'tiny\.few'\?"),
        ({"name": "timm:tiny", "options": {"widht": 4}}, r"options\.widht: .*'width'"),
        ({"name": "timm:tiny", "output_stride": 8}, r"backbone\.output_stride: .* has none"),
        ({"name": "timm:tiny", "layers": [2, 4]}, "has 3; give their numbers"),
        ({"name": "timm:tiny", "options": {"features_only": False}}, "is not one of the options"),
    ],
)
def test_what_a_network_does_not_have_is_said(fake: Any, value: Any, words: str) -> None:
    fake()
    with pytest.raises(RecipeError, match=words):
        read_backbone(value).build()


def test_more_channels_begin_with_the_mean_of_the_colours(fake: Any, tmp_path: Path) -> None:
    fake()
    section = read_backbone({"name": "timm:tiny", "layers": [1, 2]})
    torch.manual_seed(0)
    narrow: Any = build_segmenter(section, 2).backbone.eval()
    torch.manual_seed(0)
    network = build_segmenter(section, 2, channels=5).eval()
    wide: Any = network.backbone
    assert (narrow.image_channels, wide.image_channels, network.channels) == (3, 5, 5)
    first = wide.model.stem.weight
    assert torch.equal(first[:, :3], narrow.model.stem.weight)
    for channel in (3, 4):
        assert torch.equal(first[:, channel], narrow.model.stem.weight.mean(1))
    for name, value in narrow.state_dict().items():
        if name != "model.stem.weight":
            assert torch.equal(value, wide.state_dict()[name]), name
    resting = {name for name, weight in wide.named_parameters() if not weight.requires_grad}
    assert resting == {"model.blocks.1.weight", "model.blocks.1.bias"}, "no feature needs them"
    assert wide.padding == (127.5, 63.75, 31.875, 74.375, 74.375)
    assert wide.normalise.std.flatten().tolist() == [127.5, 127.5, 63.75, 106.25, 106.25]
    assert wide.layer_of("model.stem.weight") == 0
    narrow.widen(4)
    assert not any(module.training for module in narrow.modules())

    path = tmp_path / "five.safetensors"
    save_checkpoint(path, Checkpoint(network, section, ("a", "b"), (64, 32)))
    loaded = load_checkpoint(path)
    assert loaded.network.channels == 5
    images = torch.randint(0, 256, (1, 5, 20, 40), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(loaded.network.eval().segment(images), network.segment(images))


def test_published_weights_of_colours_fill_a_network_of_more(fake: Any, tmp_path: Path) -> None:
    fake()
    published = build_segmenter("timm:tiny", 2).backbone.model.state_dict()
    save_tensors(tmp_path / "published.safetensors", published)
    file = str(tmp_path / "published.safetensors")
    section = read_backbone({"name": "timm:tiny", "file": file})
    network = build_segmenter(section, 2, channels=4)
    start = network.backbone.pretrained()
    assert start is not None
    assert start.tensors["model.stem.weight"].shape[1] == 3
    state = with_channels(start.tensors, network.backbone.state_dict())
    expected = torch.cat([published["stem.weight"], published["stem.weight"].mean(1, True)], 1)
    assert torch.equal(state["model.stem.weight"], expected)
    assert state.keys() == network.backbone.state_dict().keys()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("colours", "channels: TimmBackbone takes images of 3 channels, not of 4; choose another"),
        ("unfolded", r"channels: timm:unfolded takes images to stem\.1\.weight, which is no conv"),
    ],
)
def test_networks_that_cannot_have_more_channels_say_so(fake: Any, name: str, words: str) -> None:
    fake()
    build_segmenter(f"timm:{name}", 2, channels=3)
    with pytest.raises(RecipeError, match=words):
        build_segmenter(f"timm:{name}", 2, channels=4)


def test_weights_that_fill_nothing_are_refused(fake: Any) -> None:
    fake()
    # The package's create_model gives the same random weights, asked for others or not.
    backbone = read_backbone("timm:tiny").build()
    with pytest.raises(DataError, match=r"no stem\.weight and 2 more; they are of another network"):
        backbone.pretrained()


def test_a_missing_broken_or_old_timm_is_one_line(
    fake: Any, muhdi, tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    def error() -> str:
        status, _, errors = muhdi("train", tiny(), "--set", "model.backbone=timm:tiny")
        assert status == 2
        assert len(errors.strip().splitlines()) == 1, errors
        return str(errors)

    with monkeypatch.context() as patch:
        patch.setattr(timm_package, "find_spec", lambda name: None)
        assert "pip install 'muhdi[timm]'" in error()
    monkeypatch.setattr(torch, "__version__", "2.13.0+cpu")
    monkeypatch.setattr(timm_package, "version", lambda name: "0.29.1")
    fake(fails="raise RuntimeError('operator torchvision::nms does not exist')")
    said = error()
    assert "torchvision 0.29.1 does not work beside torch 2.13.0+cpu" in said
    assert "install 'torchvision==0.28.*', and both from one place" in said
    fake(fails="import torchvision.of_another_torch")
    monkeypatch.setattr(timm_package, "version", _not_installed)
    assert "needs torchvision, which is not installed; pip install 'torchvision==0.28.*'" in error()
    fake(version="1.0.9")
    assert "version 1.0.9 is too old; pip install 'timm>=1.0.21'" in error()


def _not_installed(name: str) -> str:
    raise PackageNotFoundError(name)


def test_weights_that_cannot_be_had_are_named(fake: Any) -> None:
    fake()
    import timm

    config = TimmConfig(name="timm:tiny")
    source = timm.get_pretrained_cfg("tiny")
    said = str(without_weights(config, source, OSError("no route")))
    assert "(no route)" in said
    assert "'hf download timm/tiny.few model.safetensors --local-dir FOLDER'" in said
    assert "model.backbone.file=FOLDER/model.safetensors" in said
    source.hf_hub_id = None
    source.url = "https://example.org/tiny-1.pth"
    said = str(without_weights(config, source, OSError("no route")))
    assert "fetch https://example.org/tiny-1.pth elsewhere" in said
    assert "model.backbone.file=FOLDER/tiny-1.pth" in said
    config = TimmConfig(name="timm:tiny", file="other.pth")
    assert "other.pth is not of this network" in str(without_weights(config, source, KeyError("a")))


def test_licences_that_are_not_free_are_said() -> None:
    config = TimmConfig(name="timm:tiny")
    assert licence_notes(config, None) == []
    assert licence_notes(config, "apache-2.0") == []
    assert "no commercial use" in licence_notes(config, "cc-by-nc-4.0")[0]
    assert "DINOv3 License" in licence_notes(config, "dinov3-license")[0]
    assert "'nvidia-open-model-license'" in licence_notes(config, "nvidia-open-model-license")[0]
