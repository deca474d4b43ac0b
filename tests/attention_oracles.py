"""The attention modules from their papers' formulas, in float64 numpy: what the layers are tested against.

Each function maps x [N, C, H, W] to y of the same shape. `p` holds parameters and running statistics under the names of
the layer's state dict; convolutions are [out, in, height, width], in every framework. `training` selects batch
statistics. Everything works on complex numbers too, which gives gradients to the last digits: see `derivative`.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

EPSILON = 1e-5  # of every normalisation
STEP = 1e-30
PLANE = (2, 3)

# ---- what the formulas are made of


def sigmoid(z):
    small = np.exp(np.where(z.real >= 0, -z, z))
    return np.where(z.real >= 0, 1, small) / (1 + small)


def relu(z):
    return np.where(z.real > 0, z, 0)


def hard_swish(z):
    return z * np.where(z.real >= 3, 6, np.where(z.real <= -3, 0, z + 3)) / 6


def mean(z, axis):
    return z.mean(axis, keepdims=True)


def variance(z, axis):
    """The biased one, in two passes."""
    return mean((z - mean(z, axis)) ** 2, axis)


def largest(z, axis):
    """The first of several, which has the gradient."""
    last = z.reshape(*z.shape[:2], -1) if axis == PLANE else np.moveaxis(z, axis, -1)
    met = np.take_along_axis(last, last.real.argmax(-1)[..., None], -1)
    return met[..., None] if axis == PLANE else np.moveaxis(met, -1, axis)


def max_and_mean(z):
    """Over the channels."""
    return np.concatenate([largest(z, 1), mean(z, 1)], 1)


def conv(z, weight, bias=None):
    """Stride 1, as much zero padding as keeps the size."""
    pads = [(side // 2, side // 2) for side in weight.shape[2:]]
    windows = sliding_window_view(np.pad(z, [(0, 0), (0, 0), *pads]), weight.shape[2:], axis=PLANE)
    y = np.einsum("nchwij,ocij->nohw", windows, weight)
    return y if bias is None else y + bias[:, None, None]


def channels(vector):
    """[C] against [N, C, H, W]."""
    return vector[:, None, None]


def normalised(z, axis, epsilon=EPSILON):
    return (z - mean(z, axis)) / np.sqrt(variance(z, axis) + epsilon)


def batch_norm(z, p, name, training, one_value):
    """`one_value`: the batch has one value a channel, and no statistics: the running ones are used."""
    if training and not one_value:
        mu, var = mean(z, (0, 2, 3)), variance(z, (0, 2, 3))
    else:
        mu, var = channels(p[f"{name}._mean"]), channels(p[f"{name}._variance"])
    return (z - mu) / np.sqrt(var + EPSILON) * channels(p[f"{name}.weight"]) + channels(p[f"{name}.bias"])


def one_neuron(x):
    return x.shape[0] * x.shape[2] * x.shape[3] == 1


# ---- the modules


def simam_gate(x, e_lambda):
    """Yang et al., ICML 2021: sigmoid(1 / e*)."""
    squares = (x - mean(x, PLANE)) ** 2
    unbiased = squares.sum(PLANE, keepdims=True) / max(x.shape[2] * x.shape[3] - 1, 1)
    return sigmoid(squares / (4 * (unbiased + e_lambda)) + 0.5)


def simam(x, p, training, e_lambda=1e-4):
    return x * simam_gate(x, e_lambda)


def simam_unit(x, p, training, e_lambda=1e-4):
    """A control: SimAM's gate over its mean."""
    gate = simam_gate(x, e_lambda)
    return x * gate / mean(gate, PLANE)


def gate(x, p, training, constant=1 / (1 + np.exp(-0.5))):
    """A control: a constant."""
    return constant * x


def se(x, p, training):
    """Hu et al., CVPR 2018: sigmoid(W2 relu(W1 mean + b1) + b2)."""
    hidden = relu(conv(mean(x, PLANE), p["reduce.weight"], p["reduce.bias"]))
    return x * sigmoid(conv(hidden, p["expand.weight"], p["expand.bias"]))


def eca(x, p, training):
    """Wang et al., CVPR 2020: sigmoid of a convolution of the means along the channels."""
    means = x.mean(PLANE)[:, None, None, :]
    gates = sigmoid(conv(means, p["conv.weight"][:, :, None, :]))
    return x * gates[:, 0, 0, :, None, None]


def cbam(x, p, training):
    """Woo et al., ECCV 2018: a gate a channel, then a gate a position."""

    def mlp(z):
        return conv(relu(conv(z, p["reduce.weight"])), p["expand.weight"])

    x = x * sigmoid(mlp(mean(x, PLANE)) + mlp(largest(x, PLANE)))
    seen = conv(max_and_mean(x), p["conv.weight"])
    return x * sigmoid(batch_norm(seen, p, "norm", training, one_neuron(x)))


def srm(x, p, training):
    """Lee et al., ICCV 2019: sigmoid(BN(w1 mean + w2 std)), weights of their own for each channel."""
    style = mean(x, PLANE), np.sqrt(variance(x, PLANE) + EPSILON)
    z = sum(channels(p["weight"][:, index]) * value for index, value in enumerate(style))
    return x * sigmoid(batch_norm(z, p, "norm", training, x.shape[0] == 1))


def gct(x, p, training):
    """Yang et al., CVPR 2020, equations 2 to 4."""
    embedding = channels(p["alpha"]) * np.sqrt((x**2).sum(PLANE, keepdims=True) + EPSILON)
    norm = np.sqrt((embedding**2).sum(1, keepdims=True) + EPSILON)
    gate = channels(p["gamma"]) * np.sqrt(x.shape[1]) * embedding / norm + channels(p["beta"])
    return x * (1 + np.tanh(gate))


def gc(x, p, training):
    """Cao et al., ICCV workshops 2019: x + W2 relu(LN(W1 context))."""
    logits = conv(x, p["key.weight"])
    exponentials = np.exp(logits - logits.real.max(PLANE, keepdims=True))
    shares = exponentials / exponentials.sum(PLANE, keepdims=True)
    context = (x * shares).sum(PLANE, keepdims=True)
    hidden = conv(context, p["reduce.weight"], p["reduce.bias"])
    normed = normalised(hidden, 1) * channels(p["norm.weight"]) + channels(p["norm.bias"])
    return x + conv(relu(normed), p["expand.weight"], p["expand.bias"])


def coordatt(x, p, training):
    """Hou et al., CVPR 2021, equations 4 to 8."""
    height = x.shape[2]
    rows, columns = mean(x, 3), np.swapaxes(mean(x, 2), 2, 3)
    joined = conv(np.concatenate([rows, columns], 2), p["reduce.weight"])
    hidden = hard_swish(batch_norm(joined, p, "norm", training, one_neuron(x)))
    by_row = sigmoid(conv(hidden[:, :, :height], p["rows.weight"], p["rows.bias"]))
    by_column = sigmoid(conv(hidden[:, :, height:], p["columns.weight"], p["columns.bias"]))
    return x * by_row * np.swapaxes(by_column, 2, 3)


def triplet(x, p, training):
    """Misra et al., WACV 2021: a gate over (H, C), one over (C, W), one over (H, W); their mean."""

    def gate(name, turned):
        seen = conv(max_and_mean(turned), p[f"{name}.conv.weight"])
        return sigmoid(batch_norm(seen, p, f"{name}.norm", training, one_neuron(turned)))

    by_height_channel = gate("height_channel", x.transpose(0, 3, 2, 1)).transpose(0, 3, 2, 1)
    by_channel_width = gate("channel_width", x.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3)
    return x * (by_height_channel + by_channel_width + gate("height_width", x)) / 3


def sge(x, p, training):
    """Li et al., 2019: within each group, how like each position is to the mean of all, normalised."""
    groups = len(p["weight"])
    y = np.empty_like(x)
    for group, members in enumerate(np.split(np.arange(x.shape[1]), groups)):
        part = x[:, members]
        likeness = (part * mean(part, PLANE)).sum(1, keepdims=True)
        gate = p["weight"][group] * normalised(likeness, PLANE, EPSILON**2) + p["bias"][group]
        y[:, members] = part * sigmoid(gate)
    return y


def lct(x, p, training, groups=4):
    """Ruan et al., AAAI 2020: the means, normalised within groups of channels, scaled and shifted by channel."""
    means = x.mean(PLANE).reshape(len(x), groups, -1)
    z = normalised(means, 2).reshape(*x.shape[:2], 1, 1)
    return x * sigmoid(channels(p["weight"]) * z + channels(p["bias"]))


ORACLES = {
    function.__name__: function
    for function in (simam, simam_unit, gate, se, eca, cbam, srm, gct, gc, coordatt, triplet, sge, lct)
}

# ---- gradients


def derivative(function, arrays: dict, direction: dict):
    """How the output of `function(**arrays)` changes along `direction`, exact to rounding.

    f(a + ih d) = f(a) + ih f'(a) d + O(h^2), so the imaginary part over h is the derivative, with no difference of
    two near numbers: a step of 1e-30 has no error that float64 could show (the complex-step method).
    """
    moved = {name: array + 1j * STEP * direction.get(name, 0) for name, array in arrays.items()}
    return function(moved).imag / STEP


def gradients(function, arrays: dict, cotangent) -> dict:
    """Of sum(function(arrays) * cotangent), by every element of every array."""
    result = {name: np.empty_like(array) for name, array in arrays.items()}
    for name, array in arrays.items():
        for index in np.ndindex(array.shape):
            unit = np.zeros_like(array)
            unit[index] = 1
            result[name][index] = (derivative(function, arrays, {name: unit}) * cotangent).sum()
    return result
