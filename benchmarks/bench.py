"""Run the benchmarks, write benchmarks/results/*.json, and from those the tables of benchmarks/README.md.

PyTorch is measured beside Paddle when BENCH_TORCH_PYTHON names a Python that has it.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
sys.path[:0] = [str(HERE), str(HERE.parent)]

from report import write_report  # noqa: E402
from workers import torch_python  # noqa: E402

# Turns of each side: more where a turn is short.
BENCHMARKS = {"simam_operator": 6, "training": 6, "cost": 5, "inference": 6, "memory": 5, "loaders": 9, "processes": 3}
# Each benchmark in a process of its own, which ends with it: its memory and threads trouble no other.
RUN_ONE = """
import json, sys
sys.path.insert(0, {here!r})
import {name}
result = {name}.measure({repeats})
with open({output!r}, "w") as file:
    json.dump(result, file)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(BENCHMARKS), default=list(BENCHMARKS), metavar="NAME",
                        help=f"some of {', '.join(BENCHMARKS)}")  # fmt: skip
    parser.add_argument("--repeats", type=int, metavar="N", help="turns of each side; default: each benchmark's own")
    parser.add_argument("--tables", action="store_true", help="only write the tables anew from the results")
    arguments = parser.parse_args()
    if arguments.repeats is not None and arguments.repeats < 2:
        parser.error("--repeats: a spread needs at least 2")
    RESULTS.mkdir(exist_ok=True)
    if not arguments.tables:
        if not torch_python():
            print("without PyTorch: BENCH_TORCH_PYTHON names no interpreter")
        for name in arguments.only:
            print(f"{name} ...", flush=True)
            _run(name, arguments.repeats or BENCHMARKS[name])
    write_report(RESULTS, HERE / "README.md")
    print(f"written: {(HERE / 'README.md').relative_to(HERE.parent)}")


def _run(name: str, repeats: int) -> None:
    from simam_repro.storage import read_json, write_json

    output = RESULTS / f".{name}.part.json"
    try:
        code = RUN_ONE.format(here=str(HERE), name=name, repeats=repeats, output=str(output))
        subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
        write_json(RESULTS / f"{name}.json", {**read_json(output), "repeats": repeats, "environment": _environment()})
    finally:
        output.unlink(missing_ok=True)


def _environment() -> dict:
    from simam_repro.training.environment import describe_environment

    ours = describe_environment("cpu")
    keys = ("python", "paddle", "numpy", "opencv-python-headless", "cpu", "cpu_count", "platform", "git_commit")
    versions = {key: ours[key] for key in keys}
    if torch_python():
        command = [torch_python(), "-c", "import torch; print(torch.__version__)"]
        versions["torch"] = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return {**versions, "load_before": os.getloadavg()[0]}


if __name__ == "__main__":
    main()
