"""Runs as processes of this machine, a few at a time."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Protocol

from muhdi.workflows.sweeps.devices import VISIBLE
from muhdi.workflows.sweeps.plan import Run


class Child(Protocol):
    """A process that trains a run."""

    def poll(self) -> int | None:
        """Its exit status; None while it works."""

    def last_line(self) -> str:
        """What it printed last."""

    def terminate(self) -> None:
        """Ask it to save its state and to stop."""

    def wait(self) -> int:
        """Its exit status, once it has ended."""


class Process:
    """A process whose output is kept in a file: nobody reads a pipe while it fills.

    Args:
        command: its command line.
        environment: its environment variables.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )
        self.poll = self._process.poll
        self.wait = self._process.wait
        self.terminate = self._process.terminate

    def last_line(self) -> str:
        """What it printed last."""
        self._output.seek(0)
        lines = self._output.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "it printed nothing"


def spawn(run: Run, experiments: Path, gpu: str | None) -> Child:
    """Train a run in a process of one thread, or of as many as ``OMP_NUM_THREADS`` says.

    Args:
        run: to train.
        experiments: folder of the runs.
        gpu: the only one that it sees; None: it sees what this process sees.
    """
    environment = {"OMP_NUM_THREADS": "1"} | os.environ
    if gpu is not None:
        environment[VISIBLE] = gpu
    return Process(run.job.command(experiments), environment)


class Processes:
    """An `Engine` of processes.

    Args:
        experiments: folder of the runs.
        places: GPU of each run that trains at a time, None where it is given none.
    """

    chains = False

    def __init__(self, experiments: Path, places: Sequence[str | None]) -> None:
        self._experiments = experiments
        self._free = list(places)
        self._children: dict[str, tuple[Child, str | None]] = {}

    def has_room(self) -> bool:
        return bool(self._free)

    def start(self, run: Run) -> None:
        gpu = self._free.pop(0)
        self._children[run.name] = (spawn(run, self._experiments, gpu), gpu)

    def at_work(self) -> list[str]:
        return list(self._children)

    def ended(self) -> dict[str, str | None]:
        found: dict[str, str | None] = {}
        for name, (child, gpu) in list(self._children.items()):
            status = child.poll()
            if status is None:
                continue
            found[name] = _reason(status, child)
            del self._children[name]
            self._free.append(gpu)
        return found

    def stop(self) -> None:
        for child, _ in self._children.values():
            child.terminate()
        for child, _ in self._children.values():
            child.wait()


def _reason(status: int, child: Child) -> str | None:
    if not status:
        return None
    said = child.last_line().removeprefix("error: ")
    return f"the run ended with status {status}: {said}"
