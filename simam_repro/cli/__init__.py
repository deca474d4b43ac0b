"""What every command line shares: process settings, exit codes, the options of an experiment."""

import argparse
import shlex
import signal
import sys
import time
from pathlib import Path

from simam_repro.cli.process import hush_paddle, prepare_process
from simam_repro.cli.streams import lost_output, outlast_readers
from simam_repro.config import Experiment, Train, load_config, smoke
from simam_repro.errors import RunError, UserError, printable
from simam_repro.places import PACKAGE
from simam_repro.signals import SAME_SIGNAL_SECONDS
from simam_repro.storage import disk_explained


class Terminated(BaseException):
    """SIGTERM or SIGHUP, for what has something to clear up or to say; see `raise_on_termination`."""

    def __init__(self, number: int):
        self.number = signal.Signals(number)


def raise_on_termination() -> None:
    """From now on SIGTERM, and SIGHUP (the terminal closes) unless nohup has it ignored, raise `Terminated`.

    Call it after paddle is imported, which takes SIGTERM for itself.
    """
    raised = []

    def terminate(number, frame):
        # Who tells a whole group of processes (timeout, a cluster) often tells one of them twice.
        if not raised or time.monotonic() - raised[-1] > SAME_SIGNAL_SECONDS:
            raised.append(time.monotonic())
            raise Terminated(number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, terminate)


def resume_command() -> str:
    """The command line of this process, for `train.py` to go on where it stopped."""
    words = [word for word in sys.orig_argv if word != "--overwrite"]
    return shlex.join(words if {"--resume", "--finish"} & set(words) else [*words, "--resume"])


def run(main, computes: bool = True) -> None:
    """Call `main()` as a program: exit 2 and one message for bad input, 128 + N for signal N, else 1.

    It goes on when the reader of its output (head, tee, a terminal) goes away. When the output cannot be written
    for another reason, a full disk, it ends with 1.

    Args:
        computes: whether it loads Paddle, for which the process is prepared; else its environment stays the user's.
    """
    hush_paddle()
    if computes:
        prepare_process()
    outlast_readers()
    try:
        with disk_explained():
            main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except Terminated as error:
        print(f"terminated by {error.number.name}", file=sys.stderr)
        sys.exit(128 + error.number)
    except MemoryError as error:
        reason = str(error).strip().splitlines()[-1:] or ["MemoryError"]
        print(f"error: the memory is too small ({printable(reason[0])}); give less at a time", file=sys.stderr)
        sys.exit(1)
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    if error := lost_output():
        print(f"error: the output is not complete ({error.strerror})", file=sys.stderr)
        sys.exit(1)


def command(name: str) -> list[str]:
    """The first words of a command line that runs the command `name` in a process of its own, from any folder."""
    return [sys.executable, str(PACKAGE / "__main__.py"), name]


def add_experiment_options(parser: argparse.ArgumentParser) -> None:
    add_config_options(parser)
    add_change_options(parser)


def add_change_options(parser: argparse.ArgumentParser) -> None:
    """--device, --seed, --skip-damaged and --smoke, for `read_experiment`."""
    parser.add_argument("--device", metavar="auto|cpu|gpu|gpu:N", help="same as -o train.device=...")
    parser.add_argument("--seed", metavar="N", help="same as -o seed=N")
    parser.add_argument("--skip-damaged", action="store_true", help="same as -o data.skip_damaged=true")
    parser.add_argument(
        "--smoke", action="store_true", help="1 epoch of 2 train and 2 eval batches of at most 4 images"
    )


def add_config_options(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """-c and -o alone, for `load_config`."""
    parser.add_argument("-c", "--config", required=required, metavar="CONFIG", help="YAML file, see configs/")
    add_override_option(parser)


def add_override_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o", "--override", action="append", default=[], metavar="KEY=VALUE",
        help="change a config key, for example -o train.epochs=2; may be repeated",
    )  # fmt: skip


def add_device_option(parser: argparse.ArgumentParser) -> None:
    """--device for commands that read a run, whose config names the device that it was trained on."""
    parser.add_argument("--device", type=device, default="auto", metavar="auto|cpu|gpu|gpu:N", help="default auto")


def device(text: str) -> str:
    try:
        return Train(device=text).device
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not one of auto, cpu, gpu, gpu:N") from None


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def processes(text: str) -> int | None:
    """A number of processes; None for auto."""
    return None if text == "auto" else positive(text)


def png(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() != ".png" or path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is not a file name that ends in .png")
    return path


def read_experiment(arguments, config=None) -> Experiment:
    """The experiment of `config` (default: of -c) with the overrides of the command line."""
    overrides = list(arguments.override)
    if arguments.device is not None:
        overrides.append(f"train.device={arguments.device}")
    if arguments.seed is not None:
        overrides.append(f"seed={arguments.seed}")
    if arguments.skip_damaged:
        overrides.append("data.skip_damaged=true")
    experiment = load_config(config or arguments.config, overrides)
    return smoke(experiment) if arguments.smoke else experiment


def relative(path) -> str:
    """A path to print: relative to the working directory when it lies below."""
    path = Path(path).resolve()
    return printable(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
