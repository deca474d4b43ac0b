"""Loss and accuracy over epochs, one run or several in one figure."""

from matplotlib.ticker import MaxNLocator, PercentFormatter

from simam_repro.reporting.style import STAND_IN_NOTE, new_figure, save_figure
from simam_repro.runs import RunFolder

# Told apart in greyscale too: by lightness and marker for the run, by line style for train and eval.
COLOURS = ("#1b3a6b", "#e07b00", "#2a9d4a", "#b0307a", "#7f7f7f", "#4fb3d9")
MARKERS = ("o", "s", "^", "D", "v", "P")
PANELS = (
    ("cross-entropy (nats)", "train_nll", "eval_loss"),
    ("accuracy", "train_acc", "eval_acc"),
)


def plot_curves(run_dirs, path) -> None:
    """Write a PNG with loss and accuracy of the runs: dashed for train, solid for eval."""
    runs = [RunFolder(run_dir) for run_dir in run_dirs]
    figure = new_figure(11, 4.6)
    panels = figure.subplots(1, len(PANELS))
    for panel, (label, train_key, eval_key) in zip(panels, PANELS):
        for position, run in enumerate(runs):
            _draw(panel, run.read_metrics(), train_key, eval_key, position, _label(run))
        panel.set_xlabel("epoch")
        panel.set_ylabel(label)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.grid(alpha=0.3)
    panels[1].yaxis.set_major_formatter(PercentFormatter(1.0))
    panels[0].set_ylim(bottom=0)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    if any(run.read_result()["data"]["stand_in"] for run in runs if run.complete):
        figure.suptitle(STAND_IN_NOTE, fontsize="medium")
    save_figure(figure, path)


def _label(run: RunFolder) -> str:
    experiment = run.read_experiment()
    return f"{experiment.name}, seed {experiment.seed}"


def _draw(panel, records, train_key, eval_key, position, label) -> None:
    epochs = [record["epoch"] for record in records]
    look = {"color": COLOURS[position % len(COLOURS)], "marker": MARKERS[position % len(MARKERS)]}
    look |= {"markersize": 4, "markevery": max(1, len(epochs) // 12)}
    panel.plot(epochs, [record[train_key] for record in records], "--", alpha=0.7, label=f"{label}: train", **look)
    panel.plot(epochs, [record[eval_key] for record in records], "-", label=f"{label}: eval", **look)
