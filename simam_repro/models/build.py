"""From the `model` section of a config to a network."""

from paddle import nn

from simam_repro.models import backbones
from simam_repro.models.attention import attach_attention
from simam_repro.models.conv import Conv2D
from simam_repro.models.init import initialise
from simam_repro.models.pool import MaxPool2D


def build_model(model_config, num_classes: int, image_size: int) -> nn.Layer:
    """The network that `model_config` names, with its attention, as `model.init` has it initialised.

    Args:
        model_config: the `model` section of an Experiment.
        image_size: side of the square input, pixels.
    Returns:
        A layer from float images [N, 3, image_size, image_size] to logits [N, num_classes].
    Raises:
        UserError: the images are too small for the network; it has no such site or position for attention.
    """
    backbones.check_image_size(model_config.backbone, image_size)
    backbone = backbones.load(model_config.backbone)
    network = backbone.build(num_classes)
    for layer in network.sublayers():
        if isinstance(layer, (Conv2D, MaxPool2D)):
            layer.fused = model_config.fused
    initialise(network, model_config.init)
    attach_attention(network, backbone, model_config.attention, model_config.fused)
    return network


def count_parameters(network: nn.Layer) -> int:
    """Number of trainable parameters."""
    return sum(parameter.size for parameter in network.parameters() if not parameter.stop_gradient)
