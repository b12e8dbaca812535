"""What goes from stage to stage."""

from __future__ import annotations

from dataclasses import dataclass, field

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
    first: Segmenter | None = None
