"""What every adaptation is: how the network learns a new target domain without labels."""

from __future__ import annotations

from typing import Any

from muhdi.losses import Losses
from muhdi.method import Method, MethodContext
from muhdi.models.outputs import Levels
from muhdi.passes import Batch
from muhdi.recipe import plugins
from muhdi.recipe.methods import AdaptationConfig


class Adaptation(Method):
    """Base of all adaptations.

    A batch may be computed in parts, and each of several processes has a part of it, too:
    `source_batch` and `target_batch` are called once per iteration, in this order, `on_source` and
    `on_target` once per part. In a step with several targets all but `source_batch` are called for
    each of them, which `Batch.target` numbers, and what is learned is averaged over them, or summed
    if the section says ``sums_targets``.

    Args:
        config: the section of the recipe.
        context: what else there is to know.

    Attributes:
        head: the head that learns; of several, which learn a target each, the first one.
        labelled_target: the latest target images with the pseudo-labels that it has made of them,
            if its section says that it makes some: others learn from these, too.
    """

    config_class = AdaptationConfig

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        plugins.register(cls)

    def __init__(self, config: Any, context: MethodContext) -> None:
        super().__init__()
        self.config = config
        self.head = context.head
        self.labelled_target: Batch | None = None

    @property
    def learns_on_target(self) -> bool:
        """Whether `on_target` is defined; if not, the target's images only pass through."""
        return type(self).on_target is not Adaptation.on_target

    def source_batch(self, source: Batch) -> Batch:
        """What the pass on the source sees: its images, or something made from them.

        `target_batch` gets the images as they were drawn.
        """
        return source

    def target_batch(self, source: Batch | None, target: Batch) -> Batch:
        """What the pass on the target sees: its images, or something made from both domains.

        ``source`` is None in a step without the source; a section that says ``needs_source`` is
        refused there.

        ``target.labels`` is None unless the section says ``reads_target_labels``: for every other
        method the labels are not even opened.
        """
        return target

    def on_source(self, logits: Levels, batch: Batch) -> Losses:
        """Loss terms on the source.

        Args:
            logits: of the head that learns the target, at the size of the images.
            batch: (a part of) the source's images with their labels.
        """
        return {}

    def on_target(self, logits: Levels, batch: Batch) -> Losses:
        """Loss terms on the target.

        Args:
            logits: of the head that learns the target, at the size of the images.
            batch: (a part of) what `target_batch` returned.
        """
        return {}


def level_weights(config: Any) -> dict[str, float]:
    """The factor of each level, from a section with ``weight_main`` and ``weight_aux``."""
    return {"aux": config.weight_aux, "main": config.weight_main}
