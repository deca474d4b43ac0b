"""The compiled operators: loaded on first use, and what to do where it cannot be had."""

import ctypes
import functools
import os
import sys
from contextlib import contextmanager
from math import prod
from pathlib import Path

import paddle

from simam_repro.ops.build import BuildError, build
from simam_repro.places import PROJECT_ROOT

CACHE = PROJECT_ROOT / ".cache" / "ops"
# Where others may write that one.
OWN_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "simam_repro" / "ops"
DTYPES = (paddle.float32, paddle.float64)
CPU_BUILD = not (paddle.is_compiled_with_cuda() or paddle.is_compiled_with_rocm() or paddle.is_compiled_with_xpu())
MOST_TAPS = 256  # of a pool; as pooling.h has it


def built() -> Path:
    """The compiled library; compiles it where it is not there yet. Raises BuildError."""
    return build([CACHE, OWN_CACHE], paddle.__version__)


@functools.cache
def load() -> bool:
    """Whether the operators are there; compiles them on the first call (about a minute, once a machine).

    Each is checked against Paddle's own before it is trusted (check.py). Where they cannot be compiled or loaded, or
    compute something else, one line on stderr says so, once a process.
    """
    try:
        library = built()
        from paddle.utils.cpp_extension import extension_utils

        extension_utils.load_op_meta_info_and_register_op(str(library))
        # OpenMP's own number is 1 in a process that has imported Paddle.
        threads = paddle.get_flags("FLAGS_paddle_num_threads")["FLAGS_paddle_num_threads"]
        operators = ctypes.CDLL(str(library))
        operators.simam_set_num_threads(threads)
        _give_gemm(operators)
        if wrong := _wrong_operator():
            raise BuildError(f"its {wrong} computes something else than Paddle's; remove {library} to build it again")
        return True
    except Exception as error:  # whatever the tools of a machine come up with, training goes on
        reason = error if isinstance(error, BuildError) else f"{type(error).__name__}: {str(error).strip()}"
        print(f"SimAM: no fused operator; the slower plain layer is used: {reason}", file=sys.stderr, flush=True)
        return False


def _give_gemm(operators) -> None:
    """Give the operators the GEMM that Paddle uses itself (MKL's, in its wheels for x86)."""
    global _has_gemm
    try:
        mkl = ctypes.CDLL(str(Path(paddle.__file__).with_name("libs") / "libmklml_intel.so"))
        functions = mkl.cblas_sgemm, mkl.cblas_dgemm, mkl.MKL_Set_Num_Threads_Local
    except (OSError, AttributeError):
        return
    operators.simam_set_gemm(*(ctypes.cast(function, ctypes.c_void_p) for function in functions))
    _has_gemm = True


_has_gemm = False


def has_gemm() -> bool:
    """Whether there is a GEMM for `convolve`."""
    return _has_gemm


def _wrong_operator() -> str | None:
    from simam_repro.ops.check import wrong_operator  # which takes the operators from here

    return wrong_operator()


def usable(x) -> bool:
    """Whether `fused_simam` takes x: float32 or float64 on the CPU, not empty, in a mode that knows the operator.

    A program that is traced (`to_static`, `jit.save`) gets Paddle's own operators, so that it runs wherever Paddle
    does, but within `operators_in_programs`.
    """
    return x.dtype in DTYPES and 0 not in x.shape and _on_cpu(x) and _takes_operators() and load()


def _takes_operators() -> bool:
    return paddle.in_dynamic_mode() or (_in_programs and _traces_operators())


_in_programs = False


@contextmanager
def operators_in_programs():
    """Programs that are traced meanwhile get the compiled operator, and run only in processes that have loaded it.

    Paddle 2.6 cannot trace it.
    """
    global _in_programs
    load()  # before anything is traced, since it computes
    _in_programs = True
    try:
        yield
    finally:
        _in_programs = False


def fused_simam(x, e_lambda: float, bias=None, relu: bool = False):
    """What `models.simam.simam` computes, for an x that is `usable`.

    Args:
        x: float32 or float64 tensor [N, C, H, W] on the CPU, of any strides.
        bias: None, or a tensor [C] of x's dtype.
    Returns:
        Tensor of x's shape and dtype.
    """
    if not paddle.in_dynamic_mode():
        # The operator takes its input as it is; where oneDNN runs the program, that has oneDNN's own layout. A reshape
        # turns it into the usual one (0: that axis as it is).
        x = x.reshape([0, 0, 0, 0])
    operator = ("simam_fused", x) if bias is None else ("simam_bias_fused", x, bias)
    return _without_gradient_if_asked(_run(*operator, repr(float(e_lambda)), relu)[0])


def convolves(x, weight, stride, padding, groups: int = 1) -> bool:
    """Whether `convolve` takes these: as `runs_in_place`, of one dtype and shapes that fit each other, dense or
    depthwise.
    """
    if not (runs_in_place(x) and x.dtype == weight.dtype and x.shape[1] == weight.shape[1] * groups):
        return False
    if not (_has_gemm if groups == 1 else groups == x.shape[1] == weight.shape[0]):
        return False
    sides = list(zip(x.shape[2:], weight.shape[2:], padding))
    return all(length + 2 * pad >= kernel and pad >= 0 for length, kernel, pad in sides)


def convolve(x, weight, stride, padding, groups: int = 1):
    """The convolution of x [N, C, H, W] with weight [K, C / groups, h, w], without bias.

    Args:
        x, weight: as `convolves` has it.
        stride, padding: two integers each, for height and width.
        groups: 1, or C: depthwise, with K = C.
    """
    operator = "conv_fused" if groups == 1 else "depthwise_fused"
    return _without_gradient_if_asked(_run(operator, x, weight, list(stride), list(padding), not x.stop_gradient)[0])


def runs_in_place(x) -> bool:
    """Whether `add_bias_in_place` takes x: 4-D, as `usable`, and not while a static program is traced."""
    return paddle.in_dynamic_mode() and x.ndim == 4 and usable(x)


def add_bias_in_place(x, bias, relu: bool = False):
    """x[n, c, :, :] += bias[c], and x = max(x, 0) if asked.

    Args:
        x: float32 or float64 tensor [N, C, H, W] on the CPU that nobody else uses, such as a convolution's output.
        bias: tensor [C] of x's dtype.
    Returns:
        x.
    """
    return _without_gradient_if_asked(_run("bias_relu_fused" if relu else "bias_fused", x, bias)[0])


def pools(x, kernel, stride, padding) -> bool:
    """Whether `max_pool` takes these: x as `runs_in_place`, and windows that each hold something of it."""
    if not runs_in_place(x) or prod(kernel) > MOST_TAPS:
        return False
    sides = list(zip(x.shape[2:], kernel, padding))
    return all(length + 2 * pad >= side > pad >= 0 for length, side, pad in sides)


def max_pool(x, kernel, stride, padding):
    """The largest of each window of x [N, C, H, W]. The first of several has the gradient.

    Args:
        x: as `pools` has it.
        kernel, stride, padding: two integers each, for height and width.
    """
    sizes = (list(pair) for pair in (x.shape[2:], kernel, stride, padding))
    return _without_gradient_if_asked(_run("max_pool_fused", x, *sizes, x.dtype == paddle.float32)[0])


CEILING = {"none": -1.0, "relu": float("inf"), "relu6": 6.0}  # of an activation; as norm_ops.h has it


def normalises(x, layer) -> bool:
    """Whether `batch_norm` takes these: x as `runs_in_place`, a layer of x's dtype with scale and shift."""
    tensors = (layer.weight, layer.bias, layer._mean, layer._variance)
    if not runs_in_place(x) or any(tensor is None or tensor.dtype != x.dtype for tensor in tensors):
        return False
    return layer._data_format == "NCHW" and x.shape[1] == layer._mean.shape[0]


def batch_norm(x, layer, activation: str = "none", residual=None):
    """activation(layer(x) + residual); in training the layer's running statistics are updated as it does it itself.

    Args:
        x: tensor [N, C, H, W], as `normalises` has it.
        layer: paddle.nn.BatchNorm2D.
        activation: a key of CEILING.
        residual: None, or a tensor of x's shape and dtype.
    """
    given = not layer.training if layer._use_global_stats is None else layer._use_global_stats
    tensors = (x, layer.weight, layer.bias, layer._mean, layer._variance)
    operator = ("norm_fused", *tensors) if residual is None else ("norm_sum_fused", *tensors, residual)
    attributes = (given, float(layer._momentum), float(layer._epsilon), CEILING[activation])
    return _without_gradient_if_asked(_run(*operator, *attributes)[0])


def adds(x, y) -> bool:
    """Whether y can be added within an operator that takes x: it has the same shape, dtype and place."""
    same = isinstance(y, paddle.Tensor) and y.dtype == x.dtype and y.shape == x.shape
    return same and runs_in_place(y) and not isinstance(y, paddle.base.framework.EagerParamBase)


def sum_relu(x, y):
    """max(x + y, 0) of two tensors [N, C, H, W], as `adds` has them."""
    return _without_gradient_if_asked(_run("sum_relu_fused", x, y)[0])


def _without_gradient_if_asked(output):
    if paddle.in_dynamic_mode() and not paddle.is_grad_enabled():
        output.stop_gradient = True  # which Paddle forgets for operators that it did not bring
    return output


def _on_cpu(x) -> bool:
    if paddle.in_dynamic_mode() and not CPU_BUILD:  # `to_static` without full_graph fails at the question for a place
        return x.place.is_cpu_place()
    return paddle.get_device() == "cpu"


# Paddle 3 has moved it, and can trace it.
_run = getattr(paddle._C_ops, "_run_custom_op", None) or paddle.base.core.eager._run_custom_op
if paddle.__version__.startswith("2."):
    _traces_operators = paddle.in_dynamic_mode
    traced_whole = paddle.jit.not_to_static
else:
    traced_whole = paddle.jit.marker.unified  # what Paddle's own generated functions carry
    _traces_operators = paddle.framework.in_dynamic_or_pir_mode
    # `to_static` without full_graph rewrites the byte code of what is called, and crashes at some of it here.
    from paddle.jit.sot.opcode_translator import skip_files

    skip_files.skip_file_names.add(str(Path(__file__).parent) + os.sep)
    skip_files.setup_skip_files()
