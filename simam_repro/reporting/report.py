"""results/report.html: one file that says what was measured, how sure it is, and how to measure it again."""

from pathlib import Path

import jinja2
import numpy as np

from simam_repro.evaluation import published, statistics, wording
from simam_repro.reporting import report_figures
from simam_repro.reporting.results import BENCHMARKS, RESULTS, Sweep, read_benchmarks, read_sweeps
from simam_repro.reporting.style import STAND_IN_NOTE
from simam_repro.storage import write_text

TEMPLATES = Path(__file__).parent / "templates"
MAPS = ("attention_maps.png", "grad_cam.png")
# The full recipes, for a GPU: command, what, and the time to expect. None has been run: the times are the
# FLOPs (forward and backward: 3 times `make summary`'s) at 2 TFLOP/s, a tenth of what such GPUs can do at most.
FULL_RECIPES = (
    ("make sweep-caltech-towernet", "TowerNet, Caltech101-16, 256 pixels, 100 epochs, 5 seeds, off and on", "1 hour"),
    ("make sweep-cifar-alexnet", "AlexNet, CIFAR-10, 128 pixels, 50 epochs, 5 seeds, off and on", "2 hours"),
)


def write_report(path, results: Path = RESULTS, benchmarks: Path = BENCHMARKS) -> None:
    """Write the report on the sweeps below `results` and the benchmarks to `path`."""
    sweeps = read_sweeps(results)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(percent=percent, points=points, interval=interval, duration=duration)
    environment.filters["percent_interval"] = percent_interval
    environment.filters["plain_interval"] = lambda bounds: wording.interval_text(bounds, scale=1, decimals=3)
    comparisons = [(sweep, comparison) for sweep in sweeps for comparison in sweep.comparisons]
    rows = wording.rows_of([comparison for _, comparison in comparisons])
    page = environment.get_template("report.html").render(
        answer=answer(rows) + robustness_lines(sweeps),
        forest=_forest(rows) if rows else None,
        rows=[(*row, p) for row, p in zip(rows, holm_p(rows))],
        rule=wording.RULE,
        comparisons=[_comparison(sweep, comparison) for sweep, comparison in comparisons],
        recipes=recipe_rows(sweeps),
        robustness=[_robustness(sweep, one) for sweep in sweeps if sweep.robustness for one in _compared(sweep)],
        attention=[(sweep.name, report_figures.as_png(path)) for sweep in sweeps for path in _attention_maps(sweep)],
        speed=_speed(read_benchmarks(benchmarks)),
        published=published,
        full_recipes=FULL_RECIPES,
        sweeps=sweeps,
        stand_in_note=STAND_IN_NOTE,
    )
    write_text(Path(path), page)


def holm_p(rows) -> list[float | None]:
    """Of each (comparison, arm) the p of the final accuracy's rule, adjusted for all of them that have one."""
    p_values = [None if c["data"]["stand_in"] else arm["final"]["difference"]["p"] for c, arm in rows]
    adjusted = iter(statistics.holm([p for p in p_values if p is not None]))
    return [None if p is None else next(adjusted) for p in p_values]


def answer(rows) -> list[str]:
    """The answer so far in plain words, from the intervals of the final accuracies of (comparison, arm) alone."""
    real = [row for row in rows if not row[0]["data"]["stand_in"]]
    repeated = [row for row in real if row[1]["final"]["difference"]["t_interval"]]
    if not real:
        return ["Nothing has been measured on real data yet."]
    lines = []
    if repeated:
        shown = [arm for _, arm in repeated if effect(arm)]
        if shown:
            lasting = sum(p is not None and p < statistics.LEVEL for p in holm_p(rows))
            lines.append(
                f"In {len(shown)} of {len(repeated)} comparisons with enough seeds both intervals of the final "
                f"accuracy exclude zero; adjusted for how many comparisons there are (Holm), p is below 0.05 in "
                f"{lasting}."
            )
        else:
            lines.append(
                f"No effect is shown so far: in none of the {len(repeated)} comparison(s) with enough seeds do both "
                f"intervals of the final accuracy exclude zero."
            )
        lines.append(wording.RULE)
        lines += [arm["final"]["sentence"] for _, arm in repeated]
    if len(repeated) < len(real):
        lines.append(
            f"{len(real) - len(repeated)} more comparison(s) have too few runs a side for an interval over seeds, and "
            f"say nothing about other seeds; they are listed for completeness."
        )
    return lines


def robustness_lines(sweeps: list[Sweep]) -> list[str]:
    """What was measured of robustness, a line for each arm."""
    measured = [sweep.robustness for sweep in sweeps if sweep.robustness]
    compared = [one for each in measured for one in each["comparisons"]]
    return [f"Robustness of {one['arm']['name']}: {one['sentence']}" for one in compared]


def effect(arm: dict) -> bool:
    """Whether both intervals of the final difference, over seeds and over images and seeds, exclude 0."""
    return wording.effect(arm["final"]["difference"]) != 0


def percent(fraction: float | None, digits: int = 2) -> str:
    return "–" if fraction is None else f"{100 * fraction:.{digits}f} %"


def points(fraction: float | None, digits: int = 2) -> str:
    """A difference of accuracies in points, with its sign."""
    return "–" if fraction is None else wording.points(fraction, digits)


def interval(bounds, digits: int = 2) -> str:
    return wording.interval_text(bounds, decimals=digits)


def percent_interval(bounds) -> str:
    """ "98.1 % to 103.0 %", of shares; "none" where there is no interval."""
    if bounds is None:
        return "none"
    return " to ".join(f"{end:.1f} %" for end in wording.outward(bounds, decimals=1))


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _forest(rows) -> str:
    drawn = []
    for comparison, arm in rows:
        difference = arm["final"]["difference"]
        repeated = difference["t_interval"] is not None
        bounds = difference["t_interval" if repeated else "images_interval"]
        both = difference["images_and_seeds_interval"]
        drawn.append(
            {
                "label": f"{wording.row_title(comparison, arm)}, n = {arm['n']}",
                "difference": 100 * difference["mean"],
                "interval": bounds and [100 * bound for bound in bounds],
                "second": [100 * bound for bound in both] if repeated and both else None,
                "filled": repeated,
            }
        )
    return report_figures.forest(drawn)


def _comparison(sweep: Sweep, comparison: dict) -> dict:
    arms, baseline = comparison["arms"], comparison["baseline"]
    seeds = sorted({seed for arm in arms for seed in arm["seeds"]})
    records = {arm["title"]: sweep.records(arm["name"], arm.get("seeds", seeds)) for arm in (baseline, *arms)}
    wall = [*arms[0]["wall_s"]["baseline"], *(seconds for arm in arms for seconds in arm["wall_s"]["arm"])]
    return {
        "sweep": sweep,
        "comparison": comparison,
        "against": wording.baseline_text(comparison),
        "level": wording.level_text(len(arms)),
        "figure": report_figures.paired(comparison, arms[0]) if len(arms) == 1 else report_figures.arms(comparison),
        "curves": report_figures.mean_curves({title: runs for title, runs in records.items() if runs}),
        "wall_s": sum(wall),
    }


def recipe_rows(sweeps: list[Sweep]) -> list[dict]:
    """Runs of the original's recipe beside the runs of the corrected one with the same seed, size and epochs."""
    runs = [(name, seed, run) for sweep in sweeps for (name, seed), run in sweep.runs.items()]
    return [
        {
            "name": corrected,
            "seed": seed,
            "faithful": ours.read_result(),
            "corrected": theirs.read_result(),
            "commits": [_commit(run.read_environment()) for run in (ours, theirs)],
        }
        for name, seed, ours in runs
        for corrected, other_seed, theirs in runs
        if (name, seed) == (wording.FAITHFUL + corrected, other_seed)
        and _same_scale(ours.read_experiment(), theirs.read_experiment())
    ]


def _same_scale(one, other) -> bool:
    def scale(experiment):
        data = experiment.data
        return data.image_size, data.train_limit, data.eval_limit, experiment.train.epochs

    return scale(one) == scale(other)


def _compared(sweep: Sweep) -> list[dict]:
    return sweep.robustness["comparisons"]


def _robustness(sweep: Sweep, comparison: dict) -> dict:
    return {
        "sweep": sweep,
        "comparison": comparison,
        "against": wording.baseline_text(comparison),
        "images": sweep.robustness["images"],
        "checkpoint": sweep.robustness["checkpoint"],
        "levels": sweep.robustness["levels"],
        "rows": list(_robustness_rows(comparison)),
        "figure": report_figures.robustness(comparison, sweep.robustness["levels"]),
    }


def _robustness_rows(comparison: dict):
    """(what, {"accuracy": as in robustness.json}) of the clean images, each corruption, their mean, each attack."""
    yield "none (clean images)", {"accuracy": comparison["clean"]}
    yield from comparison.get("corruptions", {}).items()
    if "mean_corruption" in comparison:
        yield "mean of all", {"accuracy": comparison["mean_corruption"]}
    for name, attack in comparison["attacks"].items():
        for i, (eps, difference) in enumerate(zip(attack["eps"], attack["difference"])):
            sides = {side: {"mean": np.mean([seed[i] for seed in attack[side]])} for side in ("baseline", "arm")}
            yield f"{name.upper()} {255 * eps:g}", {"accuracy": {**sides, "difference": difference}}
        yield f"{name.upper()}, mean", {"accuracy": attack["mean"]}


def _attention_maps(sweep: Sweep) -> list[Path]:
    return [path for name in MAPS if (path := sweep.folder / name).is_file()]


def _speed(benchmarks: dict[str, dict]) -> dict | None:
    """What of the benchmarks the report shows: training speed, what attention costs, and the operator's time."""
    if not {"training", "cost", "simam_operator"} <= benchmarks.keys():
        return None
    training, cost, operator = (benchmarks[name] for name in ("training", "cost", "simam_operator"))
    figures = []
    for row in training["rows"]:
        if not row["case"].endswith("training"):
            continue
        bars = [(side, values["median"], _colour(side)) for side, values in row["images_per_s"].items()]
        figures.append((row["case"], report_figures.speed_bars(bars, "training images/s, median")))
    commits = dict.fromkeys(_commit(one["environment"]) for one in (training, cost, operator))
    return {"figures": figures, "cost": cost, "operator": operator, "commits": list(commits)}


def _commit(environment: dict) -> str:
    return str(environment["git_commit"])[:7]


def _colour(side: str) -> str:
    if side.startswith("this project"):
        return report_figures.ON
    return report_figures.OFF if side.startswith("PyTorch") else report_figures.MUTED
