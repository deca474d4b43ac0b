"""Find or download, verify and unpack the data set of a config; print what it holds."""

import argparse
import sys
from collections import Counter

from simam_repro import cli
from simam_repro.errors import printable


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    cli.add_experiment_options(parser)
    arguments = parser.parse_args()
    experiment = cli.read_experiment(arguments)

    from simam_repro.data import build_loaders, prepare_data, sets
    from simam_repro.data.listing import left_out_line

    cli.raise_on_termination()  # behind paddle, which the loaders take
    data = prepare_data(experiment.data)
    if (check := sets.load(experiment.data.dataset).check) and not experiment.data.skip_damaged:
        check(data)
    loaders = build_loaders(data, experiment.data, experiment.seed)
    stand_in = " (stand-in data)" if data.stand_in else ""
    print(
        f"{data.name}{stand_in}: {len(data.classes)} classes, {len(data.train)} train and {len(data.eval)} eval images"
    )
    if line := left_out_line(data.left_out):
        print(printable(f"{data.name}: {line}"), file=sys.stderr)
    if data.skipped:
        print(printable(f"left out {len(data.skipped)} damaged: {', '.join(data.skipped)}"))
    print(f"{len(loaders.train)} and {len(loaders.eval)} batches of {experiment.data.batch_size}")
    train, evaluation = (Counter(split.labels.tolist()) for split in (data.train, data.eval))
    for label, name in enumerate(data.classes):
        print(f"  {printable(name):16s} {train[label]:6d} {evaluation[label]:6d}")
