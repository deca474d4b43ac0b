"""results/report.html, in each language a file: what was measured, how sure it is, and how to measure it again."""

import re
from collections.abc import Callable
from pathlib import Path

import jinja2
import numpy as np
from markupsafe import Markup, escape

from simam_repro.data import sets
from simam_repro.evaluation import published, wording
from simam_repro.evaluation.statistics import FEWEST_SEEDS
from simam_repro.models import backbones
from simam_repro.reporting import gallery, numbers, report_figures
from simam_repro.reporting.first_screen import answer_lines
from simam_repro.reporting.forest import Row, forest_figure, forest_strip, limits_of
from simam_repro.reporting.inline_svg import DARK, inline_svg, variable
from simam_repro.reporting.languages import LANGUAGES, Language
from simam_repro.reporting.like_published import like_published
from simam_repro.reporting.results import BENCHMARKS, RESULTS, Sweep, read_benchmarks, read_sweeps
from simam_repro.reporting.verdicts import LOOKS, NO_INTERVAL, judged
from simam_repro.storage import write_text

TEMPLATES = Path(__file__).parent / "templates"
# The full recipes, for a GPU: command, what, and the time to expect. None has been run: the times are the
# FLOPs (forward and backward: 3 times `make summary`'s) at 2 TFLOP/s, a tenth of what such GPUs can do at most.
FULL_RECIPES = (
    ("make sweep-caltech-towernet", "TowerNet, Caltech101-16, 256 pixels, 100 epochs, 5 seeds, off and on", "1 h"),
    ("make sweep-cifar-alexnet", "AlexNet, CIFAR-10, 128 pixels, 50 epochs, 5 seeds, off and on", "2 h"),
)
GALLERIES = {"predictions": (gallery.NAME,), "maps": ("attention_maps.png", "grad_cam.png")}


def write_report(folder: Path, results: Path = RESULTS, benchmarks: Path = BENCHMARKS) -> list[Path]:
    """Write the report on the sweeps below `results` and the benchmarks, a file for each language; returns them."""
    sweeps, measured = read_sweeps(results), read_benchmarks(benchmarks)
    paths = []
    for language in LANGUAGES.values():
        paths.append(Path(folder) / language.page)
        write_text(paths[-1], _page(sweeps, measured, language))
    return paths


def _page(sweeps: list[Sweep], benchmarks: dict[str, dict], language: Language) -> str:
    comparisons = [(sweep, comparison) for sweep in sweeps for comparison in sweep.comparisons]
    rows = judged([comparison for _, comparison in comparisons])
    comparisons.sort(key=lambda one: not any(arm["n"] >= FEWEST_SEEDS for arm in one[1]["arms"]))
    return _environment(language).get_template("report.html").render(
        language=language,
        others=[other for other in LANGUAGES.values() if other is not language],
        dark=DARK,
        variable=variable,
        answer=[_inline(line) for line in answer_lines(sweeps, language.code)],
        groups={enough: _groups(rows, enough, language) for enough in (True, False)},
        verdicts=[found for found in LOOKS if any(found == row[3] for row in rows)],
        experiments=[(one, _measured(rows, one)) for one in published.EXPERIMENTS],
        filters=_filters(comparisons),
        comparisons=[_comparison(sweep, comparison, rows, language) for sweep, comparison in comparisons],
        recipes=recipe_rows(sweeps),
        robustness=[_robustness(sweep, one, language) for sweep in sweeps if sweep.robustness
                    for one in sweep.robustness["comparisons"]],
        galleries={what: _gallery(sweeps, names) for what, names in GALLERIES.items()},
        speed=_speed(benchmarks, language),
        published=published,
        full_recipes=FULL_RECIPES,
        fewest_seeds=FEWEST_SEEDS,
        looks=LOOKS,
        rule=language.say(wording.RULE),
        no_interval=NO_INTERVAL,
        exploratory=any(comparison.get("exploratory") for _, comparison in comparisons),
        like_published=like_published(sweeps),
        sweeps=sweeps,
    )  # fmt: skip


def _environment(language: Language) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.i18n"],
    )  # fmt: skip
    environment.policies["ext.i18n.trimmed"] = True
    environment.install_gettext_callables(language.say, _no_plural, newstyle=True)
    environment.filters.update(say=language.say, title_text=language.title, number=language.number)
    for how in (numbers.percent, numbers.points, numbers.interval, numbers.plain_interval, numbers.percent_interval,
                numbers.ratio_interval, numbers.duration):  # fmt: skip
        environment.filters[how.__name__] = _in(language, how)
    return environment


def _in(language: Language, how: Callable[..., str]) -> Callable[..., str]:
    return lambda *values: language.number(how(*values))


def _no_plural(*_):
    raise NotImplementedError("the report's phrases have no plural forms")


def _inline(line: str) -> Markup:
    """A line of Markdown as HTML: bold stays, a link goes with its brackets: the page is to be read by itself."""
    text = re.sub(r" ?[(（]\[[^]]*\]\([^)]*\)[)）]", "", line.removeprefix("- "))
    return Markup(re.sub(r"\*\*(.*?)\*\*", r"<strong>\1</strong>", str(escape(text))))


def facets(comparison: dict, arms: list[dict]) -> dict[str, list[str]]:
    """What the filters choose by: the titles of data set, network and modules."""
    name = comparison["backbone"]
    return {
        "data_set": [sets.title(comparison["data"]["name"])],
        "network": [backbones.load(name).title if name in backbones.names() else name],
        "module": sorted({arm["title"].partition(" (")[0] for arm in arms}),
    }


def _filters(comparisons) -> dict[str, list[str]]:
    found: dict[str, set] = {"data_set": set(), "network": set(), "module": set()}
    for _, comparison in comparisons:
        for facet, values in facets(comparison, comparison["arms"]).items():
            found[facet].update(values)
    return {facet: sorted(values) for facet, values in found.items()}


def _groups(rows, enough: bool, language: Language) -> list[dict]:
    """The rows of each comparison that have an interval, or those that have none, and their strip of the forest."""
    drawn = {
        id(arm): _forest_row(c, arm, found, language) for c, arm, _, found in rows if (found != NO_INTERVAL) == enough
    }
    limits, groups = limits_of([*drawn.values()]), []
    for comparison in {id(c): c for c, arm, _, _ in rows if id(arm) in drawn}.values():
        own = [
            {"arm": arm, "p": p, "verdict": found, **facets(comparison, [arm])}
            for c, arm, p, found in rows
            if c is comparison and id(arm) in drawn
        ]
        strip = forest_strip([drawn[id(row["arm"])] for row in own], report_figures.WIDTH, limits)
        arms = [row["arm"] for row in own]
        groups.append(
            {"comparison": comparison, "rows": own, "strip": inline_svg(strip, _alt(comparison, own, language)),
             **facets(comparison, arms)}
        )  # fmt: skip
    return groups


def _alt(comparison: dict, rows: list[dict], language: Language) -> str:
    told = [
        f"{row['arm']['title']} {numbers.points(row['arm']['final']['difference']['mean'])}, "
        f"{language.say(LOOKS[row['verdict']][1])}"
        for row in rows
    ]
    return f"{language.title(comparison['title'])}: {'; '.join(told)}"


def _forest_row(comparison: dict, arm: dict, found: str, language: Language) -> Row:
    name = arm["title"]
    if not wording.is_plain(comparison):
        name = language.say("{} against {}").format(name, comparison["baseline"]["title"])
    return Row(f"{name}, n\u00a0=\u00a0{arm['n']}", arm["final"]["difference"], found)


def _comparison(sweep: Sweep, comparison: dict, rows, language: Language) -> dict:
    arms, baseline = comparison["arms"], comparison["baseline"]
    seeds = sorted({seed for arm in arms for seed in arm["seeds"]})
    records = {arm["title"]: sweep.records(arm["name"], arm.get("seeds", seeds)) for arm in (baseline, *arms)}
    records = {title: runs for title, runs in records.items() if runs}
    wall = [*arms[0]["wall_s"]["baseline"], *(seconds for arm in arms for seconds in arm["wall_s"]["arm"])]
    own = [
        {"arm": arm, "verdict": found, "sentence": language.outcome(comparison, arm)}
        for one, arm, _, found in rows
        if one is comparison
    ]
    drawn = [_forest_row(comparison, row["arm"], row["verdict"], language) for row in own]
    title, say = language.title(comparison["title"]), language.say
    forest = forest_figure(drawn, report_figures.WIDTH, say)
    return {
        "sweep": sweep,
        "comparison": comparison,
        "arms": own,
        "level": language.level(len(arms)),
        "forest": inline_svg(forest, _alt(comparison, own, language)),
        "curves": records and inline_svg(
            report_figures.curves(records, say), say("Accuracy over epochs of {}").format(title)
        ),
        "wall_s": sum(wall),
        **facets(comparison, arms),
    }  # fmt: skip


def _measured(rows, experiment: dict) -> list[tuple[dict, dict]]:
    """(comparison, arm) of what was published: that module on that network and data set."""
    return [
        (c, arm) for c, arm, _, _ in rows
        if (c["backbone"], c["data"]["name"], arm["attention"]["name"])
        == (experiment["backbone"], experiment["data_set"], published.MODULE) and wording.is_plain(c)
    ]  # fmt: skip


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


def _robustness(sweep: Sweep, comparison: dict, language: Language) -> dict:
    levels = sweep.robustness["levels"]
    figure = report_figures.robustness(comparison, levels, language.say)
    entry = sweep.comparisons[0]
    return {
        "sweep": sweep,
        "title": language.title(entry["title"]),
        "comparison": comparison,
        "sentence": language.robustness(comparison),
        "images": sweep.robustness["images"],
        "checkpoint": sweep.robustness["checkpoint"],
        "levels": levels,
        "rows": list(_robustness_rows(comparison)),
        "figure": inline_svg(figure, language.say("Accuracy by the severity of corruptions and the budget of attacks")),
        **facets(entry, [comparison["arm"]]),
    }


def _robustness_rows(comparison: dict):
    """(kind, name, {"accuracy": as in robustness.json}) of the clean images, corruptions, their mean, attacks."""
    yield "clean images", "", comparison["clean"]
    for name, entry in comparison.get("corruptions", {}).items():
        yield "", name.replace("_", " "), entry["accuracy"]
    if "mean_corruption" in comparison:
        yield "mean of the corruptions", "", comparison["mean_corruption"]
    for name, attack in comparison["attacks"].items():
        for i, (eps, difference) in enumerate(zip(attack["eps"], attack["difference"])):
            sides = {side: {"mean": np.mean([seed[i] for seed in attack[side]])} for side in ("baseline", "arm")}
            yield "", f"{name.upper()} {255 * eps:g}/255", {**sides, "difference": difference}
        yield "mean of", name.upper(), attack["mean"]


def _gallery(sweeps: list[Sweep], names) -> list[dict]:
    """The pictures of this name that the sweeps' folders hold."""
    found = [(sweep, sweep.folder / name) for sweep in sweeps for name in names if (sweep.folder / name).is_file()]
    return [
        {"sweep": sweep, "name": path.stem, "source": report_figures.picture(path), "title": entry["title"],
         **facets(entry, entry["arms"])}
        for sweep, path in found for entry in sweep.comparisons[:1]
    ]  # fmt: skip


def _speed(benchmarks: dict[str, dict], language: Language) -> dict | None:
    """What of the benchmarks the report shows: training speed, what attention costs, and the operator's time."""
    if not {"training", "cost", "simam_operator"} <= benchmarks.keys():
        return None
    training, cost, operator = (benchmarks[name] for name in ("training", "cost", "simam_operator"))
    unit, figures = language.say("training images/s, median"), []
    for row in training["rows"]:
        if not row["case"].endswith("training"):
            continue
        bars = [(side, values["median"], _colour(side)) for side, values in row["images_per_s"].items()]
        figures.append((row["case"], inline_svg(report_figures.speed_bars(bars, unit), f"{row['case']}: {unit}")))
    commits = dict.fromkeys(_commit(one["environment"]) for one in (training, cost, operator))
    return {"figures": figures, "cost": cost, "operator": operator, "commits": list(commits)}


def _commit(environment: dict) -> str:
    return str(environment["git_commit"])[:7]


def _colour(side: str) -> str:
    if side.startswith("this project"):
        return report_figures.ON
    return report_figures.OFF if side.startswith("PyTorch") else report_figures.MUTED
