"""What a run ran on: versions, device, processor, threads, commit."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import paddle

from simam_repro import ops
from simam_repro.config import PROJECT_ROOT
from simam_repro.run_files import or_warn
from simam_repro.storage import write_json

PACKAGES = ("numpy", "pillow", "opencv-python-headless", "visualdl", "matplotlib", "pydantic", "safetensors", "scipy")
SHAPING = ("python", "paddle", "numpy", "pillow", "opencv-python-headless")
# What changes speed, and by rounding numbers; cli/process.py sets them.
SETTINGS = ("FLAGS_paddle_num_threads", "MKL_NUM_THREADS", "MKL_DEBUG_CPU_TYPE", "GLIBC_TUNABLES")


def write_environment(run, now: dict, step: int, changed: dict | None = None) -> None:
    """Write environment.json, or note in its `sessions` what differs now that the run goes on after `step` steps.

    Where the file is damaged, it begins anew with `lost_before_step`.

    Args:
        now: what `describe_environment` says of this session.
        changed: the keys of the config that are others from now on: {key: {"from": value, "to": value}}.
    """
    first = or_warn(run.read_environment, None) if step else None
    if first is None:
        write_json(run.environment, {**now, "lost_before_step": step} if step else now)
        return
    differing = {key: value for key, value in now.items() if value != first.get(key)}
    if changed:
        differing["config"] = changed
    if differing:
        write_json(
            run.environment, {**first, "sessions": [*first.get("sessions", ()), {"after_step": step, **differing}]}
        )


def header(environment: dict) -> str:
    """A line for the terminal: what a session runs on."""
    settings = environment["settings"]
    processor = environment["gpu"] or f"{environment['cpu']}, {environment['threads']} thread(s)"
    about = [
        f"Paddle {environment['paddle']} on {environment['device']} ({processor})",
        f"{environment['nproc']} processes" if environment["nproc"] > 1 else None,
        "MKL's fast path" if settings["MKL_DEBUG_CPU_TYPE"] else None,
        "memory kept between steps" if settings["GLIBC_TUNABLES"] else None,
        f"{environment['operators']} operators" if environment["operators"] else None,
    ]
    return ", ".join(filter(None, about))


def hardware(environment: dict) -> str:
    """What an environment.json ran on, in a few words."""
    processes = f", {environment['nproc']} processes" if environment.get("nproc", 1) > 1 else ""
    return environment["gpu"] or f"{environment['cpu']}, {environment['threads']} thread(s){processes}"


def versions(environment: dict) -> dict[str, str]:
    """The versions in an environment.json that shape numbers: {package: version}."""
    return {name: environment[name] for name in SHAPING if environment.get(name)}


def describe_environment(device: str, model_config=None, nproc: int = 1) -> dict:
    """What a session runs on: the content of environment.json.

    Args:
        device: as `select_device` gives it.
        model_config: the `model` section of the experiment, which says whether operators may be compiled;
            None where there is no network.
        nproc: how many processes share the work; `threads` are those of each.
    """
    return {
        "python": platform.python_version(),
        "paddle": paddle.__version__,
        **{name: _version(name) for name in PACKAGES},
        "device": device,
        "gpu": paddle.device.cuda.get_device_name(int(device[4:])) if device.startswith("gpu") else None,
        "cpu": _cpu_model(),
        "cpu_count": os.cpu_count(),
        "threads": paddle.get_flags("FLAGS_paddle_num_threads")["FLAGS_paddle_num_threads"],
        "nproc": nproc,
        "settings": {name: os.environ.get(name) for name in SETTINGS},
        "operators": _operators(device, model_config),
        "platform": f"{platform.system()} {platform.machine()}",
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
    }


def _operators(device: str, model_config) -> str | None:
    """Which operators a run uses: "compiled" where there is one, or Paddle's own, "plain"; None without a network."""
    if model_config is None:
        return None
    return "compiled" if model_config.fused and device == "cpu" and ops.load() else "plain"


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
