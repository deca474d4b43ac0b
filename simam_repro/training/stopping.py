"""Stopping at a moment that suits: between two steps, after a checkpoint."""

import signal
import threading


class DeferredSignals:
    """Within this context the first SIGINT or SIGTERM is only noted; `deliver` gives it its usual effect.

    A second signal acts at once. Where signals cannot be handled (a thread) or are ignored (nohup), nothing changes.
    """

    def __init__(self):
        self.received: int | None = None
        self._usual: dict = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) != signal.SIG_IGN:
                    self._usual[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_):
        self._restore()

    def _note(self, number, frame):
        self.received = number
        self._restore()

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
