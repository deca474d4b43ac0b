"""`simam COMMAND ...`, and `python -m simam_repro COMMAND ...`: the commands of simam_repro/cli/commands."""

import ast
import pkgutil
import sys
from pathlib import Path

if not __package__:  # run by its path, see cli.command: the package may be installed nowhere
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from simam_repro.cli import commands  # noqa: E402


def main() -> None:
    name = sys.argv[1].replace("-", "_") if len(sys.argv) > 1 else ""
    names = [module.name for module in pkgutil.iter_modules(commands.__path__)]
    if name in names:
        # argparse names the program by its first word.
        sys.argv = [f"simam {sys.argv[1]}", *sys.argv[2:]]
        commands.run_command(name)
    elif name in ("", "_h", "__help"):
        print(_overview(names))
    else:
        print(f"error: simam has no command {sys.argv[1]}; `simam` alone lists them", file=sys.stderr)
        sys.exit(2)


def _overview(names: list[str]) -> str:
    """Each command with the first line of its help, read without importing it."""
    folder = Path(commands.__path__[0])
    helps = {name: ast.get_docstring(ast.parse((folder / f"{name}.py").read_text(encoding="utf-8"))) for name in names}
    lines = [f"  {name.replace('_', '-'):15} {text.splitlines()[0]}" for name, text in helps.items()]
    return "\n".join(["usage: simam COMMAND [options]; simam COMMAND -h says more", "", *lines])


if __name__ == "__main__":
    main()
