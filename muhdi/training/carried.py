"""What goes from stage to stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from torch import Tensor

from muhdi.evaluation.results import Results
from muhdi.method import Memory
from muhdi.models.average import WeightAverage
from muhdi.models.segmenter import Segmenter
from muhdi.models.statistics import Statistics


@dataclass
class Carried:
    """The one value that a stage takes from the stage before and hands to the next.

    It is what a training state holds (together with the stage's own), and what a network's file
    holds (but for the results), so that `muhdi adapt` continues with it.

    Attributes:
        network: trained in place.
        statistics: normalisation statistics by domain.
        memory: what methods remember, by the method's name in recipes.
        networks: state dicts of methods' own networks, by ``<method>/<network>``.
        results: scores of the stages so far.
        average: of the network's weights; None where the recipe wants none.
        teacher: the mean teacher at the end of the stage; None where it had none.
        teacher_statistics: normalisation statistics by domain, measured with mean teachers.
        remarks: what the methods of the stage have said to the user.
        curve: scores within the stage so far, see `muhdi.evaluation.results.Results`.
        first: a copy of the network as the run began, with its pretrained backbone; None where no
            step asks for it. It is made again whenever the run continues.
    """

    network: Segmenter
    results: Results
    statistics: dict[str, Statistics] = field(default_factory=dict)
    memory: dict[str, Memory] = field(default_factory=dict)
    networks: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    average: WeightAverage | None = None
    teacher: WeightAverage | None = None
    teacher_statistics: dict[str, Statistics] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    curve: list[dict[str, Any]] = field(default_factory=list)
    first: Segmenter | None = None

    @property
    def kept(self) -> dict[str, int]:
        """Bytes that go to the next stage besides networks of the recipe's own kind."""
        own = [self.statistics, self.teacher_statistics]
        if self.average is not None:
            own.append(self.average.statistics)
        return kept_bytes(self.memory, self.networks, *own)


def kept_bytes(
    memory: Mapping[str, Memory],
    networks: Mapping[str, Mapping[str, Tensor]],
    *statistics: Mapping[str, Statistics],
) -> dict[str, int]:
    """Bytes of what a run carries from step to step.

    Copies of the network, such as an old model or an average of its weights, do not count: their
    size is the network's, however many domains there were.

    Args:
        memory: what methods remember, by method.
        networks: state dicts of methods' own networks, by ``<method>/<network>``.
        statistics: by domain, measured with the network and with each of its stand-ins.

    Returns:
        Bytes by method, by network of a method, and of all ``statistics``.
    """
    found = {name: _size(tensors) for name, tensors in chain(memory.items(), networks.items())}
    by_domain = chain.from_iterable(one.values() for one in statistics)
    found["statistics"] = sum(_size(tensors) for tensors in by_domain)
    return found


def _size(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())
