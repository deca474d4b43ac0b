"""ResNet50, VGG19 and MobileNetV2 are Paddle's own; here is only where attention goes in them."""

from paddle import nn
from paddle.vision import models
from paddle.vision.models.mobilenetv2 import InvertedResidual
from paddle.vision.models.resnet import BottleneckBlock

from simam_repro.models.backbone import Backbone, Place, Sites


def resnet50(num_classes: int) -> nn.Layer:
    return models.resnet50(num_classes=num_classes)


def resnet50_sites(network: nn.Layer) -> Sites:
    """layer1.0 to layer4.2, the bottlenecks.

    conv (SimAM's official code): behind the 3x3 conv, before its BatchNorm. act: behind the ReLU of that, before the
    last conv. norm (where SE has it): behind the block's last BatchNorm, before the residual sum. block: behind the
    block, whose ReLU follows the sum.
    """
    return {
        name: {
            "conv": Place(f"{name}.conv2", block.conv2._out_channels),
            "act": Place(f"{name}.conv3", block.conv2._out_channels, before=True),  # one ReLU serves all of a block
            "norm": Place(f"{name}.bn3", block.conv3._out_channels),
            "block": Place(name, block.conv3._out_channels),
        }
        for name, block in network.named_sublayers()
        if isinstance(block, BottleneckBlock)
    }


def vgg19(num_classes: int) -> nn.Layer:
    return models.vgg19(num_classes=num_classes)


def vgg19_sites(network: nn.Layer) -> Sites:
    """conv1_1 to conv5_4.

    conv: behind the conv, before its ReLU (by analogy with the original AlexNet experiment; nobody's code has SimAM in
    a VGG). act: behind the ReLU. block: behind the pool, which only the last conv of a stage has. There is no norm.
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


def mobilenet_v2(num_classes: int) -> nn.Layer:
    return models.mobilenet_v2(num_classes=num_classes)


def mobilenet_v2_sites(network: nn.Layer) -> Sites:
    """features.1 to features.17, the inverted residuals.

    conv (SimAM's official code): behind the depthwise conv, before its BatchNorm. act (coordinate attention's official
    code): behind the ReLU6 of that. norm: behind the block's last BatchNorm, before the residual sum. block: behind the
    block.
    """
    found = {}
    for name, block in network.named_sublayers():
        if isinstance(block, InvertedResidual):
            *_, depthwise, project, _ = block.conv
            last, wide, narrow = len(block.conv) - 1, depthwise[0]._out_channels, project._out_channels
            found[name] = {
                "conv": Place(f"{name}.conv.{last - 2}.0", wide), "act": Place(f"{name}.conv.{last - 2}.2", wide),
                "norm": Place(f"{name}.conv.{last}", narrow), "block": Place(name, narrow),
            }  # fmt: skip
    return found


RESNET50 = Backbone("ResNet50", resnet50, resnet50_sites, position="conv", map_layer="layer4")
VGG19 = Backbone("VGG19", vgg19, vgg19_sites, position="conv", map_layer="features")
MOBILENET_V2 = Backbone("MobileNetV2", mobilenet_v2, mobilenet_v2_sites, position="conv", map_layer="features")
