"""VisualDL, imported so that it leaves nothing in the user's home, which may be nobody's or not writable.

Its import makes ~/.visualdl, for a service of its own that is not used here.
"""

import os
import tempfile
from contextlib import contextmanager


@contextmanager
def _borrowed_home():
    before = os.environ.get("HOME")
    with tempfile.TemporaryDirectory(prefix="simam_repro-") as folder:
        os.environ["HOME"] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ["HOME"]
            else:
                os.environ["HOME"] = before


with _borrowed_home():
    import visualdl

__all__ = ["visualdl"]
