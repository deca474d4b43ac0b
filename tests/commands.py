"""Running this project's commands as a user does, without a network."""

import os
import subprocess
import sys
from pathlib import Path

from simam_repro.cli.process import ALLOCATOR, THREADS

ROOT = Path(__file__).resolve().parents[1]
# Several tests run at a time: a thread for each. And what the commands would start themselves again for.
SETTINGS = {**dict.fromkeys(THREADS, "1"), "GLIBC_TUNABLES": ALLOCATOR}
# Nothing listens there: a download fails at once instead of starting.
NO_NETWORK = {name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")}


# Of the make that runs the tests: its variables and flags are not for the makes in the tests.
OUTER_MAKE = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES")


def run(command, env=None, cwd=ROOT, timeout=300) -> subprocess.CompletedProcess:
    own = {name: value for name, value in os.environ.items() if name not in OUTER_MAKE}
    environment = {**SETTINGS, **own, **NO_NETWORK, **(env or {})}
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout
    )


def script(name: str, *arguments, env=None, cwd=ROOT, timeout=300) -> subprocess.CompletedProcess:
    """Run scripts/<name>.py."""
    return run([sys.executable, ROOT / "scripts" / f"{name}.py", *arguments], env, cwd, timeout)


def assert_refused(done: subprocess.CompletedProcess, *words: str) -> None:
    """Exit code 2, one message on stderr that has the words, no traceback."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "error: " in done.stderr
    for word in words:
        assert word in done.stderr, done.stderr
