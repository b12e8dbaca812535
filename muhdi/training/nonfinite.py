"""Losses and weights that are not finite: the run stops, and names the images."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import Tensor

from muhdi import distributed
from muhdi.errors import RunError
from muhdi.losses import Losses

_MOST_NAMES = 8


@dataclass(frozen=True)
class IterationLosses:
    """The losses of one iteration, still on the device.

    Attributes:
        iteration: its number, from 1.
        images: names of its images, for messages.
        terms: names of the losses.
        values: [terms].
    """

    iteration: int
    images: tuple[str, ...]
    terms: tuple[str, ...]
    values: Tensor

    @classmethod
    def of(cls, iteration: int, losses: Losses, images: Iterable[str]) -> IterationLosses:
        """From the loss terms of an iteration; a step that only shows images has none."""
        found = [value.detach().float().reshape(()) for value in losses.values()]
        values = torch.stack(found) if found else torch.zeros(0)
        return cls(iteration, tuple(images), tuple(losses), values)

    def first_nonfinite(self) -> str:
        """Name of the first loss that is not finite; empty if all are. Waits for the device."""
        for name, value in zip(self.terms, self.values.tolist(), strict=True):
            if not math.isfinite(value):
                return name
        return ""


class LossReader:
    """Reads losses late: reading one waits for the device, which has better things to do."""

    def __init__(self) -> None:
        self._unread: list[IterationLosses] = []

    def record(self, losses: IterationLosses) -> None:
        """Keep the losses of an iteration until `flush`."""
        self._unread.append(losses)

    def flush(self) -> dict[str, float]:
        """The losses of the newest iteration, the mean over the processes; empty if none is new.

        Raises:
            RunError: a loss of an iteration since the last call is not finite; the message names
                the images of the first such iteration.
        """
        newest: dict[str, float] = {}
        # Without a term the values lie on no device whose exchange would take them.
        distributed.average_tensors(entry.values for entry in self._unread if entry.terms)
        for entry in self._unread:
            broken = entry.first_nonfinite()
            if broken:
                what = f"the loss {broken} is not finite at iteration {entry.iteration}"
                stop_together(what, entry.images)
            newest = dict(zip(entry.terms, entry.values.tolist(), strict=True))
        self._unread.clear()
        return newest


def check_weights(weights: Iterable[Tensor], iteration: int, images: Iterable[str]) -> None:
    """Before a state is saved: weights show a gradient that was not finite before any loss does.

    Raises:
        RunError: a weight is not finite.
    """
    if not all_finite(weights):
        what = f"the network's weights are not finite after iteration {iteration}"
        stop_together(what, tuple(images))


def stop_together(what: str, images: tuple[str, ...]) -> NoReturn:
    """Stop all processes at a bad batch, whichever of them has the image.

    Raises:
        RunError: on rank zero; `muhdi.errors.PeerFailed` elsewhere.
    """
    everywhere = [name for own in distributed.all_gather_objects(images) for name in own]
    distributed.raise_on_all(
        RunError(
            f"{what} (images: {image_names(everywhere)}); the last state stays: look at these "
            "images and continue with --resume, leave such batches out with --resume --skip-bad "
            "N, or train again with a lower learning_rate"
        )
    )


def image_names(images: list[str] | tuple[str, ...]) -> str:
    """The first few names, and how many more there are."""
    more = len(images) - _MOST_NAMES
    shown = ", ".join(images[:_MOST_NAMES])
    return f"{shown} and {more} more" if more > 0 else shown


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether every element is finite; the device is waited for once."""
    flags = [torch.isfinite(tensor.detach()).all() for tensor in tensors]
    return not flags or bool(torch.stack(flags).all())
