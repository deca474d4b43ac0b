"""Build results/report.html and report.zh-CN.html from results/ and benchmarks/results/; from the same, what the
READMEs say and show.

With --recompute, first every comparison.json whose runs' outcomes were kept is computed from them again.
"""

import argparse
from pathlib import Path

import _checkout  # noqa: F401

from simam_repro import cli
from simam_repro.config import PROJECT_ROOT


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--results", type=Path, default=PROJECT_ROOT / "results", metavar="DIR", help="default: results/"
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="of the report; default: the results")
    parser.add_argument("--readme", type=Path, action="append", metavar="FILE", help="default: both READMEs")
    parser.add_argument(
        "--recompute", action="store_true", help="compute every comparison from the kept outcomes of its runs"
    )
    arguments = parser.parse_args()

    from simam_repro.errors import UserError
    from simam_repro.reporting.first_screen import FIGURE, plot_effects
    from simam_repro.reporting.readme import update_readme
    from simam_repro.reporting.report import write_report
    from simam_repro.reporting.results import read_sweeps, recompute

    if not arguments.results.is_dir():
        raise UserError(f"{arguments.results} is no folder of results")
    if arguments.recompute:
        for folder, done in recompute(arguments.results):
            print(f"{cli.relative(folder)}: {'computed from outcomes' if done else 'not recomputable, kept as it is'}")
    pages = write_report(arguments.output or arguments.results, arguments.results)
    plot_effects(read_sweeps(arguments.results), arguments.results / FIGURE)
    readmes = arguments.readme or sorted(PROJECT_ROOT.glob("README*.md"))
    for readme in readmes:
        update_readme(readme, arguments.results)
    written = [str(cli.relative(path)) for path in (*pages, *readmes)]
    print(f"{', '.join(written[: len(pages)])}; answer and table of {', '.join(written[len(pages) :])}")


if __name__ == "__main__":
    cli.run(main)
