"""One iteration of self-training written plainly with transformers, without muhdi.

What `benchmarks/segformer.py` compares ours with: DACS (Tranheden et al. 2021) on
`SegformerForSemanticSegmentation` with a second level on its last but one map.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
AUX, IGNORE = 0.1, 255
MOMENTUM, JITTER = 0.99, 0.3


@dataclass(frozen=True)
class Settings:
    """Of the training; the defaults are DAFormer's (Hoyer et al. 2022), but for the threshold.

    Attributes:
        rate: of the backbone; what is above it learns ten times as fast.
        decay: of weights that are matrices.
        warmup: iterations.
        iterations: after which the rate would be 0.
        threshold: probability from which a pixel of the teacher counts.
    """

    rate: float = 6e-5
    decay: float = 0.01
    warmup: int = 1500
    iterations: int = 40_000
    threshold: float = 0.9


class PlainNetwork(nn.Module):
    """Images [N, 3, H, W] in 0..255 -> logits of the main and of the aux level, [N, C, h, w]."""

    def __init__(self, configuration: Any) -> None:
        from transformers import SegformerForSemanticSegmentation

        super().__init__()
        self.model = SegformerForSemanticSegmentation(configuration)
        # As its authors train it: whole channels are dropped, which is quicker, too.
        head: Any = self.model.decode_head
        head.dropout = nn.Dropout2d(configuration.classifier_dropout_prob)
        self.aux = nn.Conv2d(configuration.hidden_sizes[-2], configuration.num_labels, 1)
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1) * 255)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        outputs = self.model((images - self.mean) / self.std, output_hidden_states=True)
        return outputs.logits, self.aux(outputs.hidden_states[-2])


class PlainStep:
    """Self-training with a mean teacher, AdamW, warm-up and poly annealing.

    Args:
        network: trained in place.
        generator: draws classes and colours.
        settings: of the training.
    """

    def __init__(
        self, network: PlainNetwork, generator: torch.Generator, settings: Settings
    ) -> None:
        self.network = network.train()
        self.teacher = copy.deepcopy(network).requires_grad_(False).eval()
        norm: Any = self.teacher.model.decode_head.batch_norm
        norm.train()  # statistics of the batch, as the student's
        norm.momentum = 0.0
        self.generator = generator
        self.settings = settings
        self.done = 0
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in network.named_parameters():
            factor = 1.0 if name.startswith("model.segformer") else 10.0
            key = (factor, settings.decay if parameter.ndim > 1 else 0.0)
            groups.setdefault(key, []).append(parameter)
        self.optimizer = torch.optim.AdamW(
            [
                {"params": parameters, "factor": factor, "weight_decay": decays}
                for (factor, decays), parameters in groups.items()
            ],
            lr=settings.rate,
        )

    def __call__(self, source: Tensor, labels: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Train on one batch of each domain: every term of the loss."""
        self._schedule()
        self.optimizer.zero_grad()
        with torch.no_grad():
            logits = _up(self.teacher(target)[0], target)
            confidence, pseudo = logits.softmax(1).max(1)
        pasted = self._pasted(labels)
        mixed = torch.where(pasted[:, None], source, target).float()
        mixed = self._jittered(mixed)
        mixed_labels = torch.where(pasted, labels, pseudo)
        certain = (pasted | (confidence >= self.settings.threshold)).to(logits.dtype)

        main, aux = self.network(source)
        losses = {
            "seg_main": F.cross_entropy(_up(main, source), labels, ignore_index=IGNORE),
            "seg_aux": AUX * F.cross_entropy(_up(aux, source), labels, ignore_index=IGNORE),
        }
        (losses["seg_main"] + losses["seg_aux"]).backward()

        main, aux = self.network(mixed)
        for name, weight, level in (("mix_main", 1.0, main), ("mix_aux", AUX, aux)):
            each = F.cross_entropy(_up(level, mixed), mixed_labels, reduction="none")
            losses[name] = weight * (each * certain).mean()
        (losses["mix_main"] + losses["mix_aux"]).backward()

        self.optimizer.step()
        with torch.no_grad():
            pairs = zip(self.teacher.parameters(), self.network.parameters(), strict=True)
            for slow, fast in pairs:
                slow.lerp_(fast, 1 - MOMENTUM)
        self.done += 1
        return {name: loss.detach() for name, loss in losses.items()}

    def _schedule(self) -> None:
        settings = self.settings
        rate = settings.rate * (1 - self.done / settings.iterations) ** 0.9
        if self.done < settings.warmup:
            rate *= 1 - (1 - self.done / settings.warmup) * (1 - 1e-6)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]

    def _pasted(self, labels: Tensor) -> Tensor:
        """The pixels of half of the classes of each image."""
        masks = []
        drawn = torch.rand(len(labels), IGNORE + 1, generator=self.generator)
        for label, numbers in zip(labels, drawn, strict=True):
            classes = label.unique()
            classes = classes[classes != IGNORE]
            order = numbers[classes].argsort()
            chosen = classes[order[: (len(classes) + 1) // 2]]
            masks.append(torch.isin(label, chosen))
        return torch.stack(masks)

    def _jittered(self, images: Tensor) -> Tensor:
        """Brightness, contrast and saturation, by image."""
        drawn = torch.rand(len(images), 3, generator=self.generator)
        factors = 1 + JITTER * (2 * drawn - 1)
        brightness, contrast, saturation = factors.T[:, :, None, None, None]
        images = images * brightness
        mean = images.mean((1, 2, 3), keepdim=True)
        images = mean + (images - mean) * contrast
        grey = images.mean(1, keepdim=True)
        return (grey + (images - grey) * saturation).clamp(0, 255)


def _up(logits: Tensor, images: Tensor) -> Tensor:
    return F.interpolate(logits, images.shape[-2:], mode="bilinear", align_corners=False)
