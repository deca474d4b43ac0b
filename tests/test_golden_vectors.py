"""docs/golden/attention.npz is what its command writes, and what the layers compute."""

import re

import golden_vectors
import numpy as np
import paddle
import pytest
from golden_vectors import FILE, INPUTS, KEYS, SHAPES, cases, is_statistic

from simam_repro import attention
from simam_repro.attention import Site


@pytest.fixture(scope="module")
def golden():
    with np.load(FILE) as file:
        return dict(file)


@pytest.fixture
def in_float64():
    paddle.set_default_dtype("float64")
    yield
    paddle.set_default_dtype("float32")


def test_the_file_is_what_the_command_writes(golden):
    generated = golden_vectors.generate()
    assert list(golden) == list(generated)
    for key, value in generated.items():
        np.testing.assert_allclose(golden[key], value, rtol=1e-10, atol=1e-12, err_msg=key)


def test_the_file_is_small_and_has_every_module():
    modules = {name for name, module in attention.known_modules().items() if module.build is not None}
    assert set(SHAPES) == modules
    assert FILE.stat().st_size < 300_000


def test_the_page_names_what_is_there(golden):
    page = (FILE.parents[1] / "golden-vectors.md").read_text()
    named = re.findall(r"[`\"]((?:[a-z_]+/)+[a-z_.]+)[`\"]", page)
    arrays = [name for name in named if name.split("/")[0] in {*SHAPES, *INPUTS}]
    assert len(arrays) >= 9 and set(arrays) <= set(golden)


@pytest.mark.parametrize("module", SHAPES)
def test_layers(module, golden, in_float64):
    mine = [case for case in cases(golden) if case[0].startswith(f"{module}/")]
    assert len(mine) in (2, 4)
    for prefix, _, inputs, cotangent in mine:
        layer = attention.build(attention.resolve({"name": module, **KEYS.get(module, {})}), Site(16))
        layer.set_state_dict({key: golden[f"{module}/parameter/{key}"] for key in SHAPES[module]})
        (layer.train if prefix.endswith("train") else layer.eval)()
        x = paddle.to_tensor(inputs["x"], stop_gradient=False)
        y = layer(x)
        (y * paddle.to_tensor(cotangent)).sum().backward()
        found = {"y": y, "gradient/x": x.grad}
        found |= {f"gradient/{key}": value.grad for key, value in layer.named_parameters() if not is_statistic(key)}
        assert {f"{prefix}/{key}" for key in found} == {key for key in golden if key.startswith(f"{prefix}/")}
        # Paddle's norms have their epsilon in float32.
        tolerance = 1e-6 if any("norm" in key for key in SHAPES[module]) else 1e-11
        for key, value in found.items():
            expected = golden[f"{prefix}/{key}"]
            value = np.zeros_like(expected) if value is None else value.numpy()
            np.testing.assert_allclose(value, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max() + 1e-15)
