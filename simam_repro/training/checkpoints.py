"""Checkpoints: folders of weights, optimizer and state that are whole or not there, and say when they are damaged.

`checkpoints/last` is the newest, `previous` the one before it, `best` that of the best epoch. Tensors are
safetensors and the state is JSON: reading a checkpoint runs no code.
"""

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import paddle
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from simam_repro.errors import UserError
from simam_repro.storage import atomic_folder, checksum, give_usual_mode, new_folder, read_json, sync, write_json

WEIGHTS, OPTIMIZER, STATE = "weights.safetensors", "optimizer.safetensors", "state.json"
CHECKSUMS = "checksums.json"  # sha256 of each of the others, written last


def save_checkpoint(run, network, optimizer, state: dict) -> None:
    """Make network, optimizer and `state` (JSON values) the run's `last` checkpoint, and its `last` the `previous`.

    At every moment one of the two is whole.
    """
    tensors, scheduler = _optimizer_tensors(network, optimizer)
    with new_folder(run.last) as temporary:
        save_file(_weights(network, optimizer), temporary / WEIGHTS)
        save_file(tensors, temporary / OPTIMIZER)
        write_json(temporary / STATE, {**state, "scheduler": scheduler})
        for name in (WEIGHTS, OPTIMIZER):
            give_usual_mode(temporary / name)
            sync(temporary / name)
        write_json(temporary / CHECKSUMS, {name: checksum(temporary / name) for name in (WEIGHTS, OPTIMIZER, STATE)})
        if run.last.exists():
            shutil.rmtree(run.previous, ignore_errors=True)
            os.rename(run.last, run.previous)
        os.rename(temporary, run.last)
        sync(run.checkpoints)


def keep_best(run, checkpoint: Path | None = None) -> None:
    """Make `best` the same as `checkpoint` (None: `last`), sharing the files on disk where it can."""

    def link(source_file, target_file):
        try:
            os.link(source_file, target_file)
        except OSError:  # a file system without hard links
            shutil.copy2(source_file, target_file)

    with atomic_folder(run.best) as temporary:
        shutil.copytree(checkpoint or run.last, temporary, copy_function=link, dirs_exist_ok=True)


def load_weights(folder, network) -> None:
    """Load the weights of a checkpoint folder into `network`; names and shapes must match exactly.

    Raises:
        UserError: missing, damaged, or of another network.
    """
    _verify(folder, [WEIGHTS])
    _set_weights(folder, network)


def load_newest(run, network, optimizer) -> dict | None:
    """Restore network, optimizer and scheduler from `last`, or from `previous` when `last` is damaged or gone.

    Returns:
        The saved state; None when the run has no checkpoint yet.
    Raises:
        UserError: both damaged, or of another network.
    """
    reasons = []
    for folder in filter(Path.is_dir, (run.last, run.previous)):
        try:
            _verify(folder, [WEIGHTS, OPTIMIZER, STATE])
        except UserError as error:
            reasons.append(str(error))
            continue
        if reasons:
            print(f"warning: {reasons[0]}; going on from the checkpoint before it", file=sys.stderr)
        if folder == run.previous:
            # The next save moves `last` to `previous`, which must never replace a whole one by a damaged.
            shutil.rmtree(run.last, ignore_errors=True)
            os.rename(run.previous, run.last)
        return _load(run.last, network, optimizer)
    if reasons:
        raise UserError(f"{'; '.join(reasons)}: no whole checkpoint is left; --overwrite starts the run anew")
    return None


def read_state(folder) -> dict:
    """The state of a checkpoint folder. Raises UserError when it is missing or damaged."""
    _verify(folder, [STATE])
    return read_json(Path(folder) / STATE)


def epoch_of(folder) -> int | None:
    """The epoch whose end a checkpoint folder holds; None when it is not whole, or holds a moment within an epoch."""
    try:
        _verify(folder, [WEIGHTS, OPTIMIZER, STATE])
    except UserError:
        return None
    state = read_json(folder / STATE)
    return None if state["epoch_so_far"].get("steps") else state["epoch"]


def _set_weights(folder, network) -> None:
    weights = _read_tensors(Path(folder) / WEIGHTS)
    expected = {name: list(value.shape) for name, value in network.state_dict().items()}
    found = {name: list(value.shape) for name, value in weights.items()}
    if found != expected:
        wrong = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
        raise UserError(f"{folder} is of another network: it differs in {', '.join(wrong[:5])}")
    values = {name: weights[name].astype(value.numpy().dtype) for name, value in network.state_dict().items()}
    network.set_state_dict(values)


def _load(folder: Path, network, optimizer) -> dict:
    _set_weights(folder, network)
    state = read_json(folder / STATE)
    names = {name: parameter.name for name, parameter in network.named_parameters()}
    values = {}
    for key, array in _read_tensors(folder / OPTIMIZER).items():
        parameter, _, suffix = key.rpartition("/")
        values[f"{names[parameter]}_{suffix}"] = paddle.to_tensor(array)
    if masters := _master_weights(folder, network):
        values["master_weights"] = masters
    optimizer.set_state_dict({**values, "LR_Scheduler": state.pop("scheduler")})
    return state


def _weights(network, optimizer) -> dict[str, np.ndarray]:
    """The network's, all float32: of float16 ones (train.amp: O2) the optimizer's master weights."""
    masters = optimizer._master_weights
    return {
        name: masters.get(value.name, value).astype("float32").numpy() for name, value in network.state_dict().items()
    }


def _master_weights(folder: Path, network) -> dict[str, paddle.Tensor]:
    """The optimizer's, by automatic parameter name, for the float16 parameters of `network`."""
    weights, masters = _read_tensors(folder / WEIGHTS), {}
    for name, parameter in network.named_parameters():
        if parameter.dtype == paddle.float16:
            masters[parameter.name] = paddle.to_tensor(weights[name])
            # As Paddle names them: it finds a moment by this name, and begins another where it does not.
            masters[parameter.name].name = f"{parameter.name}_fp32_master_0"
    return masters


def _verify(folder, names) -> None:
    """Raises UserError when one of the files `names` is not what was written."""
    folder = Path(folder)
    try:
        expected = read_json(folder / CHECKSUMS)
        damaged = [name for name in names if checksum(folder / name) != expected[name]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder} is no whole checkpoint ({error})") from None
    if damaged:
        raise UserError(f"{folder} is damaged: the checksum of {', '.join(damaged)} is wrong")


def _optimizer_tensors(network, optimizer) -> tuple[dict[str, np.ndarray], dict]:
    """Optimizer state by structured parameter name ("conv.weight/moment1_0"), and the scheduler's.

    Paddle keys it by automatic names (conv2d_7.w_0), which change with whatever was built before.
    """
    names = {parameter.name: name for name, parameter in network.named_parameters()}
    tensors, scheduler = {}, {}
    # Paddle 2.6 leaves what was loaded out of state_dict() until a step has used it.
    loaded = optimizer._accumulators_holder
    for key, value in {**loaded, **optimizer.state_dict()}.items():
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
