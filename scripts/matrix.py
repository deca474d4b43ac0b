"""The matrix of networks, data sets and attention: parameters, FLOPs and a smoke run of every config."""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import _checkout  # noqa: F401

from simam_repro import cli
from simam_repro.config import PROJECT_ROOT

HEADER = f"{'config':30s} {'parameters':>12s} {'GFLOPs':>8s} {'attention':>13s}  smoke run"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", metavar="TEXT", default="", help="configs whose name contains TEXT")
    cli.add_override_option(parser)
    arguments = parser.parse_args()

    from simam_repro.device import select_device
    from simam_repro.errors import RunError
    from simam_repro.reporting import measure_network

    select_device("cpu")
    print(HEADER, flush=True)
    failed = []
    for config in sorted((PROJECT_ROOT / "configs").glob("*.yaml")):
        if arguments.only not in config.stem:
            continue
        experiment = cli.load_config(config, arguments.override)
        summary, sites = measure_network(experiment)
        print(
            f"{experiment.name:30s} {summary.parameters:12,d} {summary.flops / 1e9:8.2f} {len(sites):13d}  ",
            end="",
            flush=True,
        )
        outcome, passed = smoke_run(config, arguments.override)
        print(outcome, flush=True)
        failed += [] if passed else [experiment.name]
    if failed:
        raise RunError(f"the smoke run failed of {', '.join(failed)}")


def smoke_run(config: Path, overrides) -> tuple[str, bool]:
    """Train two batches in a process of its own; (what to print, whether it passed)."""
    options = [part for override in overrides for part in ("-o", override)]
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, PROJECT_ROOT / "scripts/train.py", "-c", config, "--smoke", *options]
        done = subprocess.run([*command, "--run-dir", Path(folder) / "run"], capture_output=True, text=True)
    if done.returncode:
        return f"FAILED: {(done.stderr.strip().splitlines() or [f'exit code {done.returncode}'])[-1]}", False
    return f"passed in {time.perf_counter() - begin:.0f} s", True


if __name__ == "__main__":
    cli.run(main)
