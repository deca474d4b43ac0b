"""Attention as a plug-in: one file adds a module, and nothing else in the package names it.

A file of this folder (the package finds it by itself) has three parts:

    class MineConfig(AttentionConfig):        # its keys in a config, strict: model.attention: {name: mine, width: 3}
        name: Literal["mine"] = "mine"
        width: int = Field(7, ge=1, description="...")

    class Mine(Attention):                    # its layer, a paddle.nn.Layer; paddle, nn and F come from attention.lazy
        def __init__(self, config, site):     # site.channels, and what else `Site` says
            super().__init__()
            self.linear = nn.Linear(site.channels, site.channels)

        def weights(self, x):                 # what x [N, C, H, W] is multiplied by, broadcastable to it: for the maps
            return F.sigmoid(self.linear(x.mean(axis=[2, 3]))).unsqueeze([2, 3])

        def flops(self, shape):               # of one image (C, H, W)
            return 2 * prod(shape) + 2 * shape[0] ** 2 + 3 * shape[0]

    register(MineConfig, Mine, "Mine")        # its title, as figures and sentences call it

`forward` is x * weights(x) unless the class says otherwise; a module that adds overrides it and has no `weights` (set
`weights = None`). Parameters live below `<layer>.attention.`. An `__init__` draws them as it likes: the network's own
and all that is drawn later are the same with and without (see `simam_repro.models.attention`).

What others use:

    experiment.model.attention           the section: .name, .position, .sites (None: the backbone's), the module's keys
    title(section), short_title(section) "Mine (width 3)", "Mine"
    build(section, site)                 the layer, or None for `none`
    known_modules()                      {name: Module}, `none` first
    resolve(value)                       the section that a name or a mapping stands for
    attention_layer(name, channels)      a layer for a network of one's own
"""

from simam_repro.attention.base import Attention, Site
from simam_repro.attention.lazy import nn
from simam_repro.attention.registry import Module, build, known_modules, register, resolve, short_title, title
from simam_repro.config import AttentionConfig


def attention_layer(name: str, channels: int, **keys):
    """A layer for any network: [N, channels, H, W] -> the same shape.

    Args:
        name: of a module, see `known_modules`.
        keys: the module's own, as in a config.
    Raises:
        ValueError: no such module, or it has no such keys.
    """
    section = resolve({"name": name, **keys})
    return build(section, Site(channels)) or nn.Identity()


__all__ = [
    "Attention", "AttentionConfig", "Module", "Site", "attention_layer", "build", "known_modules", "register",
    "resolve", "short_title", "title",
]  # fmt: skip
