"""Compare arms, runs that differ in their attention only, with a baseline: statistics over the seeds that both have.

Runs that are no arms of a comparison are put side by side.
"""

import argparse
from pathlib import Path

from simam_repro import cli


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="run folders")
    parser.add_argument(
        "-c", "--configs", nargs="+", default=[], metavar="CONFIG", help="or the default run folders of these configs"
    )
    parser.add_argument(
        "--sweep",
        metavar="FOLDER|NAME",
        help="or all complete runs in FOLDER/<name>/seed<N>; NAME stands for runs/NAME",
    )
    cli.add_override_option(parser)
    cli.add_change_options(parser)
    parser.add_argument(
        "--baseline", metavar="TITLE|NAME",
        help="the arm that the others are compared with: its title, its attention or its runs' name; default none, "
        "the network without attention",
    )  # fmt: skip
    parser.add_argument(
        "--margin", type=_margin, default=0.5, metavar="POINTS",
        help="accuracies that differ by less are equivalent, if that can be shown; to be fixed before looking; "
        "default 0.5",
    )  # fmt: skip
    parser.add_argument("--output", type=cli.png, metavar="PNG", help="the figure")
    parser.add_argument(
        "--json", type=Path, metavar="JSON", help="the numbers; both default to the sweep's folder as comparison.png "
        "and comparison.json, else to the first run's figures/ as compare.png and compare.json",
    )  # fmt: skip
    return parser.parse_args()


def _margin(text: str) -> float:
    try:
        points = float(text)
    except ValueError:
        points = 0.0
    if not 0 < points < 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of percentage points above 0")
    return points


def main():
    arguments = parse_arguments()

    from simam_repro.errors import UserError, printable
    from simam_repro.evaluation.comparison import compare
    from simam_repro.reporting import comparison_text, left_out_text, plot_comparison, plot_curves, side_by_side
    from simam_repro.reporting.comparison_file import read_robustness
    from simam_repro.reporting.cost import cost_table, plot_cost
    from simam_repro.run_files import or_warn
    from simam_repro.runs import RunFolder
    from simam_repro.storage import write_json

    if arguments.sweep:
        if arguments.runs or arguments.configs:
            raise UserError("--sweep names all its runs itself; leave out the others, or leave out --sweep")
        runs, damaged, place = sweep_runs(arguments.sweep)
    else:
        runs = [*map(RunFolder, arguments.runs), *configured_runs(arguments)]
        if len(runs) < 2:
            raise UserError("a comparison needs two runs or more: run folders, -c with their configs, or --sweep")
        for run in runs:
            run.read_result()  # refuses a run that is not complete
        damaged, place = [], runs[0].figures / "compare"

    comparison = compare(runs, arguments.baseline, arguments.margin / 100)
    comparison["left_out"] += damaged
    comparisons, complete = comparison["comparisons"], [run.path for run in runs if run.complete]
    if not comparisons and len(complete) < 2:
        raise UserError(f"{arguments.sweep} has no two complete runs: {', '.join(comparison['left_out'])}")
    figure, numbers = arguments.output or place.with_suffix(".png"), arguments.json or place.with_suffix(".json")
    experiments = {experiment.name: experiment for experiment in (run.read_experiment() for run in runs)}
    robustness = or_warn(lambda: read_robustness(place.with_name("robustness.json"), experiments), None)
    texts = [f"{comparison_text(one)}\n\n{cost_table(one, robustness)}" for one in comparisons]
    print(printable("\n\n".join(texts)) or side_by_side(complete))
    if comparisons and comparison["left_out"]:
        print("\n" + left_out_text(comparison["left_out"]))
    write_json(numbers, comparison)
    if any(len(one["arms"]) > 1 or one["arms"][0]["n"] > 1 for one in comparisons):
        plot_comparison(comparisons, figure)
    else:
        plot_curves(complete, figure)
    print(f"\nfigure: {cli.relative(figure)}\nnumbers: {cli.relative(numbers)}")
    if several := [one for one in comparisons if len(one["arms"]) > 1]:
        costs = figure.with_name(f"{figure.stem}_cost.png")
        plot_cost(several, costs, robustness)
        print(f"cost: {cli.relative(costs)}")


def sweep_runs(sweep: str) -> tuple[list, list[str], Path]:
    """The runs of --sweep, those that are damaged by name, and where the comparison goes, without a suffix."""
    from simam_repro.errors import UserError
    from simam_repro.runs import RUNS_ROOT, find_runs, readable

    folder = Path(sweep) if Path(sweep).is_dir() else RUNS_ROOT / sweep
    runs = find_runs(folder)
    if not runs:
        raise UserError(f"{folder} has no runs: a sweep's runs are {folder.name}/NAME/seedN, each with its config.yaml")
    whole = readable(runs)
    damaged = [f"{run.path.parent.name}/{run.path.name} (damaged)" for run in runs if run not in whole]
    return whole, damaged, folder / "comparison"


def configured_runs(arguments) -> list:
    """The default run folders of the configs of -c."""
    from simam_repro.runs import RUNS_ROOT, SMOKE_ROOT, RunFolder, default_run_dir

    root = SMOKE_ROOT if arguments.smoke else RUNS_ROOT
    experiments = [cli.read_experiment(arguments, config) for config in arguments.configs]
    return [RunFolder(default_run_dir(experiment, root)) for experiment in experiments]
