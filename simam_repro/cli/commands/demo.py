"""The demo: TowerNet without and with attention on the embedded data set, trained at the same time."""

import argparse
import os
import queue
import subprocess
import sys
import tempfile
import threading

from simam_repro import cli
from simam_repro.signals import end_with_parent

CONFIGS = ("configs/demo_towernet.yaml", "configs/demo_towernet_simam.yaml")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", metavar="N", default="0", help="seed of both runs")
    arguments = parser.parse_args()

    from simam_repro import attention
    from simam_repro.config import load_config
    from simam_repro.data import prepare_data
    from simam_repro.reporting import plot_curves, side_by_side
    from simam_repro.runs import RUNS_ROOT, default_run_dir

    experiments = [load_config(config, [f"seed={arguments.seed}"]) for config in CONFIGS]
    data = prepare_data(experiments[0].data)
    epochs = experiments[0].train.epochs
    arms = [attention.title(experiment.model.attention) for experiment in experiments]
    print(f"TowerNet, attention {' and '.join(arms)}, {epochs} epochs on {len(data.train)} generated images")
    train_together(dict(zip(arms, CONFIGS)), arguments.seed, total_epochs=epochs * len(arms))

    run_dirs = [default_run_dir(experiment) for experiment in experiments]
    figure = RUNS_ROOT / f"demo_seed{arguments.seed}.png"
    plot_curves(run_dirs, figure)
    print("\n" + side_by_side(run_dirs))
    print(f"\nfigure:   {cli.relative(figure)}")
    print("VisualDL: make visualdl    (serves runs/, open the address that it prints)")


def train_together(arms: dict[str, str], seed: str, total_epochs: int) -> None:
    """Run train.py for the config of each {title: config} at once, the processor shared: two small processes beat one
    large here."""
    from tqdm import tqdm

    threads = str(max(1, int(os.environ["FLAGS_paddle_num_threads"]) // len(arms)))
    environment = {**os.environ, "FLAGS_paddle_num_threads": threads, "MKL_NUM_THREADS": threads}
    lines: queue.Queue = queue.Queue()
    with tempfile.TemporaryFile("w+") as complaints, tqdm(total=total_epochs, unit="epoch", disable=None) as bar:
        width = max(map(len, arms))
        processes = [_start(arm.ljust(width), arms[arm], seed, environment, complaints, lines) for arm in arms]
        try:
            running = len(processes)
            while running:
                line = lines.get()
                if line is None:
                    running -= 1
                elif "  epoch " in line:
                    tqdm.write(line)
                    bar.update()
            codes = [process.wait() for process in processes]
        finally:
            for process in processes:
                process.terminate()
                process.wait()
        if any(codes):
            complaints.seek(0)
            sys.stderr.write(complaints.read())
            sys.exit(2 if 2 in codes else 1)


def _start(arm: str, config: str, seed: str, environment: dict, complaints, lines: queue.Queue) -> subprocess.Popen:
    """Start one training; its output lines go to `lines`, and None when it ends."""
    # The demo's own run folders: repeating it gives the same numbers.
    command = [*cli.command("train"), "-c", config]
    process = subprocess.Popen(
        [*command, "--seed", seed, "--overwrite"], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=complaints, preexec_fn=end_with_parent(),
    )  # fmt: skip

    def forward():
        for line in process.stdout:
            lines.put(arm + line.rstrip("\n"))
        lines.put(None)

    threading.Thread(target=forward, daemon=True).start()
    return process
