"""Scoring a network on a domain."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from muhdi import distributed
from muhdi.data.arrays import images_tensor
from muhdi.data.prepared import PreparedSet
from muhdi.data.sets import Sample, Size
from muhdi.evaluation.metrics import Confusion
from muhdi.evaluation.views import Views, classes_of
from muhdi.models.inference import Inference
from muhdi.recipe.evaluation import check_scales
from muhdi.taxonomy import IGNORE


def confusion_matrix(predictions: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Counts [C, C] of (label, prediction) over the pixels whose label is not 255.

    Args:
        predictions: integers of any shape, 0..C-1.
        labels: the same shape, 0..C-1 or 255.
        classes: C.
    """
    # Pairs of ignored pixels lie beyond all others.
    pairs = labels.to(torch.int32) * classes + predictions
    counts = torch.bincount(pairs.flatten(), minlength=(IGNORE + 1) * classes)
    return counts[: classes * classes].view(classes, classes)


def predict(
    inference: Inference,
    samples: PreparedSet,
    *,
    size: Size | None = None,
    views: Views = Views(),  # noqa: B008 - it never changes
    count: int | None = None,
    share: bool = False,
) -> Iterator[tuple[Sample, Tensor]]:
    """Samples with their predicted classes, uint8 [H, W], on the network's device.

    Args:
        inference: the network with a head and statistics.
        samples: images of one size go through the network together.
        size: width and height of the predictions; None: the label's, or else the image's.
        views: of each image, and how many go through the network together.
        count: only the first so many.
        share: with several processes, each takes every n-th batch; False: every process takes all.

    Raises:
        DataError: an image is too small for a scale of the views.
    """
    number = len(samples) if count is None else min(count, len(samples))
    batch_size = views.batch_size
    first = distributed.rank() if share else 0
    stride = distributed.world_size() if share else 1
    for start in range(first * batch_size, number, stride * batch_size):
        if start + samples.lead < number:
            samples.expect(start + samples.lead)
        batch = [samples[i] for i in range(start, min(start + batch_size, number))]
        for _, alike in groupby(batch, key=lambda sample: sample.image.shape):
            same_size = list(alike)
            for sample in same_size:
                height, width = sample.image.shape[:2]
                check_scales(sample.name, (width, height), views.scales)
            images = images_tensor([sample.image for sample in same_size], inference.device)
            sizes = [_shown_size(sample) if size is None else size[::-1] for sample in same_size]
            yield from zip(same_size, classes_of(inference, images, sizes, views), strict=True)


def _shown_size(sample: Sample) -> tuple[int, int]:
    """Height and width of a sample's label, or else of its image."""
    shown = sample.image if sample.label is None else sample.label
    return shown.shape[0], shown.shape[1]


def evaluate_domain(
    inference: Inference,
    samples: PreparedSet,
    *,
    size: Size | None = None,
    views: Views = Views(),  # noqa: B008 - it never changes
    on_sample: Callable[[Sample], None] = lambda sample: None,
) -> Confusion:
    """Confusion matrix of a network on a labelled split.

    The processes share the images, and all return the whole matrix.

    Args:
        inference: the network with a head and statistics.
        samples: with labels at ``size``, or at their own when it is None.
        size: width and height of the predictions.
        views: of each image, and how many go through the network together.
        on_sample: called with every sample.
    """
    classes = inference.network.classes
    total = torch.zeros(classes, classes, dtype=torch.int64, device=inference.device)
    with distributed.fail_together():
        predictions = predict(inference, samples, size=size, views=views, share=True)
        for sample, prediction in predictions:
            assert sample.label is not None
            on_sample(sample)
            labels = torch.from_numpy(np.array(sample.label)).to(total.device)
            total += confusion_matrix(prediction, labels, classes)
    return distributed.all_reduce_sum(total).cpu().numpy()
