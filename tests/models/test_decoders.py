"""Decoders: what each makes of features, on which backbones, and that a file keeps it."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muhdi.errors import DataError, RecipeError
from muhdi.losses import upsample
from muhdi.models.backbones.base import Backbone, FeatureInfo
from muhdi.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from muhdi.models.decoders import ChannelNorm, build_decoder
from muhdi.models.initial import initialise
from muhdi.models.segmenter import Segmenter, build_segmenter
from muhdi.models.statistics import batch_norms
from muhdi.recipe import plugins
from muhdi.recipe.backbones import DecoderConfig, read_backbone
from muhdi.recipe.load import load_recipe
from tests.models.tiny_transformers import folder_of
from tests.testers import MethodTester, narrow

CLASSES = ("a", "b", "c")


class Pooled(Backbone):
    """Average pools of the image, with one channel repeated; nothing else to see through."""

    def __init__(self, strides: tuple[int, ...], family: str, channels: int = 8) -> None:
        super().__init__()
        self.features = [FeatureInfo(channels, stride) for stride in strides]
        self.family = family  # type: ignore[assignment]
        self.multiple = max(strides)
        self.one = nn.Parameter(torch.ones(()))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        grey = self.one * images.float().mean(1, keepdim=True) / 255
        return tuple(
            F.avg_pool2d(grey, feature.stride).expand(-1, feature.channels, -1, -1)
            for feature in self.features
        )


def pyramid() -> Pooled:
    return Pooled((4, 8, 16, 32), "pyramid")


def plain() -> Pooled:
    return Pooled((16, 16, 16, 16), "plain")


@pytest.mark.parametrize(
    ("name", "backbone", "stride", "channels"),
    [
        ("deeplab", pyramid, 32, 8),
        ("lateral", pyramid, 4, 64),
        ("segformer", pyramid, 4, 256),
        ("daformer", pyramid, 4, 256),
        ("light", plain, 4, 2),
        ("linear", plain, 16, 32),
    ],
)
def test_each_gives_its_map_and_two_levels(
    name: str, backbone: object, stride: int, channels: int
) -> None:
    network = Segmenter(backbone(), 3, decoder=DecoderConfig(name=name))  # type: ignore[operator]
    outputs = network.train()(torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8))
    levels = outputs.heads["agnostic"]
    assert levels.main.shape == (2, 3, 64 // stride, 96 // stride)
    aux = network.backbone.features[-2].stride
    assert levels.aux is not None
    assert levels.aux.shape == (2, 3, 64 // aux, 96 // aux)
    assert network.decoder.channels == channels
    assert outputs.features[-1].shape[1] == channels
    assert network.align_corners is (name in ("deeplab", "lateral"))
    total = levels.main.square().sum() + levels.aux.square().sum()
    total.backward()
    assert all(weight.grad is not None for weight in network.parameters())


def test_the_published_shapes_have_their_number_of_weights() -> None:
    """SegFormer's decoder for MiT-B0 and DAFormer's for MiT-B5, counted from the papers' layers."""
    widths = (32, 64, 160, 256)
    backbone = pyramid()
    backbone.features = [FeatureInfo(width, 4 * 2**i) for i, width in enumerate(widths)]
    segformer = build_decoder(DecoderConfig(name="segformer"), backbone)
    embeddings = sum(256 * width + 256 for width in widths)
    assert _weights(segformer) == embeddings + 4 * 256 * 256 + 2 * 256
    widths = (64, 128, 320, 512)
    backbone.features = [FeatureInfo(width, 4 * 2**i) for i, width in enumerate(widths)]
    daformer = build_decoder(DecoderConfig(name="daformer"), backbone)
    embeddings = sum(256 * width + 256 for width in widths)
    pointwise = 1024 * 256 + 2 * 256
    depthwise = 1024 * 9 + 2 * 1024
    fuse = 9 * 1024 * 256 + 2 * 256
    assert _weights(daformer) == embeddings + pointwise + 3 * (depthwise + pointwise) + fuse


def _weights(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def test_the_light_decoder_has_no_batch_norms_and_is_enlarged_without_aligned_corners() -> None:
    network = Segmenter(plain(), 3, multi_level=False)
    light = Segmenter(plain(), 3, multi_level=False, decoder=DecoderConfig(name="light"))
    assert network.decoder_config.name == "deeplab"
    assert not batch_norms(light)
    assert light.statistics_choices == ("none",)
    outputs = light(torch.zeros(1, 3, 32, 32))
    logits = outputs.heads["agnostic"].main
    expected = F.interpolate(logits, size=(32, 32), mode="bilinear", align_corners=False)
    assert torch.equal(outputs.upsampled("agnostic", (32, 32)).main, expected)


@pytest.mark.parametrize("decoder", ["lateral", "segformer", "daformer", "light", "linear"])
def test_each_learns_with_every_adaptation_and_retention(decoder: str, tmp_path: Path) -> None:
    config = DecoderConfig(name=decoder, width=None if decoder in ("light", "linear") else 16)
    backbone = "small"
    if config.width is None:
        backbone = f"hf:{folder_of('dinov3_vit', tmp_path)}"
    adaptations = plugins.sections("adaptation")
    retentions = plugins.sections("retention")
    names = zip(cycle(_shipped(adaptations)), _shipped(retentions), strict=False)
    for adaptation, retention in names:
        learned = narrow(adaptations[adaptation], method=adaptation)
        kept = retentions[retention](method=retention)
        if kept.changes_pseudo_labels and not learned.has_teacher:
            continue  # refused with the recipe
        MethodTester(learned, kept, backbone, config).it_trains()


def _shipped(known: dict[str, Any]) -> list[str]:
    return sorted(name for name, section in known.items() if section.__module__[:5] == "muhdi")


def test_a_norm_over_channels_looks_at_one_pixel() -> None:
    norm = ChannelNorm(2)
    x = torch.tensor([[[[1.0, 5.0]], [[3.0, 5.0]]]])  # one row of two pixels: (1, 3) and (5, 5)
    expected = torch.tensor([[[[-1.0, 0.0]], [[1.0, 0.0]]]])
    torch.testing.assert_close(norm(x), expected, atol=1e-5, rtol=0)


def test_images_are_padded_in_the_backbones_colour_and_logits_cut() -> None:
    seen: list[Tensor] = []

    class Looking(Pooled):
        padding = (10.0, 20.4, 30.0)

        def forward(self, images: Tensor) -> tuple[Tensor, ...]:
            seen.append(images)
            return super().forward(images)

    network = Segmenter(
        Looking((4, 8, 16, 32), "pyramid"), 3, decoder=DecoderConfig(name="lateral")
    )
    images = torch.full((1, 3, 33, 50), 200, dtype=torch.uint8)
    levels = network.eval()(images).heads["agnostic"]
    assert seen[0].shape == (1, 3, 64, 64)
    assert seen[0][0, :, 40, 60].tolist() == [10, 20, 30]
    assert (seen[0][0, :, :33, :50] == 200).all()
    assert levels.main.shape[-2:] == (9, 13)  # 33 / 4 and 50 / 4, rounded up
    assert levels.aux is not None
    assert levels.aux.shape[-2:] == (3, 4)


@pytest.mark.parametrize(("decoder", "aligned"), [("linear", False), ("deeplab", True)])
@pytest.mark.parametrize("side", [70, 71, 76, 83, 225, 1080])
def test_what_is_cut_spans_the_image(decoder: str, aligned: bool, side: int) -> None:
    """Logits that say where they lie, in rows of the image, still do so when they are enlarged."""
    backbone = Pooled((14, 14, 14, 14), "plain")
    network = Segmenter(backbone, 3, decoder=DecoderConfig(name=decoder))
    padded = -(-side // 14) * 14
    lines = padded // 14
    place = torch.arange(lines).float()
    rows = place * (padded - 1) / (lines - 1) if aligned else (place + 0.5) * 14 - 0.5
    images = torch.zeros(1, 3, side, 28)
    cut = network._cut(rows[None, None, :, None].expand(1, 1, lines, 2), images, -2)
    found = upsample(cut, (side, 28), align_corners=aligned)[0, 0, :, 0]
    # Beyond the centres of the outermost lines nothing is known: there it is constant.
    inside = slice(21, side - 21)
    torch.testing.assert_close(found[inside], torch.arange(side).float()[inside], atol=2e-3, rtol=0)
    if side == padded:
        assert torch.equal(cut[0, 0, :, 0], rows)


def test_a_decoder_that_does_not_suit_the_features_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"model\.decoder: segformer does not suit a plain back"):
        Segmenter(plain(), 3, decoder=DecoderConfig(name="segformer"))
    with pytest.raises(RecipeError, match="take one of deeplab, lateral, segformer, daformer"):
        Segmenter(pyramid(), 3, decoder=DecoderConfig(name="light"))


def test_a_decoder_may_be_a_word() -> None:
    assert DecoderConfig.model_validate("lateral") == DecoderConfig(name="lateral")


def test_recipes_name_decoders(tiny) -> None:
    recipe = load_recipe(tiny(), ["model.decoder=lateral"])
    assert recipe.model.decoder == DecoderConfig(name="lateral")
    recipe = load_recipe(tiny(), ["model.decoder={name: segformer, width: 32}"])
    assert recipe.model.decoder is not None
    assert recipe.model.decoder.width == 32
    recipe = load_recipe(tiny(), ["model.decoder=lateral", "model.decoder.width=16"])
    assert recipe.model.decoder == DecoderConfig(name="lateral", width=16)
    with pytest.raises(RecipeError, match=r"segformr.*did you mean"):
        load_recipe(tiny(), ["model.decoder=segformr"])
    with pytest.raises(RecipeError, match="the backbone decides the width of light"):
        load_recipe(tiny(), ["model.decoder={name: light, width: 8}"])


def test_a_file_keeps_its_decoder(tmp_path: Path) -> None:
    small = read_backbone("small")
    mixed = build_segmenter("small", 3, decoder=DecoderConfig(name="lateral", width=24))
    outputs = mixed(torch.zeros(1, 3, 64, 96))
    assert outputs.features[-1].shape[1:] == (24, 32, 48)
    path = tmp_path / "mixed.safetensors"
    save_checkpoint(path, Checkpoint(mixed, small, CLASSES, (48, 32)))
    assert load_checkpoint(path).network.decoder_config == mixed.decoder_config
    with pytest.raises(DataError, match=r'set model\.decoder=\{"name": "lateral", "width": 24\}'):
        initialise(build_segmenter("small", 3), path, small, CLASSES)
    same = build_segmenter("small", 3, decoder=mixed.decoder_config)
    initialise(same, path, small, CLASSES)
    assert torch.equal(same.decoder.mix[1].weight, mixed.decoder.mix[1].weight)


def test_another_decoder_in_an_extending_recipe_leaves_the_options_behind(
    tmp_path: Path, tiny
) -> None:
    base = Path(tiny())
    wide = tmp_path / "wide.yml"
    wide.write_text(f"extends: {base.name}\nmodel: {{decoder: {{name: lateral, width: 16}}}}\n")
    other = tmp_path / "other.yml"
    other.write_text("extends: wide.yml\nmodel: {decoder: segformer}\n")
    assert load_recipe(other).model.decoder == DecoderConfig(name="segformer")
