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

BUCKET_BYTES = 25 * 2**20
"""What `average_tensors` exchanges at a time; PyTorch's DDP takes the same size."""

_apart = 0
"""How many `without_peers` contexts there are around the code that runs."""


def world_size() -> int:
    """The number of processes."""
    if _apart or not dist.is_available() or not dist.is_initialized():
        return 1
    return dist.get_world_size()


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


@contextmanager
def without_peers() -> Iterator[None]:
    """Inside, this process works alone, as if there were no others."""
    global _apart
    _apart += 1
    try:
        yield
    finally:
        _apart -= 1


def is_rank_zero() -> bool:
    """Whether this process is the one that writes files and prints."""
    return rank() == 0


def local_slice(values: Sequence[T]) -> Sequence[T]:
    """This process's slice of a sequence whose length is a multiple of `world_size`."""
    size = len(values) // world_size()
    start = rank() * size
    return values[start : start + size]


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """The sum of a tensor over the processes; with one process, the tensor itself."""
    if world_size() == 1:
        return tensor
    total = tensor.clone()
    dist.all_reduce(total)
    return total


def all_reduce_mean(tensor: Tensor) -> Tensor:
    """The mean of a tensor over the processes; with one process, the tensor itself."""
    if world_size() == 1:
        return tensor
    return all_reduce_sum(tensor) / world_size()


def all_gather(tensor: Tensor) -> Tensor:
    """The tensors of all processes, which have one shape, concatenated along the first axis."""
    if world_size() == 1:
        return tensor
    parts = [torch.empty_like(tensor) for _ in range(world_size())]
    dist.all_gather(parts, tensor.contiguous())
    return torch.cat(parts)


class _Gathered(torch.autograd.Function):
    """`all_gather` with gradients: every process's loss depends on every process's tensor."""

    @staticmethod
    def forward(context: Any, tensor: Tensor) -> Tensor:
        return all_gather(tensor)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        return all_reduce_sum(gradients[0]).chunk(world_size())[rank()]


def all_gather_with_gradient(tensor: Tensor) -> Tensor:
    """`all_gather` for use in a loss: the gradient is that of the sum of the processes' losses.

    Equal to ``Fabric.all_gather(sync_grads=True)``, for code that has no `Fabric`.
    """
    return _Gathered.apply(tensor)  # type: ignore[no-any-return, no-untyped-call]


def all_gather_objects(value: T) -> list[T]:
    """The values of all processes, which can be pickled, by rank."""
    if world_size() == 1:
        return [value]
    values: list[T | None] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values  # type: ignore[return-value]


def interleaved(own: Sequence[T]) -> list[T]:
    """The values of all processes, where these have taken them in turn, in their first order."""
    shares = all_gather_objects(list(own))
    longest = max(len(share) for share in shares)
    return [share[place] for place in range(longest) for share in shares if place < len(share)]


@torch.no_grad()
def average_tensors(tensors: Iterable[Tensor]) -> None:
    """Replace tensors in place by their means over the processes.

    They are exchanged in buckets of about `BUCKET_BYTES`, so that the memory this takes does not
    grow with the network. All processes must give tensors of the same shapes in the same order.
    """
    if world_size() == 1:
        return
    by_type: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        by_type.setdefault(tensor.dtype, []).append(tensor)
    for same_type in by_type.values():
        for bucket in _buckets(same_type):
            _average_bucket(bucket)


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Groups of about `BUCKET_BYTES`, in order."""
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        bucket.append(tensor)
        size += tensor.numel() * tensor.element_size()
        if size >= BUCKET_BYTES:
            yield bucket
            bucket = []
            size = 0
    if bucket:
        yield bucket


def _average_bucket(tensors: Sequence[Tensor]) -> None:
    flat = all_reduce_mean(torch.cat([tensor.flatten() for tensor in tensors]))
    sizes = [tensor.numel() for tensor in tensors]
    for tensor, value in zip(tensors, flat.split(sizes), strict=True):
        tensor.copy_(value.view_as(tensor))


def raise_on_all(error: MuhdiError) -> NoReturn:
    """Raise an error that all processes have met at the same point.

    Raises:
        MuhdiError: on rank zero.
        PeerFailed: on all others; one message is enough for the user.
    """
    if is_rank_zero():
        raise error
    raise PeerFailed(str(error))


@contextmanager
def fail_together() -> Iterator[None]:
    """Wait for all processes at the end, and fail in all of them if one has failed.

    Raises:
        MuhdiError: on rank zero, the error of the first process that has failed.
        PeerFailed: on all others.
        Exception: in the process that has met it, if it is not a mistake of the user's.
    """
    if world_size() == 1:
        yield
        return
    error: Exception | None = None
    try:
        yield
    except Exception as caught:
        error = caught
    failures = [failure for failure in all_gather_objects(_failure(error)) if failure is not None]
    if error is not None and not isinstance(error, MuhdiError):
        raise error
    if failures:
        kind, message = failures[0]
        raise_on_all(kind(message))


def _failure(error: Exception | None) -> tuple[type[MuhdiError], str] | None:
    """What the other processes get to know of an error."""
    if error is None:
        return None
    kind = type(error) if isinstance(error, MuhdiError) else MuhdiError
    return kind, str(error)


def on_rank_zero(function: Callable[[], T]) -> T:
    """Call a function on rank zero only; all processes wait for it and get what it returns.

    Raises:
        MuhdiError: on rank zero, what the function raises; see `fail_together`.
    """
    result: T | None = None
    with fail_together():
        if is_rank_zero():
            result = function()
    return all_gather_objects(result)[0]  # type: ignore[return-value]
