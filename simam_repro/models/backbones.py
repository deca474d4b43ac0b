"""ResNet50, VGG19 and MobileNetV2 are Paddle's own; here is only where attention goes in them."""

from paddle import nn
from paddle.vision import models
from paddle.vision.models.resnet import BottleneckBlock


def resnet50(num_classes: int) -> nn.Layer:
    return models.resnet50(num_classes=num_classes)


def resnet50_attention_points(network: nn.Layer) -> list[nn.Layer]:
    """The 3x3 conv of every bottleneck, before its BN (as SimAM's official implementation)."""
    return [block.conv2 for block in network.sublayers() if isinstance(block, BottleneckBlock)]


def vgg19(num_classes: int) -> nn.Layer:
    return models.vgg19(num_classes=num_classes)


def vgg19_attention_points(network: nn.Layer) -> list[nn.Layer]:
    """Every conv, before its ReLU (by analogy with the original AlexNet experiment)."""
    return [layer for layer in network.features if isinstance(layer, nn.Conv2D)]


def mobilenet_v2(num_classes: int) -> nn.Layer:
    return models.mobilenet_v2(num_classes=num_classes)


def mobilenet_v2_attention_points(network: nn.Layer) -> list[nn.Layer]:
    """Every depthwise conv, before its BN (as SimAM's official implementation)."""
    return [layer for layer in network.sublayers() if isinstance(layer, nn.Conv2D) and layer._groups > 1]
