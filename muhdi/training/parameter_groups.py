"""Which parameters share a learning rate and a weight decay."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from torch import nn

from muhdi.errors import RunError
from muhdi.models.backbones.base import Backbone
from muhdi.models.segmenter import Segmenter
from muhdi.models.undecayed import undecayed_parameters
from muhdi.recipe.optimizer import OptimizerConfig


@dataclass(frozen=True)
class ParameterGroup:
    """Trained parameters that are updated alike.

    Attributes:
        of_backbone: whether they are the backbone's; the others are decoder's and heads'.
        factor: of the learning rate.
        weight_decay: of the parameters.
        parameters: by their names in the backbone, or in the rest of the network.
    """

    of_backbone: bool
    factor: float
    weight_decay: float
    parameters: dict[str, nn.Parameter] = field(default_factory=dict)


def parameter_groups(network: Segmenter, config: OptimizerConfig) -> list[ParameterGroup]:
    """The trained parameters of a network: those of the backbone first, each once.

    The order depends on the network and the section alone, so that an optimizer's state can be
    loaded again.

    Raises:
        RunError: a backbone's ``layer_of`` gives a layer that it does not have.
    """
    backbone = network.backbone
    above = nn.ModuleDict({"heads": network.heads, "decoder": network.decoder})

    def factor_in_backbone(name: str) -> float:
        return _layer_factor(backbone, name, config.layer_decay)

    groups = _groups(backbone, config, factor_in_backbone, backbone.undecayed())
    groups += _groups(above, config, lambda name: config.head_factor, undecayed_parameters(above))
    return groups


def _groups(
    part: nn.Module,
    config: OptimizerConfig,
    factor_of: Callable[[str], float],
    undecayed: Collection[str],
) -> list[ParameterGroup]:
    """Groups in the order in which their first parameters come."""
    found: dict[tuple[float, float], ParameterGroup] = {}
    for name, parameter in part.named_parameters():
        if not parameter.requires_grad:
            continue
        factor = factor_of(name)
        decays = config.decays == "all" or name not in undecayed
        decay = config.weight_decay if decays else 0.0
        of_backbone = isinstance(part, Backbone)
        group = found.setdefault((factor, decay), ParameterGroup(of_backbone, factor, decay))
        group.parameters[name] = parameter
    return list(found.values())


def _layer_factor(backbone: Backbone, name: str, decay: float) -> float:
    """How fast a parameter of the backbone learns, see `Backbone.layer_of`."""
    if decay == 1:
        return 1.0
    layer = backbone.layer_of(name)
    if not 0 <= layer <= backbone.depth:
        raise RunError(
            f"{type(backbone).__name__}.layer_of: gives {layer} for {name}, which must be from 0 to"
            f" its depth, {backbone.depth}"
        )
    factor: float = decay ** (backbone.depth - layer)
    return factor
