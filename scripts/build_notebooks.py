"""Execute the notebooks: each notebooks/NN_name.py becomes notebooks/NN_name.ipynb with its outputs.

Needs the packages of requirements-notebooks.txt.
"""

import argparse
import re
from pathlib import Path

import _checkout  # noqa: F401

from simam_repro import cli
from simam_repro.config import PROJECT_ROOT

FOLDER = PROJECT_ROOT / "notebooks"
CELL_TIMEOUT = 600  # seconds
# AI Studio's folder is the same for all of its users.
ABSOLUTE_PATH = re.compile(r"(?<![\w.:/])/(?:home(?!/aistudio/data)|root|work|tmp|usr|opt|Users)\b")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="*", type=Path, metavar="NOTEBOOK.py", help="default: all of notebooks/")
    arguments = parser.parse_args()
    try:
        import jupytext
        import nbclient  # noqa: F401
    except ImportError as error:
        raise cli.UserError(f"{error}; `pip install -r requirements-notebooks.txt` brings it") from None

    from simam_repro.storage import write_text

    for source in arguments.sources or sorted(FOLDER.glob("[0-9]*.py")):
        if not source.is_file():
            raise cli.UserError(f"{source} does not exist")
        notebook = execute(jupytext.read(source), source.parent)
        found = problems(notebook.cells)
        if found:
            raise cli.RunError(f"{source.name}: an output has warnings or absolute paths:\n" + "\n".join(found))
        target = source.with_suffix(".ipynb")
        write_text(target, jupytext.writes(notebook, fmt="ipynb") + "\n")
        print(f"{cli.relative(target)}  {target.stat().st_size / 1e3:.0f} kB")


def execute(notebook, folder: Path):
    """Run all cells in `folder`; no times, machine names or random ids remain, so that diffs show changes only."""
    from nbclient import NotebookClient

    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number:02d}", {}
    client = NotebookClient(
        notebook, timeout=CELL_TIMEOUT, kernel_name="python3", record_timing=False, coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}}, extra_arguments=["--log-level=ERROR"],
    )  # fmt: skip
    client.execute()
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def problems(cells) -> list[str]:
    """Outputs that must not be committed: warnings, and absolute paths, which would name a machine."""
    found = []
    for output in (output for cell in cells for output in cell.get("outputs", ())):
        texts = (output.get("text", ""), output.get("data", {}).get("text/plain", ""))
        text = "".join(part if isinstance(part, str) else "".join(part) for part in texts)
        if output.get("name") == "stderr" or ABSOLUTE_PATH.search(text):
            found.append(text)
    return found


if __name__ == "__main__":
    cli.run(main)
