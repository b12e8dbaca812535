"""AdvEnt: entropy maps of the target must look like the source's to a discriminator (Vu et al.

2019, section 3.2).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from muhdi import distributed
from muhdi.adaptation.base import Adaptation, TargetBatch
from muhdi.losses import Losses, adversarial, entropy_map
from muhdi.models.discriminator import Discriminator
from muhdi.models.segmenter import Levels, Segmenter
from muhdi.recipe.methods import AdventConfig


class AdvEnt(Adaptation):
    """Adversarial training on entropy maps.

    With I = H(p), the weighted self-information map, and one discriminator D per level (ADVENT, eq.
    5 and 6):

    * network: w BCE(D(I_target), source);
    * D: 1/2 BCE(D(I_source), source) + 1/2 BCE(D(I_target), target).

    Args:
        config: weights, and the discriminators' learning rate and width.
        classes: number of classes.
        levels: names of the heads' levels.
    """

    trains = True

    def __init__(
        self, config: AdventConfig, classes: int, levels: tuple[str, ...] = ("aux", "main")
    ) -> None:
        super().__init__()
        self.weights = {"aux": config.weight_aux, "main": config.weight_main}
        self.discriminators = nn.ModuleDict(
            {name: Discriminator(classes, config.width) for name in levels}
        )
        self.discriminators.requires_grad_(False)  # for the network's losses they are fixed
        self.source_levels = ("aux", "main") if config.aux_sees_source else ("main",)
        self.learning_rate = config.learning_rate
        self.optimizer = torch.optim.Adam(
            self.discriminators.parameters(), lr=config.learning_rate, betas=(0.9, 0.99)
        )

    def networks(self) -> dict[str, nn.Module]:
        return {f"D_{name}": network for name, network in self.discriminators.items()}

    def _scores(self, level: str, logits: Tensor) -> Tensor:
        scores: Tensor = self.discriminators[level](entropy_map(logits.softmax(1)))
        return scores

    def on_target(self, logits: Levels, batch: TargetBatch) -> Losses:
        return {
            f"adv_{name}": (
                self.weights[name] * adversarial(self._scores(name, level), is_source=True)
            )
            for name, level in logits.items()
        }

    def update(self, model: Segmenter, source: Levels, target: Levels) -> Losses:
        assert self.optimizer is not None
        self.discriminators.requires_grad_(True)
        self.optimizer.zero_grad(set_to_none=True)
        losses: Losses = {}
        for (name, source_logits), (_, target_logits) in zip(
            source.items(), target.items(), strict=True
        ):
            losses[f"d_{name}_target"] = (
                adversarial(self._scores(name, target_logits), is_source=False) / 2
            )
            if name in self.source_levels:
                losses[f"d_{name}_source"] = (
                    adversarial(self._scores(name, source_logits), is_source=True) / 2
                )
        for loss in losses.values():
            loss.backward()
        distributed.average_gradients(self.discriminators)
        self.optimizer.step()
        self.discriminators.requires_grad_(False)
        return {name: loss.detach() for name, loss in losses.items()}
