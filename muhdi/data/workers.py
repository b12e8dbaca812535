"""What processes that load files have in common."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def end_with_process(main: int) -> None:
    """Let the system end this process once its parent is gone, even if that was killed.

    Otherwise it lives on for seconds, or for good, and with it the lock of the run's directory,
    which it inherited: a run that was killed could not be resumed at once. Where the system is not
    Linux nothing is done.

    Args:
        main: number of the process that started this one.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != main:  # it was gone before the system was told
        os.kill(os.getpid(), signal.SIGKILL)
