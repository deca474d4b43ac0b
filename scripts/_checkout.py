"""Makes the package of this checkout importable; the first import of every script."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def run_command(name: str) -> None:
    """Run simam_repro/cli/commands/NAME.py as a program."""
    from simam_repro.cli.commands import run_command

    run_command(name)
