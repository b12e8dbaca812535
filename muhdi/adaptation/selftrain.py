"""Self-training: a mean teacher labels the target, the student learns class-mixed images."""

from __future__ import annotations

import torch
from torch import Tensor

from muhdi import distributed
from muhdi.adaptation.base import Adaptation, level_weights
from muhdi.losses import Losses, cross_entropy, upsample
from muhdi.method import Batches, Memory, MethodContext
from muhdi.models.outputs import Levels
from muhdi.models.segmenter import Segmenter
from muhdi.models.teacher import Teacher
from muhdi.passes import Batch
from muhdi.recipe.methods import SelfTrainConfig
from muhdi.taxonomy import IGNORE


class SelfTrain(Adaptation):
    """Class mixing with pseudo-labels (DACS, Tranheden et al. 2021).

    With the mean teacher t (Tarvainen & Valpola 2017) and the student s: y = argmax p_t(target),
    kept where max p_t reaches a threshold. The pixels of half of the source image's classes are
    pasted onto the target image, with their labels onto y; the colours of the mixed image are
    jittered. L = w_main CE(s_main(mixed), y_mixed) + w_aux CE(s_aux(mixed), y_mixed), and after the
    step t <- m t + (1 - m) s.
    """

    config_class = SelfTrainConfig
    config: SelfTrainConfig

    def __init__(self, config: SelfTrainConfig, context: MethodContext) -> None:
        super().__init__(config, context)
        self.classes = context.classes
        self.generator = context.generator

    def begin(self, network: Segmenter, memory: Memory, batches: Batches) -> None:
        self.teacher = Teacher(network, head=self.head)

    def target_batch(self, source: Batch, target: Batch) -> Batch:
        assert source.labels is not None
        taught = self.teacher(target.images)
        # Of the main level alone: the aux one is not asked.
        low = taught.heads[self.head].main
        logits = upsample(low, target.size, align_corners=taught.align_corners)
        confidence, pseudo = logits.softmax(1).max(1)
        confident = confidence >= self._threshold(confidence, pseudo)
        pasted = self._half_of_the_classes(source.labels)
        mixed = torch.where(pasted[:, None], source.images, target.images).float()
        # Every pixel has a label: what is ignored in the source is never pasted.
        labels = torch.where(pasted, source.labels, pseudo)
        # The teacher's confidence counts on the target's pixels alone; true labels are certain.
        certain = (pasted | confident).to(logits.dtype)
        return Batch(self._jitter(mixed), labels, certain)

    def on_target(self, logits: Levels, batch: Batch) -> Losses:
        assert batch.labels is not None
        weights = level_weights(self.config)
        losses: Losses = {}
        for name, level in logits.items():
            if weights[name]:
                mixed = cross_entropy(level, batch.labels, batch.confidence, batch.pixels)
                losses[f"mix_{name}"] = weights[name] * mixed
        return losses

    def after_step(self, network: Segmenter) -> None:
        self.teacher.follow(network, self.config.momentum)

    def _threshold(self, confidence: Tensor, pseudo: Tensor) -> Tensor | float:
        """One threshold for all pixels, or one per predicted class.

        Per class it is min(threshold, the median confidence of the class in the whole batch).
        """
        if self.config.threshold_per == "pixel":
            return self.config.threshold
        everywhere = distributed.all_gather(confidence)
        predicted = distributed.all_gather(pseudo)
        thresholds = torch.full((self.classes,), self.config.threshold, device=confidence.device)
        for label in predicted.unique():
            median = everywhere[predicted == label].median()
            thresholds[label] = torch.minimum(thresholds[label], median)
        return thresholds[pseudo]

    def _half_of_the_classes(self, labels: Tensor) -> Tensor:
        """Mask [N, H, W] of the pixels of half of the classes in each image, chosen at random."""
        counts = [torch.bincount(label.flatten(), minlength=IGNORE + 1) for label in labels]
        present = torch.stack(counts)[:, : self.classes] > 0
        # Every process draws for the images of all of them, so that their number changes nothing.
        chosen = distributed.all_gather(present).cpu()
        for row in chosen:
            classes = row.nonzero().flatten()
            order = torch.randperm(len(classes), generator=self.generator)
            dropped = order[(len(classes) + 1) // 2 :]
            row[classes[dropped]] = False
        own = torch.stack(list(distributed.local_slice(chosen.unbind()))).to(labels.device)
        never = own.new_zeros(len(own), IGNORE + 1 - self.classes)
        table = torch.cat([own, never], 1)
        return table.gather(1, labels.flatten(1)).view_as(labels)

    def _jitter(self, images: Tensor) -> Tensor:
        """Brightness, contrast and saturation, each by 1 +- ``colour_jitter``, per image."""
        strength = self.config.colour_jitter
        if not strength:
            return images
        # Drawn for the images of all processes, as in `_half_of_the_classes`.
        count = len(images) * distributed.world_size()
        everywhere = torch.rand(3, count, 1, 1, 1, generator=self.generator)
        own = torch.stack(list(distributed.local_slice(everywhere.unbind(1))), 1)
        brightness, contrast, saturation = 1 + strength * (2 * own.to(images.device) - 1)
        images = images * brightness
        mean = images.mean((1, 2, 3), keepdim=True)
        images = mean + (images - mean) * contrast
        grey = images.mean(1, keepdim=True)
        jittered: Tensor = (grey + (images - grey) * saturation).clamp(0, 255)
        return jittered
