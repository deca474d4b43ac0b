"""The demo: TowerNet without and with SimAM on the embedded data set, side by side."""

import argparse

import _cli

CONFIGS = ("configs/demo_towernet.yaml", "configs/demo_towernet_simam.yaml")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", metavar="N", default="0", help="seed of both runs")
    arguments = parser.parse_args()

    from simam_repro.config import PROJECT_ROOT, load_config
    from simam_repro.reporting import plot_curves, side_by_side, write_figures
    from simam_repro.runs import RUNS_ROOT, default_run_dir
    from simam_repro.training import fit

    run_dirs = []
    for config in CONFIGS:
        experiment = load_config(PROJECT_ROOT / config, [f"seed={arguments.seed}"])
        print(f"\n{experiment.name}: {experiment.train.epochs} epochs on {experiment.data.dataset}")
        # The demo's own folders; repeating it gives the same numbers.
        run_dirs.append(default_run_dir(experiment))
        fit(experiment, run_dirs[-1], overwrite=True)
        write_figures(run_dirs[-1])

    figure = RUNS_ROOT / f"demo_seed{arguments.seed}.png"
    plot_curves(run_dirs, figure)
    print("\n" + side_by_side(run_dirs))
    print(f"\nfigure:   {_cli.relative(figure)}")
    print("VisualDL: make visualdl    (serves runs/, open the address that it prints)")


if __name__ == "__main__":
    _cli.run(main)
