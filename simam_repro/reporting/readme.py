"""The table of results in the READMEs, from the same files as the report."""

import html
import re
from pathlib import Path
from urllib.parse import quote

from simam_repro.errors import UserError
from simam_repro.evaluation.statistics import FEWEST_SEEDS
from simam_repro.evaluation.wording import RULE, baseline_text, rows_of
from simam_repro.reporting.report import holm_p, interval, percent, points
from simam_repro.reporting.results import RESULTS, read_sweeps
from simam_repro.storage import write_text

BEGIN, END = "<!-- results: written by `make report` -->", "<!-- end of results -->"
HEAD = (
    "what", "arm", "n", "baseline", "arm", "difference (points)", "95 % over seeds (t)", "95 % over images and seeds",
    "p (Holm)",
)  # fmt: skip


def results_table(results: Path = RESULTS) -> str:
    """A line for each arm (final epoch, accuracy on the eval images), and what they were measured on."""
    sweeps = read_sweeps(results)
    rows = [(sweep, *row) for sweep in sweeps for row in rows_of(sweep.comparisons)]
    p_values = holm_p([row[1:] for row in rows])
    table = [HEAD, ("---",) * len(HEAD), *(_row(*row, p) for row, p in zip(rows, p_values))]
    lines = ["| " + " | ".join(row) + " |" for row in table]
    notes = [*dict.fromkeys(_measured_on(comparison) for _, comparison, _ in rows), *_notes(rows, p_values)]
    return "\n".join([*lines, "", *notes]).strip()


def _measured_on(comparison: dict) -> str:
    hardware, versions = comparison["hardware"], comparison["versions"]
    return (
        f"{hardware['gpu'] or hardware['cpu']}, {hardware['threads']} thread(s) a run; Paddle {versions['paddle']}, "
        f"numpy {versions['numpy']}, Python {versions['python']}."
    )


def _notes(rows, p_values) -> list[str]:
    """What the columns mean, as far as there is something in them."""
    tested = sum(p is not None for p in p_values)
    kept = [sweep.name for sweep, *_ in rows if not sweep.recomputable]
    notes = [RULE, f"p is of that rule, adjusted for the table's {tested} rows that have one (Holm)."] if tested else []
    few = sorted({arm["n"] for _, _, arm in rows if 1 < arm["n"] < FEWEST_SEEDS})
    if few:
        counts = " or ".join(map(str, few))
        notes.append(f"Rows of {counts} seeds have no interval and make no claim: that takes {FEWEST_SEEDS}.")
    if kept:
        notes.append(
            f"Not recomputable, for their runs' predictions were not kept: {', '.join(dict.fromkeys(kept))}; "
            f"their p is approximate, from the intervals."
        )
    return notes


def _row(sweep, comparison: dict, arm: dict, p: float | None) -> tuple[str, ...]:
    final = arm["final"]
    against = baseline_text(comparison)
    sides = [
        percent(final[side]["mean"]) + (f" ± {100 * final[side]['sd']:.2f}" if arm["n"] > 1 else "")
        for side in ("baseline", "arm")
    ]
    difference = final["difference"]
    intervals = (interval(difference[name]) for name in ("t_interval", "images_and_seeds_interval"))
    return (
        f"[{as_text(comparison['title'])}]({quote(f'results/{sweep.name}')})",
        as_text(arm["title"]) + ("" if against == "without attention" else f", against that {against}"),
        str(arm["n"]),
        *sides,
        points(difference["mean"]),
        *intervals,
        "none" if p is None else f"{p:.3f}",
    )


def as_text(name: str) -> str:
    """A name for a cell of a table: nothing in it is HTML, ends a link or the cell, or reads as a marker."""
    text = html.escape(" ".join(name.split()), quote=False)
    return re.sub(r"[|\[\]]", lambda sign: f"&#{ord(sign[0])};", text)


def with_table(text: str, table: str) -> str:
    """The README's text with its table replaced. Raises UserError without the two markers."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise UserError(f"a README has lost the lines {BEGIN} and {END}; put them back where the table belongs")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def update_readme(readme: Path, results: Path = RESULTS) -> None:
    write_text(readme, with_table(readme.read_text(encoding="utf-8"), results_table(results)))
