"""Losses, gradients and weights that are not finite.

Found with the images named, and skipped where that is allowed.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from muhdi import distributed
from muhdi.errors import MuhdiError
from muhdi.losses import Losses

_MOST_NAMES = 8


@dataclass(frozen=True)
class _Unread:
    """An iteration whose losses were not looked at yet: reading them waits for the device."""

    iteration: int
    images: tuple[str, ...]
    terms: tuple[str, ...]
    values: Tensor


class Finite:
    """Watches the iterations of a stage.

    Without ``allowed`` nothing is read until `read` is called, so that the device is never waited
    for in between.

    Args:
        allowed: bad batches that may be skipped; the update of such a batch is left out, and
            everything that its iteration had changed by then is put back. Its place in the schedule
            and in the random numbers is used up.
        modules: all that an iteration changes before the optimizer's step: buffers, and what
            ``own`` trains.
        optimizer: of the network.
        own: the adaptation's optimizer, if it has one.

    Attributes:
        skipped: bad batches so far.
    """

    def __init__(
        self,
        allowed: int,
        modules: Sequence[nn.Module],
        optimizer: Optimizer,
        own: Optimizer | None,
    ) -> None:
        self.allowed, self.modules, self.optimizer, self.own = allowed, modules, optimizer, own
        self.skipped = 0
        self._unread: list[_Unread] = []
        self._kept: list[tuple[Tensor, Tensor]] = []
        self._kept_own: dict[str, Any] = {}
        self._put_back = False

    def begin(self) -> None:
        """Before an iteration: where batches may be skipped, remember what it may change."""
        self._put_back = False
        if not self.allowed:
            return
        tensors = [buffer for module in self.modules for buffer in module.buffers()]
        if self.own is not None:
            tensors += _parameters(self.own)
            self._kept_own = copy.deepcopy(self.own.state_dict())
        self._kept = [(tensor, tensor.detach().clone()) for tensor in tensors]

    def spoiled(self, losses: Losses) -> bool:
        """After the backward passes: whether the update must be left out.

        What was changed is then put back.
        """
        if not self.allowed:
            return False
        good = _all_finite(losses.values()) and _all_finite(_gradients(self.optimizer))
        if all(distributed.all_gather_objects(good)):
            return False
        self.skipped += 1
        self._put_back = True
        with torch.no_grad():
            for tensor, kept in self._kept:
                tensor.copy_(kept)
        if self.own is not None:
            self.own.load_state_dict(self._kept_own)
        return True

    def note(self, iteration: int, losses: Losses, images: Iterable[str]) -> str:
        """After iteration number ``iteration``.

        A line for the user if its batch was skipped, else nothing.

        Raises:
            MuhdiError: its batch is one more than may be skipped.
        """
        values = torch.stack([value.detach().float() for value in losses.values()])
        entry = _Unread(iteration, tuple(images), tuple(losses), values)
        if not self._put_back:
            self._unread.append(entry)
            return ""
        broken = _broken(entry)
        what = (
            f"{f'the loss {broken}' if broken else 'a gradient'} is not finite at iteration"
            f" {iteration}"
        )
        if self.skipped > self.allowed:
            _stop(f"{what}, after {self.allowed} bad batches that were skipped", entry.images)
        return (
            f"{what}: bad batch {self.skipped} of {self.allowed} that may be skipped:"
            f" {_names(entry.images)}"
        )

    def read(self) -> dict[str, float]:
        """Losses of the last iteration, averaged over the processes; empty if it was skipped.

        Raises:
            MuhdiError: a loss of an iteration since the last call is not finite; it names the first
                one's images.
        """
        last: dict[str, float] = {}
        distributed.average_tensors(entry.values for entry in self._unread)
        for entry in self._unread:
            if broken := _broken(entry):
                _stop(
                    f"the loss {broken} is not finite at iteration {entry.iteration}", entry.images
                )
            last = dict(zip(entry.terms, entry.values.tolist(), strict=True))
        self._unread.clear()
        return {} if self._put_back else last

    def check_weights(self, iteration: int, images: Iterable[str]) -> None:
        """Before a state is saved.

        A gradient that is not finite spoils the weights before it shows in any loss.
        """
        if not _all_finite(_parameters(self.optimizer)):
            _stop(
                f"the network's weights are not finite after iteration {iteration}", tuple(images)
            )


def _stop(what: str, images: tuple[str, ...]) -> NoReturn:
    """Several processes meet a bad batch together, whoever of them has the image."""
    everywhere = tuple(name for each in distributed.all_gather_objects(images) for name in each)
    distributed.raise_on_all(
        MuhdiError(
            f"{what} (images: {_names(everywhere)}); the last state stays: look at these images and"
            " go on with --resume, leave such batches out with --resume --skip-bad N, or train"
            " anew with a lower learning_rate"
        )
    )


def _names(images: tuple[str, ...]) -> str:
    more = f" and {len(images) - _MOST_NAMES} more" if len(images) > _MOST_NAMES else ""
    return ", ".join(images[:_MOST_NAMES]) + more


def _broken(entry: _Unread) -> str:
    """Name of the first loss that is not finite; empty if all are."""
    return next(
        (
            n
            for n, v in zip(entry.terms, entry.values.tolist(), strict=True)
            if not math.isfinite(v)
        ),
        "",
    )


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _gradients(optimizer: Optimizer) -> list[Tensor]:
    return [parameter.grad for parameter in _parameters(optimizer) if parameter.grad is not None]


def _all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether every element is; the device is waited for once."""
    flags = [torch.isfinite(tensor.detach()).all() for tensor in tensors]
    return not flags or bool(torch.stack(flags).all())
