"""The ResNets for images of 32x32 (He et al., CVPR 2016) and their pre-activation forms (He et al., ECCV 2016).

A depth of 6n + 2 has three stages of n basic blocks, with 16, 32 and 64 channels on maps of 32x32, 16x16 and 8x8.
Where channels double, the shortcut is He's option A, without parameters: every second pixel, and zeros for the new
channels. So the parameters are the literature's: 0.27 M (20), 0.85 M (56), 1.7 M (110). The paper's official code has a
1x1 conv there (option B: 2,752 parameters more, behind it a BatchNorm in the plain form); all else is as there,
attention behind conv2 and before its BatchNorm included.
"""

import paddle
from paddle import nn

from simam_repro.models.backbone import Backbone, Place, Sites

CHANNELS = (16, 32, 64)


class Shortcut(nn.Layer):
    """[N, C, H, W] -> every `stride`-th pixel, and behind the channels as many of zeros as `out_channels` needs."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.new = out_channels - in_channels
        self.subsample = nn.MaxPool2D(1, stride) if stride > 1 else nn.Identity()

    def forward(self, x):
        x = self.subsample(x)
        if not self.new:
            return x
        # Not F.pad: in the inference engine oneDNN's padding of channels writes behind its output (Paddle 3.3).
        return paddle.concat([x, paddle.zeros_like(x[:, : self.new])], axis=1)


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2D:
    return nn.Conv2D(in_channels, out_channels, 3, stride=stride, padding=1, bias_attr=False)


class BasicBlock(nn.Layer):
    """3x3 conv, norm, ReLU, 3x3 conv*, norm; + shortcut; ReLU. Attention goes behind the conv marked *."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.conv1 = conv3x3(in_channels, out_channels, stride)
        self.norm1 = nn.BatchNorm2D(out_channels)
        self.relu1 = nn.ReLU()
        self.conv2 = conv3x3(out_channels, out_channels)
        self.norm2 = nn.BatchNorm2D(out_channels)
        self.shortcut = Shortcut(in_channels, out_channels, stride)
        self.relu2 = nn.ReLU()

    def forward(self, x):
        out = self.relu1(self.norm1(self.conv1(x)))
        return self.relu2(self.norm2(self.conv2(out)) + self.shortcut(x))


class PreActBlock(nn.Layer):
    """norm, ReLU, 3x3 conv, norm, ReLU, 3x3 conv*; + shortcut. Attention goes behind the conv marked *."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.norm1 = nn.BatchNorm2D(in_channels)
        self.relu1 = nn.ReLU()
        self.conv1 = conv3x3(in_channels, out_channels, stride)
        self.norm2 = nn.BatchNorm2D(out_channels)
        self.relu2 = nn.ReLU()
        self.conv2 = conv3x3(out_channels, out_channels)
        self.shortcut = Shortcut(in_channels, out_channels, stride)

    def forward(self, x):
        out = self.conv1(self.relu1(self.norm1(x)))
        return self.conv2(self.relu2(self.norm2(out))) + self.shortcut(x)


class CifarResNet(nn.Layer):
    """3x3 conv 16 [norm, ReLU] | n blocks of 16 | n of 32, the first /2 | n of 64, the first /2 | [norm, ReLU]
    average, Linear. Norm and ReLU come behind the conv in the plain form, behind the blocks in the other.
    """

    def __init__(self, depth: int, num_classes: int, pre_activation: bool = False):
        super().__init__()
        if depth % 6 != 2:
            raise ValueError(f"depth {depth} is not 6n + 2")
        block = PreActBlock if pre_activation else BasicBlock
        self.pre_activation = pre_activation
        self.conv = conv3x3(3, CHANNELS[0])
        stages, width = [], CHANNELS[0]
        for channels in CHANNELS:
            blocks = []
            for _ in range((depth - 2) // 6):
                blocks.append(block(width, channels, stride=1 if width == channels else 2))
                width = channels
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.norm = nn.BatchNorm2D(width if pre_activation else CHANNELS[0])
        self.relu = nn.ReLU()
        self.average = nn.AdaptiveAvgPool2D(1)
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, images):
        """float images [N, 3, S, S] -> logits [N, num_classes]."""
        x = self.conv(images)
        x = self.relu(self.norm(self.stages(x))) if self.pre_activation else self.stages(self.relu(self.norm(x)))
        return self.classifier(paddle.flatten(self.average(x), 1))


def sites(network: CifarResNet) -> Sites:
    """stages.0.0 to stages.2.(n-1), the blocks.

    conv (the default; the paper's official code): behind conv2; in the plain form before its BatchNorm.
    norm: behind norm2; in the plain form where the official code has the modules that it compares with.
    act: behind relu2.
    block: behind the block.
    """
    found = {}
    for name, block in network.named_sublayers():
        if isinstance(block, (BasicBlock, PreActBlock)):
            layers = {"conv": f"{name}.conv2", "norm": f"{name}.norm2", "act": f"{name}.relu2", "block": name}
            channels = block.conv2._out_channels
            found[name] = {position: Place(layer, channels) for position, layer in layers.items()}
    return found


def cifar_resnet(depth: int, pre_activation: bool = False) -> Backbone:
    """The declaration of ResNet-depth, or of its pre-activation form."""
    return Backbone(
        title=f"{'Pre' if pre_activation else ''}ResNet-{depth}",
        build=lambda num_classes: CifarResNet(depth, num_classes, pre_activation),
        sites=sites,
        position="conv",
        map_layer="relu" if pre_activation else "stages",
        smallest_image=8,
    )
