"""Networks as small as their backbone allows, by the keys of `model`."""

import paddle
import pytest
from paddle import nn

from simam_repro import ops
from simam_repro.config import Model, build_experiment
from simam_repro.errors import UserError
from simam_repro.models import backbones, build_model


def fused(*layers) -> nn.Sequential:
    """Layers one after the other, by the compiled operators."""
    return ops.fuse(nn.Sequential(*layers))


def smallest(backbone: str) -> int:
    return backbones.load(backbone).smallest_image


def build(backbone="towernet", seed=0, size=None, **model):
    paddle.seed(seed)
    network = build_model(Model(backbone=backbone, **model), 10, size or smallest(backbone))
    network.eval()
    return network


def refused(**model) -> str:
    with pytest.raises(UserError) as caught:
        build_experiment({"name": "a", "model": model})
    return str(caught.value)
