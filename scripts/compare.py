"""Put complete runs side by side: a table, and one figure with their curves."""

import argparse
from pathlib import Path

import _cli


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="run folders")
    parser.add_argument(
        "-c", "--configs", nargs="+", default=[], metavar="CONFIG", help="or the default run folders of these configs"
    )
    _cli.add_override_option(parser)
    _cli.add_change_options(parser)
    parser.add_argument("--output", type=_cli.png, metavar="PNG", help="default: beside the first run, as compare.png")
    arguments = parser.parse_args()

    from simam_repro.errors import UserError
    from simam_repro.reporting import plot_curves, side_by_side
    from simam_repro.runs import RUNS_ROOT, SMOKE_ROOT, default_run_dir

    root = SMOKE_ROOT if arguments.smoke else RUNS_ROOT
    experiments = [_cli.read_experiment(arguments, config) for config in arguments.configs]
    run_dirs = [*arguments.runs, *(default_run_dir(experiment, root) for experiment in experiments)]
    if len(run_dirs) < 2:
        raise UserError("a comparison needs two runs or more: run folders, or -c with their configs")
    print(side_by_side(run_dirs))
    figure = arguments.output or run_dirs[0] / "figures" / "compare.png"
    plot_curves(run_dirs, figure)
    print(f"\nfigure: {_cli.relative(figure)}")


if __name__ == "__main__":
    _cli.run(main)
