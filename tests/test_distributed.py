"""Collectives: what two processes exchange, and what one process does without any exchange."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from muhdi import distributed
from muhdi.errors import DataError, MuhdiError, PeerFailed

Check = Callable[[int], None]


def in_two_processes(folder: Path, *checks: Check) -> None:
    """Call each check with the rank in both of two processes; what fails there, fails here."""
    spawn(_process, args=(str(folder / "meeting"), checks), nprocs=2)


def _process(rank: int, meeting: str, checks: tuple[Check, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    for check in checks:
        check(rank)
    dist.destroy_process_group()


# --- tensors and objects --------------------------------------------------------------------------


def check_exchanges(rank: int) -> None:
    assert distributed.world_size() == 2
    assert distributed.rank() == rank
    assert distributed.is_rank_zero() == (rank == 0)
    own = torch.tensor([1.0 + rank, 10.0])
    assert distributed.all_reduce_sum(own).tolist() == [3, 20]
    assert distributed.all_reduce_mean(own).tolist() == [1.5, 10]
    assert own.tolist() == [1 + rank, 10], "the tensor that was given stays"
    assert distributed.all_gather(own).tolist() == [1, 10, 2, 10]
    assert distributed.all_gather_objects({"rank": rank}) == [{"rank": 0}, {"rank": 1}]
    assert list(distributed.local_slice("abcdef")) == [list("abc"), list("def")][rank]
    assert distributed.on_rank_zero(lambda: f"from {rank}") == "from 0"
    with distributed.without_peers():
        assert distributed.world_size() == 1
        assert distributed.all_reduce_sum(own) is own


def check_gradients(rank: int) -> None:
    """The loss of each process depends on the tensors of both."""
    own = torch.tensor([1.0 + rank], requires_grad=True)
    first, second = distributed.all_gather_with_gradient(own)
    (first * second * (rank + 1)).backward()
    # The losses are ab and 2ab, so their sum has the gradients 3b and 3a.
    assert own.grad is not None
    assert own.grad.tolist() == [3.0 * (2 - rank)]


def check_averages(rank: int) -> None:
    """In buckets smaller than some of the tensors, of two types in turns."""
    distributed.BUCKET_BYTES = 400
    sizes = [(3, 5), (7,), (), (20, 20), (99,), (1,)]
    types = [torch.float32, torch.float64]
    tensors = []
    expected = []
    for number, size in enumerate(sizes):
        both = [torch.full(size, number + 10.0 * r, dtype=types[number % 2]) for r in (0, 1)]
        tensors.append(both[rank])
        expected.append((both[0] + both[1]) / 2)
    addresses = [tensor.data_ptr() for tensor in tensors]
    exchanged = []
    whole = distributed.all_reduce_mean

    def counted(tensor: torch.Tensor) -> torch.Tensor:
        exchanged.append(tensor.numel() * tensor.element_size())
        return whole(tensor)

    distributed.all_reduce_mean = counted
    distributed.average_tensors(tensors)
    for tensor, mean in zip(tensors, expected, strict=True):
        torch.testing.assert_close(tensor, mean, rtol=0, atol=0)
    assert addresses == [tensor.data_ptr() for tensor in tensors]
    # float32: 15 + 1 + 99 elements; float64: 7 + 400, then 1.
    assert exchanged == [4 * 115, 8 * 407, 8]


def test_two_processes_exchange_tensors_gradients_and_objects(tmp_path: Path) -> None:
    in_two_processes(tmp_path, check_exchanges, check_gradients, check_averages)


# --- errors ---------------------------------------------------------------------------------------


def fail_on_rank_one(error: Exception) -> None:
    with distributed.fail_together():
        if distributed.rank() == 1:
            raise error


def check_own_error(rank: int) -> None:
    """A user's mistake that only rank 1 meets."""
    with pytest.raises(DataError if rank == 0 else PeerFailed, match=r"^b\.png: damaged$"):
        fail_on_rank_one(DataError("b.png: damaged"))
    # Nobody waits for anybody: the next exchange works.
    assert distributed.all_gather_objects(rank) == [0, 1]


def check_fault(rank: int) -> None:
    """A fault of the program, on rank 1 alone: its own exception and traceback are seen."""
    with pytest.raises(MuhdiError if rank == 0 else ZeroDivisionError):
        fail_on_rank_one(ZeroDivisionError())


def check_rank_zero_fails(rank: int) -> None:
    def fails() -> None:
        raise DataError("disk full")

    with pytest.raises(DataError if rank == 0 else PeerFailed, match="disk full"):
        distributed.on_rank_zero(fails)


def test_what_one_process_meets_ends_both_with_one_message(tmp_path: Path) -> None:
    in_two_processes(tmp_path, check_own_error, check_fault, check_rank_zero_fails)


# --- alone ----------------------------------------------------------------------------------------


def test_a_single_process_exchanges_nothing() -> None:
    own = torch.ones(3)
    assert distributed.world_size() == 1
    assert distributed.rank() == 0
    for function in (
        distributed.all_reduce_sum,
        distributed.all_reduce_mean,
        distributed.all_gather,
    ):
        assert function(own) is own
    distributed.average_tensors([own])
    assert distributed.all_gather_objects("a") == ["a"]
    assert distributed.on_rank_zero(lambda: 5) == 5
    error = DataError("x")
    with pytest.raises(DataError) as raised, distributed.fail_together():
        raise error
    assert raised.value is error
