"""What a network is made of, against counts by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from muhdi.models.backbones.base import FeatureInfo
from muhdi.models.segmenter import Segmenter, build_segmenter
from muhdi.models.summary import FeatureMap, NetworkSummary, Part, summarise
from muhdi.training.optim import freeze_affine


class OneConvolution(nn.Module):
    """3x3 convolution from 3 to 4 channels, of stride 2; its map is given twice."""

    features = (FeatureInfo(4, 2), FeatureInfo(4, 2))
    dilations = (1,)
    multiple = 8
    padding = (0.0, 0.0, 0.0)
    image_channels = 3
    family = "dilated"
    decoder = "deeplab"

    def __init__(self, *, looks: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, 2, 1)
        self.looks = looks

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        if self.looks:
            assert images.max().item() <= 255
        found = self.conv(images.float())
        return found, found


@pytest.mark.parametrize("looks", [False, True])
def test_operations_of_convolutions_are_those_of_the_formula(looks: bool) -> None:
    network = Segmenter(OneConvolution(looks=looks), classes=5)  # type: ignore[arg-type]
    summary = summarise(network, (30, 20))
    # The image is padded to 32x24, so the convolution gives 16x12, and the head sees them all.
    backbone = 2 * 3 * 4 * 9 * 16 * 12
    head = 2 * 4 * 5 * 9 * 16 * 12
    assert summary.flops == backbone + head
    assert summary.features == (FeatureMap("1", 4, 2, 16, 12), FeatureMap("2", 4, 2, 16, 12))
    assert summary.multiple == 8
    assert summary.batch_norms == 0
    # One level of the head is of 4 * 5 * 9 weights and 5 biases, and there are two.
    assert summary.parts == (Part("backbone", 112, 112), Part("head agnostic", 370, 370))
    assert summary.weight_bytes == 4 * 482


def test_small_has_the_weights_that_a_count_by_hand_gives() -> None:
    def block(inputs: int, outputs: int, projected: bool) -> int:
        norms = 2 * 2 * outputs + projected * 2 * outputs
        return 9 * inputs * outputs + 9 * outputs * outputs + projected * inputs * outputs + norms

    stem = 27 * 16 + 2 * 16
    blocks = block(16, 16, False) + block(16, 32, True) + block(32, 32, False) + block(32, 48, True)
    head = 4 * (9 * 32 * 7 + 7) + 4 * (9 * 48 * 7 + 7)
    summary = summarise(build_segmenter("small", 7, ("agnostic", "specialist")), (64, 32))
    assert summary.parts == (
        Part("backbone", stem + blocks, stem + blocks),
        Part("head agnostic", head, head),
        Part("head specialist", head, head),
    )
    assert summary.total == Part("total", 115_040, 115_040)
    assert summary.batch_norms == 11
    assert [(one.channels, one.stride) for one in summary.features] == [
        (16, 2),
        (32, 4),
        (32, 4),
        (48, 4),
    ]
    assert [(one.width, one.height) for one in summary.features] == [(32, 16)] + 3 * [(16, 8)]


def test_a_decoder_is_a_part_and_gives_a_feature() -> None:
    network = build_segmenter("small", 7, decoder="lateral")
    summary = summarise(network, (64, 32))
    laterals = sum(64 * channels + 2 * 64 for channels in (16, 32, 32, 48))
    mix = 9 * 64 + 64 * 64 + 2 * 64
    assert summary.parts[1] == Part("decoder", laterals + mix, laterals + mix)
    assert summary.features[-1] == FeatureMap("decoder", 64, 2, 32, 16)


def test_what_training_leaves_alone_is_frozen_and_the_network_stays_as_it_was() -> None:
    network = build_segmenter("resnet50", 7)
    freeze_affine(network)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    summary = summarise(network, (64, 32))
    assert isinstance(summary, NetworkSummary)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert summary.parts[0].frozen == sum(2 * norm.num_features for norm in norms)
    assert summary.parts[1].frozen == 0
    assert network.training
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
