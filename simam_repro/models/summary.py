"""What a network consists of and costs: a row for each layer, parameters, FLOPs, activations.

FLOPs are additions, multiplications, divisions, comparisons and exponentials of one forward pass in
eval mode. A multiply-add counts as two, so a dot product of K terms counts 2 K; that includes a bias
(K multiplications, K - 1 additions and the bias). Many tables count multiply-adds ("MACs"): half of it.
"""

from dataclasses import dataclass

import numpy as np
import paddle
from paddle import nn

from simam_repro.models.build import count_parameters
from simam_repro.models.simam import SimAM

FLOAT_BYTES = 4


@dataclass(frozen=True)
class LayerRow:
    """One call of one layer, for a batch of one image.

    Attributes:
        output_shape: without the batch axis.
        parameters: the layer's own, trainable ones.
        flops: of the call; None for a layer type that `FLOPS` does not know.
    """

    name: str
    type: str
    output_shape: tuple[int, ...]
    parameters: int
    flops: int | None


@dataclass(frozen=True)
class Summary:
    """The layers of a network in the order of their calls, and the totals for one image."""

    rows: list[LayerRow]
    parameters: int

    @property
    def flops(self) -> int:
        return sum(row.flops or 0 for row in self.rows)

    @property
    def not_counted(self) -> list[str]:
        """Layer types whose FLOPs are missing in the total."""
        return sorted({row.type for row in self.rows if row.flops is None})

    @property
    def parameter_bytes(self) -> int:
        return self.parameters * FLOAT_BYTES

    @property
    def activation_bytes(self) -> int:
        """The outputs of all layers in float32; training keeps about these for the backward pass."""
        return sum(int(np.prod(row.output_shape)) for row in self.rows) * FLOAT_BYTES


def summarise(network: nn.Layer, image_size: int) -> Summary:
    """Run one image [1, 3, image_size, image_size] through `network` and note every layer's call.

    Functions that are not layers (concatenation, a residual sum, flatten) are not seen; they cost little.
    """
    rows: list[LayerRow] = []

    def note(name):
        return lambda layer, inputs, output: rows.append(_row(name, layer, inputs[0], output))

    hooks = [layer.register_forward_post_hook(note(name)) for name, layer in network.named_sublayers() if _is_unit(layer)]
    was_training = network.training
    network.eval()
    with paddle.no_grad():
        network(paddle.zeros([1, 3, image_size, image_size]))
    for hook in hooks:
        hook.remove()
    if was_training:
        network.train()
    return Summary(rows, count_parameters(network))


def _is_unit(layer: nn.Layer) -> bool:
    """Whether a layer computes something itself: it has no children but attention behind it."""
    return not layer.children_names() if hasattr(layer, "children_names") else True
