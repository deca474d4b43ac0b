"""AlexNet, TowerNet and SimAM in PyTorch, layer for layer those of simam_repro/models: what the benchmarks run beside.

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


def main() -> None:
    for network, size, expected in ((alexnet(10, True), 128, 7_524_042), (towernet(16, True), 256, 1_362_176)):
        count = sum(parameter.numel() for parameter in network.parameters())
        assert count == expected, (count, expected)
        with torch.no_grad():
            print(count, tuple(network.eval()(torch.zeros(2, 3, size, size)).shape))


if __name__ == "__main__":
    main()
