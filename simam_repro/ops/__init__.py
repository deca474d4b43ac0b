"""Compiled operators for the CPU, and how they are built: SimAM, convolution with its bias and ReLU, batch
normalisation with residual sum and ReLU, max-pooling; `fuse`, which puts them into a plain network, and `unfuse`.

`traced_whole` marks a function for `paddle.jit.to_static`: it is run to trace it, not rewritten.
"""

from simam_repro.ops.fuse import fuse, unfuse
from simam_repro.ops.fused import (
    add_bias_in_place,
    convolve,
    convolves,
    fused_simam,
    load,
    max_pool,
    operators_in_programs,
    pools,
    runs_in_place,
    traced_whole,
    usable,
)  # fmt: skip

__all__ = [
    "add_bias_in_place", "convolve", "convolves", "fuse", "fused_simam", "load", "max_pool", "operators_in_programs",
    "pools", "runs_in_place", "traced_whole", "unfuse", "usable",
]  # fmt: skip
