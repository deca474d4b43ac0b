"""What a backbone declares: how to build it, where attention may go in it, where its last map is, its title."""

from dataclasses import dataclass
from typing import Callable

from paddle import nn


@dataclass(frozen=True)
class Place:
    """Where an attention layer goes: behind the output of a layer.

    Attributes:
        layer: its name in the network, "layer1.0.conv2".
        channels: of the map there.
        before: in front of the layer's input instead, where nothing before it is a layer of its own.
    """

    layer: str
    channels: int
    before: bool = False


# {name of a site: {position: place}}, in network order; positions: conv, norm, act, block.
Sites = dict[str, dict[str, Place]]


@dataclass(frozen=True)
class Backbone:
    """A network and where attention goes in it.

    Attributes:
        title: as figures and sentences call it.
        build: num_classes -> network that maps images [N, 3, S, S] to logits [N, num_classes].
        sites: network -> its sites.
        position: where attention goes at a site unless the config says otherwise.
        map_layer: name of the layer whose output is the last map that still shows a place, for Grad-CAM.
        smallest_image: side in pixels of the smallest image that it takes: below it one of its maps would vanish.
        own_sites: the sites that get attention unless the config says otherwise; None: all that have the position.
    """

    title: str
    build: Callable[[int], nn.Layer]
    sites: Callable[[nn.Layer], Sites]
    position: str
    map_layer: str
    smallest_image: int
    own_sites: tuple[str, ...] | None = None
