"""Attention goes into every network by one mechanism: behind named layers, without touching the rest.

The attention layer becomes a child of the layer it follows (so `print(network)` shows it) and is applied to that
layer's output by a hook. `state_dict` has the keys of the plain network and, where attention has parameters,
`<layer>.attention.*`.
"""

import difflib

import paddle
from paddle import nn

from simam_repro import attention, ops
from simam_repro.attention import AttentionConfig, Site
from simam_repro.errors import UserError
from simam_repro.models.backbone import Backbone, Place

CHILD_NAME = "attention"


def attach_attention(network: nn.Layer, backbone: Backbone, config: AttentionConfig, fused: bool = True) -> None:
    """Put the attention that `config` names at its sites of `network`.

    What its layers draw changes nothing that is drawn later: dropout is the same with and without.

    Raises:
        UserError: the backbone has no such position or site (names those that it has).
    """
    state = paddle.get_rng_state()
    chosen = choose_places(network, backbone, config)
    layers = dict(network.named_sublayers())
    for index, (name, position, place) in enumerate(chosen):
        site = Site(place.channels, name, position, index, len(chosen), fused)
        attach(layers[place.layer], config, site, place.before)
    paddle.set_rng_state(state)


def attach(layer: nn.Layer, config: AttentionConfig, site: Site, before: bool = False) -> None:
    """Put an attention layer behind `layer`, or before it."""
    built = attention.build(config, site)
    if built is None:
        return
    built.site = site
    layer.add_sublayer(CHILD_NAME, built)
    if before:
        layer.register_forward_pre_hook(_apply_before)
    else:
        layer.register_forward_post_hook(_apply)


def choose_places(network: nn.Layer, backbone: Backbone, config: AttentionConfig) -> list[tuple[str, str, Place]]:
    """(site, position, place) for each attention layer that `config` asks for, in network order.

    Raises:
        UserError: as `attach_attention` has it.
    """
    sites = backbone.sites(network)
    position = config.position or backbone.position
    offering = [name for name, places in sites.items() if position in places]
    if not offering:
        offered = sorted({position for places in sites.values() for position in places})
        raise UserError(f"model.attention.position: {backbone.title} has no {position}; it has {', '.join(offered)}")
    for name in config.sites or ():
        if name not in offering:
            near = difflib.get_close_matches(name, offering, n=1, cutoff=0.4)
            raise UserError(
                f"model.attention.sites: {backbone.title} has no site {name} with position {position}"
                + (f"; did you mean {near[0]}?" if near else ".")
                + f" It has {', '.join(offering)}"
            )
    wanted = config.sites or backbone.own_sites or offering
    return [(name, position, sites[name][position]) for name in offering if name in wanted]


def attention_layers(network: nn.Layer) -> dict[str, nn.Layer]:
    """{name of the layer it follows: attention layer}, in network order."""
    suffix = f".{CHILD_NAME}"
    return {name.removesuffix(suffix): layer for name, layer in network.named_sublayers() if name.endswith(suffix)}


@ops.traced_whole
def _apply(layer, inputs, output):
    return getattr(layer, CHILD_NAME)(output)


@ops.traced_whole
def _apply_before(layer, inputs):
    return (getattr(layer, CHILD_NAME)(inputs[0]), *inputs[1:])


# So that `ops.fuse` knows that they do nothing else.
_apply.applies = _apply_before.applies = CHILD_NAME
