"""The figure of arms that are one module with another number each: the difference in accuracy over that number."""

import numpy as np

from simam_repro.evaluation.wording import level_text

EPOCHS = ("final", "best")
LOG_FROM = 30  # largest over smallest from which the axis is logarithmic


def numeric_key(comparison: dict) -> str | None:
    """The key of the module in which alone its arms differ, where each has a number there; else None.

    The baseline may be anything.
    """
    modules = [arm["attention"] for arm in comparison["arms"]]
    keys = {key for module in modules for key in module}
    differing = [key for key in keys if any(module.get(key) != modules[0].get(key) for module in modules)]
    if len(differing) != 1 or len(modules) < 3:
        return None
    (key,) = differing
    numbers = [module.get(key) for module in modules]
    plain = all(isinstance(number, (int, float)) and not isinstance(number, bool) for number in numbers)
    return key if plain else None


def plot_key(row, comparison: dict, key: str) -> None:
    """A panel for the final and one for the best epoch: each seed, and the mean with both intervals, over `key`."""
    arms = sorted(comparison["arms"], key=lambda arm: arm["attention"][key])
    numbers = np.array([arm["attention"][key] for arm in arms], float)
    logarithmic = numbers[0] > 0 and numbers[-1] / numbers[0] > LOG_FROM
    panels = row.subplots(1, len(EPOCHS), sharey=True)
    for panel, which in zip(panels, EPOCHS):
        panel.axhline(0, color="0.4", linewidth=1, linestyle="--")
        panel.set_xscale("log" if logarithmic else "linear")
        panel.set_xticks(numbers, [f"{number:g}" for number in numbers])
        panel.minorticks_off()
        differences = [arm[which]["difference"] for arm in arms]
        for number, difference in zip(numbers, differences):
            values = 100 * np.array(difference["values"])
            panel.scatter(np.full(len(values), number), values, color="0.6", s=14, zorder=1)
        _plot_band(panel, numbers, differences, "images_and_seeds_interval", {"color": "#b0307a", "alpha": 0.25})
        _plot_bars(panel, numbers, differences)
        chosen = f" (chosen on {comparison['best_chosen_on']} images)" if which == "best" else ""
        panel.set_title(f"{which} epoch{chosen}", fontsize="small")
        panel.set_xlabel(f"{comparison['arms'][0]['attention']['name']}: {key}")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel(f"accuracy minus that of\n{comparison['baseline']['title']}, points")
    counts = sorted({arm["n"] for arm in arms})
    seeds = f"{counts[0]} seed{'s' * (counts[0] > 1)}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"
    level = level_text(len(arms))
    row.suptitle(f"{comparison['title']}, {seeds} (dots)\nintervals of {level}: bars over seeds (t), band over images "
                 f"and seeds", fontsize="medium")  # fmt: skip


def _plot_band(panel, numbers, differences: list[dict], interval: str, look: dict) -> None:
    if all(difference[interval] for difference in differences):
        low, high = 100 * np.array([difference[interval] for difference in differences]).T
        panel.fill_between(numbers, low, high, linewidth=0, zorder=0, **look)


def _plot_bars(panel, numbers, differences: list[dict]) -> None:
    means = 100 * np.array([difference["mean"] for difference in differences])
    panel.plot(numbers, means, color="black", marker="D", markersize=5, linewidth=1, zorder=2)
    for number, difference in zip(numbers, differences):
        if difference["t_interval"]:
            low, high = 100 * np.array(difference["t_interval"])
            panel.errorbar(
                number, (low + high) / 2, (high - low) / 2, color="black", capsize=4, elinewidth=1.3, zorder=2
            )
