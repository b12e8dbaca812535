"""Training of one stage: the loop, on Fabric.

It can be stopped after any iteration and goes on exactly there.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from muhdi import distributed
from muhdi.adaptation import Adaptation, build_adaptation
from muhdi.data.prepared import PreparedSet
from muhdi.data.stream import Batch, endless_batches
from muhdi.errors import Interrupted, MuhdiError
from muhdi.models.segmenter import Segmenter
from muhdi.models.statistics import average_statistics
from muhdi.recipe.methods import NoAdaptationConfig, NoRetentionConfig
from muhdi.recipe.schema import Recipe, Stage, StepConfig
from muhdi.retention import Retention, build_retention
from muhdi.run.progress import Monitor
from muhdi.training.fabric import Runner, compile_networks
from muhdi.training.iteration import train_iteration
from muhdi.training.nonfinite import Finite
from muhdi.training.optim import build_optimizer, poly, set_learning_rate

State = dict[str, Any]


@dataclass
class Sets:
    """Training images of one stage.

    The labelled source, and the target (None while training on the source alone).
    """

    source: PreparedSet
    target: PreparedSet | None


@dataclass(frozen=True)
class Hooks:
    """What a training calls.

    Attributes:
        save: every ``save_every`` iterations and before an interruption.
        snapshot: every ``snapshot_every`` iterations but the last.
        seen: with every batch and the name of its domain.
    """

    save: Callable[[], None]
    snapshot: Callable[[], None]
    seen: Callable[[str, Batch], None]


class StageTrainer:
    """Trains a network through one stage: on the source alone, or one step of the sequence.

    All randomness derives from (seed of the run, number of the stage), so a stage gives the same
    result whether the stages before it ran in the same process or not.

    Args:
        fabric: devices and precision.
        recipe: of the run.
        number: of the stage: 0 is the training on the source.
        model: trained in place; its heads become those of the stage's retention.
        sets: where images come from.
    """

    def __init__(
        self, fabric: Fabric, recipe: Recipe, number: int, model: Segmenter, sets: Sets
    ) -> None:
        self.fabric, self.recipe, self.number, self.model, self.sets = (
            fabric,
            recipe,
            number,
            model,
            sets,
        )
        self.config: Stage = recipe.steps[number - 1] if number else recipe.source_training
        self.iteration = 0
        self.generator = torch.Generator().manual_seed(_stage_seed(recipe.seed, number))
        torch.manual_seed(_stage_seed(recipe.seed, number))
        adaptation, retention = NoAdaptationConfig(), NoRetentionConfig()
        if isinstance(self.config, StepConfig):
            adaptation, retention = self.config.adaptation, self.config.retention  # type: ignore[assignment]
        self.retention: Retention = build_retention(retention, model).to(fabric.device)
        model.set_heads(self.retention.heads, self.retention.start)
        self.adaptation: Adaptation = build_adaptation(
            adaptation, model, self.retention.learner, self.generator
        )
        self.adaptation.to(fabric.device)
        self.model.to(fabric.device)
        if recipe.channels_last:
            for module in (self.model, self.retention, self.adaptation):
                module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if recipe.compile:
            compile_networks(self.model, self.retention, self.adaptation)
        optimizer = build_optimizer(model, recipe.optimizer, self.config.learning_rate)
        self.forward, self.optimizer = fabric.setup(model, optimizer)
        self.run = Runner(fabric, self.forward, channels_last=recipe.channels_last)
        changed = [self.model, self.adaptation, self.retention]
        self.finite = Finite(recipe.skip_bad, changed, optimizer, self.adaptation.optimizer)

    def state(self) -> State:
        """All that going on from this iteration needs, as plain tensors and numbers.

        All processes must ask for it.
        """
        average_statistics(self.model)
        own = self.adaptation.optimizer
        return {
            "iteration": self.iteration,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "adaptation": self.adaptation.state_dict(),
            "adaptation_optimizer": None if own is None else own.state_dict(),
            "retention": self.retention.state_dict(),
            "generator": self.generator.get_state(),
            "torch": torch.get_rng_state(),
            "skipped": self.finite.skipped,
        }

    def load_state(self, state: State) -> None:
        """Go on from what `state` returned."""
        self.iteration = state["iteration"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.adaptation.load_state_dict(state["adaptation"])
        if self.adaptation.optimizer is not None:
            self.adaptation.optimizer.load_state_dict(state["adaptation_optimizer"])
        self.retention.load_state_dict(state["retention"])
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["torch"])
        self.finite.skipped = state.get("skipped", 0)

    def fit(self, monitor: Monitor, name: str, hooks: Hooks, stopped: list[int]) -> None:
        """Train to the end of the stage.

        Args:
            name: of the stage, for the user.
            hooks: called on the way.
            stopped: signals received so far; once there is one, the state is saved and the stage
                left.

        Raises:
            Interrupted: after a signal.
            MuhdiError: a loss is not finite, or a file cannot be read; then the iterations before
                it are saved.
        """
        total = self.config.iterations
        source = self._batches(self.sets.source, "source")
        target = self._batches(self.sets.target, "target") if self.sets.target is not None else None
        self.forward.train()
        earlier = [self.recipe.source_training, *self.recipe.steps][: self.number]
        monitor.start(name, total, self.iteration, sum(stage.iterations for stage in earlier))
        try:
            while self.iteration < total:
                try:
                    batch = next(source).to(self.fabric.device)
                    other = next(target).to(self.fabric.device) if target is not None else None
                except MuhdiError:
                    if (
                        self.iteration and distributed.world_size() == 1
                    ):  # nothing is lost by a file that vanished
                        self.finite.read()
                        hooks.save()
                    raise
                self._advance(batch, other, monitor, hooks, stopped)
        finally:
            for batches in (source, target):
                if batches is not None:
                    batches.close()
        monitor.finish()

    def _advance(
        self, batch: Batch, other: Batch | None, monitor: Monitor, hooks: Hooks, stopped: list[int]
    ) -> None:
        """One iteration, and what is due after it."""
        total = self.config.iterations
        hooks.seen(self.sets.source.images.domain, batch)
        if other is not None and self.sets.target is not None:
            hooks.seen(self.sets.target.images.domain, other)
        losses = self._iterate(batch, other)
        self.iteration += 1
        images = [*batch.names, *(other.names if other is not None else ())]
        if skipped := self.finite.note(self.iteration, losses, images):
            monitor.skipped(self.iteration, images, skipped)
        log = self.iteration % self.recipe.log_every == 0 or self.iteration == total
        # Asking each other in every iteration would make the processes of GPUs wait for them.
        ask = log or distributed.world_size() == 1 or self.fabric.device.type == "cpu"
        stop = first_signal(stopped) if ask else None
        keep = stop is not None or (
            self.iteration % self.recipe.save_every == 0 and self.iteration < total
        )
        # Reading the losses waits for the device; a state is never saved with losses that were not
        # read.
        values = self.finite.read() if log or keep else {}
        if keep or self.iteration == total:
            self.finite.check_weights(self.iteration, images)
        monitor.advance(
            self.iteration, distributed.world_size() * len(images), values if log else {}
        )
        if (
            self.recipe.snapshot_every
            and self.iteration % self.recipe.snapshot_every == 0 < total - self.iteration
        ):
            hooks.snapshot()
        if keep:
            hooks.save()
        if stop is not None:
            monitor.finish()
            raise Interrupted(stop)

    def _iterate(self, source: Batch, target: Batch | None) -> dict[str, Tensor]:
        config, power = self.config, self.recipe.optimizer.power
        length = config.schedule or config.iterations
        set_learning_rate(self.optimizer, poly(config.learning_rate, self.iteration, length, power))
        if self.adaptation.optimizer is not None:
            rate = poly(self.adaptation.learning_rate, self.iteration, length, power)
            set_learning_rate(self.adaptation.optimizer, rate)
        self.optimizer.zero_grad(set_to_none=True)
        self.finite.begin()
        with self.fabric.autocast():
            losses = train_iteration(
                self.run, self.model, self.adaptation, self.retention,
                source, target, {"main": config.weight_main, "aux": config.weight_aux}, config.accumulate,
            )  # fmt: skip
        if self.finite.spoiled(losses):
            return losses
        self.optimizer.step()
        self.adaptation.after_step(self.model)
        return losses

    def _batches(self, samples: PreparedSet, role: str) -> Generator[Batch]:
        seed = (self.recipe.seed, self.number, ("source", "target").index(role))
        size = self.config.batch_size
        if role == "target" and isinstance(self.config, StepConfig):
            size = self.config.target_batch_size or size
        return endless_batches(
            samples, size, self.recipe.augment, seed, self.iteration, self.recipe.loader.workers
        )


def _stage_seed(seed: int, number: int) -> int:
    return (seed * 1_000_003 + number) % 2**63


def first_signal(stopped: list[int]) -> int | None:
    """The first signal that any process has received, the same for all of them."""
    return next(
        (signum for each in distributed.all_gather_objects(stopped[:1]) for signum in each), None
    )
