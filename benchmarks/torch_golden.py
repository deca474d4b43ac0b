"""PyTorch implementations against the golden vectors (docs/golden-vectors.md), the benchmarks' SimAM among them.

For a Python that has torch; nothing here needs Paddle: $BENCH_TORCH_PYTHON benchmarks/torch_golden.py
Prints the largest difference of each module, output and gradients, over the largest number; fails above 1e-10.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torch_networks
from torch import nn
from torch.nn import functional as F

GOLDEN = Path(__file__).resolve().parents[1] / "docs" / "golden" / "attention.npz"
LIMIT = 1e-10
CHANNELS, WIDTH = 16, 8
PLANE = (2, 3)


class SE(nn.Module):
    def __init__(self):
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(CHANNELS, WIDTH, 1), nn.Conv2d(WIDTH, CHANNELS, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.expand(F.relu(self.reduce(F.adaptive_avg_pool2d(x, 1)))))


class ECA(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x):
        means = F.adaptive_avg_pool2d(x, 1)
        gates = torch.sigmoid(self.conv(means.squeeze(-1).transpose(1, 2)))
        return x * gates.transpose(1, 2).unsqueeze(-1)


class CBAM(nn.Module):
    def __init__(self):
        super().__init__()
        self.reduce = nn.Conv2d(CHANNELS, WIDTH, 1, bias=False)
        self.expand = nn.Conv2d(WIDTH, CHANNELS, 1, bias=False)
        self.conv, self.norm = nn.Conv2d(2, 1, 7, padding=3, bias=False), nn.BatchNorm2d(1)

    def forward(self, x):
        pooled = F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, 1)
        x = x * torch.sigmoid(sum(self.expand(F.relu(self.reduce(vector))) for vector in pooled))
        seen = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], 1)
        return x * torch.sigmoid(self.norm(self.conv(seen)))


class GC(nn.Module):
    def __init__(self):
        super().__init__()
        self.key = nn.Conv2d(CHANNELS, 1, 1, bias=False)
        self.reduce, self.expand = nn.Conv2d(CHANNELS, WIDTH, 1), nn.Conv2d(WIDTH, CHANNELS, 1)
        self.norm = nn.GroupNorm(1, WIDTH)  # of [N, C, 1, 1]: LayerNorm over the channels

    def forward(self, x):
        shares = self.key(x).flatten(2).softmax(-1)
        context = (x.flatten(2) * shares).sum(-1)[..., None, None]
        return x + self.expand(F.relu(self.norm(self.reduce(context))))


class CoordAtt(nn.Module):
    def __init__(self):
        super().__init__()
        self.reduce, self.norm = nn.Conv2d(CHANNELS, WIDTH, 1, bias=False), nn.BatchNorm2d(WIDTH)
        self.rows, self.columns = nn.Conv2d(WIDTH, CHANNELS, 1), nn.Conv2d(WIDTH, CHANNELS, 1)

    def forward(self, x):
        rows, columns = x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3)
        hidden = F.hardswish(self.norm(self.reduce(torch.cat([rows, columns], 2))))
        rows, columns = hidden.split(x.shape[2:], dim=2)
        return x * torch.sigmoid(self.rows(rows)) * torch.sigmoid(self.columns(columns)).transpose(2, 3)


class LCT(nn.Module):
    """GroupNorm of the means is the module."""

    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.empty(CHANNELS)), nn.Parameter(torch.empty(CHANNELS))

    def forward(self, x):
        z = F.group_norm(F.adaptive_avg_pool2d(x, 1), 4, self.weight, self.bias)
        return x * torch.sigmoid(z)


MODULES = {
    "simam": torch_networks.SimAM, "se": SE, "eca": ECA, "cbam": CBAM, "gc": GC, "coordatt": CoordAtt, "lct": LCT,
}  # fmt: skip
TORCH_NAMES = {"._mean": ".running_mean", "._variance": ".running_var"}


def load(golden, name: str) -> nn.Module:
    module, prefix = MODULES[name]().double(), f"{name}/parameter/"
    state = dict(module.state_dict())
    for key in golden.files:
        if key.startswith(prefix):
            ours = key.removeprefix(prefix)
            for paddle_name, torch_name in TORCH_NAMES.items():
                ours = ours.replace(paddle_name, torch_name)
            state[ours] = torch.tensor(golden[key]).reshape(state[ours].shape)
    module.load_state_dict(state)
    return module


def worst(golden, name: str, source: str, mode: str) -> float:
    """The largest difference, output and gradients, over the largest number of each."""
    module = load(golden, name).train(mode == "train")
    x = torch.tensor(golden[f"{source}/x"], requires_grad=True)
    y = module(x)
    (y * torch.tensor(golden[f"{source}/cotangent"])).sum().backward()
    prefix = f"{name}/{source}/{mode}"
    found = {"y": y, "gradient/x": x.grad}
    found |= {f"gradient/{key}": parameter.grad for key, parameter in module.named_parameters()}
    differences = []
    for key, value in found.items():
        expected = golden[f"{prefix}/{key}"]
        difference = np.abs(value.detach().numpy().reshape(expected.shape) - expected).max()
        differences.append(difference / max(np.abs(expected).max(), 1e-300))
    return max(differences)


def main() -> int:
    golden = np.load(GOLDEN)
    failed = False
    for name in MODULES:
        for source in ("planes", "neurons"):
            for mode in ("eval", "train"):
                if f"{name}/{source}/{mode}/y" in golden.files:
                    difference = worst(golden, name, source, mode)
                    failed |= not difference < LIMIT
                    print(f"{name:9} {source:8} {mode:5} {difference:.1e}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
