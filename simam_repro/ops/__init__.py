"""SimAM as one compiled operator, and how it is built.

`traced_whole` marks a function for `paddle.jit.to_static`: it is run to trace it, not rewritten.
"""

from simam_repro.ops.fused import fused_simam, load, traced_whole, usable

__all__ = ["fused_simam", "load", "traced_whole", "usable"]
