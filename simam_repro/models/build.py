"""From the `model` section of a config to a network."""

from dataclasses import dataclass
from typing import Callable

from paddle import nn

from simam_repro.config import check_image_size
from simam_repro.models import backbones
from simam_repro.models.alexnet import AlexNet
from simam_repro.models.attention import attach_attention
from simam_repro.models.conv import Conv2D
from simam_repro.models.pool import MaxPool2D
from simam_repro.models.towernet import TowerNet


@dataclass(frozen=True)
class Backbone:
    """How to build a network, and where attention goes in it.

    Attributes:
        build: num_classes -> network that maps images [N, 3, S, S] to logits [N, num_classes].
        attention_points: network -> the layers that attention follows.
    """

    build: Callable[[int], nn.Layer]
    attention_points: Callable[[nn.Layer], list[nn.Layer]]


BACKBONES = {
    "towernet": Backbone(TowerNet, TowerNet.attention_points),
    "alexnet": Backbone(AlexNet, AlexNet.attention_points),
    "resnet50": Backbone(backbones.resnet50, backbones.resnet50_attention_points),
    "vgg19": Backbone(backbones.vgg19, backbones.vgg19_attention_points),
    "mobilenet_v2": Backbone(backbones.mobilenet_v2, backbones.mobilenet_v2_attention_points),
}


def build_model(model_config, num_classes: int, image_size: int) -> nn.Layer:
    """The network that `model_config` names, with its attention, from Paddle's default initialisation.

    Args:
        model_config: the `model` section of an Experiment.
        image_size: side of the square input, pixels.
    Returns:
        A layer from float images [N, 3, image_size, image_size] to logits [N, num_classes].
    Raises:
        UserError: the images are too small for the network.
    """
    check_image_size(model_config, image_size)
    backbone = BACKBONES[model_config.backbone]
    network = backbone.build(num_classes)
    for layer in network.sublayers():
        if isinstance(layer, (Conv2D, MaxPool2D)):
            layer.fused = model_config.fused
    attach_attention(backbone.attention_points(network), model_config)
    return network


def count_parameters(network: nn.Layer) -> int:
    """Number of trainable parameters."""
    return sum(parameter.size for parameter in network.parameters() if not parameter.stop_gradient)
