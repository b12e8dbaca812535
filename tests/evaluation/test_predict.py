"""Evaluation is equal to the plain way, to the last pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from muhdi.evaluation.argmax import LARGE, classes_at, classes_by_strips
from muhdi.evaluation.predict import confusion_matrix


def plain(logits: torch.Tensor, size: tuple[int, int], aligned: bool) -> np.ndarray:
    enlarged = F.interpolate(logits, size=size, mode="bilinear", align_corners=aligned)
    return enlarged.numpy().argmax(1)


@given(
    st.integers(1, 2),
    st.integers(2, 19),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(0, 1000),
    st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_strips_give_the_classes_of_the_whole(
    n: int, c: int, h: int, w: int, height: int, width: int, seed: int, aligned: bool
) -> None:
    logits = 3 * torch.randn(n, c, h, w, generator=torch.Generator().manual_seed(seed))
    size = (height, width)
    strips = classes_by_strips(logits, size, align_corners=aligned)
    assert np.array_equal(strips.numpy(), plain(logits, size, aligned))


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_large_image_takes_the_strips_and_is_equal(
    layout: torch.memory_format, aligned: bool
) -> None:
    """Whole numbers: hundreds of pixels where the two best classes are equal, or differ in the last
    bit.
    """
    logits = 3 * torch.randn(4, 19, 65, 129, generator=torch.Generator().manual_seed(0))
    logits = logits.round()
    size = (512, 1024)
    assert logits.shape[1] * size[0] * size[1] > LARGE
    enlarged = F.interpolate(logits, size=size, mode="bilinear", align_corners=aligned)
    best = enlarged.topk(2, 1).values
    assert (best[:, 0] - best[:, 1] < 1e-6).sum() > 500
    classes = classes_at(logits.to(memory_format=layout), size, align_corners=aligned)
    assert np.array_equal(classes.numpy(), plain(logits, size, aligned))


@given(st.integers(2, 30), st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_confusion_is_counted_as_by_hand(classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.choice(np.array([*range(classes), 255]), (7, 9)).astype(np.uint8)
    predictions = rng.integers(0, classes, (7, 9)).astype(np.uint8)
    expected = np.zeros((classes, classes), int)
    for label, prediction in zip(labels.flat, predictions.flat, strict=True):
        if label != 255:
            expected[label, prediction] += 1
    counted = confusion_matrix(torch.from_numpy(predictions), torch.from_numpy(labels), classes)
    assert np.array_equal(counted.numpy(), expected)
