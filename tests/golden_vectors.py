"""Golden vectors of the attention modules: inputs, parameters, outputs and gradients, in float64, from their formulas.

    python tests/golden_vectors.py      writes docs/golden/attention.npz; needs numpy and nothing else

docs/golden-vectors.md says what is in it and how to test an implementation against it.
"""

from pathlib import Path

import numpy as np
from attention_oracles import ORACLES, gradients

FILE = Path(__file__).resolve().parents[1] / "docs" / "golden" / "attention.npz"
CHANNELS, WIDTH = 16, 8
INPUTS = {"planes": (2, CHANNELS, 4, 3), "neurons": (2, CHANNELS, 1, 1)}


def conv(out_channels, in_channels, *sides):
    return {"weight": (out_channels, in_channels, *sides)}


def below(name, shapes):
    return {f"{name}.{key}": shape for key, shape in shapes.items()}


def biased(out_channels, in_channels):
    return {**conv(out_channels, in_channels, 1, 1), "bias": (out_channels,)}


def affine(channels):
    return {"weight": (channels,), "bias": (channels,)}


def batch_norm(channels):
    return {**affine(channels), "_mean": (channels,), "_variance": (channels,)}


def branch(name):
    return {**below(f"{name}.conv", conv(1, 2, 7, 7)), **below(f"{name}.norm", batch_norm(1))}


REDUCE, EXPAND = below("reduce", biased(WIDTH, CHANNELS)), below("expand", biased(CHANNELS, WIDTH))
# Of each module's parameters and running statistics.
SHAPES = {
    "simam": {}, "simam_unit": {}, "gate": {},
    "se": {**REDUCE, **EXPAND},
    "eca": below("conv", conv(1, 1, 3)),
    "cbam": {
        **below("reduce", conv(WIDTH, CHANNELS, 1, 1)), **below("expand", conv(CHANNELS, WIDTH, 1, 1)),
        **below("conv", conv(1, 2, 7, 7)), **below("norm", batch_norm(1)),
    },
    "srm": {"weight": (CHANNELS, 2), **below("norm", batch_norm(CHANNELS))},
    "gct": {"alpha": (CHANNELS,), "gamma": (CHANNELS,), "beta": (CHANNELS,)},
    "gc": {**below("key", conv(1, CHANNELS, 1, 1)), **REDUCE, **below("norm", affine(WIDTH)), **EXPAND},
    "coordatt": {
        **below("reduce", conv(WIDTH, CHANNELS, 1, 1)), **below("norm", batch_norm(WIDTH)),
        **below("rows", biased(CHANNELS, WIDTH)), **below("columns", biased(CHANNELS, WIDTH)),
    },
    "triplet": {**branch("height_channel"), **branch("channel_width"), **branch("height_width")},
    "sge": affine(4),
    "lct": affine(CHANNELS),
}  # fmt: skip
# What the shapes do not say.
KEYS = {
    "simam": {"e_lambda": 1e-4}, "simam_unit": {"e_lambda": 1e-4}, "gate": {"constant": 0.75}, "lct": {"groups": 4},
}  # fmt: skip


def is_statistic(name: str) -> bool:
    return name.endswith(("_mean", "_variance"))


def draw() -> dict:
    """Inputs, cotangents, keys and parameters."""
    rng = np.random.default_rng(2021)
    arrays = {}
    for name, shape in INPUTS.items():
        arrays[f"{name}/x"], arrays[f"{name}/cotangent"] = rng.normal(size=shape), rng.normal(size=shape)
    for module, shapes in SHAPES.items():
        for key, value in KEYS.get(module, {}).items():
            arrays[f"{module}/key/{key}"] = np.array(value)
        for name, shape in shapes.items():
            drawn = rng.uniform(0.5, 2, shape) if name.endswith("_variance") else rng.normal(0, 0.5, shape)
            arrays[f"{module}/parameter/{name}"] = drawn
    return arrays


def cases(arrays: dict):
    """(prefix, function of {"x": x, parameters...}, its arguments, cotangent) of every module, input and mode."""
    for module, shapes in SHAPES.items():
        parameters = {name: arrays[f"{module}/parameter/{name}"] for name in shapes}
        modes = ["eval", "train"] if any(map(is_statistic, shapes)) else ["eval"]
        for mode in modes:
            for source in INPUTS:

                def function(values, module=module, training=mode == "train", fixed=parameters):
                    return ORACLES[module](values["x"], {**fixed, **values}, training, **KEYS.get(module, {}))

                learnt = {name: value for name, value in parameters.items() if not is_statistic(name)}
                inputs = {"x": arrays[f"{source}/x"], **learnt}
                yield f"{module}/{source}/{mode}", function, inputs, arrays[f"{source}/cotangent"]


def generate() -> dict:
    arrays = draw()
    results = {}
    for prefix, function, inputs, cotangent in cases(arrays):
        results[f"{prefix}/y"] = function(inputs)
        for name, gradient in gradients(function, inputs, cotangent).items():
            results[f"{prefix}/gradient/{name}"] = gradient
    return {**arrays, **results}


def main() -> None:
    FILE.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(FILE, **generate())
    print(f"written: {FILE} ({FILE.stat().st_size // 1000} kB)")


if __name__ == "__main__":
    main()
