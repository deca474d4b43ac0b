"""The pass that puts compiled operators into any plain network, and takes them out again.

`fuse` exchanges the `forward` of what holds layers: a Sequential, and each block whose source says which of its layers
follow each other (rewrite.py). They become chains (chain.py), which look at every call for neighbours that an operator
computes in one go. The layers themselves stay as they are, with their parameters, keys, names and hooks; one that is
called from elsewhere, or has a hook, computes as Paddle has it, and one that is exchanged later is met as what it is.

To add a pattern, write it in a file of its own as chain.py shows, and import that file at the end of the imports here.
"""

import functools

from paddle import nn

from simam_repro.ops import patterns  # noqa: F401
from simam_repro.ops.chain import Plus, chain, plain_class
from simam_repro.ops.fused import traced_whole
from simam_repro.ops.rewrite import CHAIN, PLUS, with_chains


def fuse(network: nn.Layer) -> nn.Layer:
    """Let `network` compute by compiled operators where there are any; the same numbers, but for rounding.

    Returns:
        `network` itself.
    """
    for layer in network.sublayers(include_self=True):
        layer.__class__ = _fused_class(type(layer)) or type(layer)
    return network


def unfuse(network: nn.Layer) -> nn.Layer:
    """Undo `fuse`. Returns `network` itself."""
    for layer in network.sublayers(include_self=True):
        layer.__class__ = plain_class(type(layer))
    return network


@functools.cache
def _fused_class(cls: type) -> type | None:
    """A class like `cls` whose `forward` has chains; None where there is nothing to exchange."""
    if plain_class(cls) is not cls:
        return cls
    forward = _in_turn if cls.forward is nn.Sequential.forward else with_chains(cls.forward, cls)
    if forward is None:
        return None
    names = {name: getattr(cls, name) for name in ("__doc__", "__module__", "__qualname__")}
    own = {"forward": forward, CHAIN: staticmethod(chain), PLUS: Plus, "plain_class": cls}
    return type(cls.__name__, (cls,), {**names, **own})


@traced_whole
def _in_turn(self, x):
    return chain(x, *self._sub_layers.values())
