"""What adaptations and retentions have in common: the life of a method.

The loop calls, in this order::

    method = config.build(context)             # the recipe's section builds its class
    method.begin(network, memory, batches)     # a step starts
    in every iteration:
        method.passes(source, target)          # further forward passes, with their objectives;
                                               # once for each target of the step
        method.penalty(network)                # loss terms of the weights themselves
        method.after_step(network)             # after the optimizer's step
    now and then:
        method.remarks()                       # what the user should know
    method.settle(network)                     # the last update is made
    method.end(network, batches) -> memory     # the step is over; what later steps need to know

Whatever a method trains, averages or keeps during a step is a submodule or a buffer: so it is saved
with the run, and a run that is interrupted continues with the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from muhdi.losses import Losses
from muhdi.models.segmenter import Segmenter
from muhdi.models.teacher import Teacher
from muhdi.passes import Batch, Pass

Memory = dict[str, Tensor]
"""What a method remembers from step to step, by name: Fisher values, styles, prototypes."""


@dataclass(frozen=True)
class MethodContext:
    """What a method is built from, besides its section of the recipe.

    Attributes:
        classes: number of classes C.
        levels: names of the heads' levels, such as ``("aux", "main")``.
        head: the head that learns from the source's labels and by the adaptation; with a head for
            each of several targets, the first one's.
        generator: source of all randomness of the method, on the CPU. Its state is saved.
        class_names: names of the classes, in order; empty: unknown.
        stage: name of the stage, which is the target's, or ``city+night``.
        has_source: whether labelled source images take part.
        targets: names of the targets that the stage learns together; by itself the stage's.
        heads: the head that learns each of them, in order; by itself ``head`` learns all.
        iterations: number of updates of the stage; None: unknown.
    """

    classes: int
    levels: tuple[str, ...]
    head: str
    generator: torch.Generator
    class_names: tuple[str, ...] = ()
    stage: str = ""
    has_source: bool = True
    targets: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()
    iterations: int | None = None

    def __post_init__(self) -> None:
        # Frozen: what is left out follows from the rest.
        targets = self.targets or (self.stage,)
        object.__setattr__(self, "targets", targets)
        object.__setattr__(self, "heads", self.heads or (self.head,) * len(targets))

    @property
    def names(self) -> tuple[str, ...]:
        """What messages call the classes."""
        return self.class_names or tuple(f"class {number}" for number in range(self.classes))


class Batches(Protocol):
    """Images of the stage to look at before or after training: evenly spread, not augmented."""

    def source(self, count: int) -> Iterator[Batch]:
        """Up to ``count`` labelled source images, one by one; each process yields its own share.

        Nothing in a step without the source.
        """
        ...

    def target(self, count: int) -> Iterator[Batch]:
        """Up to ``count`` images of each target without labels, one target after another.

        `Batch.target` says which one it is. Nothing in a stage without a target.
        """
        ...


@dataclass(frozen=True)
class OwnNetwork:
    """A network of a method's own, such as a discriminator.

    The loop zeroes its gradients, averages them over the processes, steps and schedules its
    optimizer, saves and restores both, writes it next to the network, and carries it to later
    steps.

    Attributes:
        module: also a submodule of the method.
        optimizer: over the module's parameters.
        learning_rate: at the start of the step; it decays as the network's own does.
        updates: that the optimizer makes of one gradient; more than one only where published code
            does so by accident.
    """

    module: nn.Module
    optimizer: Optimizer
    learning_rate: float
    updates: int = 1


class Method(nn.Module):
    """Base of all adaptations and retentions; by itself it does nothing.

    Attributes:
        config_class: the section of the recipe that describes the method.
    """

    config_class: ClassVar[type[Any]]

    def begin(self, network: Segmenter, memory: Memory, batches: Batches) -> None:
        """A step starts.

        Args:
            network: as the step before has left it; copy what must stay.
            memory: what `end` has returned after an earlier step; empty in the first one.
            batches: images to look at. When an interrupted step continues there are none, since
                everything that this call computes is then replaced by the saved state.
        """

    def passes(self, source: Batch | None, target: Batch) -> Sequence[Pass]:
        """Further passes of an iteration, after the ones on the source and on the target.

        In a step with several targets it is called for each of them, and what is learned is
        averaged over them, or summed if the section says ``sums_targets``.

        Args:
            source: as the pass on the source sees it; None in a step without the source.
            target: as it was drawn; `Batch.target` says which one it is.
        """
        return ()

    def penalty(self, network: Segmenter) -> Losses:
        """Loss terms that depend on the weights alone; called once per iteration."""
        return {}

    def after_step(self, network: Segmenter) -> None:
        """The optimizer has made its step: mean teachers follow here."""

    def remarks(self) -> Sequence[str]:
        """Lines for the user, each given once; asked for when losses are logged.

        Here, and nowhere else within a step, a method may wait for the device.
        """
        return ()

    def settle(self, network: Segmenter) -> None:
        """The last update is made: whoever changes the weights once more does so here.

        Every method settles before any of them ends.
        """

    def end(self, network: Segmenter, batches: Batches) -> Memory:
        """The step is over: what later steps need to know; it is saved in the network's file."""
        return {}

    def mean_teacher(self) -> Teacher | None:
        """A mean teacher whose weights can take the place of the network's; None without one."""
        return None

    def own_networks(self) -> dict[str, OwnNetwork]:
        """Networks of the method's own by name, such as ``D_main``; the same ones at every call."""
        return {}
