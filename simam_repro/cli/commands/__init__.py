"""One module per command: its docstring is the help text, `main()` parses the command line and does the work."""

from importlib import import_module

from simam_repro import cli

# A sweep starts processes that compute, and leaves their environment to them; curves are only shown.
COMPUTE_ELSEWHERE = {"sweep", "show_curves"}


def run_command(name: str) -> None:
    """Run the command as a program, see `cli.run`."""
    cli.run(import_module(f"{__name__}.{name}").main, computes=name not in COMPUTE_ELSEWHERE)
