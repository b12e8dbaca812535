"""What processes that load files have in common."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading

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
    if multiprocessing.get_start_method(allow_none=True) == "forkserver":
        # The parent is the fork server, which outlives ``main`` while it has other children.
        threading.Thread(target=_end_after_starter, daemon=True).start()
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != main:  # it had ended before the call above
        os.kill(os.getpid(), signal.SIGKILL)


def _end_after_starter() -> None:
    """Wait for the end of the process that asked the fork server for this one, then end."""
    starter = multiprocessing.parent_process()
    if starter is not None:
        starter.join()
        os.kill(os.getpid(), signal.SIGKILL)
