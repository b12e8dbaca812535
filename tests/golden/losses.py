"""The reference's losses with their gradients, its learning rates, and its confusion and IoU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from muhdi.evaluation.metrics import iou, mean_iou
from muhdi.evaluation.predict import confusion_matrix
from muhdi.losses import (
    adversarial,
    cross_entropy,
    entropy_map,
    kl_distillation,
    local_pod,
    mse_distillation,
)
from muhdi.training.optim import poly
from tests.golden.networks import read

TOLERANCE = {"float32": 2e-6, "float64": 1e-12}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE)


def cases(arrays: dict) -> list[str]:
    """Names of the cases that hold logits."""
    found = sorted({key.split("/")[0] for key in arrays if key.endswith("/logits2")})
    return found or pytest.skip("d_losses.npz holds no logits")


def close(actual: torch.Tensor, expected: np.ndarray, dtype: str) -> None:
    np.testing.assert_allclose(
        actual.detach().numpy(),
        expected,
        rtol=TOLERANCE[dtype] * 50,
        atol=TOLERANCE[dtype] * np.abs(expected).max(),
    )


def logits(arrays: dict, case: str, dtype: str, name: str = "logits") -> torch.Tensor:
    return torch.from_numpy(arrays[f"{case}/{name}"]).to(getattr(torch, dtype)).requires_grad_()


@DTYPES
def test_cross_entropy(golden: Path, dtype: str) -> None:
    arrays = read(golden, "d_losses.npz")
    for case in cases(arrays):
        scores = logits(arrays, case, dtype)
        loss = cross_entropy(scores, torch.from_numpy(arrays[f"{case}/target"]).long())
        loss.backward()
        close(loss, arrays[f"{case}/{dtype}/cross_entropy_2d"], dtype)
        close(scores.grad, arrays[f"{case}/{dtype}/cross_entropy_2d_grad"], dtype)


@DTYPES
@pytest.mark.parametrize("kind", ["kl_divergence", "mse_loss"])
def test_distillation(golden: Path, dtype: str, kind: str) -> None:
    arrays = read(golden, "d_losses.npz")
    functions = {
        "kl_divergence": lambda a, b: kl_distillation(a, b, "element"),
        "mse_loss": mse_distillation,
    }
    for case in cases(arrays):
        student, teacher = logits(arrays, case, dtype), logits(arrays, case, dtype, "logits2")
        loss = functions[kind](teacher, student)
        loss.backward()
        close(loss, arrays[f"{case}/{dtype}/{kind}"], dtype)
        close(student.grad, arrays[f"{case}/{dtype}/{kind}_grad0"], dtype)
        if f"{case}/{dtype}/{kind}_grad1" in arrays:
            close(teacher.grad, arrays[f"{case}/{dtype}/{kind}_grad1"], dtype)


@DTYPES
def test_entropy_map(golden: Path, dtype: str) -> None:
    arrays = read(golden, "d_losses.npz")
    for case in cases(arrays):
        probabilities = logits(arrays, case, dtype).detach().softmax(1).requires_grad_()
        out = entropy_map(probabilities)
        close(out, arrays[f"{case}/{dtype}/prob_2_entropy_of_softmax"], dtype)
        if f"{case}/{dtype}/prob_2_entropy_grad_of_sum" in arrays:
            out.sum().backward()
            close(probabilities.grad, arrays[f"{case}/{dtype}/prob_2_entropy_grad_of_sum"], dtype)


def test_entropy_map_at_its_limits(golden: Path) -> None:
    facts = read(golden, "d_losses.json")["prob_2_entropy_special"]
    p = torch.tensor(facts["p"], dtype=torch.float32).view(1, -1, 1, 1).requires_grad_()
    out = entropy_map(p)
    out.sum().backward()
    np.testing.assert_allclose(out.detach().flatten(), facts["out"], rtol=1e-6, atol=0)
    np.testing.assert_allclose(p.grad.flatten(), facts["grad"], rtol=1e-5)


@pytest.mark.parametrize("label", [0, 1])
def test_adversarial(golden: Path, label: int) -> None:
    arrays = read(golden, "d_losses.npz")
    scores = torch.from_numpy(arrays["bce/y"]).requires_grad_()
    loss = adversarial(scores, is_source=label == 0)
    loss.backward()
    close(loss, arrays[f"bce/loss_label{label}"], "float32")
    close(scores.grad, arrays[f"bce/grad_label{label}"], "float32")


def test_pod(golden: Path) -> None:
    arrays, facts = read(golden, "d_losses.npz"), read(golden, "d_losses.json")
    for case, expected in facts["features_distillation"].items():
        count = len(expected["shapes"])
        for dtype in TOLERANCE:
            old = [
                torch.from_numpy(arrays[f"fd/{case}/a{i}"]).to(getattr(torch, dtype))
                for i in range(count)
            ]
            new = [
                torch.from_numpy(arrays[f"fd/{case}/b{i}"])
                .to(getattr(torch, dtype))
                .requires_grad_()
                for i in range(count)
            ]
            loss = local_pod(old, new)
            loss.backward()
            assert float(loss.detach()) == pytest.approx(
                expected[f"loss_{dtype}"], rel=TOLERANCE[dtype]
            ), case
            if dtype == "float64":
                for i, tensor in enumerate(new):
                    close(tensor.grad, arrays[f"fd/{case}/grad_b{i}"], dtype)
        same = [tensor.detach().requires_grad_() for tensor in new]
        assert float(local_pod(old, [a.clone() for a in old])) == expected["identical"]["loss"]
        local_pod([a.detach() for a in same], same).backward()
        assert sum(float(a.grad.abs().sum()) for a in same) == expected["identical"]["grad_abs_sum"]


def test_pod_embedding(golden: Path) -> None:
    """The averages of the cells: their distance from those of a zero map is their norm."""
    arrays = read(golden, "d_losses.npz")
    if "pod_embedding/x" not in arrays:
        pytest.skip("d_losses.npz has no pod_embedding")
    x = torch.from_numpy(arrays["pod_embedding/x"])
    embedding = arrays["pod_embedding/emb"]
    # The embedding is of the map itself; the loss squares its maps first.
    assert float(local_pod([torch.zeros_like(x)], [x.sqrt()])) == pytest.approx(
        np.linalg.norm(embedding), rel=1e-12
    )


def test_kl_of_equal_logits_is_nothing(golden: Path) -> None:
    measured = read(golden, "d_losses.json").get("kl_identical", 0.0)
    same = torch.randn(2, 7, 5, 5)
    assert abs(float(kl_distillation(same, same, "element"))) <= max(abs(measured), 1e-8)


def test_difference_all_ignored_gives_zero_where_the_reference_gives_nan(golden: Path) -> None:
    """Intended: the loss is 0 as the gradients are.

    And 254, which no table delivers, is not silently ignored.
    """
    special = read(golden, "d_losses.json")["cross_entropy_2d_special"]
    scores = torch.from_numpy(read(golden, "d_losses.npz")["ce_special/logits"]).requires_grad_()
    for name, case in special.items():
        target = torch.tensor(case["target"])
        if name == "all_255":
            assert np.isnan(case["loss"])
            scores.grad = None
            loss = cross_entropy(scores, target)
            loss.backward()
            assert loss == 0
            assert float(scores.grad.abs().sum()) == case["grad_abs_sum"] == 0
        elif (
            "loss" in case
            and bool(((target < scores.shape[1]) | (target == 255)).all())
            and (target >= 0).all()
        ):
            assert float(cross_entropy(scores, target).detach()) == pytest.approx(
                case["loss"], rel=1e-6
            )
        else:
            with pytest.raises((IndexError, RuntimeError)):
                cross_entropy(scores, target)


def test_learning_rates(golden: Path) -> None:
    facts = read(golden, "d_losses.json")
    for case in facts["lr_poly"]:
        rates = [poly(case["base_lr"], i, case["max_iter"], case["power"]) for i in case["iters"]]
        assert rates == pytest.approx(case["lr"], rel=1e-12)


def test_difference_the_learning_rate_stays_zero_where_the_reference_gets_complex(
    golden: Path,
) -> None:
    assert "j" in read(golden, "d_losses.json")["lr_poly_beyond_max"]
    assert poly(1.0, 11, 10, 0.9) == 0


def test_confusion_and_iou(golden: Path) -> None:
    facts = read(golden, "d_losses.json")["fast_hist"]
    labels, predictions = torch.tensor(facts["labels"]), torch.tensor(facts["preds"])
    confusion = confusion_matrix(predictions, labels, facts["n"]).numpy()
    assert confusion.tolist() == facts["hist"]
    np.testing.assert_allclose(iou(confusion), facts["per_class_iu"], rtol=1e-12)
    absent = np.array(facts["case2_absent_class_hist"])
    expected = [np.nan if value is None else value for value in facts["case2_iu"]]
    np.testing.assert_allclose(iou(absent), expected, rtol=1e-12)
    assert mean_iou(absent) == pytest.approx(facts["case2_nanmean"], rel=1e-12)
