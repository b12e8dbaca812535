"""Collectives for data-parallel training. With a single process each function is a no-op.

Fabric starts the processes. A batch is shared among them in order, so that together they compute
what one process computes with the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from muhdi.errors import MuhdiError, PeerFailed

T = TypeVar("T")


_apart = 0
"""How many `without_peers` contexts there are around the code that runs."""


def world_size() -> int:
    """How many processes there are."""
    return (
        1
        if _apart or not (dist.is_available() and dist.is_initialized())
        else dist.get_world_size()
    )


def rank() -> int:
    """Which one this is, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


@contextmanager
def without_peers() -> Iterator[None]:
    """Inside, this process works by itself, as if there were no others."""
    global _apart
    _apart += 1
    try:
        yield
    finally:
        _apart -= 1


def is_rank_zero() -> bool:
    """Whether this process is the one that writes files and speaks to the user."""
    return rank() == 0


def local_slice(values: Sequence[T]) -> Sequence[T]:
    """This process's part of a sequence that they share in order.

    Its length must be a multiple of their number.
    """
    size = len(values) // world_size()
    return values[rank() * size : (rank() + 1) * size]


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """The sum of a tensor over the processes."""
    if world_size() > 1:
        tensor = tensor.clone()
        dist.all_reduce(tensor)
    return tensor


def all_reduce_mean(tensor: Tensor) -> Tensor:
    """The mean of a tensor over the processes; alone, the very tensor."""
    return tensor if world_size() == 1 else all_reduce_sum(tensor) / world_size()


def all_gather(tensor: Tensor) -> Tensor:
    """The tensors of all processes, of one shape, one after another along the first axis."""
    if world_size() == 1:
        return tensor
    parts = [torch.empty_like(tensor) for _ in range(world_size())]
    dist.all_gather(parts, tensor.contiguous())
    return torch.cat(parts)


class _Gathered(torch.autograd.Function):
    """`all_gather`, through which gradients flow: every process's loss depends on every tensor."""

    @staticmethod
    def forward(context: Any, tensor: Tensor) -> Tensor:
        return all_gather(tensor)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        return all_reduce_sum(gradients[0]).chunk(world_size())[rank()]


def all_gather_with_gradient(tensor: Tensor) -> Tensor:
    """`all_gather`, for use in a loss; its gradient is that of the sum of the processes' losses."""
    return _Gathered.apply(tensor)  # type: ignore[no-any-return, no-untyped-call]


def all_gather_objects(value: T) -> list[T]:
    """The values of all processes, in order."""
    if world_size() == 1:
        return [value]
    values: list[T | None] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values  # type: ignore[return-value]


BUCKET = 25 * 2**20
"""Bytes that are exchanged at a time by `average_tensors`."""


@torch.no_grad()
def average_tensors(tensors: Iterable[Tensor]) -> None:
    """Replace tensors by their means over the processes, in buckets of one type each."""
    if world_size() == 1:
        return
    by_type: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        by_type.setdefault(tensor.dtype, []).append(tensor)
    for same_type in by_type.values():
        for bucket in _buckets(same_type):
            _average_bucket(bucket)


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Groups of about `BUCKET` bytes, in order."""
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        bucket.append(tensor)
        size += tensor.numel() * tensor.element_size()
        if size >= BUCKET:
            yield bucket
            bucket, size = [], 0
    if bucket:
        yield bucket


def _average_bucket(tensors: Sequence[Tensor]) -> None:
    flat = all_reduce_mean(torch.cat([tensor.flatten() for tensor in tensors]))
    sizes = [tensor.numel() for tensor in tensors]
    for tensor, value in zip(tensors, flat.split(sizes), strict=True):
        tensor.copy_(value.view_as(tensor))


def raise_on_all(error: MuhdiError) -> NoReturn:
    """Raise a mistake that all processes have met at this very place.

    Raises:
        MuhdiError: on rank zero.
        PeerFailed: elsewhere; one message is enough for the user.
    """
    if is_rank_zero():
        raise error
    raise PeerFailed(str(error))


@contextmanager
def fail_together() -> Iterator[None]:
    """Wait for each other at the end, and end together where one of them has met an error.

    Raises:
        MuhdiError: on rank zero, what whichever process has met.
        PeerFailed: elsewhere.
        Exception: in the process that has met it, where it is not a mistake of the user's.
    """
    if world_size() == 1:
        yield
        return
    error: Exception | None = None
    try:
        yield
    except Exception as problem:
        error = problem
    messages = [
        text
        for text in all_gather_objects(None if error is None else str(error))
        if text is not None
    ]
    if error is not None and not isinstance(error, MuhdiError):
        raise error
    if messages:
        raise_on_all(MuhdiError(messages[0]))


def on_rank_zero(function: Callable[[], T]) -> T:
    """What the first process alone does, in the name of all.

    They wait for it, and all get what it returns.
    """
    result: T | None = None
    with fail_together():
        if is_rank_zero():
            result = function()
    return all_gather_objects(result)[0]  # type: ignore[return-value]
