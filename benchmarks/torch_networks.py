"""The networks and SimAM in PyTorch, layer for layer those of simam_repro/models: what the benchmarks run beside.

For a Python that has torch; nothing here needs Paddle. Run as a program it checks the parameter counts.
"""

import torch
from torch import nn
from torch.nn import functional as F


class SimAM(nn.Module):
    """input [N, C, H, W] -> input * sigmoid((x - mean)^2 / (4 (variance + lambda)) + 1/2), in eager operators."""

    def __init__(self, e_lambda: float = 1e-4):
        super().__init__()
        self.e_lambda = e_lambda

    def forward(self, x):
        others = max(x.shape[2] * x.shape[3] - 1, 1)
        squared = (x - x.mean(dim=(2, 3), keepdim=True)).pow(2)
        variance = squared.sum(dim=(2, 3), keepdim=True) / others
        return x * torch.sigmoid(squared / (4 * (variance + self.e_lambda)) + 0.5)


def _attention(simam: bool, e_lambda: float) -> list[nn.Module]:
    return [SimAM(e_lambda)] if simam else []


def alexnet(num_classes: int, simam: bool, e_lambda: float = 1e-4) -> nn.Module:
    """images [N, 3, S, S] with S >= 121 -> logits; SimAM behind every conv, before its ReLU."""

    def conv(*shape, **options):
        return [nn.Conv2d(*shape, **options), *_attention(simam, e_lambda), nn.ReLU()]

    pool = nn.MaxPool2d(3, stride=2)
    return nn.Sequential(
        *conv(3, 48, 11, stride=4, padding=5), pool,
        *conv(48, 128, 5, padding=2), pool,
        *conv(128, 192, 3, padding=1),
        *conv(192, 192, 3, padding=1),
        *conv(192, 128, 3, padding=1), pool,
        nn.AdaptiveAvgPool2d(3), nn.Flatten(),
        nn.Linear(3 * 3 * 128, 2048), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(2048, 2048), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(2048, num_classes),
    )  # fmt: skip


class Inception(nn.Module):
    """[N, 256, H, W] -> 1x1 64 | 1x1 64, 3x3 128 | 1x1 16, 5x5 32 | max-pool 3, 1x1 32 -> [N, 256, H, W]."""

    def __init__(self):
        super().__init__()
        self.point = nn.Conv2d(256, 64, 1)
        self.reduce3 = nn.Conv2d(256, 64, 1)
        self.conv3 = nn.Conv2d(64, 128, 3, padding=1)
        self.reduce5 = nn.Conv2d(256, 16, 1)
        self.conv5 = nn.Conv2d(16, 32, 5, padding=2)
        self.pool = nn.MaxPool2d(3, stride=1, padding=1)
        self.project = nn.Conv2d(256, 32, 1)

    def forward(self, x):
        branches = (
            F.relu(self.point(x)),
            F.relu(self.conv3(F.relu(self.reduce3(x)))),
            F.relu(self.conv5(F.relu(self.reduce5(x)))),
            F.relu(self.project(self.pool(x))),
        )
        return torch.cat(branches, dim=1)


def towernet(num_classes: int, simam: bool, e_lambda: float = 1e-4) -> nn.Module:
    """images [N, 3, S, S] with S >= 128 -> logits; SimAM behind the last two pools of the stem and both behind it."""

    # PyTorch's momentum is the share of the new statistics, Paddle's (0.9) that of the old: both default to the same.
    def conv(inputs, outputs, stride=1):
        return [nn.Conv2d(inputs, outputs, 3, stride, padding=1), nn.BatchNorm2d(outputs, eps=1e-3), nn.ReLU()]

    pool = nn.MaxPool2d(2)
    attended_pool = [pool, *_attention(simam, e_lambda)]
    return nn.Sequential(
        *conv(3, 64, stride=2), pool,
        *conv(64, 128), pool,
        *conv(128, 256), *attended_pool,
        *conv(256, 256), *attended_pool,
        Inception(), *attended_pool,
        Inception(), *attended_pool,
        Inception(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, num_classes),
    )  # fmt: skip


class BasicBlock(nn.Module):
    """That of the CIFAR ResNets, its shortcut without parameters (He's option A); SimAM behind the second conv."""

    def __init__(self, inputs: int, outputs: int, stride: int, attention: list[nn.Module]):
        super().__init__()
        self.stride, self.new = stride, outputs - inputs
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Sequential(nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), *attention)
        self.norm2 = nn.BatchNorm2d(outputs)

    def forward(self, x):
        out = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        shortcut = F.pad(x[:, :, :: self.stride, :: self.stride], [0, 0, 0, 0, 0, self.new]) if self.new else x
        return F.relu(out + shortcut)


def resnet20(num_classes: int, simam: bool, e_lambda: float = 1e-4) -> nn.Module:
    """images [N, 3, S, S] -> logits."""
    blocks, width = [], 16
    for channels in (16, 32, 64):
        for _ in range(3):
            stride = 1 if width == channels else 2
            blocks.append(BasicBlock(width, channels, stride, _attention(simam, e_lambda)))
            width = channels
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        *blocks,
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, num_classes),
    )  # fmt: skip


class Bottleneck(nn.Module):
    """That of ResNet50; the stride and SimAM are the 3x3 conv's."""

    def __init__(self, inputs: int, width: int, stride: int, attention: list[nn.Module]):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = nn.Sequential(nn.Conv2d(width, width, 3, stride, padding=1, bias=False), *attention)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv3, self.norm3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        self.shortcut = nn.Sequential()
        if inputs != 4 * width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )

    def forward(self, x):
        out = F.relu(self.norm1(self.conv1(x)), inplace=True)
        out = F.relu(self.norm2(self.conv2(out)), inplace=True)
        return F.relu(self.norm3(self.conv3(out)) + self.shortcut(x), inplace=True)


def resnet50(num_classes: int, simam: bool, e_lambda: float = 1e-4) -> nn.Module:
    """images [N, 3, S, S] -> logits."""
    blocks, inputs = [], 64
    for stage, count in enumerate((3, 4, 6, 3)):
        for number in range(count):
            stride = 2 if stage and not number else 1
            blocks.append(Bottleneck(inputs, 64 << stage, stride, _attention(simam, e_lambda)))
            inputs = 256 << stage
    return nn.Sequential(
        nn.Conv2d(3, 64, 7, 2, padding=3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, padding=1),
        *blocks,
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, num_classes),
    )  # fmt: skip


class InvertedResidual(nn.Module):
    """That of MobileNetV2; SimAM behind the depthwise conv."""

    def __init__(self, inputs: int, outputs: int, stride: int, expand: int, attention: list[nn.Module]):
        super().__init__()
        self.residual, wide = stride == 1 and inputs == outputs, inputs * expand
        self.layers = nn.Sequential(
            *(_conv_relu6(inputs, wide, 1) if expand > 1 else []),
            *_conv_relu6(wide, wide, 3, stride, wide, attention),
            nn.Conv2d(wide, outputs, 1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip

    def forward(self, x):
        return x + self.layers(x) if self.residual else self.layers(x)


def _conv_relu6(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, attention=()) -> list:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, *attention, nn.BatchNorm2d(outputs), nn.ReLU6(inplace=True)]


def mobilenet_v2(num_classes: int, simam: bool, e_lambda: float = 1e-4) -> nn.Module:
    """images [N, 3, S, S] -> logits."""
    blocks, inputs = [], 32
    settings = (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)
    for expand, channels, count, stride in settings:
        for number in range(count):
            attention = _attention(simam, e_lambda)
            blocks.append(InvertedResidual(inputs, channels, 1 if number else stride, expand, attention))
            inputs = channels
    return nn.Sequential(
        *_conv_relu6(3, 32, 3, 2), *blocks, *_conv_relu6(320, 1280, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(1280, num_classes),
    )  # fmt: skip


def vgg19(num_classes: int, simam: bool, e_lambda: float = 1e-4) -> nn.Module:
    """images [N, 3, S, S] -> logits; SimAM behind every conv, before its ReLU."""
    layers, inputs = [], 3
    for channels, count in ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4)):
        for _ in range(count):
            conv = nn.Conv2d(inputs, channels, 3, padding=1)
            layers += [conv, *_attention(simam, e_lambda), nn.ReLU(inplace=True)]
            inputs = channels
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(7), nn.Flatten(),
        nn.Linear(512 * 7 * 7, 4096), nn.ReLU(inplace=True), nn.Dropout(),
        nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Dropout(),
        nn.Linear(4096, num_classes),
    )  # fmt: skip


BUILD = {
    "towernet": towernet, "alexnet": alexnet, "resnet50": resnet50, "mobilenet_v2": mobilenet_v2, "vgg19": vgg19,
    "resnet20": resnet20,
}  # fmt: skip
# As `summary.py` counts them on Paddle's side, for 16 classes.
PARAMETERS = {
    "towernet": 1_362_176, "alexnet": 7_536_336, "resnet50": 23_540_816, "mobilenet_v2": 2_244_368,
    "vgg19": 139_635_792, "resnet20": 270_112,
}  # fmt: skip


def main() -> None:
    for name, expected in PARAMETERS.items():
        network = BUILD[name](16, True)
        count = sum(parameter.numel() for parameter in network.parameters())
        with torch.no_grad():
            print(name, count, tuple(network.eval()(torch.zeros(2, 3, 128, 128)).shape))
        assert count == expected, (count, expected)


if __name__ == "__main__":
    main()
