"""Where the processes of one machine that train together wait for each other, for as long as it takes.

gloo, which Paddle uses on a CPU, gives up after 30 s: too soon for a checkpoint on a slow disk. They meet here first.
"""

import os
import time
from pathlib import Path

import numpy as np

from simam_repro.errors import LostRank

VARIABLE = "SIMAM_REPRO_MEETING"  # names the file, see cli/launch.py
# Ranks that share a batch evenly come within the first; who waits for longer looks less often.
SPIN_SECONDS, LONGEST_PAUSE = 0.001, 0.05


class Meeting:
    """A file of counts: how many times each rank has come; the last is not 0 when one of them has gone for ever."""

    def __init__(self, path, size: int):
        path = Path(path)
        if not path.exists():
            path.write_bytes(bytes(8 * (size + 1)))
        memory = np.memmap(path, np.int64, "r+", shape=(size + 1,))
        self.counts, self._over = memory[:-1], memory[-1:]

    def wait(self, rank: int) -> None:
        """Until all are here. Raises LostRank when one of them will not come any more."""
        self.counts[rank] += 1
        own, began = self.counts[rank], time.monotonic()
        while (self.counts < own).any():
            if self._over[0]:
                raise LostRank("another process of this run has ended; continue with --resume")
            waited = time.monotonic() - began
            time.sleep(0 if waited < SPIN_SECONDS else min(waited / 10, LONGEST_PAUSE))

    def give_up(self) -> None:
        """Let nobody wait any longer."""
        self._over[0] = 1


def meeting_of_environment(size: int) -> Meeting | None:
    """That of the processes that cli/launch.py has started; None in any other."""
    path = os.environ.get(VARIABLE)
    return Meeting(path, size) if path else None
