"""The exceptions that a user may see."""

from __future__ import annotations

import signal
from collections.abc import Sequence


class MuhdiError(Exception):
    """A mistake in what the user gave: the message names the file or key and says what to do.

    The command line prints the message on one line and exits with status 2; the library raises it
    as it is.
    """


class RecipeError(MuhdiError):
    """A recipe, a setting or an option is wrong."""


class DataError(MuhdiError):
    """An image, a label, a network or another file is missing, damaged or of another kind."""


class RunError(MuhdiError):
    """A run cannot begin, continue or be read."""


class PeerFailed(Exception):
    """Another process of this run has met a mistake, and has the message for the user."""


_STOP_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
STOP_SIGNALS = tuple(int(getattr(signal, name)) for name in _STOP_NAMES if hasattr(signal, name))
"""Signals after which a run saves its state and stops, of those that the platform has.

Ctrl-C; the end of a job; a terminal that is closed; a warning that a cluster sends before the end.
"""


class Interrupted(Exception):
    """A run was asked to stop by a signal; all state is saved."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


def check_type(name: str, value: object, *types: type) -> None:
    """Refuse an argument of another type, before it fails deep inside.

    Raises:
        RecipeError: names the argument and the types that it may have.
    """
    if not isinstance(value, types):
        known = [kind.__name__ for kind in types if kind is not type(None)]
        given = type(value).__name__
        raise RecipeError(f"{name}: must be of type {' or '.join(known)}, but is of type {given}")


def nearest(name: str, known: Sequence[str]) -> str:
    """``; did you mean 'x'?`` for the known name closest to ``name``, or nothing if all are far."""
    import difflib

    spelt = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), list(spelt), n=1, cutoff=0.55)
    return f"; did you mean {spelt[close[0]]!r}?" if close else ""
