"""AlexNet as the original CIFAR-10 experiment has it (one tower, five convs)."""

import paddle
from paddle import nn

from simam_repro.models.backbone import Backbone, Place, Sites


class AlexNet(nn.Layer):
    """conv 48 11x11/4*, ReLU, pool | conv 128 5x5*, ReLU, pool | conv 192 3x3*, ReLU | conv 192 3x3*, ReLU |
    conv 128 3x3*, ReLU, pool | Linear 2048, ReLU, dropout | Linear 2048, ReLU, dropout | Linear.

    Pools are max-pools of 3 with stride 2; attention goes behind the convs marked *, before their ReLU.
    The last map is 3x3 at the original's 128 pixels; larger images are averaged down to it.
    """

    def __init__(self, num_classes: int, in_channels: int = 3, dropout: float = 0.5):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2D(in_channels, 48, 11, stride=4, padding=5),
            nn.ReLU(),
            nn.MaxPool2D(3, stride=2),
            nn.Conv2D(48, 128, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2D(3, stride=2),
            nn.Conv2D(128, 192, 3, padding=1),
            nn.ReLU(),
            nn.Conv2D(192, 192, 3, padding=1),
            nn.ReLU(),
            nn.Conv2D(192, 128, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2D(3, stride=2),
        )
        self.average = nn.AdaptiveAvgPool2D(3)
        self.classifier = nn.Sequential(
            nn.Linear(3 * 3 * 128, 2048),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(2048, 2048),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(2048, num_classes),
        )

    def forward(self, images):
        """float images [N, C, S, S] -> logits [N, num_classes]."""
        features = self.average(self.features(images))
        return self.classifier(paddle.flatten(features, 1))


def sites(network: AlexNet) -> Sites:
    """conv1 to conv5.

    conv (the default; the original's): behind the conv, before its ReLU.
    act: behind the ReLU.
    block: behind the pool, which conv3 and conv4 have none of.
    There is no norm.
    """
    found, layers = {}, list(network.features)
    for index, layer in enumerate(layers):
        if isinstance(layer, nn.Conv2D):
            channels = layer._out_channels
            places = {"conv": Place(f"features.{index}", channels), "act": Place(f"features.{index + 1}", channels)}
            if index + 2 < len(layers) and isinstance(layers[index + 2], nn.MaxPool2D):
                places["block"] = Place(f"features.{index + 2}", channels)
            found[f"conv{len(found) + 1}"] = places
    return found


BACKBONE = Backbone(
    title="AlexNet",
    build=AlexNet,
    sites=sites,
    position="conv",
    map_layer="features",
    smallest_image=121,  # below it the last map would be smaller than 3x3
)
