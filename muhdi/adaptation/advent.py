"""AdvEnt: a discriminator must not tell the target's entropy maps from the source's.

Vu et al. 2019, section 3.2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from muhdi.adaptation.base import Adaptation, level_weights
from muhdi.losses import Losses, adversarial, entropy_map
from muhdi.method import MethodContext, OwnNetwork
from muhdi.models.discriminator import Discriminator
from muhdi.models.outputs import Levels
from muhdi.passes import Batch
from muhdi.recipe.methods import AdventConfig


class AdvEnt(Adaptation):
    """Adversarial training on entropy maps.

    With I = H(p), the weighted self-information map, and one discriminator D per level (ADVENT,
    eq. 5 and 6):

    * network: w BCE(D(I_target), source), with D fixed;
    * D: 1/2 BCE(D(I_source), source) + 1/2 BCE(D(I_target), target), with the network fixed.

    Both are learned in the same iteration, from the weights at its start.
    """

    config_class = AdventConfig
    config: AdventConfig

    def __init__(self, config: AdventConfig, context: MethodContext) -> None:
        super().__init__(config, context)
        self.discriminators = nn.ModuleDict(
            {level: Discriminator(context.classes, config.width) for level in context.levels}
        )
        self._own_networks = {
            f"D_{level}": OwnNetwork(discriminator, self._optimizer(discriminator), self.rate)
            for level, discriminator in self.discriminators.items()
        }

    @property
    def rate(self) -> float:
        """The discriminators' learning rate."""
        return self.config.learning_rate

    def _optimizer(self, discriminator: nn.Module) -> torch.optim.Optimizer:
        # ADVENT, section 4.2.
        return torch.optim.Adam(discriminator.parameters(), lr=self.rate, betas=(0.9, 0.99))

    def own_networks(self) -> dict[str, OwnNetwork]:
        return self._own_networks

    def on_source(self, logits: Levels, batch: Batch) -> Losses:
        losses: Losses = {}
        for name, level in logits.items():
            # The published AdvEnt never shows the source to the aux discriminator.
            if name == "main" or self.config.aux_sees_source:
                scores = self._scores(name, level.detach())
                losses[f"d_{name}_source"] = adversarial(scores, is_source=True) / 2
        return losses

    def on_target(self, logits: Levels, batch: Batch) -> Losses:
        weights = level_weights(self.config)
        losses: Losses = {}
        for name, level in logits.items():
            deceived = adversarial(self._fixed_scores(name, level), is_source=True)
            losses[f"adv_{name}"] = weights[name] * deceived
            scores = self._scores(name, level.detach())
            losses[f"d_{name}_target"] = adversarial(scores, is_source=False) / 2
        return losses

    def _scores(self, level: str, logits: Tensor) -> Tensor:
        scores: Tensor = self.discriminators[level](entropy_map(logits.softmax(1)))
        return scores

    def _fixed_scores(self, level: str, logits: Tensor) -> Tensor:
        """The same scores, whose gradient reaches the logits and not the discriminator."""
        discriminator = self.discriminators[level]
        fixed = {name: value.detach() for name, value in discriminator.named_parameters()}
        scores: Tensor = torch.func.functional_call(
            discriminator, fixed, entropy_map(logits.softmax(1))
        )
        return scores
