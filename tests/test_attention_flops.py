"""The FLOPs that a module states are those that its formula does, counted while numpy does them."""

from contextlib import contextmanager

import attention_oracles as oracles
import numpy as np
import pytest
from attention_oracles import ORACLES

from simam_repro import attention
from simam_repro.attention import Site

MODULES = [name for name, module in attention.known_modules().items() if module.build is not None]
SHAPE = (64, 16, 16)
# Of steps that would be done otherwise than numpy does them here: for each element of the result.
HELPERS = {
    "sigmoid": lambda y, z: 3 * y.size,
    "relu": lambda y, z: y.size,
    "hard_swish": lambda y, z: 5 * y.size,
    "largest": lambda y, z, axis: z.size,
    "variance": lambda y, z, axis: 3 * z.size,
    "normalised": lambda y, z, axis, *epsilon: 5 * z.size,
    "conv": lambda y, z, weight, bias=None: 2 * weight[0].size * y.size,
    "batch_norm": lambda y, z, *rest: 2 * y.size,
}
UFUNCS = {"tanh": 5}


class Counted(np.ndarray):
    """An array that adds up the elementwise operations and reductions it takes part in."""

    total = 0

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **keys):
        plain = [np.asarray(value) for value in inputs]
        if out is not None:
            keys["out"] = tuple(np.asarray(value) for value in out)
        result = getattr(ufunc, method)(*plain, **keys)
        one = UFUNCS.get(ufunc.__name__, 1)
        Counted.total += plain[0].size - np.size(result) if method == "reduce" else one * np.size(result)
        return np.asarray(result).view(Counted)


def costed(function, cost):
    def run(*values):
        plain = [np.asarray(value) if isinstance(value, np.ndarray) else value for value in values]
        before = Counted.total
        result = function(*plain)
        Counted.total = before + cost(result, *plain)
        return result.view(Counted)

    return run


@contextmanager
def counting(monkeypatch):
    with monkeypatch.context() as patched:
        for name, cost in HELPERS.items():
            patched.setattr(oracles, name, costed(getattr(oracles, name), cost))
        Counted.total = 0
        yield


@pytest.mark.parametrize("name", MODULES)
def test_stated_flops_are_counted_ones(name, monkeypatch):
    layer = attention.build(attention.resolve(name), Site(SHAPE[0]))
    parameters = {key: value.numpy().astype(np.float64) for key, value in layer.state_dict().items()}
    x = np.random.default_rng(0).normal(size=(1, *SHAPE)).view(Counted)
    with counting(monkeypatch):
        ORACLES[name](x, parameters, False)
    assert layer.flops(SHAPE) == pytest.approx(Counted.total, rel=0.01)
