"""What a network consists of and costs: a row for each layer, parameters, FLOPs, activations.

FLOPs are the additions, multiplications, divisions, comparisons and exponentials of one forward pass in
eval mode. A multiply-add counts as two, so a dot product of K terms counts 2 K, a bias included (K
multiplications, K - 1 additions, the bias). Many tables count multiply-adds (MACs): half as many.
"""

from dataclasses import dataclass
from math import prod

import paddle
from paddle import nn

from simam_repro.models.attention import CHILD_NAME
from simam_repro.models.build import count_parameters

FLOAT_BYTES = 4


@dataclass(frozen=True)
class LayerRow:
    """One call of one layer on one image.

    Attributes:
        output_shape: without the batch axis.
        parameters: the layer's own, trainable ones.
        flops: of this call; None for a layer type that `FLOPS` does not have and that does not say itself.
    """

    name: str
    type: str
    output_shape: tuple[int, ...]
    parameters: int
    flops: int | None


@dataclass(frozen=True)
class Summary:
    """The layers of a network in the order of their calls; the totals are for one image."""

    rows: list[LayerRow]
    parameters: int

    @property
    def flops(self) -> int:
        return sum(row.flops or 0 for row in self.rows)

    @property
    def not_counted(self) -> list[str]:
        """Layer types whose FLOPs the total lacks."""
        return sorted({row.type for row in self.rows if row.flops is None})

    @property
    def parameter_bytes(self) -> int:
        return self.parameters * FLOAT_BYTES

    @property
    def activation_bytes(self) -> int:
        """The float32 outputs of all layers: about what training keeps for the backward pass."""
        return sum(prod(row.output_shape) for row in self.rows) * FLOAT_BYTES


def summarise(network: nn.Layer, image_size: int) -> Summary:
    """Send one image [1, 3, image_size, image_size] through `network` and note every call of a layer.

    What is not a layer of its own (concatenation, flatten, a residual sum, the ReLUs inside TowerNet's
    Inception) is not seen; it costs little.
    """
    rows: list[LayerRow | None] = []
    open_calls: list[int] = []

    # A layer's row stands before that of the attention behind it, which runs within the layer's call.
    def begin(layer, inputs):
        open_calls.append(len(rows))
        rows.append(None)

    def end(name):
        def note(layer, inputs, output):
            rows[open_calls.pop()] = _row(name, layer, inputs[0], output)

        return note

    units = named_units(network)
    hooks = [layer.register_forward_pre_hook(begin) for _, layer in units]
    hooks += [layer.register_forward_post_hook(end(name)) for name, layer in units]
    training = network.training
    network.eval()
    with paddle.no_grad():
        network(paddle.zeros([1, 3, image_size, image_size]))
    for hook in hooks:
        hook.remove()
    if training:
        network.train()
    return Summary(rows, count_parameters(network))


def named_units(network: nn.Layer) -> list[tuple[str, nn.Layer]]:
    """The layers that compute by themselves: no layers inside, but perhaps attention behind; attention is one whole."""
    units = []
    for name, layer in network.named_sublayers():
        *above, last = name.split(".")
        alone = last == CHILD_NAME or all(child == CHILD_NAME for child, _ in layer.named_children())
        if alone and CHILD_NAME not in above:
            units.append((name, layer))
    return units


def _row(name: str, layer: nn.Layer, image, output) -> LayerRow:
    own = layer.parameters(include_sublayers=name.rpartition(".")[2] == CHILD_NAME)
    return LayerRow(
        name,
        type(layer).__name__,
        tuple(output.shape[1:]),
        sum(parameter.size for parameter in own if not parameter.stop_gradient),
        _flops(layer, image, output),
    )


def _flops(layer: nn.Layer, image, output) -> int | None:
    if hasattr(layer, "flops"):  # attention's
        return int(image.shape[0] * layer.flops(tuple(image.shape[1:])))
    count = next((count for kind, count in FLOPS.items() if isinstance(layer, kind)), None)
    return None if count is None else int(count(layer, image, output))


def _conv(layer, image, output) -> int:
    # weight: [output channels, input channels / groups, kernel height, kernel width]
    return 2 * prod(layer.weight.shape[1:]) * output.size


def _linear(layer, image, output) -> int:
    return 2 * layer.weight.shape[0] * output.size


def _batch_norm(layer, image, output) -> int:
    # With fixed statistics it is one scale and one shift an element.
    return 2 * output.size


def _pool(layer, image, output) -> int:
    """One comparison or addition for each element under the window."""
    window = layer.ksize if isinstance(layer.ksize, (list, tuple)) else (layer.ksize, layer.ksize)
    return prod(window) * output.size


def _adaptive_pool(layer, image, output) -> int:
    (height, width), (rows, columns) = image.shape[2:], output.shape[2:]
    return image.shape[0] * image.shape[1] * _span(height, rows) * _span(width, columns)


def _span(size: int, bins: int) -> int:
    """Elements under all bins of an adaptive pool along one axis; neighbouring bins may share one."""
    return sum(-(-(index + 1) * size // bins) - index * size // bins for index in range(bins))


def _relu(layer, image, output) -> int:
    return output.size


def _nothing(layer, image, output) -> int:
    return 0


FLOPS = {
    nn.Conv2D: _conv,
    nn.Linear: _linear,
    nn.BatchNorm2D: _batch_norm,
    (nn.ReLU, nn.ReLU6): _relu,
    (nn.MaxPool2D, nn.AvgPool2D): _pool,
    (nn.AdaptiveAvgPool2D, nn.AdaptiveMaxPool2D): _adaptive_pool,
    (nn.Dropout, nn.Flatten, nn.Identity): _nothing,
}
