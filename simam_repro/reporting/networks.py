"""Tables of networks: the layers of one, and a line for each config."""

import functools
from pathlib import Path

from simam_repro import attention
from simam_repro.config import Experiment, Model
from simam_repro.data import expected_classes
from simam_repro.models import Summary, attention_layers, build_model, summarise

OVERVIEW_HEADER = ("config", "dataset", "image", "backbone", "parameters", "GFLOPs", "attention layers")


def network_table(experiment: Experiment) -> str:
    """A line for each layer of the experiment's network, then its totals, as text."""
    summary, sites = measure_network(experiment)
    rows = [("layer", "type", "output", "parameters", "MFLOPs")]
    for row in summary.rows:
        shape = " x ".join(map(str, row.output_shape))
        flops = "?" if row.flops is None else f"{row.flops / 1e6:,.3f}"
        rows.append((row.name, row.type, shape, f"{row.parameters:,}", flops))
    config, batch = experiment.data, experiment.data.batch_size
    title = attention.title(experiment.model.attention)
    at = f" at {', '.join(site.name for site in sites)} (position {sites[0].position})" if sites else ""
    totals = [
        f"attention    {title}{at}",
        f"parameters   {summary.parameters:,} with {expected_classes(config)} classes "
        f"({summary.parameter_bytes / 1e6:.1f} MB in float32)",
        f"FLOPs        {summary.flops / 1e9:.3f} G for one image of {config.image_size} x {config.image_size} "
        "(a multiply-add is two)",
        f"activations  {batch * summary.activation_bytes / 1e6:,.1f} MB for a batch of {batch} "
        "(the float32 outputs of all layers)",
    ]
    if summary.not_counted:
        totals.append(f"FLOPs lack   {', '.join(summary.not_counted)}")
    return "\n".join([*_align(rows, right=(3, 4)), "", *totals])


def overview_table(experiments: list[Experiment]) -> str:
    """A line for each experiment: its data set and what its network costs."""
    rows = [OVERVIEW_HEADER, *map(_overview, experiments)]
    return "\n".join([*_align(rows, right=(2, 4, 5, 6)), "", "GFLOPs: for one image; a multiply-add is two."])


def find_configs(folder) -> list[Path]:
    """The configs in `folder` and below, bases (folders that begin with _) left out."""
    folder = Path(folder)
    files = sorted(folder.rglob("*.yaml"))
    return [file for file in files if not any(part.startswith("_") for part in file.relative_to(folder).parts)]


def _overview(experiment: Experiment) -> tuple[str, ...]:
    summary, sites = measure_network(experiment)
    flops = f"{summary.flops / 1e9:.3f}" + ("+" if summary.not_counted else "")
    config, title = experiment.data, attention.title(experiment.model.attention)
    return (
        experiment.name, config.dataset, str(config.image_size), experiment.model.backbone,
        f"{summary.parameters:,}", flops, f"{len(sites)} {title}" if sites else "none",
    )  # fmt: skip


def measure_network(experiment: Experiment) -> tuple[Summary, tuple[attention.Site, ...]]:
    """The summary of the experiment's network, and where it has attention."""
    return _measure_model(experiment.model, expected_classes(experiment.data), experiment.data.image_size)


@functools.cache  # many configs share a network, and a large one takes seconds
def _measure_model(model_config: Model, classes: int, image_size: int) -> tuple[Summary, tuple[attention.Site, ...]]:
    network = build_model(model_config, classes, image_size)
    return summarise(network, image_size), tuple(layer.site for layer in attention_layers(network).values())


def _align(rows, right) -> list[str]:
    """Rows of texts as lines with columns of equal width; the columns of `right` right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return [
        "  ".join(text.rjust(width) if column in right else text.ljust(width)
                  for column, (text, width) in enumerate(zip(row, widths))).rstrip()
        for row in rows
    ]  # fmt: skip
