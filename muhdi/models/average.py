"""An exponential moving average of a network's weights, which can be used in their place."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field

import torch
from torch import nn

from muhdi.models.segmenter import Segmenter
from muhdi.models.statistics import Statistics
from muhdi.models.tensor_files import Tensors


@torch.no_grad()
def move_towards(own: nn.Module, student: nn.Module, momentum: float) -> None:
    """Every weight w <- momentum w + (1 - momentum) w_student.

    Args:
        own: has no parameter that the student lacks.
        student: is left alone.
        momentum: from 0 to 1.
    """
    weights = dict(student.named_parameters())
    for name, weight in own.named_parameters():
        weight.lerp_(weights[name], 1.0 - momentum)


@dataclass
class WeightAverage:
    """The average over all iterations of a run, later ones counting most.

    After iteration t, from 0, w <- m_t w + (1 - m_t) w_student with m_t = min(1 - 1 / (t + 1), m),
    as for a mean teacher (Tarvainen & Valpola 2017): it begins as the mean of the first weights.

    Attributes:
        network: has the averages as its weights; it is never trained.
        updates: t, iterations that it has followed so far.
        statistics: normalisation statistics by domain, measured with the averages.
    """

    network: Segmenter
    updates: int = 0
    statistics: dict[str, Statistics] = field(default_factory=dict)

    @classmethod
    def of(cls, network: Segmenter, updates: int = 0) -> WeightAverage:
        """One that begins, or has followed for some iterations, as a copy."""
        return cls(_untrained(deepcopy(network)), updates)

    def follow(self, student: Segmenter, momentum: float) -> None:
        """An iteration has changed the student."""
        move_towards(self.network, student, min(1.0 - 1.0 / (self.updates + 1), momentum))
        self.updates += 1

    @torch.no_grad()
    def copy_buffers(self, student: Segmenter) -> None:
        """Take over what is no weight, such as running statistics."""
        buffers = dict(student.named_buffers())
        for name, own in self.network.named_buffers():
            own.copy_(buffers[name])

    def match_heads(self, student: Segmenter, before: Mapping[str, Tensors]) -> None:
        """Have the heads of the student, as a step begins.

        Heads that the step has left as they were keep their averages; those that it has added or
        replaced begin as copies.

        Args:
            student: with the heads of the step.
            before: state dicts of its heads before the step, by name.
        """
        averaged = dict(self.network.heads.items())
        heads: dict[str, nn.Module] = {}
        for name, head in student.heads.items():
            kept = name in averaged and name in before and _equal(head.state_dict(), before[name])
            heads[name] = averaged[name] if kept else deepcopy(head)
        self.network.set_heads(heads)
        _untrained(self.network)

    def state(self) -> dict[str, object]:
        """All of it as plain tensors and numbers."""
        return {
            "network": self.network.state_dict(),
            "updates": self.updates,
            "statistics": self.statistics,
        }

    def load(self, state: dict[str, object]) -> None:
        """What `state` gave, of a network with the same heads."""
        values: dict[str, object] = dict(state)
        self.network.load_state_dict(values["network"])  # type: ignore[arg-type]
        self.updates = values["updates"]  # type: ignore[assignment]
        self.statistics = values["statistics"]  # type: ignore[assignment]


def stand_ins(
    average: WeightAverage | None, teacher: WeightAverage | None
) -> dict[str, WeightAverage]:
    """Weights that can take the place of a network's own, by what recipes and files call them."""
    found = {"ema": average, "teacher": teacher}
    return {name: one for name, one in found.items() if one is not None}


def continued(
    average: WeightAverage | None, student: Segmenter, before: Mapping[str, Tensors]
) -> WeightAverage:
    """The average as a step begins, on the student's device; a new one where there is none.

    Args:
        average: that the step before has left; changed in place.
        student: with the heads of the step.
        before: state dicts of its heads before the step, by name.
    """
    if average is None:
        return WeightAverage.of(student)
    average.network.to(next(student.parameters()).device)
    average.match_heads(student, before)
    return average


def head_states(network: Segmenter) -> dict[str, Tensors]:
    """Copies of the state dicts of a network's heads, by name."""
    copies: dict[str, Tensors] = {}
    for name, head in network.heads.items():
        copies[name] = {key: value.clone() for key, value in head.state_dict().items()}
    return copies


def _untrained(network: Segmenter) -> Segmenter:
    network.requires_grad_(False)
    network.eval()
    return network


def _equal(one: Tensors, two: Tensors) -> bool:
    if one.keys() != two.keys():
        return False
    return all(torch.equal(value, two[key].to(value.device)) for key, value in one.items())
