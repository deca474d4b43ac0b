"""Look at a data set: one image of each class, and one image under its augmentation."""

import argparse
from pathlib import Path

from simam_repro import cli


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    cli.add_config_options(parser)
    parser.add_argument("--index", type=int, metavar="I", help="training image to augment; default: by the seed")
    parser.add_argument("--output-dir", type=Path, metavar="DIR", help="default runs/NAME")
    arguments = parser.parse_args()
    experiment = cli.load_config(arguments.config, arguments.override)

    from simam_repro.data import prepare_data
    from simam_repro.reporting import write_data_figures
    from simam_repro.runs import RUNS_ROOT

    data = prepare_data(experiment.data)
    folder = arguments.output_dir or RUNS_ROOT / experiment.name
    for path in write_data_figures(data, experiment, folder, arguments.index):
        print(f"figure: {cli.relative(path)}")
