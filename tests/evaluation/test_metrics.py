"""Scores against an independent brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from muhdi.evaluation.metrics import mean_iou, pixel_accuracy, scored_iou, summarise
from muhdi.evaluation.predict import confusion_matrix
from muhdi.evaluation.results import Results, absent_classes, scores, without_score

labels = arrays(np.uint8, (6, 7), elements=st.sampled_from([0, 1, 2, 3, 255]))
predictions = arrays(np.uint8, (6, 7), elements=st.integers(0, 3))


@given(labels, predictions)
@settings(max_examples=100, deadline=None)
def test_iou_is_what_counting_sets_gives(label: np.ndarray, prediction: np.ndarray) -> None:
    confusion = confusion_matrix(torch.from_numpy(prediction), torch.from_numpy(label), 4).numpy()
    for c in range(4):
        truth = {i for i, v in enumerate(label.ravel()) if v == c}
        found = {i for i, v in enumerate(prediction.ravel()) if v == c and label.ravel()[i] != 255}
        expected = len(truth & found) / len(truth | found) if truth else np.nan
        assert scored_iou(confusion)[c] == pytest.approx(expected, nan_ok=True)
    valid = [v for v in scored_iou(confusion) if v == v]
    assert mean_iou(confusion) == (pytest.approx(np.mean(valid)) if valid else None)


# Rows: 10 pixels of a, 4 of b, none of c, 2 of d.
BY_HAND = np.array([[6, 2, 2, 0], [0, 4, 0, 0], [0, 0, 0, 0], [0, 1, 0, 1]])


def test_a_class_that_no_label_holds_has_no_score_and_is_not_in_the_mean() -> None:
    entry = scores(BY_HAND, ["a", "b", "c", "d"], 1)
    assert entry["iou"] == {"a": 60.0, "b": pytest.approx(57.1429), "c": None, "d": 50.0}
    assert entry["miou"] == pytest.approx((60 + 400 / 7 + 50) / 3, abs=1e-4)
    assert entry["absent"] == ["c"]
    (line,) = absent_classes({"running": {"city": entry}, "image": {"city": entry}})
    assert line.startswith("city: no label holds c;")


def test_pixel_accuracy_by_hand() -> None:
    assert scores(BY_HAND, ["a", "b", "c", "d"], 1)["pixel_accuracy"] == pytest.approx(68.75)
    assert pixel_accuracy(np.zeros((2, 2), int)) is None


def test_the_mean_over_a_choice_of_classes() -> None:
    entry = scores(BY_HAND, ["a", "b", "c", "d"], 1, ["a", "c", "d"])
    assert entry["miou"] == 55.0, "of a and d: c is absent"
    assert entry["iou"]["b"] is not None, "it is still scored"
    assert scores(BY_HAND, ["a", "b", "c", "d"], 1, ["c"])["miou"] is None


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
    assert data["summary"]["running"]["matrix"] == [[75.0, None]]
    assert data["steps"][0]["scores"]["running"]["city"] == {"miou": None, "reason": "unlabelled"}
