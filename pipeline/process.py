"""What happens to a process when another ends."""

import ctypes
import signal
import sys

_PR_SET_PDEATHSIG = 1  # of prctl(2)


def die_with_parent() -> None:
    """Ask the kernel to kill this process when the thread that started it ends: to be called
    between fork and exec. Only Linux can.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
