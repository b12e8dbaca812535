"""No adaptation: the control."""

from __future__ import annotations

from muhdi.adaptation.base import Adaptation
from muhdi.recipe.methods import NoAdaptationConfig


class NoAdaptation(Adaptation):
    """Target images pass through the network, so that its normalisation sees them."""

    config_class = NoAdaptationConfig
