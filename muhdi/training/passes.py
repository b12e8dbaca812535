"""The passes of one iteration: adaptation x retention.

Source: segmentation + what both methods learn on the source. Target: what both methods learn there,
and whatever further passes the methods have; so for each of several targets. Then the few target
images whose labels take part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from muhdi import distributed
from muhdi.adaptation.addition import Addition
from muhdi.adaptation.base import Adaptation
from muhdi.errors import RunError
from muhdi.losses import Losses, all_pixels, labelled_pixels
from muhdi.method import Method
from muhdi.models.outputs import AGNOSTIC, Levels, Outputs
from muhdi.models.segmenter import Segmenter
from muhdi.models.teacher import Teacher
from muhdi.passes import Batch, Pass, level_cross_entropy, merged
from muhdi.recipe.section import MeanOver
from muhdi.retention.base import Retention
from muhdi.training.method_checks import checked, class_name


@dataclass(frozen=True)
class Methods:
    """What an iteration learns.

    Attributes:
        adaptation: how the new domain is learned.
        retentions: how the earlier ones are kept.
        weights: factor per level, in the segmentation loss on the source.
        additions: what the adaptation has besides.
        mean_over: pixels that the segmentation loss is averaged over.
        targets: names of the targets that are learned together.
        heads: the head that learns each of them, in order; none: the adaptation's one.
    """

    adaptation: Adaptation
    retentions: tuple[Retention, ...]
    weights: dict[str, float]
    additions: tuple[Addition, ...] = ()
    mean_over: MeanOver = "labelled"
    targets: tuple[str, ...] = ("",)
    heads: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[Method, ...]:
        """Every method."""
        return (self.adaptation, *self.retentions, *self.additions)

    def head(self, target: int = 0) -> str:
        """The head that learns a target, by the adaptation and from the source's labels."""
        return self.heads[target] if self.heads else self.adaptation.head

    def passes(
        self, source: Batch | None, targets: Sequence[Batch] = (), labelled: Batch | None = None
    ) -> list[Pass]:
        """The passes of one iteration, in order.

        Args:
            source: labelled images; None where there are none any more.
            targets: images of each new domain; none while training on the source alone.
            labelled: those of the new domain whose labels take part; None: no label does.
        """
        passes: list[Pass] = []
        shown: Batch | None = None
        ordered = [replace(batch, target=place) for place, batch in enumerate(targets)]
        if source is not None:
            for retention in self.retentions:
                for target in ordered:
                    source = retention.source_batch(source, target)
            shown = self.adaptation.source_batch(source)
            passes.append(Pass(self._averaged(shown), self._on_source, self.names))
        for target in ordered:
            passes += self._passes_on(source, shown, target)
        if labelled is not None:
            passes.append(Pass(self._averaged(labelled), self._on_labelled, self.names))
        return [replace(one, batch=_counted(one.batch)) for one in passes]

    def _passes_on(self, source: Batch | None, shown: Batch | None, target: Batch) -> list[Pass]:
        """The passes on one target.

        Args:
            source: labelled images, as they were drawn.
            shown: as the pass on the source sees them.
            target: images of the new domain.
        """
        seen = self.adaptation.target_batch(source, target)
        # Whoever makes a batch of its own need not know of several targets.
        seen = replace(seen, target=target.target)
        objective = self._on_target if self._learns_on_target else None
        passes = [Pass(seen, objective, self.names)]
        for method in self.all:
            for one in method.passes(shown, target):
                batch = replace(one.batch, target=target.target)
                passes.append(self._owned(method, replace(one, batch=batch)))
        return passes

    def penalty(self, network: Segmenter) -> Losses:
        """Loss terms of the weights themselves."""
        return self._merged(*(checked(method, method.penalty(network)) for method in self.all))

    def after_step(self, network: Segmenter) -> None:
        """The optimizer has made its step."""
        # Teachers follow the update itself: a retention may take a part of it back.
        for method in (self.adaptation, *self.additions, *self.retentions):
            method.after_step(network)

    def remarks(self) -> list[str]:
        """What the user should know by now."""
        return [line for method in self.all for line in method.remarks()]

    @property
    def teacher(self) -> Teacher | None:
        """The mean teacher of the head that the network answers with; None without one."""
        teachers = [method.mean_teacher() for method in self.all]
        found = [one for one in teachers if one is not None and one.head == AGNOSTIC]
        return found[0] if found else None

    @property
    def names(self) -> str:
        """What messages call both together."""
        retentions = " and ".join(class_name(retention) for retention in self.retentions)
        return f"{class_name(self.adaptation)} with {retentions}"

    def _averaged(self, batch: Batch) -> Batch:
        """A labelled batch; with the number of its pixels, where the loss is the mean over all."""
        if self.mean_over == "labelled" or batch.labels is None:
            return batch
        return replace(batch, pixels=all_pixels(batch.labels))

    @property
    def _learns_on_target(self) -> bool:
        methods = (self.adaptation, *self.retentions)
        return any(method.learns_on_target for method in methods)

    def _on_source(self, outputs: Outputs, batch: Batch) -> Losses:
        learned: Losses = {}
        terms: list[Losses] = []
        for target, name in enumerate(self.targets):
            head = self.head(target)
            logits = outputs.upsampled(head, batch.size)
            adapted = self.adaptation.on_source(logits, replace(batch, target=target))
            terms.append(self._of_target(self.adaptation, adapted, target))
            if head not in map(self.head, range(target)):
                # With a head of its own, the term has the target's name.
                losses = segmentation(logits, batch, self.weights)
                learned |= losses if self._one_head else _named(losses, name)
        terms += [checked(one, one.on_source(outputs, batch)) for one in self.retentions]
        terms += [checked(one, one.on_source(outputs, batch)) for one in self.additions]
        return self._merged(learned, *terms)

    def _on_labelled(self, outputs: Outputs, batch: Batch) -> Losses:
        logits = outputs.upsampled(self.head(), batch.size)
        return level_cross_entropy("labelled", logits, batch, self.weights)

    def _on_target(self, outputs: Outputs, batch: Batch) -> Losses:
        logits = outputs.upsampled(self.head(batch.target), batch.size)
        terms: list[tuple[Method, Losses]] = [
            (self.adaptation, self.adaptation.on_target(logits, batch)),
        ]
        terms += [(retention, retention.on_target(outputs, batch)) for retention in self.retentions]
        # Shared once all are computed: the order of operations is part of what makes runs repeat.
        return self._merged(*(self._of_target(*term, batch.target) for term in terms))

    @property
    def _one_head(self) -> bool:
        """Whether one head learns all targets."""
        return len(set(self.heads)) < 2

    def _of_target(self, method: Method, losses: Losses, target: int) -> Losses:
        """What a method learns for a target, once it is what it must be.

        Of several targets it has the target's name, and is averaged over them, unless the method's
        section says that it is summed, or each target has a head of its own: that learns as much
        from the source.
        """
        found = checked(method, losses)
        count = len(self.targets)
        if count == 1:
            return found
        named = _named(found, self.targets[target])
        own_head = not self._one_head and method not in self.retentions
        if own_head or getattr(method.config, "sums_targets", False):
            return named
        return {name: loss / count for name, loss in named.items()}

    def _owned(self, method: Method, one: Pass) -> Pass:
        """A method's own pass, whose losses are checked in its name."""
        objective = one.objective
        if objective is None:
            return one

        def checked_objective(outputs: Outputs, batch: Batch) -> Losses:
            return self._of_target(method, objective(outputs, batch), batch.target)

        return Pass(one.batch, checked_objective, class_name(method))

    def _merged(self, *terms: Losses) -> Losses:
        """The terms of the stage itself and of all methods together."""
        try:
            return merged(*terms)
        except RunError as error:
            raise RunError(f"{self.names}: {error}") from None


def segmentation(logits: Levels, batch: Batch, weights: dict[str, float]) -> Losses:
    """What is learned from the source's labels."""
    return level_cross_entropy("seg", logits, batch, weights)


def _counted(batch: Batch) -> Batch:
    """The batch with the number of its labelled pixels, the mean over the processes."""
    if batch.labels is None or batch.pixels is not None:
        return batch
    return replace(batch, pixels=distributed.all_reduce_mean(labelled_pixels(batch.labels)))


def _named(losses: Losses, target: str) -> Losses:
    """The same terms, in the name of a target."""
    return {f"{name}_{target}": loss for name, loss in losses.items()}
