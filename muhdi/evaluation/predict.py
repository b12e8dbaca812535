"""Scoring a network on a domain, with a choice of normalisation statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor

from muhdi import distributed
from muhdi.data.prepared import PreparedSet
from muhdi.data.sets import Sample
from muhdi.evaluation.argmax import classes_at
from muhdi.evaluation.metrics import Confusion
from muhdi.models.ensemble import Ensemble
from muhdi.models.segmenter import AGNOSTIC, Segmenter
from muhdi.models.statistics import Statistics, batch_statistics, using
from muhdi.taxonomy import IGNORE

Network = Segmenter | Ensemble
"""What can be scored."""


def confusion_matrix(predictions: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Counts [C, C] of (label, prediction) over the pixels whose label is not 255.

    Args:
        predictions: integers of any shape, 0..C-1.
        labels: the same shape, 0..C-1 or 255.
        classes: C.
    """
    pairs = (
        labels.to(torch.int32) * classes + predictions
    )  # those of ignored pixels lie beyond all others
    counts = torch.bincount(pairs.flatten(), minlength=(IGNORE + 1) * classes)
    return counts[: classes * classes].view(classes, classes)


def images_tensor(samples: list[Sample], device: torch.device) -> Tensor:
    """Images of samples as uint8 [N, 3, H, W]."""
    return (
        torch.from_numpy(np.stack([s.image for s in samples]))
        .to(device)
        .permute(0, 3, 1, 2)
        .contiguous()
    )


def _statistics(
    model: Network, kind: str, domain: Statistics | None
) -> AbstractContextManager[object]:
    """The context in which ``model`` normalises as ``kind`` says."""
    if kind == "image":
        return batch_statistics(model)
    if kind == "domain":
        assert domain is not None
        return using(model, domain)
    return nullcontext()


def _shown_size(sample: Sample) -> tuple[int, int]:
    """Height and width of a sample's label, or else of its image."""
    shown = sample.image if sample.label is None else sample.label
    return shown.shape[0], shown.shape[1]


@torch.no_grad()
def predict(
    model: Network,
    samples: PreparedSet,
    *,
    kind: str,
    domain: Statistics | None = None,
    batch_size: int = 8,
    size: tuple[int, int] | None = None,
    head: str = AGNOSTIC,
    count: int | None = None,
    share: bool = False,
) -> Iterator[tuple[Sample, Tensor]]:
    """Samples with their predicted classes, [H, W], on the network's device.

    Args:
        model: its mode and statistics are as before at the end.
        samples: all images have one size.
        kind: ``running``, ``domain`` (then ``domain`` holds the statistics) or ``image``.
        size: width and height of the predictions; None: the label's, or else the image's.
        count: only the first so many.
        share: of several processes, each takes every so-many-th batch; False: every process takes
            all.
    """
    device = next(model.parameters()).device
    number = len(samples) if count is None else min(count, len(samples))
    batch_size = (
        1 if kind == "image" else batch_size
    )  # one image at a time has the image's own statistics
    first, stride = (distributed.rank(), distributed.world_size()) if share else (0, 1)
    training = model.training
    model.eval()
    try:
        with _statistics(model, kind, domain):
            for start in range(first * batch_size, number, stride * batch_size):
                batch = [samples[i] for i in range(start, min(start + batch_size, number))]
                logits = model.segment(images_tensor(batch, device), head)
                sizes = [_shown_size(sample) if size is None else size[::-1] for sample in batch]
                if len(set(sizes)) == 1:
                    yield from zip(batch, classes_at(logits, sizes[0]), strict=True)
                else:
                    for position, sample in enumerate(batch):
                        yield sample, classes_at(logits[position, None], sizes[position])[0]
    finally:
        model.train(training)


def evaluate_domain(
    model: Network,
    samples: PreparedSet,
    *,
    kind: str,
    domain: Statistics | None = None,
    batch_size: int = 8,
    size: tuple[int, int] | None = None,
    head: str = AGNOSTIC,
    seen: Callable[[Sample], None] = lambda sample: None,
) -> Confusion:
    """Confusion matrix of a network on a labelled split; arguments as for `predict`.

    Several processes share the images, and all return the whole matrix. ``samples`` must deliver
    labels at ``size`` (or at their own, when it is None); ``seen`` is called with each.
    """
    total = torch.zeros(
        model.classes, model.classes, dtype=torch.int64, device=next(model.parameters()).device
    )
    with distributed.fail_together():
        for sample, prediction in predict(
            model,
            samples,
            kind=kind,
            domain=domain,
            batch_size=batch_size,
            size=size,
            head=head,
            share=True,
        ):
            assert sample.label is not None
            seen(sample)
            labels = torch.from_numpy(np.array(sample.label)).to(total.device)
            total += confusion_matrix(prediction, labels, model.classes)
    return distributed.all_reduce_sum(total).cpu().numpy()
