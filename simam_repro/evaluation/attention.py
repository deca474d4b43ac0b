"""Where a network looks: the weight maps of its attention, and Grad-CAM, as numpy arrays."""

import difflib
from dataclasses import dataclass

import numpy as np
import paddle
from paddle import nn
from paddle.nn import functional as F

from simam_repro.errors import UserError
from simam_repro.models import attention_layers, backbones


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


def weighing_layers(network: nn.Layer) -> dict[str, nn.Layer]:
    """{name of the layer it follows: attention layer that multiplies by weights}, in network order."""
    return {name: layer for name, layer in attention_layers(network).items() if getattr(layer, "weights", None)}


def weight_maps(network: nn.Layer, images: np.ndarray, names=None) -> dict[str, np.ndarray]:
    """What each attention layer multiplies its input by, averaged over the channels.

    Args:
        network: in eval mode.
        images: float32 [N, 3, S, S], normalised as in training.
        names: of layers, as `weighing_layers` names them; None takes all.
    Returns:
        {layer name: float32 [N, h, w]} in network order.
    Raises:
        UserError: the network has no such attention, or none of a name.
    """
    layers = _choose(weighing_layers(network), names)
    maps: dict[str, np.ndarray] = {}

    def keep(name):
        def hook(layer, inputs):
            height, width = inputs[0].shape[2:]
            weights = layer.weights(inputs[0]).astype("float32").mean(axis=1)
            maps[name] = weights.expand([weights.shape[0], height, width]).numpy()

        return hook

    hooks = [layer.register_forward_pre_hook(keep(name)) for name, layer in layers.items()]
    try:
        with paddle.no_grad():
            network(paddle.to_tensor(images))
    finally:
        for hook in hooks:
            hook.remove()
    # A factor that is the same for all images is one of each.
    return {name: np.broadcast_to(maps[name], (len(images), *maps[name].shape[1:])) for name in layers}


def grad_cam_layer(trained, name: str | None = None) -> nn.Layer:
    """The layer of a `Trained` network for Grad-CAM: the last feature map, or the layer called `name`.

    Raises:
        UserError: no layer of that name.
    """
    layers = dict(trained.network.named_sublayers())
    if name is None:
        return layers[backbones.load(trained.experiment.model.backbone).map_layer]
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


def _choose(layers: dict[str, nn.Layer], names) -> dict[str, nn.Layer]:
    if not layers:
        raise UserError("this network has no attention that multiplies (model.attention): it has no weight maps")
    unknown = [name for name in names or () if name not in layers]
    if unknown:
        raise UserError(f"no attention behind {', '.join(unknown)}; there is one behind {', '.join(layers)}")
    return {name: layer for name, layer in layers.items() if names is None or name in names}
