"""Weights to start from: a checkpoint of this project, or the official ones of paddle.vision.

Attention's own parameters are apart from the network's: weights of the plain network start a network with any
attention, and the other way round.
"""

from pathlib import Path

import numpy as np
import paddle
from paddle import nn
from safetensors import SafetensorError, deserialize

from simam_repro.errors import UserError
from simam_repro.models.attention import CHILD_NAME
from simam_repro.pickles import unpickle_plain

PARAMETER_NAMES = "StructuredToParameterName@@"  # what paddle.save adds to a state dict
# Little-endian; the kinds that are no floats are read to be named when they are refused.
SAFETENSORS_TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "<i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "<u1", "BOOL": "?",
}  # fmt: skip


def weights_file(path: Path) -> Path:
    """The file that `path` means: itself, or in a checkpoint's or a published network's folder the weights there."""
    return path / "weights.safetensors" if path.is_dir() else path


def start_from(path: Path, network: nn.Layer, trust_pickle: bool = False) -> tuple[list[str], list[str]]:
    """Give `network` the weights of a .safetensors or .pdparams file.

    A classifier (the last linear layer) of another size keeps its fresh initialisation, and so does attention of
    another kind than the file's.

    Args:
        trust_pickle: let a .pdparams file run what it asks for; without it one that holds more than
            arrays and plain containers is refused.
    Returns:
        The keys that kept their initialisation; and those of the file's attention that have no place here.
    Raises:
        UserError: no such file, damaged, refused, or of another network, or weights that are no floats (names the
            keys).
    """
    tensors, state = _read(path, trust_pickle), network.state_dict()
    theirs, ours = _attention_shapes(tensors), _attention_shapes(state)
    unlike = theirs != ours
    expected = {key: value for key, value in state.items() if not (unlike and key in ours)}
    tensors = {key: value for key, value in tensors.items() if not (unlike and key in theirs)}
    head = _classifier_keys(network)
    fresh = sorted(key for key in head & tensors.keys() if tensors[key].shape != tuple(expected[key].shape))
    wrong = {
        **{key: "missing" for key in expected.keys() - tensors.keys()},
        **{key: "unknown" for key in tensors.keys() - expected.keys()},
        **{
            key: f"{list(tensors[key].shape)}, not {list(expected[key].shape)}"
            for key in (expected.keys() & tensors.keys()) - head
            if tensors[key].shape != tuple(expected[key].shape)
        },
        **{
            key: f"{tensors[key].dtype}, not float32 or another kind of float"
            for key in expected.keys() & tensors.keys()
            if tensors[key].dtype.kind != "f"
        },
    }
    if wrong:
        some = "; ".join(f"{key} is {what}" for key, what in sorted(wrong.items())[:5])
        raise UserError(f"model.weights: {path} is of another network ({len(wrong)} keys differ): {some}")
    network.set_state_dict(
        {key: value if key in fresh else tensors[key].astype(value.numpy().dtype) for key, value in expected.items()}
        | {key: state[key] for key in state.keys() - expected.keys()}
    )
    return (sorted([*fresh, *ours]), sorted(theirs)) if unlike else (fresh, [])


def _attention_shapes(tensors) -> dict[str, list[int]]:
    """{key: shape} of attention's own parameters."""
    return {key: list(value.shape) for key, value in tensors.items() if CHILD_NAME in key.split(".")}


def _classifier_keys(network: nn.Layer) -> set[str]:
    linear = [(name, layer) for name, layer in network.named_sublayers() if isinstance(layer, nn.Linear)]
    name, layer = [(name, layer) for name, layer in linear if CHILD_NAME not in name.split(".")][-1]
    return {f"{name}.{key}" for key in layer.state_dict()}


def _read(path: Path, trust_pickle: bool) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise UserError(f"model.weights: {path} is not a file; give a .safetensors or .pdparams file, or null")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix != ".pdparams":
        raise UserError(f"model.weights: {path} is neither a .safetensors nor a .pdparams file")
    content = _read_trusted(path) if trust_pickle else _read_plain(path)
    if not isinstance(content, dict):
        raise UserError(f"model.weights: {path} holds a {type(content).__name__}, not a network's state dict")
    content.pop(PARAMETER_NAMES, None)
    # paddle.save writes a tensor as its array, or as (name, array).
    tensors = {key: value[1] if isinstance(value, tuple) else value for key, value in content.items()}
    strange = [key for key, value in tensors.items() if not isinstance(key, str) or not isinstance(value, np.ndarray)]
    if strange:
        raise UserError(f"model.weights: {path} holds more than tensors: {strange[0]!r}; give a network's state dict")
    return {key: _from_bfloat16(value) if value.dtype == np.uint16 else value for key, value in tensors.items()}


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """bfloat16, which numpy has not, as float32."""
    try:
        content = deserialize(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise UserError(f"model.weights: {path} is not a safetensors file ({error}); replace it") from None
    tensors = {}
    for key, tensor in content:
        dtype = SAFETENSORS_TYPES.get(tensor["dtype"])
        if dtype is None:
            raise UserError(
                f"model.weights: {path} holds {key} as {tensor['dtype']}, which is not read; give float32, float16 or "
                f"bfloat16"
            )
        values = np.frombuffer(tensor["data"], dtype).reshape(tensor["shape"])
        tensors[key] = _from_bfloat16(values) if tensor["dtype"] == "BF16" else values
    return tensors


def _from_bfloat16(values: np.ndarray) -> np.ndarray:
    """float32 of the upper halves of float32 (uint16), as which Paddle gives and saves bfloat16."""
    return (values.astype(np.uint32) << 16).view(np.float32)


def _read_plain(path: Path):
    with open(path, "rb") as file:
        try:
            return unpickle_plain(file, str(path), encoding="latin1")
        except UserError as error:
            raise UserError(f"model.weights: {error}; --trust-pickle reads it if you trust who made it") from None


def _read_trusted(path: Path):
    try:
        return paddle.load(str(path), return_numpy=True)
    except Exception as error:  # a pickle may raise anything
        raise UserError(f"model.weights: {path} cannot be loaded ({error}); replace it") from None
