"""Loss and accuracy over epochs, one run or several in one figure."""

import os
from pathlib import Path

from matplotlib.ticker import MaxNLocator, PercentFormatter

from simam_repro.config import ARM_KEYS, Experiment
from simam_repro.data import sets
from simam_repro.errors import UserError
from simam_repro.evaluation.arms import NO_ATTENTION, arm_title
from simam_repro.reporting.style import arm_looks, new_figure, save_figure, set_title
from simam_repro.runs import RunFolder

# Told apart in greyscale too: by lightness and by marker.
COLOURS = ("#1b3a6b", "#e07b00", "#2a9d4a", "#b0307a", "#7f7f7f", "#4fb3d9", "#8c4a1f", "#6a51c4", "#c9b400", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">")
LOSS, ACCURACY = "cross-entropy (nats)", "accuracy"
DASHED, SOLID = {"linestyle": "--", "markerfacecolor": "white"}, {"linestyle": "-"}
LONGEST_LABEL = 60


def plot_curves(run_dirs, path) -> None:
    """Write a PNG with loss and accuracy of the runs.

    One run: train dashed and eval solid in one panel. Several: train above, eval below. With at most two arms a colour
    and marker for each pair of runs, with more for each arm; the runs without attention dashed with open markers.

    Raises:
        UserError: a folder that is not a run's, or a run without a finished epoch.
    """
    runs = [RunFolder(run_dir) for run_dir in run_dirs]
    records = [_read_records(run) for run in runs]
    experiments = [run.read_experiment() for run in runs]
    labels = _labels(runs, experiments)
    single, stand_in = len(runs) == 1, any(map(_is_stand_in, runs, experiments))
    if single:
        figure = _one_run(records[0])
    elif len(set(map(arm_title, experiments))) <= 2:
        figure = _several_runs(records, labels, _looks_of_pairs(experiments))
    else:
        figure = _several_runs(records, _labels_of_arms(experiments), _looks_of_arms(experiments))
    set_title(figure, labels[0] if single else "", stand_in)
    save_figure(figure, path)


def curves_path(run_dirs) -> Path:
    """Where a figure of the runs goes: figures/curves.png of a single one, else curves.png in their common folder.

    Runs with nothing in common but the root of the file system get ./curves.png.
    """
    folders = {Path(run_dir).resolve() for run_dir in run_dirs}
    if len(folders) == 1:
        return RunFolder(folders.pop()).figures / "curves.png"
    common = Path(os.path.commonpath(folders))
    return Path("." if common == common.parent else common) / "curves.png"


def _read_records(run: RunFolder) -> list[dict]:
    records = run.read_metrics()
    if not records:
        raise UserError(f"{run.path} has no finished epoch yet: its metrics.jsonl is empty")
    return records


def _one_run(records):
    figure = new_figure(11, 4.4)
    panels = figure.subplots(1, 2)
    for panel, quantity, keys in zip(panels, (LOSS, ACCURACY), (("train_nll", "eval_loss"), ("train_acc", "eval_acc"))):
        for key, label, look in zip(keys, ("train", _watched(records)), (DASHED, SOLID)):
            _draw(panel, records, key, label, {"color": COLOURS[0], "marker": MARKERS[0], **look})
        _dress(panel, quantity)
    _add_legend(figure, panels[0])
    return figure


def _several_runs(records, labels, looks):
    named = sum(not label.startswith("_") for label in labels)
    figure = new_figure(11, 7 + 0.22 * -(-named // 2))
    panels = figure.subplots(2, 2, sharex=True, sharey="col")
    names = {"train": "train", "eval": " or ".join(sorted({_watched(run_records) for run_records in records}))}
    for row, half in enumerate(("train", "eval")):
        for column, (quantity, key) in enumerate(((LOSS, _loss_key(half)), (ACCURACY, f"{half}_acc"))):
            panel = panels[row, column]
            for run_records, label, look in zip(records, labels, looks):
                _draw(panel, run_records, key, label, look)
            _dress(panel, f"{names[half]} {quantity}")
    _add_legend(figure, panels[0, 0])
    return figure


def _watched(records: list[dict]) -> str:
    """What the epochs were evaluated on: eval or validation images."""
    return records[0].get("evaluated_on", "eval")


def _loss_key(half: str) -> str:
    # train_loss is the objective, label smoothing included; the plain cross-entropy compares with eval's.
    return {"train": "train_nll", "eval": "eval_loss"}[half]


def _draw(panel, records, key, label, look) -> None:
    epochs = [record["epoch"] for record in records]
    every = max(1, len(epochs) // 12)
    values = [record[key] for record in records]
    panel.plot(epochs, values, label=label, linewidth=1.3, markersize=5, markevery=every, **look)


def _dress(panel, quantity: str) -> None:
    panel.set_xlabel("epoch")
    panel.set_ylabel(quantity)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    panel.tick_params(labelbottom=True)
    panel.grid(alpha=0.3)
    if quantity.endswith(ACCURACY):
        panel.yaxis.set_major_formatter(PercentFormatter(1.0))
    else:
        panel.set_ylim(bottom=0)


def _add_legend(figure, panel) -> None:
    named = [line for line in panel.get_lines() if not line.get_label().startswith("_")]
    colours = [line.get_color() for line in named]
    lines = sorted(named, key=lambda line: (colours.index(line.get_color()), line.get_linestyle() == "-"))
    # matplotlib fills columns first; so ordered, the two runs of a pair stand side by side.
    handles = lines[0::2] + lines[1::2]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, handlelength=3.5)


def _looks_of_pairs(experiments: list[Experiment]) -> list[dict]:
    """Colour, marker and line for each run; the two runs of a pair differ in the line only."""
    pairs: list[dict] = []
    looks = []
    for experiment in experiments:
        arm, keys = arm_title(experiment), experiment.recipe(without=ARM_KEYS)
        # A pair that has this arm already is another repetition: it gets a look of its own.
        pair = next((pair for pair in pairs if pair["shared"] == keys and arm not in pair["arms"]), None)
        if pair is None:
            pair = {"shared": keys, "arms": set(), "position": len(pairs)}
            pairs.append(pair)
        pair["arms"].add(arm)
        position = pair["position"]
        look = {"color": COLOURS[position % len(COLOURS)], "marker": MARKERS[position % len(MARKERS)]}
        looks.append({**look, **_line(experiment)})
    return looks


def _looks_of_arms(experiments: list[Experiment]) -> list[dict]:
    of_title = arm_looks([*map(arm_title, experiments)])
    return [{**of_title[arm_title(experiment)], **_line(experiment)} for experiment in experiments]


def _line(experiment: Experiment) -> dict:
    return DASHED if experiment.model.attention.name == NO_ATTENTION else SOLID


def _labels_of_arms(experiments: list[Experiment]) -> list[str]:
    """An arm's title, at its first run only."""
    titles = [arm_title(experiment) for experiment in experiments]
    return ["_" if title in titles[:i] else title.replace("$", r"\$") for i, title in enumerate(titles)]


def _labels(runs: list[RunFolder], experiments: list[Experiment]) -> list[str]:
    """Name and seed; the folder where those are not unique."""
    labels = [f"{experiment.name}, seed {experiment.seed}" for experiment in experiments]
    labels = [label if labels.count(label) == 1 else str(run.path) for label, run in zip(labels, runs)]
    return [label if len(label) <= LONGEST_LABEL else f"…{label[1 - LONGEST_LABEL :]}" for label in labels]


def _is_stand_in(run: RunFolder, experiment: Experiment) -> bool:
    if run.complete:
        return run.read_result()["data"]["stand_in"]
    return sets.load(experiment.data.dataset).stand_in or experiment.data.allow_miniature
