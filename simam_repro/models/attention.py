"""Attention goes into every network by one mechanism: behind named layers, without touching the rest.

The attention layer becomes a child of the layer it follows (so `print(network)` shows it) and is
applied to that layer's output by a hook; a `Conv2D` of this project applies it itself, SimAM together with its bias
and its ReLU. SimAM has no parameters: `state_dict` keys stay those of the plain network, and weights load
either way.
"""

from paddle import nn

from simam_repro.models.conv import CHILD_NAME, Conv2D
from simam_repro.models.simam import SimAM

ATTENTION = {
    "none": None,
    "simam": lambda model_config: SimAM(model_config.e_lambda, model_config.fused),
}


def attach_attention(layers, model_config) -> None:
    """Put the attention that `model_config` selects behind each of `layers`."""
    build = ATTENTION[model_config.attention]
    if build is None:
        return
    for layer in layers:
        layer.add_sublayer(CHILD_NAME, build(model_config))
        if not isinstance(layer, Conv2D):
            layer.register_forward_post_hook(_apply)


def attention_layers(network: nn.Layer) -> dict[str, nn.Layer]:
    """{name of the layer it follows: attention layer}, in network order."""
    suffix = f".{CHILD_NAME}"
    return {name.removesuffix(suffix): layer for name, layer in network.named_sublayers() if name.endswith(suffix)}


def _apply(layer, inputs, output):
    return getattr(layer, CHILD_NAME)(output)
