"""Masked image consistency: what is hidden is predicted from what is around it."""

from __future__ import annotations

from torch import Tensor

from muhdi.adaptation.addition import Addition
from muhdi.adaptation.base import Adaptation
from muhdi.adaptation.pseudo_labels import PseudoLabels
from muhdi.adaptation.strong import hide_patches, patch_grid, strongly_changed
from muhdi.draws import Draws
from muhdi.errors import RunError
from muhdi.losses import Losses
from muhdi.method import Batches, Memory, MethodContext
from muhdi.models.backbones.base import mean_colour
from muhdi.models.hidden_tokens import HiddenTokens
from muhdi.models.outputs import Outputs
from muhdi.models.segmenter import Segmenter
from muhdi.models.teacher import Teacher
from muhdi.passes import Batch, Pass, level_cross_entropy, without_zeros
from muhdi.recipe.pseudo_labels import MaskedConfig, PseudoLabelConfig


class MaskedConsistency(Addition):
    """A third pass: target images with hidden patches (MIC, Hoyer et al. 2023, eq. 4 to 7).

    M hides a share of the patches of an image. With the teacher's labels y of the whole image, and
    what they count q: L = w CE(s(M x), y, q). Hidden pixels show the mean colour, which networks
    normalise to 0; or in place of a hidden patch's token is the network's own mask token (VFM-UDA,
    Englert et al. 2024). An adaptation with a teacher lends its labels; else there is a teacher
    here.

    Args:
        config: the section ``masked`` of an adaptation.
        context: what else there is to know.
        adaptation: whose further pass it is.
    """

    config_class = MaskedConfig
    fill: Tensor
    tokens: HiddenTokens

    def __init__(
        self, config: MaskedConfig, context: MethodContext, adaptation: Adaptation
    ) -> None:
        super().__init__()
        self.config = config
        self.heads = context.heads
        self.draws = Draws(context.generator)
        self.pseudo_labels: PseudoLabels | None = None
        self._adaptation = (adaptation,)  # no submodule: it is saved by itself
        if not adaptation.config.makes_pseudo_labels:
            section = config.pseudo_labels or PseudoLabelConfig()
            self.pseudo_labels = PseudoLabels(section, context)

    def begin(self, network: Segmenter, memory: Memory, batches: Batches) -> None:
        self.register_buffer("fill", mean_colour(network.backbone), persistent=False)
        self.tokens = network.hidden_tokens
        if self.pseudo_labels is not None:
            self.pseudo_labels.begin(network, batches)

    def passes(self, source: Batch | None, target: Batch) -> list[Pass]:
        labelled = self._labelled(target)
        images = strongly_changed(labelled.images, self.config, self.draws)
        batch = Batch(self._hidden(images), labelled.labels, labelled.confidence, labelled.pixels)
        return [Pass(batch, self._learn)]

    def _hidden(self, images: Tensor) -> Tensor:
        """Images [N, 3, H, W] with a share of their patches, or of their tokens, hidden."""
        size = images.shape[-2], images.shape[-1]
        block = self.config.block
        rows, columns = self.tokens.grid(size) if block is None else patch_grid(size, block)
        hidden = self.draws.uniform(images, rows, columns) < self.config.ratio
        if block is None:
            return self.tokens.hide(images, hidden)
        return hide_patches(images, hidden, self.fill)

    def _labelled(self, target: Batch) -> Batch:
        if self.pseudo_labels is not None:
            labelled: Batch = self.pseudo_labels(target)
            return labelled
        (adaptation,) = self._adaptation
        if adaptation.labelled_target is None:
            raise RunError(
                f"{type(adaptation).__qualname__}: its section says makes_pseudo_labels, but"
                " target_batch() has not set labelled_target"
            )
        return adaptation.labelled_target

    def _learn(self, outputs: Outputs, batch: Batch) -> Losses:
        weights = {"aux": self.config.weight * self.config.aux, "main": self.config.weight}
        logits = outputs.upsampled(self.heads[batch.target], batch.size)
        return level_cross_entropy("masked", logits, batch, without_zeros(weights))

    def after_step(self, network: Segmenter) -> None:
        if self.pseudo_labels is not None:
            self.pseudo_labels.follow(network)

    def remarks(self) -> list[str]:
        return [] if self.pseudo_labels is None else self.pseudo_labels.remarks()

    def mean_teacher(self) -> Teacher | None:
        return None if self.pseudo_labels is None else self.pseudo_labels.teacher
