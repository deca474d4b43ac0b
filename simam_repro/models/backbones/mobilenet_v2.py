"""MobileNetV2 (Sandler et al., CVPR 2018), Paddle's own; here is only where attention goes in it."""

from paddle import nn
from paddle.vision import models
from paddle.vision.models.mobilenetv2 import InvertedResidual

from simam_repro.models.backbone import Backbone, Place, Sites


def build(num_classes: int) -> nn.Layer:
    return models.mobilenet_v2(num_classes=num_classes)


def sites(network: nn.Layer) -> Sites:
    """features.1 to features.17, the inverted residuals.

    conv (the default; the paper's official code): behind the depthwise conv, before its BatchNorm.
    act (where coordinate attention's official code has it): behind the ReLU6 of that.
    norm: behind the block's last BatchNorm, before the residual sum.
    block: behind the block.
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


BACKBONE = Backbone("MobileNetV2", build, sites, position="conv", map_layer="features", smallest_image=32)
