"""Compiles its first argument, a source, into the folder that is its second. A program: see build.py."""

import os
import signal
import sys
import warnings

NAME = "simam_ops"
# SIMAM_REPRO_MARCH: another processor than this one, such as "haswell" to measure what one without AVX-512 would do.
MARCH = os.environ.get("SIMAM_REPRO_MARCH") or "native"
FLAGS = ["-O3", f"-march={MARCH}", "-fopenmp", "-fno-math-errno", "-fno-trapping-math"]
LINKER_FLAGS = []
if os.environ.get("SIMAM_REPRO_SANITIZE"):  # make sanitize
    # Paddle's wheel says nothing of the types that `vptr` wants to see.
    LINKER_FLAGS = ["-fsanitize=address,undefined", "-fno-sanitize=vptr"]
    FLAGS += [*LINKER_FLAGS, "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer", "-g1"]


def main() -> None:
    warnings.filterwarnings("ignore")  # Paddle's advice to install ccache
    from paddle.utils import cpp_extension

    # Who wants the result has died. (Paddle, when it is imported, takes this signal for itself.)
    signal.signal(signal.SIGTERM, lambda *_: os.killpg(0, signal.SIGKILL))
    source, folder = sys.argv[1:]
    options = {"extra_cxx_cflags": FLAGS, "extra_ldflags": LINKER_FLAGS}
    cpp_extension.load(NAME, [source], **options, build_directory=folder, verbose=True)


if __name__ == "__main__":
    main()
