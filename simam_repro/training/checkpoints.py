"""Checkpoints: a folder of weights, optimizer and state that appears whole or not at all.

Weights and optimizer tensors are safetensors: reading a checkpoint runs no code.
"""

import os
import shutil
from pathlib import Path

import numpy as np
import paddle
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from simam_repro.errors import UserError
from simam_repro.storage import atomic_folder, read_json, write_json

WEIGHTS, OPTIMIZER, STATE = "weights.safetensors", "optimizer.safetensors", "state.json"


def save_checkpoint(folder, network, optimizer, state: dict) -> None:
    """Write network, optimizer and `state` (JSON values: epoch, best score, history) to `folder`."""
    tensors, scheduler = _optimizer_tensors(network, optimizer)
    with atomic_folder(folder) as temporary:
        save_file({name: value.numpy() for name, value in network.state_dict().items()}, temporary / WEIGHTS)
        save_file(tensors, temporary / OPTIMIZER)
        write_json(temporary / STATE, {**state, "scheduler": scheduler})


def copy_checkpoint(source: Path, target: Path) -> None:
    """Make `target` the same checkpoint as `source`, sharing the files on disk where it can."""

    def link(source_file, target_file):
        try:
            os.link(source_file, target_file)
        except OSError:  # a file system without hard links
            shutil.copy2(source_file, target_file)

    with atomic_folder(target) as temporary:
        shutil.copytree(source, temporary, copy_function=link, dirs_exist_ok=True)


def load_weights(folder, network) -> None:
    """Load the weights of a checkpoint folder into `network`; names and shapes must match exactly."""
    weights = _read_tensors(Path(folder) / WEIGHTS)
    expected = {name: list(value.shape) for name, value in network.state_dict().items()}
    found = {name: list(value.shape) for name, value in weights.items()}
    if found != expected:
        wrong = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
        raise UserError(f"{folder} is of another network: it differs in {', '.join(wrong[:5])}")
    network.set_state_dict(weights)


def load_checkpoint(folder, network, optimizer) -> dict:
    """Restore network, optimizer and scheduler from `folder`; returns the saved state.

    Raises:
        UserError: missing, damaged, or of another network.
    """
    folder = Path(folder)
    load_weights(folder, network)
    state = read_json(folder / STATE)
    tensors = _read_tensors(folder / OPTIMIZER)
    names = {name: parameter.name for name, parameter in network.named_parameters()}
    values = {}
    for key, array in tensors.items():
        parameter, _, suffix = key.rpartition("/")
        values[f"{names[parameter]}_{suffix}"] = paddle.to_tensor(array)
    optimizer.set_state_dict({**values, "LR_Scheduler": state.pop("scheduler")})
    return state


def _optimizer_tensors(network, optimizer) -> tuple[dict[str, np.ndarray], dict]:
    """Optimizer state by structured parameter name ("conv.weight/moment1_0"), and the scheduler's.

    Paddle keys it by automatic names (conv2d_7.w_0), which change with whatever was built before.
    """
    names = {parameter.name: name for name, parameter in network.named_parameters()}
    tensors, scheduler = {}, {}
    for key, value in optimizer.state_dict().items():
        if key == "LR_Scheduler":
            scheduler = value
            continue
        automatic = next((name for name in names if key.startswith(f"{name}_")), None)
        if automatic is not None:
            tensors[f"{names[automatic]}/{key[len(automatic) + 1 :]}"] = value.numpy()
    return tensors, scheduler


def _read_tensors(path: Path) -> dict[str, np.ndarray]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be read as a checkpoint ({error})") from None
