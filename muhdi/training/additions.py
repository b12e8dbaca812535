"""What an adaptation's section asks for besides the adaptation itself."""

from __future__ import annotations

from muhdi.adaptation.addition import Addition
from muhdi.adaptation.base import Adaptation
from muhdi.adaptation.feature_distance import FeatureDistance
from muhdi.adaptation.masked import MaskedConsistency
from muhdi.method import MethodContext
from muhdi.models.segmenter import Segmenter
from muhdi.recipe.methods import AdaptationConfig
from muhdi.taxonomy import ClassSet


def build_additions(
    adaptation: Adaptation, context: MethodContext, classes: ClassSet, first: Segmenter | None
) -> tuple[Addition, ...]:
    """The additions of a step, in the order of their passes; they have yet to begin.

    Args:
        adaptation: of the step.
        context: as the adaptation's.
        classes: of the recipe.
        first: the network as the run began; None where no step asks for it.
    """
    config: AdaptationConfig = adaptation.config
    found: list[Addition] = []
    if config.masked is not None:
        found.append(MaskedConsistency(config.masked, context, adaptation))
    if config.feature_distance is not None:
        assert first is not None
        things = config.feature_distance.things(classes)
        found.append(FeatureDistance(config.feature_distance, context, first, things))
    return tuple(found)
