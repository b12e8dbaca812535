"""Self-training: a mean teacher labels the target, and the student learns class-mixed images (after DACS)."""

from __future__ import annotations

import torch
from torch import Tensor

from muhdi import distributed
from muhdi.adaptation.base import Adaptation, TargetBatch
from muhdi.losses import Losses, cross_entropy
from muhdi.models.segmenter import Levels, Segmenter
from muhdi.models.teacher import Teacher
from muhdi.recipe.methods import SelfTrainConfig
from muhdi.taxonomy import IGNORE


class SelfTrain(Adaptation):
    """Class mixing with pseudo-labels (Tranheden et al.

    2021, DACS; Tarvainen & Valpola 2017, mean teacher).

    With teacher t and student s: y = argmax p_t(target), kept where max p_t reaches a threshold.
    The pixels of half of the source image's classes are pasted onto the target image, with their
    labels onto y; the colours of the mixed image are jittered. L = w [CE(s_main(mixed), y_mixed) +
    0.1 CE(s_aux(mixed), y_mixed)], and after the step t <- m t + (1 - m) s.

    Args:
        config: threshold, weights, momentum, jitter.
        model: the network at the start of the step; the teacher starts as its copy.
        head: the head that learns; the teacher's head of the same name labels.
        generator: source of all randomness here, on the CPU.
    """

    def __init__(
        self, config: SelfTrainConfig, model: Segmenter, head: str, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.config, self.head, self.generator = config, head, generator
        self.weights = {"aux": config.weight_aux, "main": config.weight_main}
        self.trains = any(self.weights[level] for level in model.levels)
        self.classes = model.classes
        self.teacher = Teacher(model, head=head)

    def target_batch(
        self,
        source_images: Tensor,
        source_labels: Tensor,
        target_images: Tensor,
        target_labels: Tensor | None,
    ) -> TargetBatch:
        size = target_images.shape[-2], target_images.shape[-1]
        logits = self.teacher(target_images).heads[self.head].upsampled(size).main
        confidence, pseudo = logits.softmax(1).max(1)
        confident = confidence >= self._threshold(confidence, pseudo)
        pasted = self._half_of_the_classes(source_labels)
        mixed = torch.where(pasted[:, None], source_images, target_images).float()
        # Every pixel has a label: what is ignored in the source is never pasted.
        labels = torch.where(pasted, source_labels, pseudo)
        return TargetBatch(self._jitter(mixed), labels, (pasted | confident).to(logits.dtype))

    def on_target(self, logits: Levels, batch: TargetBatch) -> Losses:
        assert batch.labels is not None
        return {
            f"mix_{name}": self.weights[name] * cross_entropy(level, batch.labels, batch.confidence)
            for name, level in logits.items()
            if self.weights[name]
        }

    def after_step(self, model: Segmenter) -> None:
        self.teacher.follow(model, self.config.momentum)

    def _threshold(self, confidence: Tensor, pseudo: Tensor) -> Tensor | float:
        """One threshold for all pixels, or per predicted class min(threshold, the class's median confidence)."""
        if self.config.threshold_per == "pixel":
            return self.config.threshold
        everywhere, predicted = distributed.all_gather(confidence), distributed.all_gather(pseudo)
        thresholds = torch.full((self.classes,), self.config.threshold, device=confidence.device)
        for label in predicted.unique():
            median = everywhere[predicted == label].median()
            thresholds[label] = torch.minimum(thresholds[label], median)
        return thresholds[pseudo]

    def _half_of_the_classes(self, labels: Tensor) -> Tensor:
        """Mask [N, H, W] of the pixels of half of the classes in each image, chosen at random.

        Every process draws for the images of all of them, so that their number changes nothing.
        """
        counts = [
            torch.bincount(each.flatten(), minlength=IGNORE + 1)[: self.classes] for each in labels
        ]
        chosen = distributed.all_gather(torch.stack(counts)).cpu() > 0
        for row in chosen:
            present = row.nonzero().flatten()
            order = torch.randperm(len(present), generator=self.generator)
            row[present[order[(len(present) + 1) // 2 :]]] = False
        ours = torch.stack(list(distributed.local_slice(chosen.unbind()))).to(labels.device)
        ignored = ours.new_zeros(len(ours), IGNORE + 1 - self.classes)
        table = torch.cat([ours, ignored], 1)
        return table.gather(1, labels.flatten(1)).view_as(labels)

    def _jitter(self, images: Tensor) -> Tensor:
        """Brightness, contrast and saturation, each by a factor of 1 +- ``colour_jitter``, per image."""
        strength = self.config.colour_jitter
        if not strength:
            return images
        everywhere = torch.rand(
            3, len(images) * distributed.world_size(), 1, 1, 1, generator=self.generator
        )
        factors = torch.stack(list(distributed.local_slice(everywhere.unbind(1))), 1).to(
            images.device
        )
        brightness, contrast, saturation = 1 + strength * (2 * factors - 1)
        images = images * brightness
        mean = images.mean((1, 2, 3), keepdim=True)
        images = mean + (images - mean) * contrast
        grey = images.mean(1, keepdim=True)
        jittered: Tensor = (grey + (images - grey) * saturation).clamp(0, 255)
        return jittered
