"""Loss and accuracy of several runs in one figure."""

import argparse

from simam_repro import cli


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", metavar="RUN", nargs="+", help="run folders; about ten stay readable")
    parser.add_argument("--output", type=cli.png, metavar="PNG", help="default: curves.png in the runs' common folder")
    arguments = parser.parse_intermixed_args()

    from simam_repro.reporting import curves_path, plot_curves

    output = arguments.output or curves_path(arguments.runs)
    plot_curves(arguments.runs, output)
    print(f"figure: {cli.relative(output)}")
