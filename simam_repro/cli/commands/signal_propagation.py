"""How large activations and gradients are along the networks that a sweep begins with: one batch, before any training.

What an attention module does to them, it does to learning, too: see docs/statistics.md.
"""

import argparse
from pathlib import Path

from simam_repro import cli


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-c", "--config", required=True, metavar="SWEEP", help="YAML file, see sweeps/")
    cli.add_override_option(parser)
    parser.add_argument(
        "--to", type=Path, metavar="DIR", help="where propagation.json and propagation.png go; default runs/SWEEP"
    )
    return parser.parse_args()


def main():
    arguments = parse_arguments()

    from tqdm import tqdm

    from simam_repro.evaluation.propagation import measure_propagation
    from simam_repro.reporting.propagation import plot_propagation, propagation_table
    from simam_repro.runs import RUNS_ROOT
    from simam_repro.storage import write_json
    from simam_repro.sweeps import read_sweep

    folder = arguments.to or RUNS_ROOT / Path(arguments.config).stem
    experiments = [run.experiment for run in read_sweep(arguments.config, folder, arguments.override)]
    if len({(experiment.data, experiment.model.backbone) for experiment in experiments}) > 1:
        raise cli.UserError(f"{arguments.config}: its runs have several networks or data sets; name one config")
    with tqdm(total=len(experiments), unit=" networks", disable=None) as bar:
        content = measure_propagation(experiments, bar.update)
    numbers, figure = folder / "propagation.json", folder / "propagation.png"
    write_json(numbers, content)
    plot_propagation(content, figure)
    print(f"{propagation_table(content)}\n\nfigure: {cli.relative(figure)}\nnumbers: {cli.relative(numbers)}")
