"""Measure a trained network on its eval images: accuracy, loss, confusion matrix, images per second."""

import argparse

from simam_repro import cli
from simam_repro.config import load_config


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", metavar="RUN", help="a run folder (its best weights) or RUN/checkpoints/last")
    parser.add_argument(
        "--data", metavar="CONFIG",
        help="measure on the eval images of this config's data instead. Its classes are matched with those of the run "
        "by name; images of classes that the network does not know are left out and counted. The numbers go to a file "
        "of their own, evaluation_on_NAME_DIGEST.json",
    )  # fmt: skip
    parser.add_argument("--batch-size", type=cli.positive, metavar="N", help="default: that of the run's config")
    parser.add_argument(
        "--engine", choices=("paddle", "inference"), default="paddle",
        help="what runs the network: inference is an exported program, about 1.5 times as fast on a CPU",
    )  # fmt: skip
    cli.add_device_option(parser)
    return parser.parse_args()


def main():
    arguments = parse_arguments()

    from simam_repro.evaluation import evaluate, load_trained, other_eval_set
    from simam_repro.reporting import evaluation_table, write_evaluation

    trained = load_trained(arguments.run, arguments.device)
    print(f"measuring {cli.relative(trained.checkpoint)} on {trained.device}", flush=True)
    eval_set = other_eval_set(trained, load_config(arguments.data).data) if arguments.data else None
    evaluation = evaluate(trained, arguments.batch_size, engine=arguments.engine, eval_set=eval_set)
    print(evaluation_table(evaluation), flush=True)
    written = write_evaluation(trained, evaluation)
    print("\nwritten: " + ", ".join(str(cli.relative(path)) for path in written))
