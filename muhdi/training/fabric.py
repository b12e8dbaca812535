"""Devices: what a recipe asks for, what torchrun or SLURM started, and passes on them."""

from __future__ import annotations

import atexit
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor

from muhdi import distributed
from muhdi.data.stream import worker_ended
from muhdi.errors import Interrupted, PeerFailed, RecipeError, RunError
from muhdi.models.outputs import Outputs
from muhdi.models.segmenter import Segmenter
from muhdi.recipe.schema import Recipe
from muhdi.recipe.stages import StepConfig

Precision = Literal["32-true", "bf16-mixed"]
"""What passes are computed in."""


def build_fabric(recipe: Recipe) -> Fabric:
    """The device and precision that the recipe asks for, in this process alone."""
    accelerator, number = _accelerator(recipe)
    devices = 1 if number is None else [number]
    return _fabric(recipe, started=False, accelerator=accelerator, devices=devices)


def _fabric(recipe: Recipe, *, started: bool, **options: Any) -> Fabric:
    """A Fabric that says nothing of itself to the user.

    Args:
        recipe: of the run.
        started: whether torchrun or srun has started the processes. Otherwise Fabric is not to look
            for them: inside an allocation of SLURM it would take this process for one of many.
        options: of the Fabric.
    """
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    plugins = None if started else LightningEnvironment()
    return Fabric(precision=used_precision(recipe), plugins=plugins, **options)


def used_precision(recipe: Recipe) -> Precision:
    """The precision of training, once `auto` has met this machine's device.

    Raises:
        RunError: the machine has no such device.
    """
    if recipe.precision != "auto":
        return recipe.precision
    accelerator, number = _accelerator(recipe)
    if accelerator == "cpu" or not torch.cuda.is_available():
        return "32-true"
    with torch.cuda.device(number or 0):
        # Older GPUs only imitate bf16, slower than float32.
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16-mixed" if native else "32-true"


def precision_notes(recipe: Recipe, before: str | None = None) -> list[str]:
    """What the user should know of `precision: auto`; nothing where the recipe names a precision.

    Args:
        recipe: of the run.
        before: the precision of the state from which it continues; None: it begins.
    """
    if recipe.precision != "auto":
        return []
    used = used_precision(recipe)
    notes = [f"precision: auto is {used} on this device"]
    if before not in (None, used):
        notes.append(
            f"precision: this run has computed in {before} so far and continues in {used}, so that"
            " its numbers are not those of one device; to keep to one, start again with"
            f" --overwrite and precision={before}"
        )
    return notes


def launch(recipe: Recipe) -> Fabric:
    """All devices that the recipe asks for, or that torchrun or SLURM has started processes for.

    There is one process per device.

    Raises:
        MuhdiError: this machine has fewer devices, or a batch cannot be shared among them.
    """
    accelerator, number = _accelerator(recipe)
    there = 1 if accelerator == "cpu" else max(torch.cuda.device_count(), 1)
    started = _started(recipe)
    devices, nodes = started or (
        there if recipe.runtime.devices == "auto" else recipe.runtime.devices,
        recipe.runtime.nodes,
    )
    if distributed.world_size() not in (1, devices * nodes):
        raise RunError(
            "runtime.devices: an earlier run of this program has started"
            f" {distributed.world_size()} processes, but the recipe asks for {devices * nodes};"
            " start another program for it"
        )
    if devices * nodes == 1 and recipe.runtime.strategy == "auto":
        return build_fabric(recipe)
    if number is not None:
        raise RunError(
            f"runtime.device: {recipe.runtime.device} is a single device; to use {devices}, set"
            " runtime.device=cuda"
        )
    if accelerator != "cpu" and 0 < torch.cuda.device_count() < devices:
        raise RunError(
            f"runtime.devices: this machine has {torch.cuda.device_count()}; set"
            " runtime.devices=auto to use them all"
        )
    if accelerator == "auto" and not torch.cuda.is_available():
        accelerator = "cpu"
    check_batches(recipe, devices * nodes)
    # Only to start the processes: the loop averages gradients itself, see `FabricRunner`.
    strategy = DDPStrategy()
    fabric = _fabric(
        recipe,
        started=started is not None,
        accelerator=accelerator,
        devices=devices,
        num_nodes=nodes,
        strategy=strategy,
    )
    fabric.launch()
    atexit.register(_leave)
    return fabric


def launch_alone(recipe: Recipe) -> Fabric:
    """A single device in this process, however many the recipe asks for: to try a recipe out.

    Raises:
        MuhdiError: several processes are at work, or the recipe's devices cannot share a batch.
    """
    started = _started(recipe)
    if distributed.world_size() > 1 or (started is not None and started[0] * started[1] > 1):
        raise RunError(
            "a dry run takes place in a single process; start it by itself, without torchrun, srun"
            " or an earlier run on several devices"
        )
    if recipe.runtime.devices != "auto":
        check_batches(recipe, recipe.runtime.devices * recipe.runtime.nodes)
    return build_fabric(recipe)


def _leave() -> None:
    """What the processes talk with must end before Python does."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def check_batches(recipe: Recipe, devices: int = 1) -> None:
    """Refuse a batch that devices, or the parts in which they compute it, cannot share equally."""
    for stage in recipe.stages():
        config = stage.config
        if not config.iterations:
            continue
        sizes = {"batch_size": config.batch_size}
        if isinstance(config, StepConfig) and config.target_batch_size:
            sizes["target_batch_size"] = config.target_batch_size
        for name, size in sizes.items():
            if size % (devices * config.accumulate):
                parts = (
                    ""
                    if config.accumulate == 1
                    else f" in {config.accumulate} parts each (accumulate)"
                )
                raise RecipeError(
                    f"{stage.key}.{name}: {devices} device{'s' * (devices > 1)} cannot share {size}"
                    f" images equally{parts}; set it to a multiple of {devices * config.accumulate}"
                )


def _accelerator(recipe: Recipe) -> tuple[str, int | None]:
    """Fabric's name of the accelerator, and the device's number where the recipe names one."""
    accelerator, _, number = recipe.runtime.device.partition(":")
    if accelerator == "cuda" and torch.cuda.device_count() <= int(number or 0):
        raise RunError(
            f"runtime.device: this machine has no device {recipe.runtime.device}; set"
            " runtime.device to auto or cpu"
        )
    return accelerator, int(number) if number else None


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
    tasks = int(here["SLURM_NTASKS"])
    if tasks > 1 and here.get("SLURM_STEP_NUM_TASKS") == "1":
        return None  # a shell in an allocation, or a single task of it
    nodes = int(here.get("SLURM_NNODES", 1))
    advice = "start it with srun --nodes=M --ntasks-per-node=N, one task per device"
    if tasks > 1 and "SLURM_STEP_ID" not in here:
        raise RunError(
            f"runtime.devices: SLURM has {tasks} tasks for this job, but srun has not started this"
            f" process; {advice}"
        )
    if tasks > 1 and "SLURM_NTASKS_PER_NODE" not in here:
        raise RunError(
            f"runtime.devices: SLURM does not say how many of its {tasks} tasks run on a node;"
            f" {advice}"
        )
    if tasks == 1 and (recipe.runtime.devices != 1 or recipe.runtime.nodes > 1):
        raise RunError(f"runtime.devices: SLURM has a single task for this job; {advice}")
    return tasks // nodes, nodes


class FabricRunner:
    """Passes through a network: the `Runner` of `muhdi.training.iteration`.

    The network is not wrapped: the loop averages gradients itself once all passes are done, so that
    any list of passes works, whichever heads take part in which.

    Args:
        fabric: devices and precision.
        network: on the fabric's device.
        channels_last: the memory format of images.
    """

    def __init__(self, fabric: Fabric, network: Segmenter, *, channels_last: bool) -> None:
        self.fabric = fabric
        self.network = network
        self.format = torch.channels_last if channels_last else torch.contiguous_format

    def forward(self, images: Tensor) -> Outputs:
        """Outputs in full precision, even where the network computes in less."""
        outputs: Outputs = self.network(images.contiguous(memory_format=self.format))
        return outputs.full_precision()

    def backward(self, loss: Tensor) -> None:
        """Accumulate gradients; outside autocast, as PyTorch advises."""
        with torch.autocast(self.fabric.device.type, enabled=False):
            loss.backward()


@contextmanager
def report_lost_processes(fabric: Fabric) -> Iterator[None]:
    """Turn the loss of another process, or of one that loads images, into one line.

    After an error, the processes that we started are ended.
    """
    try:
        yield
    except (Interrupted, PeerFailed):
        raise
    except Exception as error:
        for process in getattr(fabric.strategy.launcher, "procs", []):
            # It may hang in an exchange, and only the first process has anything to save.
            process.kill()
        if (ended := worker_ended(error)) is not None:
            raise ended from None
        lost = isinstance(error, torch.distributed.DistBackendError) or "gloo" in str(error)
        if distributed.world_size() == 1 or not lost:
            raise
        raise RunError(
            "another process of this run has ended; its message is above; continue with --resume"
        ) from error
