"""The one place that differs between CPU and CUDA: choosing the device and making it repeatable."""

from contextlib import contextmanager

import paddle

from simam_repro.errors import RunError, UserError

# What Paddle, CUDA, the C library and Python say.
NO_MEMORY = ("out of memory", "cannot allocate memory", "bad_alloc", "can't start new thread")
# What the paddlepaddle-gpu 2.6.2 wheel was compiled for; later wheels are compiled for newer ones too.
CAPABILITIES_OF_2_6 = (6.1, 8.9)


def gpu_count() -> int:
    return paddle.device.cuda.device_count() if paddle.is_compiled_with_cuda() else 0


def wants_gpu(name: str) -> bool:
    """Whether `name` (auto, cpu, gpu, gpu:N) means a GPU here."""
    return name.startswith("gpu") or (name == "auto" and gpu_count() > 0)


def check_processes(name: str, processes: int) -> None:
    """Raises UserError when `processes` cannot train on `name` together: on GPUs each needs its own."""
    if processes == 1 or not wants_gpu(name):
        return
    if ":" in name:
        raise UserError(f"train.device: {name} is one GPU for {processes} processes; use gpu or auto, or --nproc 1")
    if processes > gpu_count():
        raise UserError(f"--nproc {processes}: Paddle sees {gpu_count()} GPU(s), one for each process; or --device cpu")


def select_device(name: str, rank: int = 0) -> str:
    """Make `name` (auto, cpu, gpu, gpu:N) Paddle's device; returns "cpu" or "gpu:N".

    On a GPU, cuDNN is restricted to deterministic algorithms.

    Args:
        rank: of several processes, each takes the GPU of its rank.
    Raises:
        UserError: a GPU that is not there, or that this Paddle has no code for.
    """
    if not wants_gpu(name):
        return paddle.set_device("cpu") and "cpu"
    name, count = "gpu" if name == "auto" else name, gpu_count()
    index = int(name.partition(":")[2] or rank)
    if index >= count:
        built = "" if paddle.is_compiled_with_cuda() else " (this Paddle is a CPU build: `make clean setup PADDLE=gpu`)"
        raise UserError(f"train.device: {name} asked for, but Paddle sees {count} GPU(s){built}; use cpu or auto")
    _check_capability(index)
    paddle.set_flags({"FLAGS_cudnn_deterministic": True})
    paddle.set_device(f"gpu:{index}")
    return f"gpu:{index}"


def _check_capability(index: int) -> None:
    major, minor = paddle.device.cuda.get_device_capability(index)
    low, high = CAPABILITIES_OF_2_6
    capability = float(f"{major}.{minor}")
    if paddle.__version__.startswith("2.6.") and not low <= capability <= high:
        raise UserError(
            f"gpu:{index} has compute capability {capability}; "
            f"Paddle {paddle.__version__} has code for {low} to {high} only.\n"
            f"Install Paddle 3 for CUDA from Paddle's own package index (its installation guide has the command), "
            f"or train with --device cpu"
        )


@contextmanager
def out_of_memory_explained():
    """Turn the failure to get memory, a GPU's or the machine's, into a RunError that says what needs less."""
    try:
        yield
    except Exception as error:
        # Paddle raises MemoryError for its own count, OSError or SystemError for CUDA's refusal.
        lines = str(error).splitlines()
        told = next((line.strip() for line in lines if any(words in line.lower() for words in NO_MEMORY)), None)
        if told is None and not isinstance(error, MemoryError):
            raise
        raise RunError(
            f"the memory is too small ({told or 'MemoryError'}). Make data.batch_size smaller, then data.image_size; "
            f"on a GPU, look with nvidia-smi whether other processes use it; or train with --device cpu"
        ) from error
