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
from training import NETWORKS  # noqa: E402
from workers import AVX2_SWITCH, torch_python, vector_extensions  # noqa: E402

# Turns of each side: more where a turn is short.
BENCHMARKS = {
    "simam_operator": 6, "training": 3, "limits": 3, "ablation": 3, "cost": 5, "inference": 6, "memory": 5,
    "loaders": 9, "processes": 3,
}  # fmt: skip
# Measured and written network by network: a stop in between costs nothing, and some can be measured again.
BY_NETWORK = ("training", "ablation")
# Kept apart for processors with AVX-512 and without: NAME.json and NAME_avx2.json.
BY_EXTENSIONS = ("training", "limits", "ablation")
# Each benchmark in a process of its own, which ends with it: its memory and threads trouble no other.
RUN_ONE = """
import json, sys
sys.path.insert(0, {here!r})
import {name}
result = {name}.measure(*{arguments})
with open({output!r}, "w") as file:
    json.dump(result, file)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(BENCHMARKS), metavar="NAME",
                        help=f"some of {', '.join(BENCHMARKS)}")  # fmt: skip
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS), metavar="NETWORK",
                        help=f"for {' and '.join(BY_NETWORK)}, some of {', '.join(NETWORKS)}; others' results stay"
                        )  # fmt: skip
    parser.add_argument("--avx2", action="store_true",
                        help=f"{', '.join(BY_EXTENSIONS)} with every library turned down to AVX2, on a processor that "
                        "has AVX-512")  # fmt: skip
    parser.add_argument("--repeats", type=int, metavar="N", help="turns of each side; default: each benchmark's own")
    parser.add_argument("--tables", action="store_true", help="only write the tables anew from the results")
    arguments = parser.parse_args()
    if arguments.repeats is not None and arguments.repeats < 2:
        parser.error("--repeats: a spread needs at least 2")
    names = arguments.only or (BY_EXTENSIONS if arguments.avx2 else BENCHMARKS)
    if arguments.avx2 and not set(names) <= set(BY_EXTENSIONS):
        parser.error(f"--avx2: only {', '.join(BY_EXTENSIONS)} are measured so")
    RESULTS.mkdir(exist_ok=True)
    if not arguments.tables:
        if not torch_python():
            print("without PyTorch: BENCH_TORCH_PYTHON names no interpreter")
        if arguments.avx2:
            os.environ[AVX2_SWITCH] = "1"
        for name in names:
            _run(name, arguments.repeats or BENCHMARKS[name], arguments.networks)
    write_report(RESULTS, HERE / "README.md")
    print(f"written: {(HERE / 'README.md').relative_to(HERE.parent)}")


def _run(name: str, repeats: int, networks: list[str]) -> None:
    from simam_repro.storage import read_json, write_json

    suffix = "_avx2" if name in BY_EXTENSIONS and (vector_extensions() or "").startswith("AVX2") else ""
    path = RESULTS / f"{name}{suffix}.json"
    for network in networks if name in BY_NETWORK else [None]:
        print(f"{name}{f', {network}' if network else ''} ...", flush=True)
        result = _measured(name, repeats, network)
        kept = read_json(path) if network and path.is_file() else {}
        write_json(path, merged(kept, result))


def merged(kept: dict, new: dict) -> dict:
    """`new`, and the rows of `kept` that are of other networks, in the order of NETWORKS."""
    measured = {row.get("network") for row in new["rows"]}
    others = [row for row in kept.get("rows", ()) if row["network"] not in measured]
    if not others:
        return new
    order = list(NETWORKS)
    return {**new, "rows": sorted([*others, *new["rows"]], key=lambda row: order.index(row["network"]))}


def _measured(name: str, repeats: int, network: str | None) -> dict:
    from simam_repro.storage import read_json

    output = RESULTS / f".{name}.part.json"
    environment = _environment()
    try:
        call = (repeats, network) if network else (repeats,)
        code = RUN_ONE.format(here=str(HERE), name=name, arguments=call, output=str(output))
        subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
        result = {**read_json(output), "repeats": repeats, "environment": environment}
    finally:
        output.unlink(missing_ok=True)
    if network:  # each may have been measured at another time
        for row in result["rows"]:
            row |= {"repeats": repeats, "git_commit": environment["git_commit"]}
    return result


def _environment() -> dict:
    from simam_repro.training.environment import describe_environment

    ours = describe_environment("cpu")
    keys = ("python", "paddle", "numpy", "opencv-python-headless", "cpu", "cpu_count", "platform", "git_commit")
    versions = {key: ours[key] for key in keys} | {"vector_extensions": vector_extensions()}
    if torch_python():
        command = [torch_python(), "-c", "import torch; print(torch.__version__)"]
        versions["torch"] = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return {**versions, "load_before": os.getloadavg()[0]}


if __name__ == "__main__":
    main()
