"""Losses against the reference's numbers, and their limits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from muhdi.losses import (
    adversarial,
    cross_entropy,
    entropy,
    entropy_map,
    kl_distillation,
    local_pod,
    mse_distillation,
)
from muhdi.training.optim import poly

CASES = ("A", "B")
TOLERANCE = {"float32": 2e-6, "float64": 1e-12}


@pytest.fixture(scope="module")
def arrays(golden: Path):
    if not (golden / "d_losses.npz").exists():
        pytest.skip("d_losses.npz is not among the golden files")
    return np.load(golden / "d_losses.npz")


@pytest.fixture(scope="module")
def numbers(golden: Path):
    return json.loads((golden / "d_losses.json").read_text())


def _close(actual: torch.Tensor, expected: np.ndarray, dtype: str) -> None:
    np.testing.assert_allclose(
        actual.detach().numpy(), expected, rtol=TOLERANCE[dtype] * 50, atol=TOLERANCE[dtype] * np.abs(expected).max()
    )


def _logits(arrays, case: str, dtype: str, name: str) -> torch.Tensor:
    return torch.from_numpy(arrays[f"{case}/{name}"]).to(getattr(torch, dtype)).requires_grad_()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES)
def test_cross_entropy_is_the_references(arrays, case: str, dtype: str) -> None:
    logits = _logits(arrays, case, dtype, "logits")
    target = torch.from_numpy(arrays[f"{case}/target"]).long()
    loss = cross_entropy(logits, target)
    loss.backward()
    _close(loss, arrays[f"{case}/{dtype}/cross_entropy_2d"], dtype)
    _close(logits.grad, arrays[f"{case}/{dtype}/cross_entropy_2d_grad"], dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", ["kl_divergence", "mse_loss"])
def test_distillation_is_the_references(arrays, case: str, dtype: str, kind: str) -> None:
    student, teacher = _logits(arrays, case, dtype, "logits"), _logits(arrays, case, dtype, "logits2")
    functions = {"kl_divergence": lambda a, b: kl_distillation(a, b, "element"), "mse_loss": mse_distillation}
    loss = functions[kind](teacher, student)
    loss.backward()
    _close(loss, arrays[f"{case}/{dtype}/{kind}"], dtype)
    _close(student.grad, arrays[f"{case}/{dtype}/{kind}_grad0"], dtype)
    if dtype == "float64":
        _close(teacher.grad, arrays[f"{case}/{dtype}/{kind}_grad1"], dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES)
def test_entropy_map_is_the_references(arrays, case: str, dtype: str) -> None:
    probabilities = _logits(arrays, case, dtype, "logits").softmax(1)
    _close(entropy_map(probabilities), arrays[f"{case}/{dtype}/prob_2_entropy_of_softmax"], dtype)


@pytest.mark.parametrize("label", [0, 1])
def test_adversarial_is_the_references(arrays, label: int) -> None:
    scores = torch.from_numpy(arrays["bce/y"]).requires_grad_()
    loss = adversarial(scores, is_source=label == 0)
    loss.backward()
    _close(loss, arrays[f"bce/loss_label{label}"], "float32")
    _close(scores.grad, arrays[f"bce/grad_label{label}"], "float32")


def test_pod_is_the_references(arrays, numbers) -> None:
    for case, facts in numbers["features_distillation"].items():
        count = len(facts["shapes"])
        old = [torch.from_numpy(arrays[f"fd/{case}/a{i}"]).double() for i in range(count)]
        new = [torch.from_numpy(arrays[f"fd/{case}/b{i}"]).double().requires_grad_() for i in range(count)]
        loss = local_pod(old, new)
        loss.backward()
        assert float(loss) == pytest.approx(facts["loss_float64"], rel=1e-12), case
        for i, tensor in enumerate(new):
            _close(tensor.grad, arrays[f"fd/{case}/grad_b{i}"], "float64")


def test_pod_of_equal_maps_has_no_gradient() -> None:
    maps = [torch.rand(1, 3, 8, 8, requires_grad=True)]
    loss = local_pod([maps[0].detach()], maps)
    loss.backward()
    assert loss == 0
    assert (maps[0].grad == 0).all()


def test_all_ignored_gives_zero_where_the_reference_gives_nan(numbers) -> None:
    assert np.isnan(numbers["cross_entropy_2d_special"]["all_255"]["loss"])  # measured there
    logits = torch.rand(1, 7, 3, 4, requires_grad=True)
    loss = cross_entropy(logits, torch.full((1, 3, 4), 255))
    loss.backward()
    assert loss == 0
    assert (logits.grad == 0).all()


def test_learning_rate_is_the_references(numbers) -> None:
    for case in numbers["lr_poly"]:
        rates = [poly(case["base_lr"], i, case["max_iter"], case["power"]) for i in case["iters"]]
        assert rates == pytest.approx(case["lr"], rel=1e-12)
    assert poly(1.0, 11, 10, 0.9) == 0  # complex in the reference


@given(st.integers(2, 19), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_entropy_and_kl_have_their_known_limits(classes: int, seed: int) -> None:
    torch.manual_seed(seed)
    logits = 3 * torch.randn(2, classes, 3, 4, dtype=torch.float64)
    value = entropy(logits.softmax(1))
    assert 0 <= value <= 1
    assert entropy(torch.full_like(logits, 1 / classes)) == pytest.approx(1)
    other = torch.randn_like(logits)
    expected = (F.softmax(other, 1) * (F.log_softmax(other, 1) - F.log_softmax(logits, 1))).sum(1).mean()
    assert kl_distillation(other, logits) == pytest.approx(float(expected), rel=1e-9)
    assert kl_distillation(other, logits, "element") == pytest.approx(float(expected) / classes, rel=1e-9)
    assert kl_distillation(logits, logits) == pytest.approx(0, abs=1e-12)


def test_weighted_cross_entropy_leaves_unconfident_pixels_out() -> None:
    logits = torch.randn(1, 3, 2, 2)
    labels = torch.tensor([[[0, 1], [2, 255]]])
    weight = torch.tensor([[[1.0, 0.0], [1.0, 1.0]]])
    each = F.cross_entropy(logits, labels.clamp(max=2), reduction="none")[0]
    assert cross_entropy(logits, labels, weight) == pytest.approx(float(each[0, 0] + each[1, 0]) / 3)
