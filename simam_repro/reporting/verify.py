"""What `evaluation.verify` found, in words and as a figure."""

import numpy as np
from matplotlib.ticker import MaxNLocator, PercentFormatter

from simam_repro.errors import printable
from simam_repro.evaluation.arms import arm_title
from simam_repro.evaluation.statistics import LEVEL
from simam_repro.evaluation.verify import QUANTITIES, Verification
from simam_repro.evaluation.wording import points
from simam_repro.reporting.style import new_figure, save_figure, set_title
from simam_repro.training.environment import hardware, versions

OWN, REFERENCE = "#b0307a", "#1b3a6b"
HEADLINES = {
    True: "in line with the reference runs", False: "NOT in line with the reference runs", None: "no verdict",
}  # fmt: skip
WHERE_TO_LOOK = (
    "What to look at, in this order: whether the images are the same (data), the versions and the machine above, "
    "`model.fused: false` (the same without compiled operators), and the first epochs in the figure: a run that begins "
    "apart differs in its data, its initialisation or its learning rate; one that leaves later, in what it does since."
)


def verification_text(found: Verification) -> str:
    experiment, epochs = found.run.read_experiment(), len(next(iter(found.quantities.values())).own)
    seeds = [reference.read_experiment().seed for reference in found.references]
    environment = found.references[0].read_environment()
    about = ", ".join(f"{name} {version}" for name, version in versions(environment).items())
    trained = f"{arm_title(experiment)}, seed {experiment.seed}, epoch {epochs} of {experiment.train.epochs}"
    folder, on = found.references[0].path.parent, f"{hardware(environment)}; {about}"
    lines = [
        f"{found.run.path}: {trained}",
        f"reference: {folder}, seeds {', '.join(map(str, seeds))} ({on})",
        "",
        *(_line(name, quantity) for name, quantity in found.quantities.items()),
        "",
    ]
    if found.in_line is not None:
        expected = LEVEL / len(QUANTITIES) * epochs
        counts = " and ".join(f"{len(quantity.outside)} of {name}" for name, quantity in found.quantities.items())
        lines.append(f"epochs outside of their interval: {counts} (of {epochs}; by chance {expected:.1f} of each)")
    lines += [found.same_seed] * bool(found.same_seed)
    lines += [f"differs: {difference}" for difference in found.differences]
    return printable("\n".join([*lines, "", verdict(found)]))


def verdict(found: Verification) -> str:
    if found.in_line is None:
        return (
            f"{HEADLINES[None]}: an interval needs two references or more that differ, and has {len(found.references)}."
        )
    if found.in_line:
        return f"{HEADLINES[True]}."
    apart = [name for name, quantity in found.quantities.items() if not quantity.in_line]
    return f"{HEADLINES[False]}: {' and '.join(apart)}. {WHERE_TO_LOOK}"


def _line(name: str, quantity) -> str:
    def shown(value: float) -> str:
        return f"{value:.2%}" if name == "accuracy" else f"{value:.3f}"

    last, theirs, ends = quantity.own[-1], quantity.references[:, -1], quantity.intervals[-1]
    beside = f"{name:<9} {shown(last)}   references {shown(theirs.mean())}"
    if ends is None:
        difference = last - theirs.mean()
        change = f"{points(difference)} points" if name == "accuracy" else f"{difference:+.3f}"
        return f"{beside} (difference {change}; no interval)"
    inside = "in line" if quantity.in_line else "OUTSIDE"
    return f"{beside}, one more run is expected from {shown(ends[0])} to {shown(ends[1])}: {inside}"


def plot_verification(found: Verification, path) -> None:
    """Write a PNG: accuracy and loss over the epochs, the run over the references and where one more is expected."""
    figure = new_figure(11, 4.4)
    for panel, (name, quantity) in zip(figure.subplots(1, len(found.quantities)), found.quantities.items()):
        epochs = np.arange(1, len(quantity.own) + 1)
        ends = np.array([pair or (np.nan, np.nan) for pair in quantity.intervals])
        panel.fill_between(
            epochs, *ends.T, color=REFERENCE, alpha=0.15, linewidth=0, label="one more run is expected here"
        )
        for number, values in enumerate(quantity.references):
            label = f"{len(found.references)} reference run(s)" if number == 0 else None
            panel.plot(epochs, values, color=REFERENCE, alpha=0.5, linewidth=0.8, label=label)
        panel.plot(epochs, quantity.own, color=OWN, linewidth=1.8, label="this run", marker=".")
        panel.set(xlabel="epoch", ylabel=f"eval {name}")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
        panel.grid(alpha=0.3)
        # The intervals of the first epochs are wide; what the curves do should stay readable.
        shown = np.concatenate([quantity.references.ravel(), quantity.own])
        margin = 0.3 * max(np.ptp(shown), 1e-3)
        panel.set_ylim(max(shown.min() - margin, 0), shown.max() + margin)
        if name == "accuracy":
            panel.set_ylim(top=min(panel.get_ylim()[1], 1.0))
            panel.yaxis.set_major_formatter(PercentFormatter(1.0))
    handles, labels = panel.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    experiment = found.run.read_experiment()
    set_title(
        figure, printable(f"{experiment.name}, seed {experiment.seed}: {verdict(found).split(':')[0].split('.')[0]}")
    )
    save_figure(figure, path)
