"""The published accuracies beside measured ones of the same metric."""

from statistics import fmean

from simam_repro.evaluation.published import ALEXNET_CIFAR10
from simam_repro.reporting.results import Sweep


def like_published(sweeps: list[Sweep]) -> list[tuple[dict, dict, list[float]]]:
    """(comparison, arm, [baseline, arm]) of AlexNet on CIFAR-10: the original's metric in the best epoch by it.

    Means over the seeds that both have. Without the comparisons whose runs are older than the metric.
    """
    found, what = [], (ALEXNET_CIFAR10["backbone"], ALEXNET_CIFAR10["data_set"])
    for sweep in sweeps:
        for comparison in sweep.comparisons:
            if (comparison["backbone"], comparison["data"]["name"]) != what:
                continue
            for arm in comparison["arms"]:
                sides = [_best(sweep, side["name"], arm["seeds"]) for side in (comparison["baseline"], arm)]
                if None not in sides:
                    found.append((comparison, arm, sides))
    return found


def _best(sweep: Sweep, name: str, seeds: list[int]) -> float | None:
    metric, runs = ALEXNET_CIFAR10["metric"], sweep.records(name, seeds)
    if len(runs) < len(seeds) or not all(metric in record for records in runs for record in records):
        return None
    return fmean(max(record[metric] for record in records) for records in runs)
