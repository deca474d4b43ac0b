"""Compare runs without and with SimAM: statistics over the pairs' seeds; other runs side by side."""

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
    parser.add_argument("--output", type=cli.png, metavar="PNG", help="the figure")
    parser.add_argument(
        "--json", type=Path, metavar="JSON", help="the numbers; both default to the sweep's folder as comparison.png "
        "and comparison.json, else to the first run's figures/ as compare.png and compare.json",
    )  # fmt: skip
    return parser.parse_args()


def main():
    arguments = parse_arguments()

    from simam_repro.errors import UserError
    from simam_repro.evaluation.comparison import compare
    from simam_repro.evaluation.pairs import sweep_runs
    from simam_repro.reporting import comparison_text, plot_comparison, plot_curves, side_by_side, unpaired_text
    from simam_repro.runs import RUNS_ROOT, RunFolder
    from simam_repro.storage import write_json

    if arguments.sweep:
        if arguments.runs or arguments.configs:
            raise UserError("--sweep names all its runs itself; leave out the others, or leave out --sweep")
        folder = Path(arguments.sweep) if Path(arguments.sweep).is_dir() else RUNS_ROOT / arguments.sweep
        runs, place = sweep_runs(folder), folder / "comparison"
    else:
        runs = [*map(RunFolder, arguments.runs), *configured_runs(arguments)]
        if len(runs) < 2:
            raise UserError("a comparison needs two runs or more: run folders, -c with their configs, or --sweep")
        for run in runs:
            run.read_result()  # refuses a run that is not complete
        place = runs[0].figures / "compare"

    comparison = compare(runs)
    comparisons, complete = comparison["comparisons"], [run.path for run in runs if run.complete]
    if not comparisons and len(complete) < 2:
        raise UserError(f"{arguments.sweep} has no two complete runs: {', '.join(comparison['unpaired'])}")
    figure, numbers = arguments.output or place.with_suffix(".png"), arguments.json or place.with_suffix(".json")
    print("\n\n".join(map(comparison_text, comparisons)) or side_by_side(complete))
    if comparisons and comparison["unpaired"]:
        print("\n" + unpaired_text(comparison["unpaired"]))
    if any(pairs["n"] > 1 for pairs in comparisons):
        plot_comparison(comparisons, figure)
    else:
        plot_curves(complete, figure)
    write_json(numbers, comparison)
    print(f"\nfigure: {cli.relative(figure)}\nnumbers: {cli.relative(numbers)}")


def configured_runs(arguments) -> list:
    """The default run folders of the configs of -c."""
    from simam_repro.runs import RUNS_ROOT, SMOKE_ROOT, RunFolder, default_run_dir

    root = SMOKE_ROOT if arguments.smoke else RUNS_ROOT
    experiments = [cli.read_experiment(arguments, config) for config in arguments.configs]
    return [RunFolder(default_run_dir(experiment, root)) for experiment in experiments]
