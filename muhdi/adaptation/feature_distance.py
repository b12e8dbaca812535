"""Feature distance: things keep the features that the pretrained backbone has of them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from muhdi import distributed
from muhdi.adaptation.addition import Addition
from muhdi.losses import Losses
from muhdi.method import MethodContext
from muhdi.models.outputs import Outputs
from muhdi.models.segmenter import Segmenter
from muhdi.passes import Batch, Pass
from muhdi.recipe.pseudo_labels import FeatureDistanceConfig
from muhdi.taxonomy import IGNORE


class FeatureDistance(Addition):
    """Thing-class feature distance (DAFormer, Hoyer et al. 2022, eq. 9 to 11).

    With the coarsest features F of the source's images, and F_0 of the frozen backbone that the run
    began with: L = w mean_M ||F - F_0||_2 over the mask M of features whose pixels are of one thing
    class for the most part; 0 where there is none.

    Args:
        config: the section ``feature_distance`` of an adaptation.
        context: what else there is to know.
        first: the network as the run began; not trained.
        things: positions of the classes that are things.
    """

    config_class = FeatureDistanceConfig
    is_thing: Tensor

    def __init__(
        self,
        config: FeatureDistanceConfig,
        context: MethodContext,
        first: Segmenter,
        things: list[int],
    ) -> None:
        super().__init__()
        self.config = config
        self.classes = context.classes
        is_thing = torch.zeros(context.classes + 1, dtype=torch.bool)
        is_thing[things] = True
        self.register_buffer("is_thing", is_thing, persistent=False)
        self._first = (first,)  # no submodule: it is made again, not saved
        self._last = len(first.backbone.features) - 1
        # Of the whole batch of an iteration; `on_source` sees it in parts, in order.
        self._features = torch.empty(0)
        self._mask = torch.empty(0)
        self._per_image = torch.empty(0)
        self._seen = 0

    def passes(self, source: Batch | None, target: Batch) -> list[Pass]:
        """No pass, but what the whole batch has to do with the coming one on the source."""
        if target.target:
            return []  # of several targets the first has seen to it
        assert source is not None
        assert source.labels is not None
        (first,) = self._first
        first.to(source.images.device)
        with torch.no_grad():
            self._features = first.features(source.images)[-1].float()
        stride = first.backbone.features[-1].stride
        size = (self._features.shape[-2], self._features.shape[-1])
        found = thing_mask(source.labels, size, stride, self.classes, self.config.share)
        self._mask = self.is_thing[found]
        # Parts and processes divide by the same number, so every feature weighs alike.
        count = distributed.all_reduce_mean(self._mask.sum().float())
        # Without a thing the sum is 0, whatever it is divided by.
        images = len(found)
        self._per_image = count.clamp(min=1 / distributed.world_size()) / images
        self._seen = 0
        return []

    def on_source(self, outputs: Outputs, batch: Batch) -> Losses:
        part = slice(self._seen, self._seen + len(batch.images))
        self._seen += len(batch.images)
        difference = outputs.features[self._last].float() - self._features[part]
        distance = torch.linalg.vector_norm(difference, dim=1)
        masked = torch.where(self._mask[part], distance, 0).sum()
        loss = self.config.weight * masked / (self._per_image * len(batch.images))
        return {"feature_distance": loss} if loss.requires_grad else {}


def thing_mask(
    labels: Tensor, size: tuple[int, int], stride: int, classes: int, share: float
) -> Tensor:
    """The class that fills at least a share of each feature's pixels.

    Args:
        labels: int64 [N, H, W]; ignored pixels count as a class of their own.
        size: height and width of the features.
        stride: pixels that a feature spans; what reaches beyond the labels is ignored.
        classes: number of classes C.
        share: from 0 to 1.

    Returns:
        int64 [N, *size]; C where no class fills so much.
    """
    height, width = size
    rows = height * stride - labels.shape[1]
    columns = width * stride - labels.shape[2]
    # Negative numbers cut.
    spanned = F.pad(labels, (0, columns, 0, rows), value=IGNORE)
    known = torch.where(spanned == IGNORE, classes, spanned)
    # Compared and not `one_hot`, which waits for the device to look at the labels.
    positions = torch.arange(classes + 1, device=labels.device)
    is_class = (known[:, None] == positions[:, None, None]).float()
    shares = F.avg_pool2d(is_class, stride)
    largest, found = shares.max(1)
    return torch.where(largest >= share, found, classes)
