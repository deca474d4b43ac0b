"""What an attention module is built from: the base of its layer, and the site that it is built for."""

import functools
from dataclasses import dataclass

from simam_repro.attention.lazy import nn, ops


@dataclass(frozen=True)
class Site:
    """A place in a network that gets an attention layer of its own.

    Attributes:
        channels: of the map there.
        name: as the backbone calls the site ("b3").
        position: where at the site: "conv", "norm", "act" or "block".
        index: number of the layer among all that the network gets, from 0, in network order.
        count: how many the network gets.
        fused: whether compiled operators may be used (`model.fused`).
    """

    channels: int
    name: str = ""
    position: str = ""
    index: int = 0
    count: int = 1
    fused: bool = True


class Attention:
    """Base of attention layers: becomes a `paddle.nn.Layer` when the first of a class is made.

    Until then Paddle is not imported, so that a config can be read without it; `paddle`, `nn` and `F` of
    `simam_repro.attention.lazy` go with it. In all else a subclass is written like any Layer: `__init__(config, site)`
    that calls `super().__init__()` first, `create_parameter`, sublayers. It has

        weights(x)      what x [N, C, H, W] is multiplied by, broadcastable to it, for maps too; not where it adds
        forward(x)      x * weights(x) unless it says otherwise
        flops(shape)    additions, multiplications, divisions, comparisons and exponentials for one image (C, H, W)

    Attributes:
        site: the `Site` that a network has put it at; None outside of one.
        joins_conv: whether the layer may be called as layer(x, bias, relu), which is relu(layer(x + bias)), with the
            bias [C] of the convolution before it or None. `ops.fuse` then leaves both to it.
            For a module whose `weights` a bias does not change.
    """

    site: Site | None = None
    joins_conv = False

    def __new__(cls, *args, **kwargs):
        return object.__new__(_as_layer(cls))

    def forward(self, x):
        """[N, C, H, W] -> the same shape and dtype."""
        return x * self.weights(x).astype(x.dtype)

    def extra_repr(self) -> str:
        return where(self)


def where(layer) -> str:
    """ "site=b3, position=block" for `print(network)`; empty outside of a network."""
    site = layer.site
    return f"site={site.name}, position={site.position}" if site else ""


@functools.cache
def _as_layer(cls: type) -> type:
    if issubclass(cls, nn.Layer):
        return cls
    # A traced program runs the layer as it is: Paddle's rewriting of Python for it stumbles over much that is common.
    forward = ops.traced_whole(cls.forward)
    names = {"__doc__": cls.__doc__, "__module__": cls.__module__, "forward": forward}
    return type(cls.__name__, (cls, nn.Layer), names)
