"""Settings of the process that must be there before paddle is imported, some before the process starts.

The one place for them. What the user has set in the environment stays; environment.json records what held.
"""

import os
import platform
import sys
import warnings
from pathlib import Path

from simam_repro.places import PROJECT_ROOT
from simam_repro.processors import processors

# glibc gives freed memory back to the kernel at once, and Paddle frees every tensor at once: each new one would pay
# for page faults. Keep it, but packed (benchmarks/memory.py measures what that costs).
ALLOCATOR = ":".join(
    (
        # Huge pages where the kernel has them.
        "glibc.malloc.hugetlb=1",
        # The end of the heap stays when it is free, and the heap grows by 64 MiB at a time.
        "glibc.malloc.trim_threshold=17179869184",
        "glibc.malloc.top_pad=67108864",
        # It does not grow for a tensor of 64 MiB or more: where no gap fits, that one gets pages of its own and gives
        # them back. After a few steps the gaps do.
        "glibc.malloc.mmap_threshold=67108864",
        # Paddle aligns tensors to pages. The scraps before and behind would go to this cache of small pieces, which
        # keeps them from joining the tensor's gap again: too small for the next step's, which then grows the heap.
        "glibc.malloc.tcache_count=0",
    )
)
# What MKL uses when it takes a processor for a Skylake server.
AVX512 = {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"}
THREADS = ("FLAGS_paddle_num_threads", "MKL_NUM_THREADS")
STARTED_AGAIN = "SIMAM_REPRO_STARTED_AGAIN"

# Warnings that Paddle gives about itself; none concerns a user of this project.
PADDLE_CHATTER = (
    "No ccache found",
    "When training, we now always track global mean",
    "You are using GPU version Paddle",
    "To copy construct from a tensor",
    "There are some unused values in state_dict",  # of LinearWarmup, which uses all of them
)


def prepare_process() -> None:
    """All of the settings. Starts this program again, once, where some have to be there from the start."""
    set_paddle_defaults()
    _set_matplotlib()
    before = dict(os.environ)
    _set_cuda_libraries()
    if platform.libc_ver()[0] == "glibc":
        os.environ.setdefault("GLIBC_TUNABLES", ALLOCATOR)
    if os.environ != before and STARTED_AGAIN not in os.environ:
        os.environ[STARTED_AGAIN] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _set_matplotlib() -> None:
    """Figures are files here, whatever shows those of who calls (a notebook's kernel exports a module it has)."""
    os.environ["MPLBACKEND"] = "Agg"
    home = os.path.expanduser("~")
    if "MPLCONFIGDIR" not in os.environ and not os.access(home, os.W_OK) and os.access(PROJECT_ROOT, os.W_OK):
        os.environ["MPLCONFIGDIR"] = str(PROJECT_ROOT / ".cache" / "matplotlib")


def set_paddle_defaults() -> None:
    """Those that a process can still take once it runs (a notebook's kernel)."""
    set_threads(os.environ)
    if mkl_type := _mkl_type():
        os.environ.setdefault("MKL_DEBUG_CPU_TYPE", mkl_type)
    hush_paddle()


def hush_paddle() -> None:
    for message in PADDLE_CHATTER:
        warnings.filterwarnings("ignore", message=message)


def set_threads(environment, processes: int = 1) -> None:
    """Give a process that is one of several at the same time its share of the processors."""
    for name in THREADS:
        environment.setdefault(name, str(max(processors() // processes, 1)))


def _set_cuda_libraries() -> None:
    """The CUDA libraries of this environment (see setup_environment.py), for the dynamic linker to find."""
    folder, variable = str(Path(sys.prefix) / "cuda"), "LD_LIBRARY_PATH"
    known = os.environ.get(variable, "").split(os.pathsep)
    if Path(folder).is_dir() and folder not in known:
        os.environ[variable] = os.pathsep.join([folder, *filter(None, known)])


def _mkl_type() -> str | None:
    """The MKL in Paddle's wheel takes a slow path on AMD processors unless told which Intel one they are like.

    "5" means one with AVX2, "7" one with AVX-512: a multiple of the speed either way.
    """
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.is_file() else ""
    if "AuthenticAMD" not in text:
        return None
    flags = set(next((line for line in text.splitlines() if line.startswith("flags")), "").split())
    return "7" if AVX512 <= flags else "5" if {"avx2", "fma"} <= flags else None
