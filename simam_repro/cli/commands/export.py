"""Export a trained network as a program for Paddle's inference library, which runs without this project."""

import argparse
from pathlib import Path

from simam_repro import cli


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", metavar="RUN", help="a run folder (its best weights) or RUN/checkpoints/last")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="default: RUN/exported")
    return parser.parse_args()


def main():
    arguments = parse_arguments()

    from simam_repro.evaluation import export, load_trained

    trained = load_trained(arguments.run, "cpu")
    folder = arguments.output or trained.run.exported
    paths = export(trained.network, trained.experiment.data.image_size, folder)
    print("written: " + ", ".join(str(cli.relative(path)) for path in paths))
