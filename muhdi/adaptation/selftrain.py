"""Self-training: a mean teacher labels the target, the student learns class-mixed images."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from muhdi import distributed
from muhdi.adaptation.base import Adaptation, level_weights
from muhdi.adaptation.pseudo_labels import PseudoLabels
from muhdi.adaptation.strong import strongly_changed, weakly_changed
from muhdi.draws import Draws
from muhdi.losses import Losses
from muhdi.method import Batches, Memory, MethodContext
from muhdi.models.outputs import Levels
from muhdi.models.segmenter import Segmenter
from muhdi.models.teacher import Teacher
from muhdi.passes import Batch, level_cross_entropy, without_zeros
from muhdi.recipe.methods import SelfTrainConfig
from muhdi.taxonomy import IGNORE


class SelfTrain(Adaptation):
    """Class mixing with pseudo-labels (DACS, Tranheden et al. 2021).

    A mean teacher labels the target, see `PseudoLabels`. The pixels of half of the source image's
    classes are pasted onto the target image, with their labels onto the teacher's; colours of the
    mixed image change. In a step without the source nothing is pasted.
    L = w_main CE(s_main(mixed), y_mixed) + w_aux CE(s_aux(mixed), y_mixed),
    each pixel with the factor that its label counts: 1 where it was pasted.
    """

    config_class = SelfTrainConfig
    config: SelfTrainConfig

    def __init__(self, config: SelfTrainConfig, context: MethodContext) -> None:
        super().__init__(config, context)
        self.classes = context.classes
        self.draws = Draws(context.generator)
        self.pseudo_labels = PseudoLabels(config, context)

    def begin(self, network: Segmenter, memory: Memory, batches: Batches) -> None:
        self.pseudo_labels.begin(network, batches)

    def source_batch(self, source: Batch) -> Batch:
        return replace(source, images=self._weakly_changed(source.images))

    def target_batch(self, source: Batch | None, target: Batch) -> Batch:
        taught: Batch = self.pseudo_labels(target)
        self.labelled_target = taught
        mixed = self._beneath(taught) if source is None else self._mixed(source, taught)
        images = strongly_changed(mixed.images, self.config, self.draws)
        return replace(mixed, images=images)

    def _mixed(self, source: Batch, taught: Batch) -> Batch:
        """Half of the source's classes pasted onto the target, with their labels."""
        assert source.labels is not None
        assert taught.labels is not None
        assert taught.confidence is not None
        pasted = self._half_of_the_classes(source.labels)
        mixed = torch.where(pasted[:, None], source.images, self._beneath(taught).images)
        # What is ignored in the source is pasted, if at all, with its label: it is ignored again.
        labels = torch.where(pasted, source.labels, taught.labels)
        # The teacher's confidence counts on the target's pixels alone; true labels are certain.
        counts = torch.where(pasted, torch.ones_like(taught.confidence), taught.confidence)
        return Batch(mixed, labels, counts, taught.pixels)

    def _beneath(self, taught: Batch) -> Batch:
        """The target that the student sees."""
        return replace(taught, images=self._weakly_changed(taught.images))

    def on_target(self, logits: Levels, batch: Batch) -> Losses:
        weights = without_zeros(level_weights(self.config))
        return level_cross_entropy("mix", logits, batch, weights)

    def after_step(self, network: Segmenter) -> None:
        self.pseudo_labels.follow(network)

    def remarks(self) -> list[str]:
        return self.pseudo_labels.remarks()

    def mean_teacher(self) -> Teacher:
        return self.pseudo_labels.teacher

    def _weakly_changed(self, images: Tensor) -> Tensor:
        """Images with the weak changes of colours, where the section has any."""
        weak = self.config.weak_colours
        return images if weak is None else weakly_changed(images, weak, self.draws)

    def _half_of_the_classes(self, labels: Tensor) -> Tensor:
        """Mask [N, H, W] of the pixels of half of the classes, chosen at random for each image.

        Of an odd number of classes it is the larger half. The classes are looked up on the device,
        so that nobody waits for their number.
        """
        count = self.classes
        present = torch.zeros(len(labels), IGNORE + 1, dtype=torch.bool, device=labels.device)
        present.scatter_(1, labels.flatten(1), True)
        if not self.config.paste_ignored:
            present[:, count:] = False
        if self.config.mixed_classes == "batch":
            present = distributed.all_gather(present).any(0).expand_as(present)
        # The half with the smallest of as many random numbers: a choice without replacement.
        numbers = self.draws.uniform(labels, IGNORE + 1).masked_fill(~present, 2.0)
        ranks = numbers.argsort(1).argsort(1)
        half = (present.sum(1, keepdim=True) + 1) // 2
        chosen = present & (ranks < half)
        return chosen.gather(1, labels.flatten(1)).view_as(labels)
