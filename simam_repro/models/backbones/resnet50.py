"""ResNet50 (He et al., CVPR 2016), Paddle's own; here is only where attention goes in it."""

from paddle import nn
from paddle.vision import models
from paddle.vision.models.resnet import BottleneckBlock

from simam_repro.models.backbone import Backbone, Place, Sites


def build(num_classes: int) -> nn.Layer:
    return models.resnet50(num_classes=num_classes)


def sites(network: nn.Layer) -> Sites:
    """layer1.0 to layer4.2, the bottlenecks.

    conv (the default; the paper's official code): behind the 3x3 conv, before its BatchNorm.
    act: behind the ReLU of that, before the last conv.
    norm (where squeeze-and-excitation goes): behind the block's last BatchNorm, before the residual sum.
    block: behind the block, whose ReLU follows the sum.
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


BACKBONE = Backbone("ResNet50", build, sites, position="conv", map_layer="layer4", smallest_image=32)
