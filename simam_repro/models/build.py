"""From the `model` section of a config to a network."""

import paddle
from paddle import nn

from simam_repro import ops
from simam_repro.models import backbones
from simam_repro.models.attention import attach_attention
from simam_repro.models.init import initialise


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
    initialise(network, model_config.init)
    attach_attention(network, backbone, model_config.attention, model_config.fused)
    return ops.fuse(network) if model_config.fused and paddle.get_device() == "cpu" else network


def count_parameters(network: nn.Layer) -> int:
    """Number of trainable parameters."""
    return sum(parameter.size for parameter in network.parameters() if not parameter.stop_gradient)
