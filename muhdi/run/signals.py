"""Stopping a run by SIGINT or SIGTERM without losing anything."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def noted_signals() -> Iterator[list[int]]:
    """Inside, the first SIGINT or SIGTERM is only noted in the list; a second one acts at once."""
    received: list[int] = []
    kept: dict[int, Any] = {}

    def note(signum: int, frame: FrameType | None) -> None:
        received.append(signum)
        signal.signal(signum, kept[signum])

    try:
        for number in (int(signal.SIGINT), int(signal.SIGTERM)):
            kept[number] = signal.signal(number, note)
    except ValueError:  # not in the main thread: signals stay as they are
        kept.clear()
    try:
        yield received
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
