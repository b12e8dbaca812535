"""Stopping a run by a signal without losing anything."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from muhdi.errors import STOP_SIGNALS

_FORCING = (signal.SIGINT, signal.SIGTERM)
"""What people and clusters send a second time when they no longer want to wait."""
_listening: list[list[int]] = []
"""The lists of the `noted_signals` contexts around the code that runs, the innermost last."""


@contextmanager
def noted_signals() -> Iterator[list[int]]:
    """Inside, `STOP_SIGNALS` are only noted in the list; a second SIGINT or SIGTERM acts at once.

    A SIGHUP that is ignored from the start, as ``nohup`` does, stays ignored.
    """
    received: list[int] = []
    usual: dict[int, Any] = {}

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        # A closed terminal sends SIGHUP twice: once by the shell, once by the system.
        if number in _FORCING:
            signal.signal(number, usual[number])

    try:
        for number in STOP_SIGNALS:
            if not _stays_ignored(number):
                usual[number] = signal.signal(number, note)
    except ValueError:  # not in the main thread: signals stay as they are
        usual.clear()
    _listening.append(received)
    try:
        yield received
    finally:
        _listening.pop()
        for number, handler in usual.items():
            signal.signal(number, handler)


def note_signal(number: int) -> None:
    """Let the run stop as if it had received this signal; without `noted_signals`, do nothing."""
    if _listening:
        _listening[-1].append(number)


def _stays_ignored(number: int) -> bool:
    # A script's shell ignores SIGINT for what it starts in the background, but nobody asked it to.
    return number not in _FORCING and signal.getsignal(number) is signal.SIG_IGN
