"""Hidden tokens: the mask token takes the place of a patch, and of nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from muhdi.errors import RecipeError
from muhdi.models.hidden_tokens import HiddenTokens
from muhdi.models.segmenter import Segmenter, build_segmenter
from tests.models.tiny_transformers import section

KINDS = ("dinov2", "dinov2_with_registers", "dinov3_vit")
SIZE = (30, 45)


def network_of(kind: str) -> Segmenter:
    torch.manual_seed(0)
    network = build_segmenter(section(kind), 3).train()
    network.backbone.trains_mask_token("hide")
    torch.nn.init.normal_(network.backbone.mask_token)
    return network


def photos() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return 255 * torch.rand(2, 3, *SIZE, generator=generator)


def hidden_of(network: Segmenter) -> torch.Tensor:
    """Seven of the tokens of each image."""
    rows, columns = network.hidden_tokens.grid(SIZE)
    generator = torch.Generator().manual_seed(2)
    return torch.rand(2, rows * columns, generator=generator).argsort(1).view(2, rows, columns) < 7


def test_what_is_hidden_is_a_fourth_channel() -> None:
    tokens = HiddenTokens(2)
    images = torch.arange(3.0 * 3 * 5).view(1, 3, 3, 5)
    assert tokens.grid((3, 5)) == (2, 3)
    hidden = torch.tensor([[[True, False, False], [False, False, True]]])
    found = tokens.hide(images, hidden)
    assert found.shape == (1, 4, 3, 5)
    assert found[0, 3].tolist() == [[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 0, 0, 1]]
    shown, again = tokens.split(found)
    assert torch.equal(shown, images)
    assert torch.equal(again, hidden)
    assert tokens.split(images)[1] is None


@pytest.mark.parametrize("kind", KINDS)
def test_the_mask_token_stands_in_before_positions_are_added(kind: str) -> None:
    network = network_of(kind).eval()
    embeddings = network.backbone.model.embeddings
    seen = []
    embeddings.register_forward_hook(lambda _, given, found: seen.append(found))
    patches = []
    embeddings.patch_embeddings.register_forward_hook(lambda _, given, found: patches.append(found))
    hidden = hidden_of(network)
    with torch.no_grad():
        network(photos())
        network(network.hidden_tokens.hide(photos(), hidden))
    plain, found = seen
    embedded = patches[0].flatten(2).transpose(1, 2) if patches[0].ndim == 4 else patches[0]
    count = hidden[0].numel()
    # Classes and registers stand before the patches, and are never hidden.
    assert torch.equal(found[:, :-count], plain[:, :-count])
    positions = plain[:, -count:] - embedded
    token = network.backbone.mask_token.detach().view(1, 1, -1)
    expected = torch.where(hidden.flatten(1)[:, :, None], token, embedded) + positions
    torch.testing.assert_close(found[:, -count:], expected)


def test_hidden_pixels_do_not_matter() -> None:
    network = network_of("dinov2").eval()
    tokens = network.hidden_tokens
    hidden = hidden_of(network)
    covered = tokens.hide(torch.zeros(2, 3, *SIZE), hidden)[:, 3:]

    def logits(images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return network(tokens.hide(images, hidden)).heads["agnostic"].main

    before = logits(photos())
    assert torch.equal(before, logits(torch.where(covered > 0, 255.0, photos())))
    assert not torch.allclose(before, logits(torch.where(covered > 0, photos(), 255.0)))
    # The next images are whole again.
    with torch.no_grad():
        whole = network(photos()).heads["agnostic"].main
    assert not torch.allclose(before, whole)


def test_the_token_learns_with_and_without_checkpointing() -> None:
    gradients = []
    for checkpointing in (False, True):
        network = network_of("dinov2")
        if checkpointing:
            network.backbone.checkpointed()
        images = network.hidden_tokens.hide(photos(), hidden_of(network))
        network(images).heads["agnostic"].main.square().mean().backward()
        gradients.append(network.backbone.mask_token.grad)
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(gradients[0], gradients[1])


def test_without_a_step_that_hides_tokens_it_rests() -> None:
    assert not build_segmenter(section("dinov2"), 3).backbone.mask_token.requires_grad


@pytest.mark.parametrize("backbone", ["small", section("segformer")], ids=["small", "segformer"])
def test_networks_without_a_mask_token_are_refused(backbone: object) -> None:
    network = build_segmenter(backbone, 3)
    with pytest.raises(RecipeError, match=r"hide: .* has no mask token, as DINOv2"):
        network.backbone.trains_mask_token("steps.0.adaptation.masked.hide")


def test_the_command_line_refuses_them_before_it_trains(
    tiny: Callable[..., Path], muhdi: Callable[..., tuple[int, str, str]]
) -> None:
    adaptation = "every_step.adaptation={method: minent, masked: {hide: tokens}}"
    status, _, errors = muhdi("train", str(tiny()), "--set", adaptation)
    assert status == 2
    assert errors.strip().splitlines()[-1] == (
        "error: steps.0.adaptation.masked.hide: SmallResNet has no mask token, as DINOv2 and"
        " DINOv3 of transformers have; set it to pixels"
    )
