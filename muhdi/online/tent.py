"""TENT: test entropy minimisation (Wang et al. 2021, Fully Test-Time Adaptation, equation 1)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from muhdi.evaluation.argmax import largest
from muhdi.losses import pixel_entropy
from muhdi.online.learner import Learner
from muhdi.recipe.online import TentConfig


class Tent(Learner):
    """L = mean over pixels of H(p), H(p) = -Σ_c p_c ln p_c.

    With ``hard_label``, as in the published baselines on ACDC (Anonymous-012/SVDP, tools/tent.py):
    L = mean over pixels of -ln p_ŷ with ŷ = argmax p.
    """

    config_class = TentConfig
    config: TentConfig

    def learn(self, images: Tensor) -> Tensor:
        logits = self.inference(images)
        self.step(self._loss(self.enlarged(logits, images)))
        return logits.detach()  # type: ignore[no-any-return]

    def _loss(self, logits: Tensor) -> Tensor:
        if self.config.loss == "entropy":
            return pixel_entropy(logits).mean()
        return F.cross_entropy(logits, largest(logits).long())
