"""Pickles from strangers: arrays of numbers and plain containers are read, anything else is refused, not run."""

import io
import math
import os
import pickle
import pickletools
import re
from typing import BinaryIO

import numpy as np

from simam_repro.errors import UserError

# Far above a batch of CIFAR-10 (some 40,000 steps and 20,000 values, 3 deep) and the largest network of paddle.vision;
# a step takes 100 bytes at most, and reading them all a few seconds.
MAX_STEPS, MAX_VALUES, MAX_DEPTH = 2_000_000, 1_000_000, 20
MAX_DIMENSIONS = 32

_NUMBER = re.compile(r"[<|=]?([biuf][1248])")
_ARRAY_TYPE = object()  # stands for numpy.ndarray: a name for _make_array, nothing that could be called


def unpickle_plain(source: bytes | BinaryIO, where: str, encoding: str = "bytes"):
    """Unpickle arrays of numbers, tuples, lists, dicts, texts and numbers.

    Args:
        source: the pickle, or a binary file that can seek.
        where: names the pickle in errors.
        encoding: of Python 2's strings, see `pickle.load`.
    Raises:
        UserError: damaged, a pickle that asks for anything else (nothing of it is run), or one that stands for more
            than the limits of this module: a few bytes can stand for billions of values.
    """
    stream = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(0)
        _check_steps(stream, size)
        stream.seek(0)
        value = _PlainUnpickler(stream, size, encoding).load()
        _count_values(value, {})
        return value
    except Exception as error:  # a damaged pickle raises nearly anything
        raise UserError(f"{where} is not a plain pickle ({error}); refused") from None


def _check_steps(stream: BinaryIO, size: int) -> None:
    """A pickle numbers what it memoizes: a number beyond its own size would only make a huge table."""
    for step, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if step == MAX_STEPS:
            raise pickle.UnpicklingError(f"more than {MAX_STEPS} steps")
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument > size:
            raise pickle.UnpicklingError(f"it memoizes number {argument} in {size} bytes")


def _count_values(value, counts: dict, depth: int = 0) -> int:
    """How many values a container is, with each one in it as often as it is reached."""
    if not isinstance(value, (list, tuple, dict)):
        return 1
    if depth > MAX_DEPTH:
        raise pickle.UnpicklingError(f"nested deeper than {MAX_DEPTH} levels")
    if id(value) not in counts:
        counts[id(value)] = MAX_VALUES  # until it is known: a container that holds itself has no end
        children = [*value, *value.values()] if isinstance(value, dict) else value
        counts[id(value)] = 1 + sum(_count_values(child, counts, depth + 1) for child in children)
    if counts[id(value)] > MAX_VALUES:
        raise pickle.UnpicklingError(f"it stands for more than {MAX_VALUES} values")
    return counts[id(value)]


class _PlainUnpickler(pickle._Unpickler):  # the one in Python, of which single steps can be changed
    """Hands out functions that check what they are given, and never a class."""

    dispatch = dict(pickle._Unpickler.dispatch)

    def __init__(self, stream: BinaryIO, size: int, encoding: str):
        super().__init__(stream, encoding=encoding)
        self._encodable = size  # what the texts that become bytes may have in all: each is in the pickle once
        self._allowed = {
            ("numpy", "ndarray"): _ARRAY_TYPE,
            ("numpy", "dtype"): _make_number_type,
            ("numpy.core.multiarray", "_reconstruct"): _make_array,
            ("numpy._core.multiarray", "_reconstruct"): _make_array,
            ("_codecs", "encode"): self._encode,
            ("builtins", "tuple"): _make_tuple,  # paddle.save writes a nested tensor as tuple((name, array))
            ("__builtin__", "tuple"): _make_tuple,
            ("__builtin__", "bytes"): lambda: b"",  # how protocol 2 writes bytes that are none
            ("collections", "OrderedDict"): lambda: {},  # its items follow
        }

    def load_setitems(self):
        pairs = self.pop_mark()
        self._set_items(pairs[::2], pairs[1::2])

    def load_setitem(self):
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items([key], [value])

    def _set_items(self, keys, values):
        """Only into dicts. Numbers and texts as keys: a nested tuple would take for ever to hash."""
        if type(self.stack[-1]) is not dict or not {type(key) for key in keys} <= {str, bytes, int, float}:
            raise pickle.UnpicklingError("a dict with other keys than numbers and texts")
        self.stack[-1].update(zip(keys, values, strict=True))

    def load_build(self):
        if type(self.stack[-2]) not in (_NumberType, _PlainArray):
            raise pickle.UnpicklingError("a state for something else than an array")
        super().load_build()

    def refuse_sets(self):
        raise pickle.UnpicklingError("a set")

    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems
    dispatch[pickle.BUILD[0]] = load_build
    for _opcode in (pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET):
        dispatch[_opcode[0]] = refuse_sets

    def find_class(self, module, name):
        try:
            return self._allowed[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it wants to import {module}.{name}") from None

    def _encode(self, text, encoding):
        """Protocol 2's way to write bytes."""
        self._encodable -= len(text)
        if encoding != "latin1" or self._encodable < 0:
            raise pickle.UnpicklingError("bytes that are not made as Python makes them")
        return text.encode(encoding)


def _make_tuple(value):
    if not isinstance(value, tuple):
        raise pickle.UnpicklingError("a tuple of something else")
    return value


def _make_array(subtype, shape, typecode):
    """The one way a pickle makes an array: an empty one, whose state follows."""
    if subtype is not _ARRAY_TYPE or shape != (0,):
        raise pickle.UnpicklingError("an array that is not made as numpy makes it")
    return _PlainArray(0, dtype=np.uint8)


def _make_number_type(name, align=False, copy=False):
    return _NumberType(name)


class _NumberType:
    """A dtype of numbers. Its pickled state is not used: a forged one would pass off pointers as numbers."""

    __slots__ = ("numpy",)

    def __init__(self, name):
        match = _NUMBER.fullmatch(name if isinstance(name, str) else bytes(name).decode("ascii"))
        if not match:
            raise pickle.UnpicklingError(f"an array of {name}, not of numbers")
        self.numpy = np.dtype(match[1])

    def __setstate__(self, state):
        byte_order = state[1] if isinstance(state[1], str) else bytes(state[1]).decode("ascii")
        if byte_order not in ("<", "|", "="):
            raise pickle.UnpicklingError(f"an array in byte order {byte_order!r}")


class _PlainArray(np.ndarray):
    """An array that takes the state of an array of numbers."""

    def __setstate__(self, state):
        _, shape, dtype, fortran_order, content = state
        if not isinstance(dtype, _NumberType) or not isinstance(content, (bytes, str)):
            raise pickle.UnpicklingError("an array of Python objects")
        if (
            len(shape) > MAX_DIMENSIONS
            or min(shape, default=0) < 0
            or math.prod(shape) * dtype.numpy.itemsize != len(content)
        ):
            raise pickle.UnpicklingError(f"an array of shape {shape} with {len(content)} bytes")
        super().__setstate__((1, shape, dtype.numpy, bool(fortran_order), content))
