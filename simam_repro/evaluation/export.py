"""A network as a program and its weights, for Paddle's inference library."""

import os
import shutil
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import paddle
from paddle import nn

from simam_repro import ops
from simam_repro.errors import RunError
from simam_repro.storage import new_folder, sync

NAME = "model"
PROGRAM_SUFFIX = ".pdmodel" if paddle.__version__.startswith("2.") else ".json"
WEIGHTS_SUFFIX = ".pdiparams"


def export(network: nn.Layer, image_size: int, folder, portable: bool = True) -> tuple[Path, Path]:
    """Write `network` in eval mode, as float32 images [N, 3, S, S] -> logits [N, num_classes], into `folder`.

    What was written is read back and run before it takes the place of an earlier export: Paddle says nothing of a full
    disk. Other files in `folder` stay.

    Args:
        image_size: S, pixels.
        portable: attention in Paddle's own operators, so that any Paddle of this version or newer loads the program.
            False: the compiled operator where it is usable, which the process that runs the program has to
            load (`simam_repro.ops.load`).
    Returns:
        The paths of program and weights.
    Raises:
        RunError: what was written does not compute what `network` does.
    """
    folder = Path(folder)
    images = paddle.static.InputSpec([None, 3, image_size, image_size], "float32", "images")
    training = network.training
    network.eval()
    operators = nullcontext() if portable else ops.operators_in_programs()
    with operators, new_folder(folder / NAME) as temporary:
        paddle.jit.save(network, str(temporary / NAME), input_spec=[images])
        _check(temporary, network, image_size)
        for file in temporary.iterdir():
            sync(file)
            os.replace(file, folder / file.name)
        temporary.rmdir()
    if training:
        network.train()
    return (folder / NAME).with_suffix(PROGRAM_SUFFIX), (folder / NAME).with_suffix(WEIGHTS_SUFFIX)


def _check(folder: Path, network: nn.Layer, image_size: int) -> None:
    """Raises RunError unless the program in `folder` gives the logits of `network`, but for rounding."""
    image = np.random.default_rng(0).normal(size=(1, 3, image_size, image_size)).astype(np.float32)
    with paddle.no_grad():
        expected = network(paddle.to_tensor(image)).numpy()
        try:
            found = paddle.jit.load(str(folder / NAME))(paddle.to_tensor(image)).numpy()
        except Exception:  # Paddle raises many kinds for a file that is cut
            raise _not_written(folder, "cannot be read back") from None
    if not np.allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max(), equal_nan=True):
        raise _not_written(folder, "gives other logits than the network")


def _not_written(folder: Path, problem: str) -> RunError:
    free = shutil.disk_usage(folder).free
    return RunError(
        f"the export into {folder.parent} {problem}; {free / 2**20:.0f} MB are free there. Nothing was replaced: free "
        f"some space, or name another folder with --output"
    )
