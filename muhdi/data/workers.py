"""What processes that load files have in common."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def end_with_process(main: int) -> None:
    """Let the system end this process once its parent is gone, even if the parent was killed.

    Otherwise it lives on for seconds, or for good, and with it the lock of the run's directory,
    which it inherited: a run that was killed could not be resumed at once. On systems other than
    Linux this does nothing.

    Args:
        main: number of the process that started this one.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    # The main process may have ended before the call above.
    if _is_orphan(main):
        os.kill(os.getpid(), signal.SIGKILL)


def _is_orphan(main: int) -> bool:
    """Whether the process that started this one is gone."""
    if multiprocessing.get_start_method(allow_none=True) == "forkserver":
        # The parent is the fork server, which is never ``main`` and ends with it.
        starter = multiprocessing.parent_process()
        return starter is not None and not starter.is_alive()
    return os.getppid() != main
