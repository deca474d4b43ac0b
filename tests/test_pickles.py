"""The unpickler that runs nothing, and the weights that it reads."""

import builtins
import codecs
import hashlib
import json
import os
import pickle
import struct
import time
from collections import OrderedDict

import miniatures
import numpy as np
import paddle
import pytest
from commands import ROOT, assert_refused, script
from miniatures import Payload

from simam_repro.config import Model
from simam_repro.errors import UserError
from simam_repro.models import build_model, start_from
from simam_repro.pickles import unpickle_plain
from simam_repro.runs import RunFolder

# what is read


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_arrays_and_containers_are_read(protocol):
    arrays = [np.arange(6, dtype=kind).reshape(2, 3) for kind in ("u1", "i8", "f2", "f4", "f8")]
    arrays += [np.asfortranarray(arrays[3]), np.array(3.5), np.zeros((0, 4)), np.array([True, False])]
    value = OrderedDict(arrays=arrays, text="é", nested=({"a": 1}, [b"\x00\xff", None, 2.5]))
    again = unpickle_plain(pickle.dumps(value, protocol), "here")
    assert again["text"] == "é" and again["nested"] == value["nested"]
    for read, written in zip(again["arrays"], arrays):
        assert read.dtype == written.dtype and np.array_equal(read, written)


def test_pickles_of_either_numpy_are_read():
    value = {b"data": np.arange(6, dtype=np.uint8).reshape(2, 3), b"labels": [1, 2]}
    for content in (pickle.dumps(value, protocol=2), miniatures.python2_pickle(value)):
        again = unpickle_plain(content, "here")
        assert np.array_equal(again[b"data"], value[b"data"]) and again[b"labels"] == [1, 2]


# what is refused


CALLS = {
    "eval": (eval, "1"),
    "getattr": (getattr, "x", "upper"),
    "np.load": (np.load, "x"),
    "bytearray": (bytearray, 3),
    "np.frombuffer": (np.frombuffer, b"12"),
    "import": (builtins.__import__, "os"),
    "paddle.load": (paddle.load, "x"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_other_callables_are_refused(call, protocol):
    with pytest.raises(UserError, match="it wants to import"):
        unpickle_plain(pickle.dumps(Payload(*call), protocol), "here")


ARRAYS = {
    "made of a buffer": pickle.dumps(Payload(np.ndarray, (1,), np.dtype("O"), bytes(8)), 2),
    "made by itself": pickle.dumps(Payload(np.ndarray, (4,)), 2),
    "of objects": pickle.dumps(np.array([None, {}], dtype=object), 2),
    "of texts": pickle.dumps(np.array(["a"]), 2),
    "of big-endian numbers": pickle.dumps(np.zeros(3, ">f8"), 2),
    "of records": pickle.dumps(np.zeros(3, [("a", "f4")]), 2),
    "of another shape": pickle.dumps(np.zeros(3), 2).replace(b"K\x03\x85", b"K\x09\x85"),
}


@pytest.mark.parametrize("content", ARRAYS.values(), ids=ARRAYS.keys())
def test_strange_arrays_are_refused(content):
    with pytest.raises(UserError, match="here is not a plain pickle"):
        unpickle_plain(content, "here")


def test_a_forged_dtype_is_refused():
    """numpy lets a dtype's state say that objects are numbers; then the array's bytes are pointers."""
    dtype = np.dtype("O", False, True)
    forged = dtype.__reduce__()[2][:-1] + (0,)

    class Array:
        def __reduce__(self):
            array = np.zeros(1).__reduce__()
            return array[0], array[1], (1, (1,), Forged(), False, struct.pack("Q", 16))

    class Forged:
        def __reduce__(self):
            return np.dtype, ("O", False, True), forged

    with pytest.raises(UserError, match="of O, not of numbers"):
        unpickle_plain(pickle.dumps(Array(), 2), "here")


def doubled(start: bytes, double: bytes, times: int = 40) -> bytes:
    """A container put into another twice, that again, and so on."""
    return b"\x80\x04" + start + double * times


def of_lists(times: int = 40) -> bytes:
    steps = b"".join(b"]" + b"\x94(" + bytes([ord("h"), n, ord("h"), n]) + b"e" for n in range(times))
    return b"\x80\x04]\x94" + steps + b"."


BOMBS = {
    "lists that double": of_lists(),
    "tuples that double": doubled(b")", b"2\x86") + b".",
    "tuples that double as a key": b"\x80\x04}" + doubled(b")", b"2\x86")[2:] + b"K\x01s.",
    "tuples that double in a set": b"\x80\x04\x8f(" + doubled(b")", b"2\x86")[2:] + b"\x90.",
    "a list that holds itself": b"\x80\x04]\x94(h\x00h\x00e.",
    "lists filled after they are put": b"\x80\x04"
    + b"]\x94" * 30
    + b"".join(b"h%c(h%ch%ce0" % (n, n + 1, n + 1) for n in range(29))
    + b"h\x00.",
    "nested 100,000 times": b"\x80\x04" + b"(" * 100_000 + b"l" * 100_000 + b".",
    "millions of empty lists": b"\x80\x04(" + b"]" * 3_000_000 + b"l.",
    "a function given a state": b"\x80\x02cnumpy\ndtype\n}U\x01aK\x01sb.",
    "an array of many dimensions": pickle.dumps(np.zeros((1,) * 30), 2).replace(b"K\x01" * 30, b"K\x01" * 40),
    "memo": b"\x80\x02]r\xff\xff\xff\x7f.",  # LONG_BINPUT 2**31 - 1: a table of 16 GB
    "long bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b"x.",
    "tuples of a text": pickle.dumps([Payload(tuple, "x" * 1000)], 2),
    "encoded again and again": pickle.dumps([Payload(codecs.encode, text, "latin1") for text in ["x" * 1000] * 9], 2),
    "another codec": pickle.dumps(Payload(codecs.encode, "x", "rot13"), 2),
    "filled dict": pickle.dumps(Payload(OrderedDict, [("a", 1)]), 2),
    "cut": pickle.dumps(np.zeros(1000), 4)[:500],
    "empty": b"",
    "text": b"<html>",
}


@pytest.mark.parametrize("content", BOMBS.values(), ids=BOMBS.keys())
def test_bombs_and_damage_are_refused(content):
    begin = time.monotonic()
    with pytest.raises(UserError, match="here is not a plain pickle"):
        unpickle_plain(content, "here")
    assert time.monotonic() - begin < 20


# weights to start from


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """paddle.vision's MobileNetV2 of 1,000 classes with its .pdparams file."""
    network = paddle.vision.models.mobilenet_v2(num_classes=1000)
    path = tmp_path_factory.mktemp("official") / "mobilenet_v2.pdparams"
    paddle.save(network.state_dict(), str(path))
    return network, path


def values(network) -> dict:
    return {key: value.numpy() for key, value in network.state_dict().items()}


def mobilenet(classes: int):
    return build_model(Model(backbone="mobilenet_v2", attention="simam"), classes, 64)


@pytest.mark.parametrize("trust", [False, True])
def test_official_weights_and_a_fresh_classifier(official, trust):
    network = mobilenet(16)
    before = values(network)
    fresh, _ = start_from(official[1], network, trust)
    assert fresh == ["classifier.1.bias", "classifier.1.weight"]
    source, after = values(official[0]), values(network)
    assert all(np.array_equal(after[key], (before if key in fresh else source)[key]) for key in after)
    assert not np.array_equal(before["features.0.0.weight"], after["features.0.0.weight"])


def test_a_classifier_of_the_same_size_is_loaded(official):
    network = mobilenet(1000)
    assert start_from(official[1], network) == ([], [])
    source = values(official[0])
    assert all(np.array_equal(value, source[key]) for key, value in values(network).items())


def test_nested_tensors_are_name_and_array(tmp_path, official):
    path = tmp_path / "nested.pdparams"
    contents = {key: (key, value) for key, value in values(official[0]).items()}
    path.write_bytes(pickle.dumps(contents, protocol=4))
    assert start_from(path, mobilenet(1000)) == ([], [])


def test_weights_as_python_2_wrote_them(tmp_path, official):
    (tmp_path / "old.pdparams").write_bytes(miniatures.python2_pickle(values(official[0])))
    network = mobilenet(1000)
    assert start_from(tmp_path / "old.pdparams", network) == ([], [])
    source = values(official[0])
    assert all(np.array_equal(value, source[key]) for key, value in values(network).items())


def test_weights_of_another_network_are_refused(official):
    network = build_model(Model(backbone="resnet50"), 16, 64)
    with pytest.raises(UserError, match="model.weights: .* is of another network .*bn1.bias is missing"):
        start_from(official[1], network)


def crafted(marker) -> bytes:
    return pickle.dumps({"fc.weight": Payload(os.system, f"touch {marker}")}, protocol=4)


WRONG_FILES = {
    "w.pdparams": (b"<html>", "not a plain pickle"),
    "list.pdparams": (pickle.dumps([1]), "holds a list"),
    "text.pdparams": (pickle.dumps({"a": "b"}), "holds more than tensors: 'a'"),
    "w.safetensors": (b"\xff" * 100, "not a safetensors file"),
    "empty.safetensors": (b"", "not a safetensors file"),
    "w.pth": (b"", "neither a .safetensors nor a .pdparams"),
}


@pytest.mark.parametrize("name", WRONG_FILES)
def test_wrong_weight_files(tmp_path, name):
    content, words = WRONG_FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"model.weights: .*{words}"):
        start_from(tmp_path / name, mobilenet(16))


def safetensors_file(path, tensors: dict) -> None:
    """As the format's description has it; {key: (type, array)}."""
    header, content = {}, b""
    for key, (kind, array) in tensors.items():
        data = array.tobytes()
        header[key] = {"dtype": kind, "shape": array.shape, "data_offsets": [len(content), len(content) + len(data)]}
        content += data
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content)


def test_bfloat16_weights_are_read(tmp_path, official):
    """Usual on model hubs: the upper half of float32. As safetensors, and as Paddle saves it."""
    halves = {key: (value.view(np.uint32) >> 16).astype(np.uint16) for key, value in values(official[0]).items()}
    safetensors_file(tmp_path / "b.safetensors", {key: ("BF16", half) for key, half in halves.items()})
    saved = {key: paddle.to_tensor(value).astype("bfloat16") for key, value in values(official[0]).items()}
    paddle.save(saved, str(tmp_path / "b.pdparams"))
    for name in ("b.safetensors", "b.pdparams"):
        network = mobilenet(1000)
        assert start_from(tmp_path / name, network) == ([], [])
        for key, value in values(network).items():
            np.testing.assert_allclose(value, values(official[0])[key], rtol=2**-7, atol=1e-30)
            assert name == "b.pdparams" or np.array_equal(value.view(np.uint32) >> 16, halves[key])


@pytest.mark.parametrize("kind, dtype", [("I64", np.int64), ("BOOL", bool), ("U8", np.uint8)])
def test_weights_that_are_no_floats_are_refused(kind, dtype, tmp_path, official):
    tensors = {key: ("F32", value) for key, value in values(official[0]).items()}
    key = "features.0.0.weight"
    tensors[key] = (kind, tensors[key][1].astype(dtype))
    safetensors_file(tmp_path / "w.safetensors", tensors)
    with pytest.raises(UserError, match=f"{key} is {np.dtype(dtype)}, not float32"):
        start_from(tmp_path / "w.safetensors", mobilenet(1000))


def test_float8_weights_are_refused(tmp_path):
    safetensors_file(tmp_path / "w.safetensors", {"a": ("F8_E4M3", np.zeros(4, np.uint8))})
    with pytest.raises(UserError, match="w.safetensors (holds a as F8_E4M3|is not a safetensors file)"):
        start_from(tmp_path / "w.safetensors", mobilenet(1000))


def test_no_such_weight_file(tmp_path):
    with pytest.raises(UserError, match="model.weights: .* is not a file"):
        start_from(tmp_path / "none.pdparams", mobilenet(16))


def test_a_crafted_weight_file_runs_only_when_trusted(tmp_path):
    marker, path = tmp_path / "marker", tmp_path / "crafted.pdparams"
    path.write_bytes(crafted(marker))
    with pytest.raises(UserError, match="--trust-pickle"):
        start_from(path, mobilenet(16))
    assert not marker.exists()
    with pytest.raises(UserError, match="holds more than tensors"):
        start_from(path, mobilenet(16), trust_pickle=True)
    assert marker.exists()  # so the crafted file does what the test says


TRAIN = ("train", "-c", ROOT / "configs/demo_towernet_simam.yaml", "--smoke")


def test_training_starts_from_a_checkpoint_and_refuses_a_crafted_file(tmp_path):
    first = script(*TRAIN, "--run-dir", tmp_path / "first")
    assert first.returncode == 0, first.stderr
    weights = tmp_path / "first/checkpoints/best/weights.safetensors"
    second = script(*TRAIN, "--run-dir", tmp_path / "second", "-o", f"model.weights={weights}")
    assert second.returncode == 0 and f"weights: {weights}\n" in second.stdout, second.stderr
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    recorded = RunFolder(tmp_path / "second").read_result()["weights"]
    assert recorded == {"path": str(weights), "sha256": sha256, "fresh": []}

    # Resuming reads the checkpoint, and remembers where the weights came from.
    weights.unlink()
    (tmp_path / "second" / "result.json").unlink()
    resumed = script(*TRAIN, "--run-dir", tmp_path / "second", "-o", f"model.weights={weights}", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert RunFolder(tmp_path / "second").read_result()["weights"] == recorded

    (tmp_path / "crafted.pdparams").write_bytes(crafted(tmp_path / "marker"))
    third = script(*TRAIN, "--run-dir", tmp_path / "third", "-o", f"model.weights={tmp_path / 'crafted.pdparams'}")
    assert_refused(third, "model.weights", "crafted.pdparams", "posix.system", "--trust-pickle")
    assert not (tmp_path / "marker").exists() and not (tmp_path / "third").exists()
