"""AdvEnt: a discriminator must not tell the target's entropy maps from the source's.

Vu et al. 2019, section 3.2; for several targets Saporta et al. 2021, "Multi-Target Adversarial
Frameworks for Domain Adaptation in Semantic Segmentation" (MTAF), sections 3.1 and 3.2.
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

    Both are learned in the same iteration, from the weights at its start. Of several targets the
    terms are summed, with one D for all of them (MTAF's multi-target baseline, which sees the
    source once for each target), or a D_i for each target i.

    Multi-Dis has such D_i, and others that tell targets apart, with the same w:

    * of two targets one D_t, for which target i has the label i: D_t: 1/2 BCE(D_t(I_i), i),
      network: w BCE(D_t(I_i), 1 - i);
    * of T > 2 targets one D_j for each, its own against the others: D_j: 1/2 BCE(D_j(I_j), 0) +
      1/(2 (T - 1)) sum_{i != j} BCE(D_j(I_i), 1), network: w/(T - 1) sum_{j != i} BCE(D_j(I_i), 0).
    """

    config_class = AdventConfig
    config: AdventConfig

    def __init__(self, config: AdventConfig, context: MethodContext) -> None:
        super().__init__(config, context)
        self.levels = context.levels
        self.targets = len(context.targets)
        per_step = config.discriminators_per == "step"
        prefixes = [""] if per_step else [f"{number + 1}_" for number in range(self.targets)]
        self.discriminators = self._networks(prefixes, context.classes)
        # Of two targets the one is what the other is not.
        between = [] if config.discriminators_per != "pair" else ["targets_"]
        if between and self.targets > 2:
            between = [f"targets_{prefix}" for prefix in prefixes]
        self.between = self._networks(between, context.classes)
        updates = self.targets if per_step and config.mtaf_quirks else 1
        self._own_networks = {
            f"D_{name}": OwnNetwork(network, self._optimizer(network), self.rate, updates)
            for name, network in [*self.discriminators.items(), *self.between.items()]
        }

    def _networks(self, prefixes: list[str], classes: int) -> nn.ModuleDict:
        """A discriminator of each level by prefix and level, such as ``1_main``."""
        return nn.ModuleDict(
            {
                f"{prefix}{level}": Discriminator(classes, self.config.width)
                for prefix in prefixes
                for level in self.levels
            }
        )

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
                scores = _scores(self._source_against(batch.target, name), level.detach())
                share = self._source_share(name)
                losses[f"d_{name}_source"] = adversarial(scores, is_source=True) * share
        return losses

    def on_target(self, logits: Levels, batch: Batch) -> Losses:
        weights = level_weights(self.config)
        losses: Losses = {}
        for name, level in logits.items():
            deceived = adversarial(
                _fixed_scores(self._deceived(batch.target, name), level), is_source=True
            )
            losses[f"adv_{name}"] = weights[name] * deceived
            scores = _scores(self._source_against(batch.target, name), level.detach())
            losses[f"d_{name}_target"] = adversarial(scores, is_source=False) / 2
            if self.between:
                alike = self._like_the_others(batch.target, name, level)
                losses[f"adv_{name}_between"] = weights[name] * alike
                losses[f"d_{name}_between"] = self._apart(batch.target, name, level.detach())
        return losses

    def _source_against(self, target: int, level: str) -> nn.Module:
        """The discriminator that tells a target from the source."""
        if self.config.discriminators_per == "step":
            return self.discriminators[level]
        return self.discriminators[f"{target + 1}_{level}"]

    def _deceived(self, target: int, level: str) -> nn.Module:
        """The one of these that the network deceives on a target."""
        quirk = self.config.mtaf_quirks and self.config.discriminators_per == "target"
        if quirk and level == "aux":
            return self._source_against(self.targets - 1, level)
        return self._source_against(target, level)

    def _source_share(self, level: str) -> float:
        """Factor of a discriminator's loss on the source."""
        quirk = self.config.mtaf_quirks and self.config.discriminators_per != "target"
        return 1 / (1 + self.targets) if quirk and level == "aux" else 1 / 2

    def _like_the_others(self, target: int, level: str, logits: Tensor) -> Tensor:
        """The network's loss: the target shall look like another one."""
        if self.targets == 2:
            # The label of the other target, where that of the source is 0.
            return adversarial(
                _fixed_scores(self.between[f"targets_{level}"], logits), is_source=target == 1
            )
        others = [number for number in range(self.targets) if number != target]
        deceived = [
            adversarial(
                _fixed_scores(self.between[f"targets_{number + 1}_{level}"], logits), is_source=True
            )
            for number in others
        ]
        return torch.stack(deceived).mean()

    def _apart(self, target: int, level: str, logits: Tensor) -> Tensor:
        """The loss, on a target, of the discriminators that tell targets apart."""
        if self.targets == 2:
            scores = _scores(self.between[f"targets_{level}"], logits)
            return adversarial(scores, is_source=target == 0) / 2
        last_alone = level == "aux" and self.config.mtaf_quirks
        total = logits.new_zeros(())
        for number in range(self.targets):
            trained = self.targets if last_alone else number + 1
            scores = _scores(self.between[f"targets_{trained}_{level}"], logits)
            is_own = number == target
            share = 1 / 2 if is_own else 1 / (2 * (self.targets - 1))
            total = total + share * adversarial(scores, is_source=is_own)
        return total


def _scores(discriminator: nn.Module, logits: Tensor) -> Tensor:
    scores: Tensor = discriminator(entropy_map(logits.softmax(1)))
    return scores


def _fixed_scores(discriminator: nn.Module, logits: Tensor) -> Tensor:
    """The same scores, whose gradient reaches the logits and not the discriminator."""
    fixed = {name: value.detach() for name, value in discriminator.named_parameters()}
    scores: Tensor = torch.func.functional_call(
        discriminator, fixed, entropy_map(logits.softmax(1))
    )
    return scores
