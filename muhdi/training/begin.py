"""How the methods of a stage begin, and who hears whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from muhdi.adaptation.pseudo_labels import PseudoLabels
from muhdi.errors import RunError
from muhdi.method import Batches, Memory, Method, MethodContext
from muhdi.models.segmenter import Segmenter
from muhdi.recipe.methods import AdaptationConfig
from muhdi.recipe.retentions import RetentionConfig
from muhdi.retention.base import Retention
from muhdi.taxonomy import ClassSet
from muhdi.training.additions import build_additions
from muhdi.training.method_checks import class_name
from muhdi.training.passes import Methods


@dataclass(frozen=True)
class Surroundings:
    """What the methods of a stage find.

    Attributes:
        network: as the stage before has left it.
        batches: images to look at.
        memory: what methods remember, by the method's name in recipes.
        classes: of the recipe.
        first: the network as the run began; None where no step asks for it.
    """

    network: Segmenter
    batches: Batches
    memory: Mapping[str, Memory]
    classes: ClassSet
    first: Segmenter | None = None


def begin_methods(
    adaptation: AdaptationConfig,
    retention: RetentionConfig,
    context: MethodContext,
    weights: dict[str, float],
    found: Surroundings,
) -> Methods:
    """Build the methods of a stage and let them begin.

    The order matters: retentions see the network as the previous step has left it, then the heads
    of this step start, and the adaptation sees those (a teacher copies them).

    Args:
        adaptation: its section.
        retention: its section, or that of several.
        context: what methods are built from.
        weights: factor per level, in the segmentation loss on the source.
        found: what they begin with.

    Raises:
        RunError: a retention changes pseudo-labels, and the adaptation's are out of its reach.
    """
    network = found.network
    retentions: list[Retention] = []
    for part in retention.parts:
        kept: Retention = part.build(context)
        kept.begin(network, found.memory.get(part.key, {}), found.batches)
        retentions.append(kept)
    # One of them decides which heads there are: whoever trains another one than the agnostic.
    others = [kept for kept in retentions if kept.config.trains_specialist]
    (others or retentions)[0].start_heads(network)
    learned = adaptation.build(context)
    learned.begin(network, found.memory.get(adaptation.key, {}), found.batches)
    additions = build_additions(learned, context, found.classes, found.first)
    for addition in additions:
        addition.begin(network, {}, found.batches)
    _connect(retentions, (learned, *additions))
    return Methods(
        learned,
        tuple(retentions),
        weights,
        additions,
        targets=context.targets,
        heads=context.heads,
    )


def _connect(retentions: Sequence[Retention], methods: Sequence[Method]) -> None:
    """Whoever makes pseudo-labels hears the retentions that change them."""
    heard = [kept for kept in retentions if kept.config.changes_pseudo_labels]
    if not heard:
        return
    makers = [
        one for method in methods for one in method.modules() if isinstance(one, PseudoLabels)
    ]
    if not makers:
        raise RunError(
            f"{class_name(methods[0])}: makes its pseudo-labels without"
            f" muhdi.adaptation.pseudo_labels.PseudoLabels, so {class_name(heard[0])} cannot change"
            " them; choose another retention"
        )
    for maker in makers:
        maker.blends = tuple(kept.blended for kept in heard)
