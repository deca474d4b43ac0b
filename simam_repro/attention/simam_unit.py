"""A control: SimAM's gate divided by its mean over the plane, so that it redistributes and does not shrink."""

from math import prod
from typing import Literal

from pydantic import Field

from simam_repro.attention.base import Attention, Site, where
from simam_repro.attention.lazy import F
from simam_repro.attention.registry import register
from simam_repro.attention.simam import inverse_energy
from simam_repro.config import AttentionConfig


class SimAMUnitConfig(AttentionConfig):
    name: Literal["simam_unit"] = "simam_unit"
    e_lambda: float = Field(1e-4, ge=1e-12, le=1e6, description="SimAM's lambda")


class SimAMUnit(Attention):
    """x -> x * s / mean(s), s = sigmoid(1 / e*) as in SimAM, the mean over each channel's plane."""

    def __init__(self, config: SimAMUnitConfig, site: Site):
        super().__init__()
        self.e_lambda = config.e_lambda

    def weights(self, x):
        gate = F.sigmoid(inverse_energy(x, self.e_lambda))
        return gate / gate.mean(axis=[2, 3], keepdim=True)

    def flops(self, shape) -> int:
        """SimAM's (10 an element, 2 a plane), and the mean and the quotient of its gate."""
        return 12 * prod(shape) + 2 * shape[0]

    def extra_repr(self) -> str:
        return ", ".join(filter(None, [f"e_lambda={self.e_lambda}", where(self)]))


register(SimAMUnitConfig, SimAMUnit, "SimAM with unit mean")
