"""What every online method is: a network that predicts images, and learns from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from muhdi.models.image_norms import OfBatchNorm, replace_norm
from muhdi.models.inference import Inference
from muhdi.models.segmenter import Segmenter
from muhdi.models.statistics import Statistics, batch_norms
from muhdi.recipe import plugins
from muhdi.recipe.online import OnlineConfig


@dataclass(frozen=True)
class OnlineContext:
    """What an online method is built from, besides its section.

    Attributes:
        network: that adapts; it is changed in place.
        head: that predicts.
        statistics: what batch norms normalise with before anything adapts: ``running``, ``image``,
            ``blend``, or ``none`` in a network without them.
    """

    network: Segmenter
    head: str
    statistics: str

    @classmethod
    def of(
        cls, network: Segmenter, head: str, statistics: str, stored: Statistics | None
    ) -> OnlineContext:
        """The context of a network that is used with stored statistics, or with a choice.

        Stored statistics become the network's running ones, so that it keeps what adapts.

        Args:
            network: changed in place.
            head: that predicts.
            statistics: one of `muhdi.models.statistics.CHOICES`, or ``none``.
            stored: the statistics, with ``domain`` and ``pooled``.
        """
        if stored is None:
            return cls(network, head, statistics)
        for name, norm in batch_norms(network).items():
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.copy_(stored[f"{name}.running_mean"])
            norm.running_var.copy_(stored[f"{name}.running_var"])
        return cls(network, head, "running")

    def chosen(self, statistics: str) -> str:
        """What batch norms normalise with, where a section says ``given`` or ``batch``."""
        if statistics == "given" or self.statistics == "none":
            return self.statistics
        # Images come one by one: a batch's moments are an image's own.
        return "image"

    def inference(self, statistics: str) -> Inference:
        """Images in, logits out, by the network's very weights, which gradients can reach."""
        if statistics != "image":
            return Inference(self.network, self.head, statistics)
        made = Inference(self.network, self.head, "running")
        for name, norm in batch_norms(made.network).items():
            replace_norm(made.network, name, OfBatchNorm(norm))
        return made


class Online:
    """Base of all methods that adapt a network while it predicts.

    Images come one after another, and nobody has labels. For each of them `observe` gives the
    prediction of the network as it is, and then lets it learn from the same image. What a method
    has to do:

    * In `__init__`, call this one's, make `inference`, by which it predicts, and copy what must
      stay. All that it changes are the network's parameters and running statistics, in place.
    * In `observe`, predict, and learn.
    * In `reset`, bring the network back to where it began.
    * In `kept`, name every tensor that it keeps besides the network. Their number and sizes may not
      grow with the stream.

    Methods that move weights by gradients derive from `muhdi.online.learner.Learner`, which does
    the last two of these, and notices when the network collapses.

    Args:
        config: the section that describes the method.
        context: what else there is to know.

    Attributes:
        config_class: the section's class.
        moves_weights: whether more than running statistics changes.
        statistics: what batch norms of the adapted network are used with later: `muhdi predict`
            takes it from the network's file. ``none`` without batch norms.
    """

    config_class: ClassVar[type[Any]] = OnlineConfig
    moves_weights: ClassVar[bool] = False
    inference: Inference

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        plugins.register(cls)

    def __init__(self, config: Any, context: OnlineContext) -> None:
        self.config = config
        self.context = context
        self.statistics = context.statistics
        self._remarks: list[str] = []

    def observe(self, images: Tensor) -> Tensor:
        """Predict images, and learn from them.

        Args:
            images: uint8 RGB [N, 3, H, W], of any size.

        Returns:
            Logits [N, C, h, w] of the network as it was before it has learned, without a graph.
        """
        raise NotImplementedError

    def reset(self) -> None:
        """Bring the network back to where it began, and forget everything that was learned."""
        raise NotImplementedError

    def kept(self) -> Iterator[Tensor]:
        """Every tensor that is kept besides the network."""
        return iter(())

    def teacher(self) -> dict[str, Tensor] | None:
        """A mean teacher's weights by the network's names of them; None without one.

        The adapted network's file then names them for its use.
        """
        return None

    def remarks(self) -> list[str]:
        """Lines for the user, each given once; whoever shows them says of which method."""
        found = self._remarks
        self._remarks = []
        return found

    def remark(self, line: str) -> None:
        """Keep a line for `remarks`."""
        self._remarks.append(line)

    @torch.no_grad()
    def predict(self, images: Tensor) -> Tensor:
        """Logits [N, C, h, w] of the network as it is now; nothing is learned."""
        return self.inference(images)  # type: ignore[no-any-return]
