"""Check this project on the GPUs of this machine, and write one page with versions and figures to send back."""

import argparse
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import _checkout  # noqa: F401

from simam_repro import cli
from simam_repro.config import PROJECT_ROOT

RECIPES = ("caltech_towernet", "caltech_towernet_simam", "alexnet", "alexnet_simam")
WARM_UP, STEPS = 5, 20


@dataclass(frozen=True)
class Speed:
    """Of one recipe: training and evaluating images/s with data at hand, peak memory in MiB (0 on a CPU)."""

    config: str
    train: float
    evaluate: float
    memory: float


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--output", type=Path, default=Path("gpu_check.md"), metavar="FILE", help="default: gpu_check.md"
    )
    arguments = parser.parse_args()

    from simam_repro.device import gpu_count
    from simam_repro.storage import write_text
    from simam_repro.training.environment import describe_environment

    if not gpu_count():
        print("no GPU that this Paddle can use: nothing to check (docs/install.md says which Paddle runs on what)")
        return
    print("running the tests of the GPU (several minutes)", flush=True)
    tests = run_tests()
    speeds = []
    for config in RECIPES:
        print(f"measuring {config}", flush=True)
        speeds.append(measure(config, "gpu:0"))
    write_text(arguments.output, page(describe_environment("gpu:0"), tests, speeds))
    print(f"written: {cli.relative(arguments.output)}; please send it back")
    if any(outcome == "failed" for _, outcome, _ in tests):
        raise cli.RunError("some tests failed; the page says which")


def run_tests() -> list[tuple[str, str, str]]:
    """(name, passed, failed or skipped, message) of each test marked gpu."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests/test_gpu.py", f"--junitxml={report}"]
        subprocess.run(command, cwd=PROJECT_ROOT)
        return read_report(report)


def read_report(report: Path) -> list[tuple[str, str, str]]:
    tests = []
    for case in ElementTree.parse(report).iter("testcase"):
        problem = next((child for child in case if child.tag in ("failure", "error", "skipped")), None)
        outcome = "passed" if problem is None else "skipped" if problem.tag == "skipped" else "failed"
        message = "" if problem is None else problem.get("message", "").splitlines()[0]
        tests.append((case.get("name"), outcome, message))
    return tests


def measure(config: str, device: str, steps: int = STEPS, overrides=()) -> Speed:
    """Time steps of the recipe on random images that are on the device already: what the network alone can do."""
    import paddle

    from simam_repro.config import load_config
    from simam_repro.models import build_model
    from simam_repro.training.objective import Objective
    from simam_repro.training.optim import build_optimizer

    experiment = load_config(f"configs/{config}.yaml", overrides)
    paddle.set_device(device)
    on_gpu = device != "cpu"
    size, batch = experiment.data.image_size, experiment.data.batch_size
    network = build_model(experiment.model, 16, size)
    optimizer = build_optimizer(experiment.optim, network.parameters(), experiment.train.epochs, 100)
    objective = Objective(experiment.train.label_smoothing)
    images, labels = paddle.randn([batch, 3, size, size]), paddle.randint(0, 16, [batch])

    def train():
        objective(network(images), labels).backward()
        optimizer.step()
        optimizer.clear_grad()

    def evaluate():
        with paddle.no_grad():
            network(images)

    network.train()
    trained = batch * rate(train, steps, on_gpu)
    memory = paddle.device.cuda.max_memory_allocated() / 2**20 if on_gpu else 0.0
    network.eval()
    return Speed(config, trained, batch * rate(evaluate, steps, on_gpu), memory)


def rate(step, steps: int, on_gpu: bool) -> float:
    """Steps per second, after a warm-up."""
    import paddle

    wait = paddle.device.synchronize if on_gpu else lambda: None
    for _ in range(min(WARM_UP, steps)):
        step()
    wait()
    began = time.perf_counter()
    for _ in range(steps):
        step()
    wait()
    return steps / (time.perf_counter() - began)


def page(environment: dict, tests, speeds) -> str:
    """The page in Markdown: versions, the outcome of each test, the table of speeds."""
    keys = ("gpu", "device", "paddle", "python", "numpy", "cpu", "git_commit", "git_dirty")
    about = [f"- {key}: {environment.get(key)}" for key in keys]
    outcomes = [f"| {name} | {outcome} | {message} |" for name, outcome, message in tests]
    rows = [f"| {one.config} | {one.train:.0f} | {one.evaluate:.0f} | {one.memory:.0f} |" for one in speeds]
    return "\n".join(
        [
            "# GPU check", "", *about, "",
            "| test | outcome | message |", "| --- | --- | --- |", *outcomes, "",
            f"{STEPS} steps after {WARM_UP} on random images, with the recipe's batch and image size:", "",
            "| recipe | training, images/s | evaluation, images/s | peak memory, MiB |", "| --- | --- | --- | --- |",
            *rows, "",
        ]
    )  # fmt: skip


if __name__ == "__main__":
    cli.run(main)
