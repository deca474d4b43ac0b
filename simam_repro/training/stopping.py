"""Stopping at a moment that suits: between two steps, after a checkpoint."""

import signal
import threading
import time

from simam_repro.signals import SAME_SIGNAL_SECONDS


class DeferredSignals:
    """Within this context the first SIGINT, SIGTERM or SIGHUP is only noted; `deliver` gives it its usual effect.

    A second SIGINT or SIGTERM, later than SAME_SIGNAL_SECONDS, acts at once. SIGHUP never does: a terminal that closes
    sends it twice. Where signals cannot be handled (a thread) or are ignored (nohup), nothing changes.

    Args:
        watched: one of several processes. A second signal does not act: who watches them all sees to that.
    """

    def __init__(self, watched: bool = False):
        self.received: int | None = None
        self.watched = watched
        self._since = 0.0
        self._usual: dict = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(number) != signal.SIG_IGN:
                    self._usual[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_):
        self._restore()

    def _note(self, number, frame):
        if self.received is None:
            self.received, self._since = number, time.monotonic()
        elif not (self.watched or number == signal.SIGHUP or time.monotonic() - self._since < SAME_SIGNAL_SECONDS):
            self.deliver(number)

    def _restore(self):
        while self._usual:
            signal.signal(*self._usual.popitem())

    def deliver(self, number: int) -> None:
        """Let the signal (the noted one, or one that another process noted) act as it would have outside.

        That is KeyboardInterrupt for SIGINT, usually.
        """
        self.received = None
        self._restore()
        signal.raise_signal(number)
