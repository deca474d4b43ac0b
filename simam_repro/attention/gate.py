"""A control: multiplies by a constant. What remains of a module's effect beside it is not its shrinking of the map."""

import math
from typing import Annotated, Literal, Union

from pydantic import Field

from simam_repro.attention.base import Attention, Site, where
from simam_repro.attention.lazy import paddle
from simam_repro.attention.registry import register
from simam_repro.config import AttentionConfig
from simam_repro.errors import UserError

RESTING = 1 / (1 + math.exp(-0.5))  # sigmoid(1/2): what SimAM multiplies a neuron at the mean of its channel by
Number = Annotated[float, Field(ge=-1e3, le=1e3)]


class GateConfig(AttentionConfig):
    name: Literal["gate"] = "gate"
    constant: Union[Number, Annotated[tuple[Number, ...], Field(strict=False, min_length=1)]] = Field(
        RESTING, description="the factor; a list has one for each site, in network order"
    )


class Gate(Attention):
    """x -> g x with a constant g.

    Raises:
        UserError: a list of constants that has not one for each site.
    """

    def __init__(self, config: GateConfig, site: Site):
        super().__init__()
        self.constant = config.constant
        if isinstance(config.constant, tuple):
            if len(config.constant) != site.count:
                raise UserError(
                    f"model.attention.constant: {len(config.constant)} numbers, but there are {site.count} sites; "
                    "give one for each, or a single number"
                )
            self.constant = config.constant[site.index]

    def weights(self, x):
        return paddle.full([1, 1, 1, 1], self.constant, dtype=x.dtype)

    def flops(self, shape) -> int:
        return math.prod(shape)

    def extra_repr(self) -> str:
        return ", ".join(filter(None, [f"constant={self.constant:.6g}", where(self)]))


register(GateConfig, Gate, "constant gate")
