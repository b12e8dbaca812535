"""Losses: their limits and what they leave out; the reference's numbers are in `golden_losses`."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from muhdi.losses import cross_entropy, entropy, kl_distillation, local_pod


@pytest.mark.parametrize("normalised", [False, True])
def test_pod_of_equal_maps_has_no_gradient(normalised: bool) -> None:
    maps = [torch.rand(1, 3, 8, 8, requires_grad=True)]
    loss = local_pod([maps[0].detach()], maps, normalised=normalised)
    loss.backward()
    assert loss == 0
    assert (maps[0].grad == 0).all()


def test_normalised_pod_is_the_distance_of_directions() -> None:
    old = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(1, 1, 2, 2)
    new = torch.tensor([[2.0, 1.0], [0.0, 2.0]]).view(1, 1, 2, 2)
    # Rows' and columns' means of the squares, at scale 1; scale 2 has the pixels, each twice.
    first = torch.tensor([2.5, 12.5, 5, 10, 1, 4, 9, 16, 1, 4, 9, 16])
    second = torch.tensor([2.5, 2, 2, 2.5, 4, 1, 0, 4, 4, 1, 0, 4])
    expected = (first / first.norm() - second / second.norm()).norm()
    torch.testing.assert_close(local_pod([old], [new], normalised=True), expected)
    # The features' scale does not count, whichever network's it is.
    for scaled in (
        local_pod([100 * old], [new], normalised=True),
        local_pod([old], [9 * new], normalised=True),
    ):
        torch.testing.assert_close(scaled, expected)


@given(st.integers(2, 19), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_entropy_and_kl_have_their_known_limits(classes: int, seed: int) -> None:
    torch.manual_seed(seed)
    logits = 3 * torch.randn(2, classes, 3, 4, dtype=torch.float64)
    value = entropy(logits.softmax(1))
    assert 0 <= value <= 1
    assert entropy(torch.full_like(logits, 1 / classes)) == pytest.approx(1)
    other = torch.randn_like(logits)
    expected = (
        (F.softmax(other, 1) * (F.log_softmax(other, 1) - F.log_softmax(logits, 1))).sum(1).mean()
    )
    assert kl_distillation(other, logits) == pytest.approx(float(expected), rel=1e-9)
    assert kl_distillation(other, logits, "element") == pytest.approx(
        float(expected) / classes, rel=1e-9
    )
    assert kl_distillation(logits, logits) == pytest.approx(0, abs=1e-12)


def test_weighted_cross_entropy_leaves_unconfident_pixels_out() -> None:
    logits = torch.randn(1, 3, 2, 2)
    labels = torch.tensor([[[0, 1], [2, 255]]])
    weight = torch.tensor([[[1.0, 0.0], [1.0, 1.0]]])
    each = F.cross_entropy(logits, labels.clamp(max=2), reduction="none")[0]
    assert cross_entropy(logits, labels, weight) == pytest.approx(
        float(each[0, 0] + each[1, 0]) / 3
    )
