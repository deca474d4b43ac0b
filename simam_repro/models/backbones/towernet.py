"""TowerNet, the small Inception-style network of the original Caltech101-16 experiment."""

import paddle
from paddle import nn
from paddle.nn import functional as F

from simam_repro.models.backbone import Backbone, Place, Sites

BATCH_NORM_EPSILON = 1e-3


class ConvBN(nn.Sequential):
    """3x3 conv with bias, BatchNorm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1):
        super().__init__(
            nn.Conv2D(in_channels, out_channels, 3, stride=stride, padding=1),
            nn.BatchNorm2D(out_channels, epsilon=BATCH_NORM_EPSILON),
            nn.ReLU(),
        )


class Inception(nn.Layer):
    """[N, 256, H, W] -> 1x1 64 | 1x1 64, 3x3 128 | 1x1 16, 5x5 32 | max-pool 3, 1x1 32 -> [N, 256, H, W].

    Every conv has a bias and is followed by ReLU; there is no BatchNorm.
    """

    def __init__(self, in_channels: int = 256):
        super().__init__()
        self.point = nn.Conv2D(in_channels, 64, 1)
        self.reduce3 = nn.Conv2D(in_channels, 64, 1)
        self.conv3 = nn.Conv2D(64, 128, 3, padding=1)
        self.reduce5 = nn.Conv2D(in_channels, 16, 1)
        self.conv5 = nn.Conv2D(16, 32, 5, padding=2)
        self.pool = nn.MaxPool2D(3, stride=1, padding=1)
        self.project = nn.Conv2D(in_channels, 32, 1)

    def forward(self, x):
        branches = (
            F.relu(self.point(x)),
            F.relu(self.conv3(F.relu(self.reduce3(x)))),
            F.relu(self.conv5(F.relu(self.reduce5(x)))),
            F.relu(self.project(self.pool(x))),
        )
        return paddle.concat(branches, axis=1)


class TowerNet(nn.Layer):
    """ConvBN 64/2, pool | ConvBN 128, pool | ConvBN 256, pool* | ConvBN 256, pool* |
    Inception, pool*, Inception, pool*, Inception | average, Linear.

    Pools are max-pools of 2; attention goes behind those marked *. At 256 pixels the stages give
    64x64, 32x32, 16x16, 8x8 and 2x2 maps. The original averages its last 2x2 map with a pool of 2;
    the global average is the same there, and takes other image sizes.
    """

    def __init__(self, num_classes: int, in_channels: int = 3):
        super().__init__()
        self.stem = nn.Sequential(
            ConvBN(in_channels, 64, stride=2),
            nn.MaxPool2D(2),
            ConvBN(64, 128),
            nn.MaxPool2D(2),
            ConvBN(128, 256),
            nn.MaxPool2D(2),
            ConvBN(256, 256),
            nn.MaxPool2D(2),
        )
        self.inceptions = nn.Sequential(Inception(), nn.MaxPool2D(2), Inception(), nn.MaxPool2D(2), Inception())
        self.average = nn.AdaptiveAvgPool2D(1)
        self.classifier = nn.Linear(256, num_classes)

    def forward(self, images):
        """float images [N, C, S, S] -> logits [N, num_classes]."""
        features = self.average(self.inceptions(self.stem(images)))
        return self.classifier(paddle.flatten(features, 1))


def sites(network: TowerNet) -> Sites:
    """b1 to b4, the ConvBNs, and i1 to i3, the Inceptions.

    conv: behind the 3x3 conv; of an Inception, behind that of its widest branch.
    norm: behind the BatchNorm, which an Inception has none of.
    act: behind the ReLU; of an Inception, behind its concatenated output.
    block (the default, at b3, b4, i1 and i2; the original's): behind the pool that follows, which i3 has none of.
    """
    found = {}
    for stage in range(4):
        unit, pool = f"stem.{2 * stage}", f"stem.{2 * stage + 1}"
        channels = network.stem[2 * stage][0]._out_channels
        layers = {"conv": f"{unit}.0", "norm": f"{unit}.1", "act": f"{unit}.2", "block": pool}
        found[f"b{stage + 1}"] = {position: Place(layer, channels) for position, layer in layers.items()}
    for number in range(3):
        unit = f"inceptions.{2 * number}"
        block = f"inceptions.{2 * number + 1}" if number < 2 else unit
        found[f"i{number + 1}"] = {
            "conv": Place(f"{unit}.conv3", 128), "act": Place(unit, 256), "block": Place(block, 256)
        }  # fmt: skip
    return found


BACKBONE = Backbone(
    title="TowerNet",
    build=TowerNet,
    sites=sites,
    position="block",
    own_sites=("b3", "b4", "i1", "i2"),
    map_layer="stem",  # behind it the maps shrink to 2x2, or 1x1 at 128 pixels
    smallest_image=128,
)
