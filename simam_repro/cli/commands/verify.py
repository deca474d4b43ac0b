"""Whether your run of a recipe is in line with the reference runs that results/ has of it; exit 1 when it is not.

Accuracy and loss after the last epoch, finished or not, are held against where one more run of the recipe is expected
with 95 %; where seed, machine and versions are a reference's, the bits are compared, too.
"""

import argparse
import sys
from pathlib import Path

from simam_repro import cli
from simam_repro.places import PROJECT_ROOT


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", type=Path, help="a run folder")
    parser.add_argument(
        "--reference", type=Path, default=PROJECT_ROOT / "results", metavar="DIR",
        help="where the reference runs are, somewhere below; default results/",
    )  # fmt: skip
    parser.add_argument("--output", type=cli.png, metavar="PNG", help="default: verify.png in the run's figures/")
    return parser.parse_args()


def main():
    arguments = parse_arguments()

    from simam_repro.evaluation.verify import verify
    from simam_repro.reporting.verify import plot_verification, verification_text
    from simam_repro.runs import RunFolder

    run = RunFolder(arguments.run)
    found = verify(run, Path(cli.relative(arguments.reference)))
    figure = arguments.output or run.figures / "verify.png"
    plot_verification(found, figure)
    print(f"{verification_text(found)}\n\nfigure: {cli.relative(figure)}")
    if found.in_line is False:
        sys.exit(1)
