"""What several modules are made of, each the same in all of them: statistics, bottlenecks, groups, BatchNorm."""

from typing import Annotated

from pydantic import AfterValidator, Field

from simam_repro.attention.lazy import F, paddle
from simam_repro.errors import UserError

EPSILON = 1e-5  # of every normalisation
LEAST_WIDTH = 8
SIGMOID_FLOPS = 3  # exponential, sum, quotient


def _odd(size: int) -> int:
    if size % 2 == 0:
        raise ValueError(f"{size} is even; a kernel needs a middle: take {size - 1} or {size + 1}")
    return size


Reduction = Annotated[int, Field(ge=1, le=4096)]
KernelSize = Annotated[int, Field(ge=1, le=63), AfterValidator(_odd)]


def statistics(x):
    """x in the dtype that means and deviations are computed in: float32 for float16 and bfloat16."""
    return x.astype("float32") if x.dtype in (paddle.float16, paddle.bfloat16) else x


def plane_mean(x):
    """[N, C, H, W] -> [N, C, 1, 1]."""
    return x.mean(axis=[2, 3], keepdim=True)


def constant(value: float, like):
    """A tensor of one number: Paddle 2.6 would add a Python float to float64 with float32's digits."""
    return paddle.full([1], value, dtype=like.dtype)


def normalised(x, axis: int, epsilon: float):
    """(x - mean) / sqrt(biased variance + epsilon) along an axis, in two passes: mean(x^2) - mean(x)^2 would cancel.

    What is constant becomes 0, and not the rounding error of its mean over a small deviation.
    """
    x = x - x.amin(axis=axis, keepdim=True).detach()
    x = x - x.mean(axis=axis, keepdim=True)
    return x / (x.square().mean(axis=axis, keepdim=True) + constant(epsilon, x)).sqrt()


def by(layer, x):
    """`layer(x)` in the dtype of the layer's parameters."""
    return layer(x.astype(layer.weight.dtype))


def per_channel(parameter, like):
    """A parameter [C] in the dtype of `like`, to be multiplied with [N, C, H, W]."""
    return parameter.astype(like.dtype).reshape([-1, 1, 1])


def plane_max(x):
    """[N, C, H, W] -> [N, C, 1, 1]. The gradient goes to the first of several largest values."""
    # paddle.max would give each of several the whole gradient, and takes seconds for it on a CPU, as amax does.
    return F.adaptive_max_pool2d(x, 1)


def max_and_mean(x):
    """[N, C, H, W] -> [N, 2, H, W]: the largest, as `plane_max` has it, and the mean over the channels."""
    mean = x.mean(axis=1, keepdim=True)
    if x.shape[1] == -1:  # free in a program that is traced: a pool needs a number
        return paddle.concat([x.amax(axis=1, keepdim=True), mean], axis=1)
    largest = F.max_pool2d(x.flatten(2).unsqueeze(1), [x.shape[1], 1], stride=1)  # [N, 1, 1, H W]
    return paddle.concat([shaped_like(largest, mean), mean], axis=1)


def shaped_like(values, x):
    """`values` in the shape of x, in which sizes may be free (-1) while a program is traced."""
    return values.reshape([paddle.shape(x)[axis] if size == -1 else size for axis, size in enumerate(x.shape)])


def batch_norm(layer, x, one_value: bool):
    """`layer(x)`; by the running statistics where a batch has one value a channel, which has no statistics of its own.

    Training with one image would else make the output the layer's bias whatever x is, and its running variance 0.
    """
    if not (layer.training and one_value):
        return layer(x)
    return F.batch_norm(x, layer._mean, layer._variance, layer.weight, layer.bias, epsilon=layer._epsilon)


def is_one(*sizes: int) -> bool:
    """Whether all sizes are 1; one that is free in a traced program (-1) is not."""
    return all(size == 1 for size in sizes)


def bottleneck(channels: int, reduction: int) -> int:
    """The width channels / reduction, at least 8."""
    return max(channels // reduction, LEAST_WIDTH)


def group_count(groups: int | None, usual: int, site) -> int:
    """Into how many groups a module divides the channels of a site.

    Args:
        groups: what the config asks for; None: `usual`, or where the channels do not allow that the most of which
            each has four channels or more.
    Raises:
        UserError: the channels are no multiple of `groups`.
    """
    channels = site.channels
    if groups is None:
        most = max(min(usual, channels // 4), 1)
        return max(count for count in range(1, most + 1) if channels % count == 0)
    if channels % groups:
        allowed = [count for count in range(1, channels + 1) if channels % count == 0]
        raise UserError(
            f"model.attention.groups: {channels} channels at the site {site.name or '(unnamed)'} are no multiple of "
            f"{groups}; give one of {', '.join(map(str, allowed))}, or null"
        )
    return groups
