"""Where a network looks: SimAM's weight maps and Grad-CAM, as numpy arrays."""

import difflib
from dataclasses import dataclass
from typing import Callable

import numpy as np
import paddle
from paddle import nn
from paddle.nn import functional as F

from simam_repro.errors import UserError
from simam_repro.models import SimAM, attention_layers
from simam_repro.models.simam import inverse_energy

# Backbone -> the layer whose output is the last map that still shows a place.
FEATURE_LAYERS: dict[str, Callable[[nn.Layer], nn.Layer]] = {
    "towernet": lambda network: network.stem,  # behind it the maps shrink to 2x2, or 1x1 at 128 pixels
    "alexnet": lambda network: network.features,
    "resnet50": lambda network: network.layer4,
    "vgg19": lambda network: network.features,
    "mobilenet_v2": lambda network: network.features,
}


@dataclass(frozen=True)
class GradCam:
    """Grad-CAM of N images.

    Attributes:
        maps: float32 [N, h, w], not negative, in units of the logit; h, w of the feature map.
        classes: int64 [N], the class that each map explains.
        probabilities: float32 [N], the network's softmax for that class.
    """

    maps: np.ndarray
    classes: np.ndarray
    probabilities: np.ndarray


def simam_layers(network: nn.Layer) -> dict[str, SimAM]:
    """{name of the layer it follows: SimAM layer}, in network order; empty without SimAM."""
    return {name: layer for name, layer in attention_layers(network).items() if isinstance(layer, SimAM)}


def weight_maps(network: nn.Layer, images: np.ndarray, names=None) -> dict[str, np.ndarray]:
    """SimAM's weights sigmoid(1 / e*) of each layer, averaged over the channels.

    A weight lies between sigmoid(1/2) = 0.62, a neuron at the mean of its channel, and 1. On a 1x1 map
    every neuron is the mean of its channel.

    Args:
        network: in eval mode.
        images: float32 [N, 3, S, S], normalised as in training.
        names: of layers, as `simam_layers` names them; None takes all.
    Returns:
        {layer name: float32 [N, h, w]} in network order.
    Raises:
        UserError: the network has no SimAM, or none of a name.
    """
    layers = _choose(simam_layers(network), names)
    maps: dict[str, np.ndarray] = {}

    def keep(name):
        def hook(layer, inputs):
            weights = F.sigmoid(inverse_energy(inputs[0], layer.e_lambda))
            maps[name] = weights.mean(axis=1).numpy()

        return hook

    hooks = [layer.register_forward_pre_hook(keep(name)) for name, layer in layers.items()]
    try:
        with paddle.no_grad():
            network(paddle.to_tensor(images))
    finally:
        for hook in hooks:
            hook.remove()
    return {name: maps[name] for name in layers}


def grad_cam_layer(trained, name: str | None = None) -> nn.Layer:
    """The layer of a `Trained` network for Grad-CAM: the last feature map, or the layer called `name`.

    Raises:
        UserError: no layer of that name.
    """
    if name is None:
        return FEATURE_LAYERS[trained.experiment.model.backbone](trained.network)
    layers = dict(trained.network.named_sublayers())
    if name not in layers:
        near = difflib.get_close_matches(name, layers, n=3, cutoff=0.3)
        raise UserError(f"the network has no layer {name}" + (f"; did you mean {', '.join(near)}?" if near else ""))
    return layers[name]


def grad_cam(network: nn.Layer, feature_layer: nn.Layer, images: np.ndarray) -> GradCam:
    """Grad-CAM (Selvaraju et al., ICCV 2017, equations 1 and 2) for the class that the network predicts.

    With A_k the channels of the feature map and y the logit of that class,
    map = ReLU(sum_k alpha_k A_k), alpha_k = mean over the map of dy / dA_k.

    Args:
        network: in eval mode, so that the images of a batch do not meet in it.
        feature_layer: the layer of `network` whose output [N, K, h, w] is the feature map.
        images: float32 [N, 3, S, S], normalised as in training.
    Raises:
        UserError: the layer's output is no feature map.
    """
    captured = []
    hook = feature_layer.register_forward_post_hook(lambda layer, inputs, output: captured.append(output))
    try:
        logits = network(paddle.to_tensor(images))
    finally:
        hook.remove()
    features = captured[-1]
    if features.ndim != 4:
        raise UserError(f"Grad-CAM needs a feature map [N, C, H, W]; this layer gives {list(features.shape)}")
    classes = logits.argmax(axis=1)
    chosen = F.one_hot(classes, logits.shape[1])
    (gradient,) = paddle.grad((logits * chosen).sum(), features)
    alpha = gradient.mean(axis=[2, 3], keepdim=True)
    maps = F.relu((alpha * features).sum(axis=1))
    probabilities = (F.softmax(logits) * chosen).sum(axis=1)
    return GradCam(maps.numpy(), classes.numpy(), probabilities.numpy())


def _choose(layers: dict[str, SimAM], names) -> dict[str, SimAM]:
    if not layers:
        raise UserError("this network has no SimAM (model.attention: none): it has no weight maps")
    unknown = [name for name in names or () if name not in layers]
    if unknown:
        raise UserError(f"no SimAM behind {', '.join(unknown)}; there is one behind {', '.join(layers)}")
    return {name: layer for name, layer in layers.items() if names is None or name in names}
