"""What a run ran on: versions, device, processor, threads, commit."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import paddle

from simam_repro.config import PROJECT_ROOT
from simam_repro.storage import read_json, write_json

PACKAGES = ("numpy", "pillow", "opencv-python-headless", "visualdl", "matplotlib", "pydantic", "safetensors", "scipy")


def write_environment(run, device: str, step: int) -> None:
    """Write environment.json, or note in its `sessions` what differs now that the run goes on after `step` steps."""
    now = describe_environment(device)
    if not step:
        write_json(run.environment, now)
        return
    first = read_json(run.environment)
    differing = {key: value for key, value in now.items() if value != first.get(key)}
    if differing:
        write_json(
            run.environment, {**first, "sessions": [*first.get("sessions", ()), {"after_step": step, **differing}]}
        )


def describe_environment(device: str) -> dict:
    """What a session ran on: the content of environment.json."""
    return {
        "python": platform.python_version(),
        "paddle": paddle.__version__,
        **{name: _version(name) for name in PACKAGES},
        "device": device,
        "gpu": paddle.device.cuda.get_device_name(int(device[4:])) if device.startswith("gpu") else None,
        "cpu": _cpu_model(),
        "cpu_count": os.cpu_count(),
        "threads": paddle.get_flags("FLAGS_paddle_num_threads")["FLAGS_paddle_num_threads"],
        "platform": f"{platform.system()} {platform.machine()}",
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
