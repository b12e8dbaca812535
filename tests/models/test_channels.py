"""Networks of more channels: what the further ones begin with, and what stays as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from muhdi.adaptation.strong import strongly_changed
from muhdi.draws import Draws
from muhdi.errors import DataError, RecipeError
from muhdi.models.backbones.base import Backbone, mean_colour
from muhdi.models.channels import widened, with_channels
from muhdi.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from muhdi.models.hidden_tokens import HiddenTokens
from muhdi.models.initial import initialise
from muhdi.models.segmenter import build_segmenter
from muhdi.models.summary import summarise
from muhdi.recipe.backbones import SmallConfig, read_backbone
from muhdi.recipe.pseudo_labels import MaskedConfig
from muhdi.retention.styles import colour_of, recoloured

CLASSES = ("soil", "plant")


def test_further_filters_are_the_mean_of_the_colours() -> None:
    weight = torch.tensor([[1.0, 2.0, 6.0], [0.0, 3.0, 0.0]]).view(2, 3, 1, 1)
    found = widened(weight, 5).flatten(1)
    assert found.tolist() == [[1, 2, 6, 3, 3], [0, 3, 0, 1, 1]]
    own = {"first": torch.zeros(2, 5, 1, 1), "other": torch.zeros(2, 3, 1, 1)}
    state = with_channels({"first": weight, "other": weight, "unknown": weight}, own)
    assert state["first"].shape == (2, 5, 1, 1)
    assert torch.equal(state["other"], weight)
    assert torch.equal(state["unknown"], weight)


@pytest.mark.parametrize("name", ["small", "resnet50", "efficientnet_lite0"])
def test_grey_beside_the_colours_adds_what_their_mean_filter_sees(name: str) -> None:
    torch.manual_seed(0)
    narrow = build_segmenter(name, 2).backbone.eval()
    torch.manual_seed(0)
    wide = build_segmenter(name, 2, channels=5).backbone.eval()
    assert (narrow.image_channels, wide.image_channels) == (3, 5)
    first = narrow.get_submodule(narrow.first_convolution)
    wider = wide.get_submodule(wide.first_convolution)
    images = torch.randint(0, 256, (1, 5, 32, 32), dtype=torch.uint8)
    shown = wide.normalise(images)
    assert torch.equal(shown[:, :3], narrow.normalise(images[:, :3]))
    seen = first(shown[:, :3])
    for channel in (3, 4):
        seen = seen + first(shown[:, channel : channel + 1].expand(-1, 3, -1, -1) / 3)
    assert torch.allclose(wider(shown), seen, atol=1e-4)
    middle = mean_colour(wide)
    assert torch.equal(middle[:3], mean_colour(narrow))
    assert torch.allclose(middle[3:], middle[:3].mean().expand(2))
    # Nothing else has drawn other random numbers.
    for key, value in narrow.state_dict().items():
        if value.shape == wide.state_dict()[key].shape:
            assert torch.equal(value, wide.state_dict()[key]), key


def test_a_file_keeps_the_channels_and_the_range(tmp_path: Path) -> None:
    path = tmp_path / "four.safetensors"
    network = build_segmenter("small", 2, channels=4).eval()
    section = SmallConfig()
    saved = Checkpoint(network, section, CLASSES, (32, 32), pixel_range=(0, 4095))
    save_checkpoint(path, saved)
    loaded = load_checkpoint(path)
    assert (loaded.network.channels, loaded.pixel_range) == (4, (0, 4095))
    images = torch.randint(0, 256, (1, 4, 32, 32), dtype=torch.uint8)
    assert torch.equal(loaded.network.eval().segment(images), network.segment(images))
    narrow = summarise(build_segmenter("small", 2), (32, 32))
    assert summarise(network, (32, 32)).flops > narrow.flops
    with pytest.raises(DataError, match="takes images of 4 channels, the recipe's have 3; set cha"):
        initialise(build_segmenter("small", 2), path, section, CLASSES)


def test_published_weights_of_colours_start_a_network_of_more(tmp_path: Path) -> None:
    colours = build_segmenter("resnet50", 2)
    path = tmp_path / "resnet.pth"
    torch.save(dict(colours.backbone.state_dict()), path)
    network = build_segmenter("resnet50", 2, channels=4)
    initialise(network, path, read_backbone("resnet50"), CLASSES)
    first = network.backbone.conv1.weight
    assert torch.equal(first[:, 3], first[:, :3].mean(1))
    assert torch.equal(network.backbone.bn1.weight, colours.backbone.bn1.weight)


class Fixed(Backbone):
    """A backbone that says nothing of more channels."""


def test_a_backbone_that_takes_colours_alone_refuses_more() -> None:
    with pytest.raises(RecipeError, match="channels: Fixed takes images of 3 channels, not of 4"):
        Fixed().widen(4)
    Fixed().widen(3)
    wide = build_segmenter("small", 2, channels=4).backbone
    with pytest.raises(RecipeError, match="takes images of 4 channels, not of 6"):
        wide.widen(6)


def test_hidden_tokens_are_told_by_one_more_channel() -> None:
    tokens = HiddenTokens(2, channels=4)
    images = torch.rand(1, 4, 4, 4)
    hidden = torch.tensor([[[True, False], [False, True]]])
    told = tokens.hide(images, hidden)
    assert told.shape == (1, 5, 4, 4)
    shown, again = tokens.split(told)
    assert torch.equal(shown, images)
    assert again is not None
    assert torch.equal(again, hidden)
    assert tokens.split(images)[1] is None


def test_styles_have_every_channel() -> None:
    generator = torch.Generator().manual_seed(0)
    images = 60 + 100 * torch.rand(2, 5, 16, 16, generator=generator)
    other = 90 + 60 * torch.rand(2, 5, 16, 16, generator=generator)
    style = colour_of(other)
    assert style.covariance.shape == (2, 5, 5)
    painted = colour_of(recoloured(images, style))
    assert torch.allclose(painted.mean, style.mean, atol=0.5)
    assert torch.allclose(painted.covariance, style.covariance, atol=15)


def test_the_students_colours_alone_are_jittered() -> None:
    images = 255 * torch.rand(2, 5, 8, 8, generator=torch.Generator().manual_seed(1))
    config = MaskedConfig(colour_jitter=0.3, jitter_probability=1.0, blur_probability=0.0)
    changed = strongly_changed(images, config, Draws(torch.Generator().manual_seed(2)))
    alone = strongly_changed(images[:, :3], config, Draws(torch.Generator().manual_seed(2)))
    assert torch.equal(changed[:, :3], alone)
    assert not torch.equal(alone, images[:, :3])
    assert torch.equal(changed[:, 3:], images[:, 3:])


@pytest.mark.parametrize("kind", ["segformer", "dinov2", "convnext"])
def test_networks_of_transformers_are_built_again_with_more_channels(
    kind: str, tmp_path: Path
) -> None:
    tiny_transformers = pytest.importorskip("tests.models.tiny_transformers")
    section = tiny_transformers.section(kind)
    torch.manual_seed(0)
    narrow = build_segmenter(section, 2)
    torch.manual_seed(0)
    wide = build_segmenter(section, 2, channels=4).eval()
    own = with_channels(narrow.backbone.state_dict(), wide.backbone.state_dict())
    for key, value in wide.backbone.state_dict().items():
        assert torch.equal(value, own[key]), key
    path = tmp_path / "wide.safetensors"
    save_checkpoint(path, Checkpoint(wide, section, CLASSES, (64, 64)))
    loaded = load_checkpoint(path).network.eval()
    assert loaded.channels == 4
    images = torch.randint(0, 256, (1, 4, 60, 64), dtype=torch.uint8)
    assert torch.equal(loaded.segment(images), wide.segment(images))
