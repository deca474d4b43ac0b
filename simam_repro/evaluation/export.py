"""A network as a program and its weights, for Paddle's inference library."""

from contextlib import contextmanager
from pathlib import Path

import paddle
from paddle import nn

from simam_repro.models import SimAM

NAME = "model"
PROGRAM_SUFFIX = ".pdmodel" if paddle.__version__.startswith("2.") else ".json"
WEIGHTS_SUFFIX = ".pdiparams"


def export(network: nn.Layer, image_size: int, folder, portable: bool = True) -> tuple[Path, Path]:
    """Write `network` in eval mode, as float32 images [N, 3, S, S] -> logits [N, num_classes], into `folder`.

    Args:
        image_size: S, pixels.
        portable: SimAM in Paddle's own operators, so that any Paddle of this version or newer loads the program.
            False: the compiled operator where it is usable, which the process that runs the program has to
            load (`simam_repro.ops.load`).
    Returns:
        The paths of program and weights.
    """
    path = Path(folder) / NAME
    images = paddle.static.InputSpec([None, 3, image_size, image_size], "float32", "images")
    training = network.training
    network.eval()
    with _fused_switched_off(network, portable):
        paddle.jit.save(network, str(path), input_spec=[images])
    if training:
        network.train()
    return path.with_suffix(PROGRAM_SUFFIX), path.with_suffix(WEIGHTS_SUFFIX)


@contextmanager
def _fused_switched_off(network: nn.Layer, really: bool):
    layers = [layer for layer in network.sublayers() if isinstance(layer, SimAM) and layer.fused and really]
    for layer in layers:
        layer.fused = False
    try:
        yield
    finally:
        for layer in layers:
            layer.fused = True
