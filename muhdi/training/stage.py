"""Training of one stage: it can be stopped after any iteration and continues exactly there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from muhdi import distributed
from muhdi.data.stream import LoadedBatch
from muhdi.errors import Interrupted, MuhdiError, RunError
from muhdi.losses import Losses
from muhdi.method import Memory, Method, MethodContext, OwnNetwork
from muhdi.models.adapters import merge_adapters
from muhdi.models.average import continued, head_states
from muhdi.models.fast import accelerate
from muhdi.models.segmenter import Segmenter
from muhdi.models.statistics import average_statistics
from muhdi.models.tensor_files import load_exactly
from muhdi.passes import Batch
from muhdi.recipe.methods import NO_ADAPTATION
from muhdi.recipe.retentions import NO_RETENTION
from muhdi.recipe.schema import Recipe
from muhdi.recipe.stages import StepConfig
from muhdi.retention.base import trained_heads
from muhdi.training.begin import Surroundings, begin_methods
from muhdi.training.carried import Carried
from muhdi.training.fabric import FabricRunner, used_precision
from muhdi.training.iteration import train_iteration
from muhdi.training.method_checks import check_own_networks, checked_memory
from muhdi.training.nonfinite import IterationLosses, LossReader, check_weights
from muhdi.training.optim import (
    build_optimizer,
    clip_gradients,
    learning_rate,
    set_learning_rate,
)
from muhdi.training.passes import Methods
from muhdi.training.sets import Sets
from muhdi.training.skip_bad import SkipBad
from muhdi.training.stage_batches import NoBatches, StageBatches
from muhdi.training.start import fill_from_files
from muhdi.training.tuning import tune
from muhdi.training.watcher import Event, Watcher, due

State = dict[str, Any]


class StageTrainer:
    """Trains a network through one stage: on the source alone, or one step of the sequence.

    All randomness derives from (seed of the run, number of the stage), so a stage gives the same
    result whether the stages before it ran in the same process or not.

    Args:
        fabric: devices and precision.
        recipe: of the run.
        number: of the stage: 0 is the training on the source.
        carried: what the stages before have left; its network is trained in place.
        sets: where images come from.
        state: of the same stage, from which it continues.

    Attributes:
        keeps_teacher: whether the mean teacher goes into the network's file.
        remarks: what methods have said to the user so far.

    Raises:
        RunError: a method's own networks are not what they must be; the message names its class.
    """

    def __init__(
        self,
        fabric: Fabric,
        recipe: Recipe,
        number: int,
        carried: Carried,
        sets: Sets,
        state: State | None = None,
    ) -> None:
        self.fabric = fabric
        self.recipe = recipe
        self.number = number
        self.carried = carried
        self.network = carried.network
        self.sets = sets
        self.config = recipe.stages()[number].config
        self.resumed = state is not None
        self.iteration = 0
        self.finished = False
        self.batches = StageBatches(sets.source, sets.targets, fabric.device)
        seed = _stage_seed(recipe.seed, number)
        self.generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)
        # Before methods begin: teachers copy the adapters.
        self.adapters = tune(self.network, recipe.model.tune)
        if state is not None:
            # Methods begin with the network as the stage before has left it.
            _have_heads(self.network, state["heads_before"])
        self.heads_before = list(self.network.heads)
        self.keeps_teacher = True
        self.name = recipe.stages()[number].name
        self.remarks: list[str] = []
        averages = recipe.optimizer.ema is not None
        states_before = head_states(self.network) if averages else {}
        self.methods = self._begin_methods()
        self._move_to_device()
        if averages:
            carried.average = continued(carried.average, self.network, states_before)
        self.average = carried.average
        self.own_networks = self._start_own_networks()
        if recipe.compile:
            self._compile()
        self.optimizer = build_optimizer(self.network, recipe.optimizer, self.config.learning_rate)
        self.run = FabricRunner(fabric, self.network, channels_last=recipe.channels_last)
        self.losses = LossReader()
        trained = (self.network, *self.methods.all)
        self.skip_bad = SkipBad(recipe.runtime.skip_bad, trained)
        if state is not None:
            self._load_state(state)

    def _begin_methods(self) -> Methods:
        adaptation_config: Any = NO_ADAPTATION
        retention_config: Any = NO_RETENTION
        targets: tuple[str, ...] = (self.name,)
        if isinstance(self.config, StepConfig):
            adaptation_config = self.config.adaptation
            retention_config = self.config.retention
            targets = self.config.domain_names
        heads = trained_heads(retention_config, len(targets))
        network = self.network
        network.to(self.fabric.device)
        classes = self.recipe.class_set()
        context = MethodContext(
            network.classes,
            network.levels,
            heads[0],
            self.generator,
            class_names=classes.classes,
            stage=self.name,
            has_source=self.sets.source is not None,
            targets=targets,
            heads=heads,
            iterations=self.config.iterations,
        )
        found = Surroundings(
            network,
            NoBatches() if self.resumed else self.batches,
            self.carried.memory,
            classes,
            self.carried.first,
        )
        weights = {"main": self.config.weight_main, "aux": self.config.weight_aux}
        methods = begin_methods(adaptation_config, retention_config, context, weights, found)
        return replace(methods, mean_over=self.config.mean_over)

    def _move_to_device(self) -> None:
        modules: list[nn.Module] = [self.network, *self.methods.all]
        for module in modules:
            module.to(self.fabric.device)
            if self.recipe.channels_last:
                module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        accelerate(nn.ModuleList(modules))

    def _compile(self) -> None:
        """Compile networks in place: the network, teachers, and methods' own; names stay."""
        for module in (self.network, *self.methods.all):
            for network in module.modules():
                if isinstance(network, Segmenter):
                    network.compile()
        for own in self.own_networks.values():
            own.module.compile()

    def _start_own_networks(self) -> dict[str, OwnNetwork]:
        """The methods' own networks, by ``<method>/<network>``; some continue from earlier ones."""
        check_own_networks([method for _, method in self._configured_methods()])
        found: dict[str, OwnNetwork] = {}
        for config, method in self._configured_methods():
            for name, own in method.own_networks().items():
                key = f"{config.key}/{name}"
                found[key] = own
                if config.carries and key in self.carried.networks:
                    load_exactly(own.module, self.carried.networks[key], key)
            if not self.resumed:
                key = self.recipe.stages()[self.number].key
                fill_from_files(method.own_networks(), config, self.recipe, key)
        return found

    def _configured_methods(self) -> Iterator[tuple[Any, Method]]:
        yield self.methods.adaptation.config, self.methods.adaptation
        for retention in self.methods.retentions:
            yield retention.config, retention

    # --- state ------------------------------------------------------------------------------------

    def state(self) -> State:
        """All that continuing from this iteration needs, as plain tensors, numbers and names.

        Called after `sync_statistics`.
        """
        average = {} if self.average is None else {"average": self.average.state()}
        return {
            **average,
            "iteration": self.iteration,
            "finished": self.finished,
            "heads_before": self.heads_before,
            "model": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "adaptation": self.methods.adaptation.state_dict(),
            "retentions": [retention.state_dict() for retention in self.methods.retentions],
            "additions": [addition.state_dict() for addition in self.methods.additions],
            "own_optimizers": {
                name: own.optimizer.state_dict() for name, own in self.own_networks.items()
            },
            "generator": self.generator.get_state(),
            "torch": torch.get_rng_state(),
            "skipped": self.skip_bad.skipped,
            "remarks": self.remarks,
            "precision": used_precision(self.recipe),
        }

    def _load_state(self, state: State) -> None:
        self.iteration = state["iteration"]
        self.finished = state["finished"]
        if self.finished:
            self._merge_adapters()
        self.network.load_state_dict(state["model"])
        if self.average is not None:
            self.average.load(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        # States of earlier versions have one retention, and no additions.
        retentions = state.get("retentions") or [state["retention"]]
        saved = [state["adaptation"], *retentions, *state.get("additions", [])]
        try:
            for method, own_state in zip(self.methods.all, saved, strict=True):
                method.load_state_dict(own_state)
        except (RuntimeError, ValueError):
            raise RunError(
                "the training state is of another version of muhdi, or of other methods; start"
                " again with --overwrite"
            ) from None
        for name, own in self.own_networks.items():
            own.optimizer.load_state_dict(state["own_optimizers"][name])
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["torch"])
        self.skip_bad.skipped = state["skipped"]
        # States of earlier versions have none.
        self.remarks = state.get("remarks", [])
        if self.finished:
            self.keep_teacher()

    def sync_statistics(self) -> None:
        """Average the running statistics over the processes; whoever saves calls it before."""
        average_statistics(self.network)
        if self.average is not None:
            self.average.copy_buffers(self.network)

    def keep_teacher(self) -> None:
        """Hand on the mean teacher as it is now, if there is one; before a network is written."""
        teacher = self.methods.teacher
        self.carried.teacher = None
        if teacher is None or not self.keeps_teacher:
            return
        adapted = self.recipe.model.tune.method == "lora"
        kept = teacher.in_place_of(self.plain_network(), adapted=adapted)
        kept.statistics = self.carried.teacher_statistics
        self.carried.teacher = kept

    def plain_network(self) -> Segmenter:
        """The network as its file holds it; in the middle of a stage with adapters, a copy."""
        if self.adapters is None:
            return self.network
        plain = deepcopy(self.network)
        merge_adapters(plain.backbone)
        return plain

    def _merge_adapters(self) -> None:
        if self.adapters is not None:
            self.adapters.merge()
            self.adapters = None

    def finish(self) -> None:
        """The stage is over: methods hand on what later steps need. Once: `finished` is saved."""
        assert not self.finished
        self.sync_statistics()
        self.keep_teacher()
        self._merge_adapters()
        for method in self.methods.all:
            method.settle(self.network)
        for config, method in self._configured_methods():
            memory = method.end(self.network, self.batches)
            if memory:
                self.carried.memory[config.key] = _copied(checked_memory(method, memory))
        for key, own in self.own_networks.items():
            self.carried.networks[key] = _copied(own.module.state_dict())
        self.finished = True

    # --- the loop ---------------------------------------------------------------------------------

    def fit(self, name: str, watcher: Watcher) -> Iterator[Event]:
        """Train to the end of the stage, and yield what is due between iterations.

        Args:
            name: of the stage, for the user.
            watcher: who looks on.

        Raises:
            Interrupted: after a signal; `Event.SAVE` was yielded before.
            MuhdiError: a loss is not finite, or a file cannot be read.
        """
        total = self.config.iterations
        before = self.recipe.iterations_before(self.number)
        self.network.train()
        later = self.recipe.iterations_before(len(self.recipe.stages())) - before - total
        watcher.log.start(name, total, self.iteration, before, later)
        with ExitStack() as stack:
            streams = self.sets.batches(self.recipe, self.number, self.iteration)
            opened = [stack.enter_context(closing(stream)) for stream in streams]
            while self.iteration < total:
                try:
                    batches = [next(stream) for stream in opened]
                except MuhdiError:
                    # Nothing is lost by a file that has vanished. With several processes the others
                    # wait elsewhere: they cannot take part in saving.
                    if self.iteration and distributed.world_size() == 1:
                        self.losses.flush()
                        yield Event.SAVE
                    raise
                yield from self._advance(batches, watcher)
        watcher.log.finish()

    def _advance(self, batches: Sequence[LoadedBatch | None], watcher: Watcher) -> Iterator[Event]:
        """One iteration, and what is due after it."""
        images = self._show(batches, watcher)
        losses, bad = self.iterate(*batches)
        self.iteration += 1
        entry = IterationLosses.of(self.iteration, losses, images)
        if bad:
            watcher.log.skipped(self.iteration, images, self.skip_bad.message(entry))
        else:
            self.losses.record(entry)
        runtime = self.recipe.runtime
        last = self.iteration == self.config.iterations
        log = self.iteration % runtime.log_every == 0 or last
        # Asking each other in every iteration would make the processes of GPUs wait for them.
        ask = log or distributed.world_size() == 1 or self.fabric.device.type == "cpu"
        signal = first_signal(watcher.signals) if ask else None
        save = signal is not None or (self.iteration % runtime.save_every == 0 and not last)
        # A state is never saved with losses that were not looked at.
        values = self.losses.flush() if log or save else {}
        if save or last:
            check_weights(self.network.parameters(), self.iteration, images)
        seen = distributed.world_size() * len(images)
        watcher.log.advance(self.iteration, seen, values if log and not bad else {})
        if log:
            for remark in self.methods.remarks():
                self.remarks.append(f"iteration {self.iteration}: {remark}")
                watcher.log.print(f"{self.name}, {self.remarks[-1]}")
        if not last:
            yield from due(self.recipe, self.number, self.iteration)
        if save:
            yield Event.SAVE
        if signal is not None:
            watcher.log.finish()
            raise Interrupted(signal)

    def _show(self, batches: Sequence[LoadedBatch | None], watcher: Watcher) -> list[str]:
        """Let the watcher see the batches; returns the names of their images."""
        names: list[str] = []
        for samples, batch in zip(self.sets.drawn, batches, strict=True):
            if samples is not None and batch is not None:
                watcher.on_batch(samples.images.domain, batch)
                names += batch.names
        return names

    def iterate(
        self, source: LoadedBatch | None, *others: LoadedBatch | None
    ) -> tuple[Losses, bool]:
        """One update of everything that is trained; whether it was left out for a bad batch.

        Public, so that whoever measures a training or injects a fault into it can override it. It
        gets a batch of each of `Sets.drawn`: of the source, of each target, and of the few images
        whose labels take part.
        """
        self._schedule()
        self._zero_gradients()
        self.skip_bad.snapshot()
        device = self.fabric.device
        with self.fabric.autocast():
            shown = _on_device(source, device)
            drawn = [_on_device(batch, device) for batch in others]
            # In the training on the source there is None in the target's place.
            targets = [batch for batch in drawn[: len(self.sets.targets)] if batch is not None]
            labelled = None if self.sets.labelled is None else drawn[-1]
            passes = self.methods.passes(shown, targets, labelled)
            losses = train_iteration(
                self.run,
                passes,
                lambda: self.methods.penalty(self.network),
                self.config.accumulate,
            )
        gradients = self._average_gradients()
        if self.skip_bad.roll_back_if_bad(losses, gradients):
            return losses, True
        clip_gradients(self.network, self.recipe.optimizer.clip)
        self.optimizer.step()
        for own in self.own_networks.values():
            for _ in range(own.updates):
                own.optimizer.step()
        self.methods.after_step(self.network)
        if self.average is not None and self.recipe.optimizer.ema is not None:
            self.average.follow(self.network, self.recipe.optimizer.ema)
        return losses, False

    def _schedule(self) -> None:
        """Set every optimizer's learning rate for this iteration."""
        length = self.config.schedule or self.config.iterations
        config = self.recipe.optimizer
        rate = learning_rate(self.config.learning_rate, self.iteration, length, config)
        set_learning_rate(self.optimizer, rate)
        for own in self.own_networks.values():
            rate = learning_rate(own.learning_rate, self.iteration, length, config)
            set_learning_rate(own.optimizer, rate)

    def _zero_gradients(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        for own in self.own_networks.values():
            own.optimizer.zero_grad(set_to_none=True)

    def _average_gradients(self) -> list[Tensor]:
        """All gradients, averaged over the processes after the last pass.

        In one exchange at the end, whichever passes an iteration consists of: a gradient is
        complete only then.
        """
        modules = [self.network, *(own.module for own in self.own_networks.values())]
        gradients = [
            parameter.grad
            for module in modules
            for parameter in module.parameters()
            if parameter.grad is not None
        ]
        distributed.average_tensors(gradients)
        return gradients


def _on_device(batch: LoadedBatch | None, device: torch.device) -> Batch | None:
    if batch is None:
        return None
    moved = batch.to(device)
    return Batch(moved.images, moved.labels, windows=moved.windows)


def _have_heads(network: Segmenter, names: Sequence[str]) -> None:
    """Give a network heads of these names; a saved state fills them."""
    known = dict(network.heads.items())
    network.set_heads({name: known.get(name) or network.new_head() for name in names})


def _copied(tensors: Memory) -> Memory:
    """Copies on the CPU, which stay as they are when the network is trained on."""
    return {name: value.detach().cpu().clone() for name, value in tensors.items()}


def _stage_seed(seed: int, number: int) -> int:
    return (seed * 1_000_003 + number) % 2**63


def first_signal(signals: list[int]) -> int | None:
    """The first signal that any process has received, the same for all of them."""
    for received in distributed.all_gather_objects(signals[:1]):
        if received:
            return received[0]
    return None
