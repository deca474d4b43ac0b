"""Accuracy under corruptions and adversarial attacks, and what attention changes in it.

Each run's numbers are kept beside it as they are measured, so an interrupted command goes on where it was. Runs that
differ in their attention only are compared with a baseline, over the seeds that both have.
"""

import argparse

from simam_repro import cli


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders, or folders with runs in NAME/seedN/")
    parser.add_argument("--weights", choices=("last", "best"), default="last", help="default last: the final epoch's")
    parser.add_argument("--corruptions", type=_names, metavar="A,B|none", help="default: all")
    parser.add_argument("--severities", type=_severities, metavar="1,3,5", help="default: 1,2,3,4,5")
    parser.add_argument("--attacks", type=_names, metavar="fgsm,pgd|none", help="default: both")
    parser.add_argument(
        "--images", type=cli.positive, default=1000, metavar="N",
        help="of the eval images, evenly spread; default 1000, or all where there are fewer",
    )  # fmt: skip
    parser.add_argument(
        "--baseline", metavar="TITLE|NAME", help="the arm that the others are compared with; default none"
    )
    parser.add_argument("--overwrite", action="store_true", help="measure anew what has been measured")
    parser.add_argument("--json", metavar="PATH", help="default: robustness.json in the runs' common folder")
    cli.add_device_option(parser)
    return parser.parse_intermixed_args()


def _names(text: str) -> tuple[str, ...]:
    return () if text == "none" else tuple(dict.fromkeys(text.split(",")))


def _severities(text: str) -> tuple[int, ...]:
    return tuple(sorted({cli.positive(part) for part in text.split(",")}))


def main():
    arguments = parse_arguments()

    from tqdm import tqdm

    from simam_repro.evaluation.robustness import Measurement, Scope, runs_to_measure
    from simam_repro.reporting.robustness import run_line, write_robustness

    chosen = {key: getattr(arguments, key) for key in ("corruptions", "severities", "attacks")}
    chosen = {key: value for key, value in chosen.items() if value is not None}
    scope = Scope(**chosen, images=arguments.images, weights=arguments.weights)
    runs, incomplete = runs_to_measure(arguments.runs)
    for folder in incomplete:
        print(f"left out, not complete: {cli.relative(folder)}", flush=True)
    measurements = [Measurement(run, scope, arguments.overwrite) for run in runs]
    with tqdm(total=sum(one.work for one in measurements), unit=" passes", smoothing=0.05, disable=None) as bar:
        for one in measurements:
            bar.set_description(f"{one.content['name']} seed {one.content['seed']}")
            one.measure(arguments.device, bar.update)
            bar.write(run_line(one.content))
    table, written = write_robustness(measurements, scope, arguments.json, arguments.baseline)
    print(f"\n{table}")
    print("\nwritten: " + ", ".join(str(cli.relative(path)) for path in written))
