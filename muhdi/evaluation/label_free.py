"""Scores that need no labels: how sure a network is, how diverse, and how steady.

They are measured where the network answers: at the positions of its own output, once for every view
that it is shown, while a domain is scored.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from muhdi import distributed
from muhdi.evaluation.argmax import largest
from muhdi.evaluation.results import LabelFree, percent
from muhdi.losses import entropy_map
from muhdi.models.inference import Inference


class Observer:
    """Collects what `LabelFree` needs from the logits that a network gives.

    The score of mirror images costs a second pass for every view, that of an earlier network a
    third one.

    Args:
        classes: their number.
        mirror: whether every view is also mirrored, and both answers are compared.
        previous: whose answers are compared with the network's, on the same device; None: nobody's.
    """

    def __init__(
        self, classes: int, *, mirror: bool = False, previous: Inference | None = None
    ) -> None:
        self.mirror = mirror
        self.previous = previous
        self.positions = 0
        self.entropy = 0.0
        self.probabilities = torch.zeros(classes, dtype=torch.float64)
        self.predicted = torch.zeros(classes, dtype=torch.int64)
        self.same_as_mirror = 0
        self.same_as_previous = 0

    @contextmanager
    def watching(self, inference: Inference) -> Iterator[None]:
        """Inside, everything that the network is shown is observed; what it gives stays the same.

        Args:
            inference: one that nobody else observes.
        """
        handle = inference.register_forward_hook(self._passed)
        try:
            yield
        finally:
            handle.remove()

    def _passed(self, inference: Inference, inputs: tuple[Tensor], logits: Tensor) -> None:
        (images,) = inputs
        # `forward` itself: a call would be observed, too.
        mirrored = inference.forward(images.flip(-1)).flip(-1) if self.mirror else None
        previous = None if self.previous is None else self.previous(images)
        self.add(logits, mirrored, previous)

    @torch.no_grad()
    def add(
        self, logits: Tensor, mirrored: Tensor | None = None, previous: Tensor | None = None
    ) -> None:
        """Count one pass.

        Args:
            logits: [N, C, h, w].
            mirrored: of the mirror images, mirrored back; the same shape.
            previous: of another network; the same size.
        """
        classes = largest(logits)
        probabilities = logits.float().softmax(1)
        self.positions += classes.numel()
        self.entropy += float(entropy_map(probabilities).sum())
        self.probabilities += probabilities.sum((0, 2, 3)).cpu().double()
        counts = classes.flatten().bincount(minlength=logits.shape[1])
        self.predicted += counts.cpu()
        if mirrored is not None:
            self.same_as_mirror += int((largest(mirrored) == classes).sum())
        if previous is not None:
            self.same_as_previous += int((largest(previous) == classes).sum())

    def scores(self, names: Sequence[str], images: int) -> LabelFree:
        """The scores of what all processes have seen; every process must ask for them.

        Args:
            names: of the classes, in order.
            images: how many all processes have seen.
        """
        counts = [self.positions, self.entropy, self.same_as_mirror, self.same_as_previous]
        own = torch.cat(
            [torch.tensor(counts, dtype=torch.float64), self.probabilities, self.predicted]
        )
        # float64 holds counts exactly; of the processes in their order, whatever carries them.
        total = torch.stack(distributed.all_gather_objects(own)).sum(0)
        positions, surprise, mirrored, previous = total[: len(counts)].tolist()
        mean, predicted = (total[len(counts) :] / positions).chunk(2)
        mean_entropy = surprise / positions
        diversity = float(-torch.special.xlogy(mean, mean).sum()) / math.log(len(names))
        shares = [percent(share) for share in predicted.tolist()]
        return {
            "images": images,
            "entropy": percent(mean_entropy),
            "mutual_information": percent(max(0.0, diversity - mean_entropy)),
            "mirror_agreement": percent(mirrored / positions) if self.mirror else None,
            "previous_agreement": (
                None if self.previous is None else percent(previous / positions)
            ),
            "shares": dict(zip(names, shares, strict=True)),
        }
