"""The layers of a config's network with parameters, FLOPs and memory; needs no data."""

import argparse

from simam_repro import cli
from simam_repro.config import PROJECT_ROOT


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    cli.add_config_options(parser, required=False)
    parser.add_argument("--all", action="store_true", help="a line for each config in configs/ instead")
    arguments = parser.parse_args()
    if arguments.all == bool(arguments.config):
        parser.error("give either -c CONFIG or --all")
    return arguments


def main():
    arguments = parse_arguments()
    if arguments.config:
        experiment = cli.load_config(arguments.config, arguments.override)

    from simam_repro.device import select_device
    from simam_repro.reporting import find_configs, network_table, overview_table

    # Counting needs no speed, and on a GPU it could get in the way of a training.
    select_device("cpu")
    if arguments.config:
        print(network_table(experiment))
    else:
        configs = find_configs(PROJECT_ROOT / "configs")
        print(overview_table([cli.load_config(config, arguments.override) for config in configs]))
