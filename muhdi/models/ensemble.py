"""Several networks that are one for whoever evaluates them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from muhdi.losses import upsample
from muhdi.models.outputs import AGNOSTIC
from muhdi.models.segmenter import Segmenter
from muhdi.models.statistics import Statistics


class Ensemble(nn.Module):
    """Weighted sum of the main logits of several networks, as the reference adds them.

    Args:
        models: of the same classes; outputs of other sizes are brought to the first one's.
        weights: one per network.
    """

    def __init__(self, models: Sequence[Segmenter], weights: Sequence[float]) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)
        self.weights = tuple(weights)
        self.classes = models[0].classes
        self.align_corners = models[0].align_corners

    @property
    def statistics_choices(self) -> tuple[str, ...]:
        """Whose normalisation statistics it can use: what the first network can."""
        known: tuple[str, ...] = self.models[0].statistics_choices  # type: ignore[assignment]
        return known

    def segment(self, images: Tensor, head: str = AGNOSTIC) -> Tensor:
        """Images [N, 3, H, W] -> low-resolution logits [N, C, h, w]."""
        total: Tensor | None = None
        for weight, model in zip(self.weights, self.models, strict=True):
            assert isinstance(model, Segmenter)
            logits = weight * model.segment(images, head)
            if total is None:
                total = logits
                continue
            size = (total.shape[-2], total.shape[-1])
            total = total + upsample(logits, size, align_corners=model.align_corners)
        assert total is not None
        return total

    def forward(self, images: Tensor) -> Tensor:
        """The same as `segment`."""
        return self.segment(images)


def joint_statistics(each: Sequence[dict[str, Statistics]]) -> dict[str, Statistics]:
    """Statistics of an `Ensemble` by domain, of the domains that all its networks have."""
    shared = [name for name in each[0] if all(name in statistics for statistics in each)]
    joint: dict[str, Statistics] = {}
    for domain in shared:
        joint[domain] = {}
        for number, statistics in enumerate(each):
            for key, value in statistics[domain].items():
                joint[domain][f"models.{number}.{key}"] = value
    return joint
