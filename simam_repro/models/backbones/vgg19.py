"""VGG19 (Simonyan and Zisserman, ICLR 2015), Paddle's own; here is only where attention goes in it."""

from paddle import nn
from paddle.vision import models

from simam_repro.models.backbone import Backbone, Place, Sites


def build(num_classes: int) -> nn.Layer:
    return models.vgg19(num_classes=num_classes)


def sites(network: nn.Layer) -> Sites:
    """conv1_1 to conv5_4.

    conv (the default, by analogy with the original AlexNet experiment; the paper has no VGG): behind the conv, before
    its ReLU.
    act: behind the ReLU.
    block: behind the pool, which only the last conv of a stage has.
    There is no norm.
    """
    found, stage, number = {}, 1, 1
    layers = list(network.features)
    for index, layer in enumerate(layers):
        if isinstance(layer, nn.Conv2D):
            channels = layer._out_channels
            places = {"conv": Place(f"features.{index}", channels), "act": Place(f"features.{index + 1}", channels)}
            found[f"conv{stage}_{number}"] = places
            number += 1
            if isinstance(layers[index + 2], nn.MaxPool2D):
                places["block"] = Place(f"features.{index + 2}", channels)
                stage, number = stage + 1, 1
    return found


BACKBONE = Backbone("VGG19", build, sites, position="conv", map_layer="features", smallest_image=32)
