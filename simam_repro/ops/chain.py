"""Layers one after the other: neighbours that an operator can compute in one go are, where nothing looks between them.

A pattern says what an operator can compute: a function of the steps that are still to come and their input, which gives
the output and how many steps it took, or None where it takes none. Patterns are found by what their first step computes
by (`Step.kind`); the first that takes it has it, and a step that none takes is called as it is.

    @pattern(nn.BatchNorm2D.forward)
    def norm_relu(steps, x):
        if not (computes(steps, 1, *RELU) and ops.can_norm(x)):
            return None
        return ops.norm_relu(x, steps[0].layer), 2
"""

from collections import defaultdict
from typing import Any, Callable, NamedTuple

import paddle
from paddle import nn
from paddle.jit.dy2static import Call
from paddle.nn import functional as F

from simam_repro.ops.fused import traced_whole

RELU = (nn.ReLU.forward, F.relu)
RELU6 = (nn.ReLU6.forward, F.relu6)


class Step(NamedTuple):
    """One call of a chain.

    Attributes:
        call: what computes it by itself.
        kind: the class's `forward` of a layer, or the function itself, by which a pattern knows what it computes;
            None: hooks look at it, or its `forward` is one of its own, so that it is only ever called.
        layer: of which it is; None for a function.
    """

    call: Callable
    kind: Any
    layer: nn.Layer | None = None


class Plus:
    """The step of a sum: its other term is computed when the step is reached."""

    def __init__(self, term: Callable, first: bool):
        self.term, self.first = term, first

    def __call__(self, x):
        return self.term() + x if self.first else x + self.term()


_patterns: dict[Any, list[Callable]] = defaultdict(list)


def pattern(*kinds):
    """Register a pattern whose first step is of one of the `kinds`."""

    def register(function):
        for kind in kinds:
            _patterns[kind].insert(0, function)  # the newest is asked first
        return function

    return register


def computes(steps: list[Step], index: int, *kinds) -> bool:
    """Whether there is a step `index` and it is of one of the `kinds`."""
    return index < len(steps) and steps[index].kind in kinds


@traced_whole
def chain(x, *calls):
    """calls[-1](... calls[0](x)): layers, or functions of one argument."""
    steps = [step for call in calls for step in _steps(call)]
    while steps:
        x, taken = _advance(steps, x)
        steps = steps[taken:]
    return x


def _advance(steps: list[Step], x):
    for function in _patterns.get(steps[0].kind, ()):
        if (done := function(steps, x)) is not None:
            return done
    # What is traced is converted for it, as Paddle does where it meets the call itself.
    call = steps[0].call
    converted = paddle.in_dynamic_mode() or isinstance(call, Plus)  # whose term is a chain, or no call
    return (call if converted else Call(call))(x), 1


def _steps(call) -> list[Step]:
    """A layer is one step; attention that a hook applies is one of its own, and so is each layer of a Sequential."""
    if isinstance(call, Plus):
        return [Step(call, Plus)]
    if not isinstance(call, nn.Layer):
        return [Step(call, call if hasattr(call, "__name__") else None)]
    before, after = call._forward_pre_hooks, call._forward_post_hooks
    if not (before or after):
        return _own_steps(call)
    hooks = [*before.values(), *after.values()]
    child = getattr(hooks[0], "applies", None)
    if len(hooks) > 1 or child is None or "forward" in vars(call):
        return [Step(call, None, call)]
    own, attached = _own_steps(call), _steps(getattr(call, child))
    return [*attached, *own] if before else [*own, *attached]


def _own_steps(layer: nn.Layer) -> list[Step]:
    if "forward" in vars(layer):
        return [Step(layer.forward, None, layer)]
    kind = plain_class(type(layer)).forward
    if kind is nn.Sequential.forward:
        return [step for child in layer._sub_layers.values() for step in _steps(child)]
    return [Step(layer.forward, kind, layer)]


def plain_class(cls: type) -> type:
    """The class of a layer as it is when nothing is fused."""
    return vars(cls).get("plain_class", cls)
