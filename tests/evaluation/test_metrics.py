"""Scores against an independent brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from muhdi.evaluation.metrics import iou, mean_iou, summarise
from muhdi.evaluation.predict import confusion_matrix
from muhdi.evaluation.results import Results, scores, without_score

labels = arrays(np.uint8, (6, 7), elements=st.sampled_from([0, 1, 2, 3, 255]))
predictions = arrays(np.uint8, (6, 7), elements=st.integers(0, 3))


@given(labels, predictions)
@settings(max_examples=100, deadline=None)
def test_iou_is_what_counting_sets_gives(label: np.ndarray, prediction: np.ndarray) -> None:
    confusion = confusion_matrix(torch.from_numpy(prediction), torch.from_numpy(label), 4).numpy()
    for c in range(4):
        truth = {i for i, v in enumerate(label.ravel()) if v == c}
        found = {i for i, v in enumerate(prediction.ravel()) if v == c and label.ravel()[i] != 255}
        union = truth | found
        expected = len(truth & found) / len(union) if union else np.nan
        assert iou(confusion)[c] == pytest.approx(expected, nan_ok=True)
    valid = [v for v in iou(confusion) if v == v]
    assert mean_iou(confusion) == (pytest.approx(np.mean(valid)) if valid else None)


def test_forgetting_average_and_transfer_by_hand() -> None:
    matrix = [[10, 11, 12], [50, 20, 15], [45, 60, 25], [40, 61, 70]]
    summary = summarise(matrix, [1, 2, 3])
    assert summary.average == pytest.approx((40 + 61 + 70) / 3)
    assert summary.forgetting == pytest.approx(((50 - 40) + (60 - 61)) / 2)
    assert summary.backward == pytest.approx(((40 - 50) + (61 - 60)) / 2)
    assert summary.forward == pytest.approx(((20 - 11) + (25 - 12)) / 2)


def test_what_is_not_known_is_not_zero() -> None:
    summary = summarise([[None, None], [30.0, None], [20.0, None]], [1, 2])
    assert summary.average == 20.0
    assert summary.forgetting == 10.0
    assert summary.forward is None
    assert summarise([], []).average is None


@given(arrays(np.float64, (4, 3), elements=st.floats(0, 100)))
@settings(max_examples=50, deadline=None)
def test_forgetting_is_never_below_negative_backward_transfer(matrix: np.ndarray) -> None:
    summary = summarise(matrix.tolist(), [1, 2, 3])
    assert summary.forgetting >= -summary.backward - 1e-9


def test_results_survive_json() -> None:
    results = Results("x", 1, "sim", ["sim", "city"], ["city"], [1])
    confusion = np.array([[3, 1], [0, 0]])
    results.add(
        "source",
        {"running": {"sim": scores(confusion, ["a", "b"], 2), "city": without_score("unlabelled")}},
    )
    data = results.to_json()
    assert Results.from_json(data) == results
    assert data["summary"]["running"]["matrix"] == [[37.5, None]]
    assert data["steps"][0]["scores"]["running"]["city"] == {"miou": None, "reason": "unlabelled"}
