"""What commands and training agree on about signals."""

import ctypes
import os
import signal
import sys

# Who stops a whole group of processes (timeout, a cluster) often tells one of them twice: within this time a signal
# that comes again is the same wish.
SAME_SIGNAL_SECONDS = 1.0
PR_SET_PDEATHSIG = 1


def end_with_parent(number: int = signal.SIGTERM):
    """For subprocess' preexec_fn: the new process gets this signal when its parent dies (on Linux)."""
    parent = os.getpid()
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def ask_for_it():
        if libc:
            libc.prctl(PR_SET_PDEATHSIG, number)
            if os.getppid() != parent:  # dead already
                os.kill(os.getpid(), number)

    return ask_for_it
