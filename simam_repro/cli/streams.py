"""The terminal, pipe or file that a command writes to: it may take fewer letters than Unicode has, and go away."""

import errno
import io
import os
import sys

# What a write to a pipe gives whose reader has gone (head, tee), and to a terminal that has closed.
NO_READER = {errno.EPIPE, errno.EIO}


class _Lasting(io.FileIO):
    """A file that no failure to write stops: what cannot be written is dropped from then on, and `error` says why."""

    error: OSError | None = None

    def write(self, content) -> int:
        try:
            return super().write(content)
        except OSError as error:
            self.error = error
            # Children have this file, too.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            if self.fileno() == 1:
                print(f"warning: nothing can be written to the output ({error.strerror}); going on", file=sys.stderr)
            return len(content)


def outlast_readers() -> None:
    """Let stdout and stderr drop what nobody can read, and write as \\N{...} escapes what their encoding lacks.

    So a run, which is saved in files, does not end with the `head`, the `tee` or the terminal that shows it.
    """
    sys.stdout, sys.stderr = _lasting(sys.stdout), _lasting(sys.stderr)


def lost_output() -> OSError | None:
    """Why a part of the output is nowhere (a full disk, say); None also where its reader has just gone away."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(raw := getattr(getattr(stream, "buffer", None), "raw", None), _Lasting):
            stream.flush()
            if raw.error and raw.error.errno not in NO_READER:
                return raw.error
    return None


def _lasting(stream):
    if stream not in (sys.__stdout__, sys.__stderr__) or type(stream) is not io.TextIOWrapper:
        return stream  # none at all, or one that a test or a notebook put there
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Lasting(stream.fileno(), "w", closefd=False)), stream.encoding, "backslashreplace",
        line_buffering=stream.line_buffering or stream is sys.__stderr__, write_through=stream.write_through,
    )  # fmt: skip
