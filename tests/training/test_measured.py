"""The clock and the memory of a trial, on a GPU too, of which none is needed here."""

from __future__ import annotations

from itertools import count

import pytest
import torch

from muhdi.run.environment import resident_mb
from muhdi.training import measured


def test_on_a_gpu_the_clock_waits_for_it_and_the_peak_is_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = torch.device("cuda:1")
    calls: list[tuple[str, torch.device]] = []
    names = ("synchronize", "reset_peak_memory_stats", "max_memory_allocated")
    for name in names:

        def call(device: torch.device, name: str = name) -> int:
            calls.append((name, device))
            return 3 * 2**20

        monkeypatch.setattr(torch.cuda, name, call)
    measured.now(gpu)
    measured.forget_peak(gpu)
    assert measured.peak_mb(gpu) == 3
    assert calls == [(name, gpu) for name in names]


def test_on_a_cpu_the_peak_is_that_of_the_process() -> None:
    cpu = torch.device("cpu")
    measured.forget_peak(cpu)
    before = resident_mb()
    assert 0 < before <= measured.peak_mb(cpu) <= resident_mb()


def test_only_the_second_time_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = count()
    monkeypatch.setattr(measured, "now", lambda device: float(next(ticks)))
    cpu = torch.device("cpu")
    done: list[float] = []
    assert measured.second_time(lambda: done.append(measured.now(cpu)), cpu) == 2
    assert done == [0, 2]
