"""SAR: sharpness-aware and reliable entropy minimisation (Niu et al. 2023)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from muhdi.losses import pixel_entropy
from muhdi.online.base import OnlineContext
from muhdi.online.learner import Learner
from muhdi.recipe.online import SarConfig

_KEPT = 0.9
"""What the moving mean of the entropy keeps at each image, in the published code."""


class Sar(Learner):
    """min over θ of the mean entropy E(θ + ε) of reliable pixels.

    Pixels are the paper's samples. They are reliable where E < E_0 (eq. 2); ε = ρ ∇E / |∇E| leads
    to the sharpest point nearby (eq. 3, 4), where the entropy of those that are still reliable
    gives the gradient of the step. The network is reset when the moving mean of that entropy is
    small (section 3.2, model recovery).
    """

    config_class = SarConfig
    config: SarConfig

    def __init__(self, config: SarConfig, context: OnlineContext) -> None:
        super().__init__(config, context)
        self.largest_entropy = math.log(context.network.classes)
        self.moving_mean: float | None = None
        self._below: list[Tensor] = []
        self._is_sure: bool | None = None

    def moving(self, context: OnlineContext) -> dict[str, nn.Parameter]:
        found = super().moving(context)
        if self.config.moves != "norms" or not self.config.resting:
            return found
        backbone = context.network.backbone
        until = (1 - self.config.resting) * backbone.depth
        kept: dict[str, nn.Parameter] = {}
        for name, weight in found.items():
            part, _, rest = name.partition(".")
            if part == "backbone" and backbone.layer_of(rest) < until:
                kept[name] = weight
        return kept

    def learn(self, images: Tensor) -> Tensor:
        margin = self.config.margin * self.largest_entropy
        logits = self.inference(images)
        entropy = pixel_entropy(self.enlarged(logits, images))
        reliable = entropy.detach() < margin
        if not self._step_uphill(entropy, reliable):
            return logits.detach()  # type: ignore[no-any-return]
        again = pixel_entropy(self.enlarged(self.inference(images), images))
        still = reliable & (again.detach() < margin)
        sharp = mean_over(again, still)
        found = bool(still.any()) and self.take_gradient(sharp)
        self._step_back()
        if found:
            self.optimizer.step()
            self._remember(float(sharp.detach()))
        return logits.detach()  # type: ignore[no-any-return]

    def _step_uphill(self, entropy: Tensor, reliable: Tensor) -> bool:
        """θ <- θ + ε; False, and no step, where no pixel is reliable."""
        if not (bool(reliable.any()) and self.take_gradient(mean_over(entropy, reliable))):
            return False
        with torch.no_grad():
            weights = list(self.weights.values())
            gradients = [zero_or(weight.grad, weight) for weight in weights]
            length = torch.stack([gradient.norm() for gradient in gradients]).norm()
            self._below = [weight.clone() for weight in weights]
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.add_(gradient * (self.config.radius / (length + 1e-12)))
        return True

    @torch.no_grad()
    def _step_back(self) -> None:
        """θ as it was, to the bit."""
        for weight, below in zip(self.weights.values(), self._below, strict=True):
            weight.copy_(below)
        self._below = []

    def _remember(self, entropy: float) -> None:
        """The moving mean goes on; below the limit the network has collapsed."""
        limit = self.config.reset_entropy * self.largest_entropy
        if self.moving_mean is None:
            self.moving_mean = entropy
        if self._is_sure is None:
            # Once: after a reset, a single image that is easy must not switch the rule off.
            self._is_sure = entropy < limit
            if self._is_sure:
                self.remark(
                    "reset_entropy does not apply, since the network as it began is surer: its"
                    f" entropy is {entropy:.3f}, below {limit:.3f}"
                )
        self.moving_mean = _KEPT * self.moving_mean + (1 - _KEPT) * entropy
        if self.moving_mean < limit and not self._is_sure:
            self.collapse(
                f"the mean entropy of reliable pixels is {self.moving_mean:.3f}, below {limit:.3f}"
            )

    def reset(self) -> None:
        super().reset()
        self.moving_mean = None


def mean_over(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of the chosen values; 0 where there are none."""
    return (values * chosen).sum() / chosen.sum().clamp(min=1)


def zero_or(gradient: Tensor | None, weight: Tensor) -> Tensor:
    """A gradient, or zeros for a weight that the loss does not depend on."""
    return torch.zeros_like(weight) if gradient is None else gradient
