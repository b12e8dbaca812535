"""What methods share that move weights by gradients: steps, the way back, and when it is taken."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from muhdi.errors import RecipeError
from muhdi.evaluation.argmax import largest
from muhdi.losses import upsample
from muhdi.models.segmenter import Segmenter
from muhdi.models.undecayed import is_norm
from muhdi.online.base import Online, OnlineContext
from muhdi.recipe.online import LearnerConfig, Moves


class Learner(Online):
    """A method that makes a step on some of the network's weights after each image.

    A method has `learn`, and where it keeps more than its weights, `reset` and `kept`. After a
    collapse the prediction is that of the network as it began.

    Args:
        config: the section that describes the method.
        context: what else there is to know.

    Attributes:
        weights: those that move, by the network's names.
        anchor: copies of them from before the first image.
        optimizer: of the weights.
        seen: images so far.
        resets: how often the network was reset since it had collapsed.
    """

    moves_weights = True
    config: LearnerConfig

    def __init__(self, config: LearnerConfig, context: OnlineContext) -> None:
        super().__init__(config, context)
        self.statistics = context.chosen(config.statistics)
        self.inference = context.inference(self.statistics)
        self.weights = self.moving(context)
        if not self.weights:
            raise RecipeError(
                f"{config.shown_name}: the network has no weights that moves={config.moves} would"
                " move; set moves to decoder or all"
            )
        for weight in self.weights.values():
            weight.requires_grad_(True)
        self.anchor = {name: weight.detach().clone() for name, weight in self.weights.items()}
        self.optimizer = self._new_optimizer()
        self.seen = 0
        self.resets = 0
        self._why = ""

    def moving(self, context: OnlineContext) -> dict[str, nn.Parameter]:
        """The weights that move, by name."""
        return weights_that_move(context.network, context.head, self.config.moves)

    def learn(self, images: Tensor) -> Tensor:
        """Predict images, and make a step; gradients are on.

        Args:
            images: uint8 RGB [N, 3, H, W].

        Returns:
            Logits [N, C, h, w] from before the step, without a graph.
        """
        raise NotImplementedError

    def observe(self, images: Tensor) -> Tensor:
        with torch.enable_grad():
            logits = self.learn(images)
        if not self._why and self.seen % self.config.check_every == 0:
            self._compare(images, logits)
        self.seen += 1
        if not self._why:
            return logits
        self.resets += 1
        self.remark(f"image {self.seen}: the network has collapsed and is reset: {self._why}")
        self.reset()
        return self.predict(images)

    @torch.no_grad()
    def reset(self) -> None:
        for name, weight in self.weights.items():
            weight.copy_(self.anchor[name])
        self.optimizer = self._new_optimizer()
        self._why = ""

    def kept(self) -> Iterator[Tensor]:
        yield from self.anchor.values()
        for state in self.optimizer.state.values():
            yield from (value for value in state.values() if isinstance(value, Tensor))

    # --- what methods are made of -----------------------------------------------------------------

    def step(self, loss: Tensor) -> None:
        """One step of the optimizer; a loss that is not finite makes none, and is a collapse."""
        if self.take_gradient(loss):
            self.optimizer.step()

    def take_gradient(self, loss: Tensor) -> bool:
        """Give the weights the gradient of a loss; False, and a collapse, if it is not finite."""
        self.optimizer.zero_grad(set_to_none=True)
        if not loss.isfinite():
            self.collapse("its loss is not finite")
            return False
        loss.backward()
        return True

    def collapse(self, why: str) -> None:
        """The network is reset after this image."""
        self._why = why

    def enlarged(self, logits: Tensor, images: Tensor) -> Tensor:
        """Logits [N, C, h, w] at the size of the images, [N, C, H, W]."""
        size = (images.shape[-2], images.shape[-1])
        return upsample(logits, size, align_corners=self.inference.align_corners)

    @torch.no_grad()
    def logits_with(self, weights: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """Logits [N, C, h, w] with other values of the weights that move."""
        named = {f"network.{name}": value for name, value in weights.items()}
        logits: Tensor = functional_call(self.inference, named, (images,))
        return logits

    def _new_optimizer(self) -> torch.optim.Optimizer:
        weights = list(self.weights.values())
        rate = self.config.learning_rate
        momentum = self.config.momentum
        decay = self.config.weight_decay
        if self.config.optimizer == "sgd":
            return torch.optim.SGD(weights, rate, momentum=momentum, weight_decay=decay)
        return torch.optim.Adam(weights, rate, (momentum, 0.999), weight_decay=decay)

    def _compare(self, images: Tensor, logits: Tensor) -> None:
        """Whether many classes are no longer predicted, which the network as it began does."""
        if not (self.seen and self.config.reset_below):
            return
        before = number_of_classes(self.logits_with(self.anchor, images))
        now = number_of_classes(logits)
        if now < self.config.reset_below * before:
            self.collapse(f"it predicts {now:.1f} classes where it had predicted {before:.1f}")


def number_of_classes(logits: Tensor) -> float:
    """How many classes are predicted, counted by their pixels: exp of the entropy of their shares.

    1 if all pixels are of one class; C if all classes have as many.

    Args:
        logits: [N, C, h, w].
    """
    counts = torch.bincount(largest(logits).flatten(), minlength=logits.shape[1])
    shares = counts[counts > 0] / counts.sum()
    return float((-shares * shares.log()).sum().exp())


def weights_that_move(network: Segmenter, head: str, moves: Moves) -> dict[str, nn.Parameter]:
    """The weights that the prediction of a head depends on, or some of them, by name.

    Args:
        network: whose weights.
        head: that predicts.
        moves: ``norms``: scales and shifts of norms; ``decoder``: the decoder and the head; or all.
    """
    decoder = ("decoder.", f"heads.{head}.main.")
    places = decoder if moves == "decoder" else ("backbone.", *decoder)
    found: dict[str, nn.Parameter] = {}
    for owner, part in network.named_modules():
        if moves == "norms" and not is_norm(part):
            continue
        for own_name, weight in part.named_parameters(recurse=False):
            name = f"{owner}.{own_name}"
            if name.startswith(places):
                found[name] = weight
    return found
