"""Processes that run one case at a time when asked: so that two libraries take turns on one machine.

A worker reads a JSON line with a case and answers with a JSON line; between cases it sleeps.
"""

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
TURNS_OF_A_PROCESS = 2
# Where this is set, every worker gets what turns its libraries down to AVX2.
AVX2_SWITCH = "BENCH_AVX2"
AVX2 = {
    "MKL_DEBUG_CPU_TYPE": "5", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "SIMAM_REPRO_MARCH": "haswell",
    "ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2",
}  # fmt: skip
WARM_UP_CALLS = 8
# When another group is next: MKL's idle threads keep a processor busy for 0.2 s, which would be that one's.
PAUSE_S = 0.3
# Of the process that starts the workers: each worker gets its own.
SETTINGS = (
    "FLAGS_paddle_num_threads", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "MKL_DEBUG_CPU_TYPE", "GLIBC_TUNABLES",
    "SIMAM_REPRO_STARTED_AGAIN",
)  # fmt: skip


def torch_python() -> str | None:
    """The interpreter that BENCH_TORCH_PYTHON names: PyTorch has an environment of its own, if any."""
    return os.environ.get("BENCH_TORCH_PYTHON") or None


def vector_extensions() -> str | None:
    """The widest that the workers use: "AVX-512", "AVX2" (and whether it was turned down), or None."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.is_file() else ""
    flags = next((line.split() for line in text.splitlines() if line.startswith("flags")), [])
    found = "AVX-512" if "avx512f" in flags else "AVX2" if "avx2" in flags else None
    return f"AVX2 ({found} turned off)" if found == "AVX-512" and os.environ.get(AVX2_SWITCH) else found


class Group:
    """`processes` workers that do a case together, data-parallel where there are several."""

    last: "Group | None" = None  # that had a case

    def __init__(self, program: str, *, python: str = sys.executable, processes: int = 1, environment=None):
        clean = {name: value for name, value in os.environ.items() if name not in SETTINGS}
        clean |= AVX2 if os.environ.get(AVX2_SWITCH) else {}
        ports = [_free_port() for _ in range(processes)]
        endpoints = [f"127.0.0.1:{port}" for port in ports]
        self._workers = []
        for rank in range(processes):
            ranks = {
                "PADDLE_TRAINER_ID": str(rank), "PADDLE_TRAINERS_NUM": str(processes),
                "PADDLE_TRAINER_ENDPOINTS": ",".join(endpoints), "PADDLE_CURRENT_ENDPOINT": endpoints[rank],
                "PADDLE_DISTRI_BACKEND": "gloo", "RANK": str(rank), "WORLD_SIZE": str(processes),
                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(ports[0]),
            }  # fmt: skip
            self._workers.append(
                subprocess.Popen(
                    [python, str(HERE / program)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    stderr=subprocess.DEVNULL,
                    env={**clean, **(ranks if processes > 1 else {}), **(environment or {})},
                )  # fmt: skip
            )

    def wait(self) -> None:
        """Until all workers have started."""
        for worker in self._workers:
            self._answer(worker)

    def run(self, **case) -> dict:
        """The slowest worker's answer to `case`; raises RuntimeError when one of them died."""
        if Group.last is not self:
            time.sleep(PAUSE_S)
            Group.last = self
        for worker in self._workers:
            worker.stdin.write(json.dumps(case) + "\n")
            worker.stdin.flush()
        answers = [self._answer(worker) for worker in self._workers]
        return max(answers, key=lambda answer: answer["seconds"])

    def _answer(self, worker) -> dict:
        for line in worker.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError(f"a benchmark process ended with {worker.wait()}: {worker.args}")

    def close(self) -> None:
        for worker in self._workers:
            worker.kill()
            worker.wait()


@contextmanager
def groups(**makers):
    """Groups by name, made from keyword arguments for `Group`; closed at the end."""
    with ExitStack() as stack:
        made = {}
        for name, options in makers.items():
            made[name] = Group(**options)
            stack.callback(made[name].close)
        for group in made.values():  # none starts while another is measured
            group.wait()
        yield made


def turns(repeats: int, **makers):
    """(number, groups) for each of `repeats` turns; the groups start anew every TURNS_OF_A_PROCESS turns.

    The same work takes one process longer than another, for as long as it lives (perhaps by its pages of memory).
    """
    for first in range(0, repeats, TURNS_OF_A_PROCESS):
        with groups(**makers) as made:
            for turn in range(first, min(first + TURNS_OF_A_PROCESS, repeats)):
                yield turn, made


def warmed_up(work, calls: int = WARM_UP_CALLS):
    """`work`, after as many calls as a process's memory takes to grow to what it needs (five or six)."""
    for _ in range(calls):
        work()
    return work


def awake(work) -> None:
    """Call it for a tenth of a second: after a pause threads and processors are slow at first."""
    end = time.monotonic() + 0.1
    while time.monotonic() < end:
        work()


def serve(run) -> None:
    """The worker's side: tell that it has started, and answer each case with `run(**case)`."""
    print("\n{}", flush=True)
    for line in sys.stdin:
        print("\n" + json.dumps(run(**json.loads(line))), flush=True)


def median(values) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def spread(values) -> dict:
    """Median, lowest and highest."""
    return {"median": median(values), "low": min(values), "high": max(values), "n": len(values)}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
