"""Devices: what a recipe asks for, what torchrun or SLURM has started, and passes through a network on them."""

from __future__ import annotations

import atexit
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor, nn

from muhdi import distributed
from muhdi.data.stream import worker_ended
from muhdi.errors import Interrupted, MuhdiError
from muhdi.losses import Losses
from muhdi.models.discriminator import Discriminator
from muhdi.models.segmenter import Segmenter
from muhdi.recipe.schema import Recipe, Stage, StepConfig
from muhdi.training.iteration import Objective, total


def build_fabric(recipe: Recipe) -> Fabric:
    """The device and precision that the recipe asks for, in this process alone."""
    kind, number = _kind(recipe)
    return _fabric(recipe, accelerator=kind, devices=1 if number is None else [number])


def _fabric(recipe: Recipe, **options: Any) -> Fabric:
    """A Fabric that says nothing of itself to the user."""
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    return Fabric(precision=recipe.precision, **options)


def launch(recipe: Recipe) -> Fabric:
    """All devices that the recipe asks for, or that torchrun or SLURM has started processes for.

    One process each.

    Raises:
        MuhdiError: this machine has fewer devices, or a batch cannot be shared among them.
    """
    kind, number = _kind(recipe)
    there = 1 if kind == "cpu" else max(torch.cuda.device_count(), 1)
    devices, nodes = _started(recipe) or (
        there if recipe.devices == "auto" else recipe.devices,
        recipe.nodes,
    )
    if distributed.world_size() not in (1, devices * nodes):
        raise MuhdiError(
            f"devices: an earlier run of this program has started {distributed.world_size()}"
            f" processes, but the recipe asks for {devices * nodes}; start another program for it"
        )
    if devices * nodes == 1 and recipe.strategy == "auto":
        return build_fabric(recipe)
    if number is not None:
        raise MuhdiError(
            f"device: {recipe.device} is one device; with devices: {devices} set device: cuda"
        )
    if kind != "cpu" and 0 < torch.cuda.device_count() < devices:
        raise MuhdiError(
            f"devices: this machine has {torch.cuda.device_count()}; set devices: auto to use"
            " them all"
        )
    if kind == "auto" and not torch.cuda.is_available():
        kind = "cpu"
    check_batches(recipe, devices * nodes)
    # A head that a target's losses leave out gets no gradient in that pass, hence the search for
    # unused parameters.
    strategy = DDPStrategy(find_unused_parameters=True, broadcast_buffers=False)
    fabric = _fabric(recipe, accelerator=kind, devices=devices, num_nodes=nodes, strategy=strategy)
    warnings.filterwarnings(
        "ignore", "Grad strides do not match bucket view strides"
    )  # of 1x1 weights: no matter
    warnings.filterwarnings(
        "ignore", "`broadcast_buffers` is deprecated"
    )  # in newer releases than we ask for
    fabric.launch()
    atexit.register(_leave)
    return fabric


def _leave() -> None:
    """What the processes talk with must end before Python does."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def check_batches(recipe: Recipe, devices: int = 1) -> None:
    """Refuse a batch that the devices, or the parts in which they compute it, cannot share equally."""
    stages: list[tuple[str, Stage]] = [(f"steps.{i}", step) for i, step in enumerate(recipe.steps)]
    if recipe.source_training.iterations:
        stages.insert(0, ("source_training", recipe.source_training))
    for key, stage in stages:
        sizes = {"batch_size": stage.batch_size}
        if isinstance(stage, StepConfig) and stage.target_batch_size:
            sizes["target_batch_size"] = stage.target_batch_size
        for name, size in sizes.items():
            if size % (devices * stage.accumulate):
                each = (
                    ""
                    if stage.accumulate == 1
                    else f" in {stage.accumulate} parts each (accumulate)"
                )
                raise MuhdiError(
                    f"{key}.{name}: {devices} device{'s' * (devices > 1)} cannot share {size}"
                    f" images equally{each}; set it to a multiple of {devices * stage.accumulate}"
                )


def _kind(recipe: Recipe) -> tuple[str, int | None]:
    """Fabric's name of the accelerator, and the device's number where the recipe names one."""
    kind, _, number = recipe.device.partition(":")
    if kind == "cuda" and torch.cuda.device_count() <= int(number or 0):
        raise MuhdiError(
            f"device: this machine has no device {recipe.device}; set device: auto or cpu"
        )
    return kind, int(number) if number else None


def _started(recipe: Recipe) -> tuple[int, int] | None:
    """Processes per machine, and machines, where torchrun or srun has started us.

    They know better than the recipe.
    """
    here = os.environ
    if torch.distributed.is_torchelastic_launched():
        each = int(here["LOCAL_WORLD_SIZE"])
        return each, int(here["WORLD_SIZE"]) // each
    if "SLURM_NTASKS" not in here or "SLURM_PROCID" not in here:
        return None
    if here.get("SLURM_JOB_NAME") in ("bash", "interactive"):
        return None
    tasks, nodes = int(here["SLURM_NTASKS"]), int(here.get("SLURM_NNODES", 1))
    advice = "start it with srun --nodes=M --ntasks-per-node=N, one task per device"
    if tasks > 1 and "SLURM_STEP_ID" not in here:
        raise MuhdiError(
            f"devices: SLURM has {tasks} tasks for this job, but srun has not started this process;"
            f" {advice}"
        )
    if tasks > 1 and "SLURM_NTASKS_PER_NODE" not in here:
        raise MuhdiError(
            f"devices: SLURM does not say how many of its {tasks} tasks run on a node; {advice}"
        )
    if tasks == 1 and (recipe.devices != 1 or recipe.nodes > 1):
        raise MuhdiError(f"devices: SLURM has a single task for this job; {advice}")
    return tasks // nodes, nodes


class Runner:
    """Passes through a network on Fabric: the `Pass` of `muhdi.training.iteration`.

    Args:
        fabric: devices and precision.
        module: the network as `Fabric.setup` returned it.
        channels_last: the memory format of images.
    """

    def __init__(self, fabric: Fabric, module: Any, *, channels_last: bool) -> None:
        self.fabric, self.module = fabric, module
        self.format = torch.channels_last if channels_last else torch.contiguous_format

    def __call__(self, images: Tensor, objective: Objective, *, share: float, last: bool) -> Losses:
        """Forward, objective, backward.

        The processes' gradients meet in the iteration's last pass alone.
        """
        with self.fabric.no_backward_sync(self.module, enabled=not last):
            losses = objective(self.module(images.contiguous(memory_format=self.format)))
            # Without a backward pass the gradients of the passes before it would never meet.
            assert losses or not (last and torch.is_grad_enabled()), (
                "a method has announced losses and has none"
            )
            if losses:
                with torch.autocast(self.fabric.device.type, enabled=False):  # as PyTorch advises
                    self.fabric.backward(share * total(losses))
        return losses


@contextmanager
def lost_processes_are_told(fabric: Fabric) -> Iterator[None]:
    """Turn the loss of another process, or of one that loads images, into one line.

    After an error, the processes that we started are ended.
    """
    try:
        yield
    except Interrupted:
        raise
    except Exception as error:
        for process in getattr(fabric.strategy.launcher, "procs", []):
            process.kill()  # it may hang in an exchange; only the first process has anything to save
        if (ended := worker_ended(error)) is not None:
            raise ended from None
        lost = isinstance(error, torch.distributed.DistBackendError) or "gloo" in str(error)
        if distributed.world_size() == 1 or not lost:
            raise
        raise MuhdiError(
            "another process of this run has ended; what it said stands above, and --resume goes on"
        ) from error


def compile_networks(*modules: nn.Module) -> None:
    """Compile every network among ``modules`` and inside them, in place.

    Names and state stay as they are.
    """
    for module in modules:
        for network in module.modules():
            if isinstance(network, (Segmenter, Discriminator)):
                network.compile()
