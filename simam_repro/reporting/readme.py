"""The table of results in the READMEs, from the same files as the report."""

from pathlib import Path

from simam_repro.errors import UserError
from simam_repro.reporting.report import interval, percent, points
from simam_repro.reporting.results import RESULTS, read_sweeps
from simam_repro.storage import write_text

BEGIN, END = "<!-- results: written by `make report` -->", "<!-- end of results -->"
HEAD = ("what", "n", "off", "on", "on minus off (points)", "95 % over seeds (t)", "95 % over images and seeds")


def results_table(results: Path = RESULTS) -> str:
    """A line for each comparison (final epoch, accuracy on the eval images), and what they were measured on."""
    pairs = [(sweep, comparison) for sweep in read_sweeps(results) for comparison in sweep.comparisons]
    rows = [HEAD, ("---",) * len(HEAD), *(_row(f"results/{sweep.name}", comparison) for sweep, comparison in pairs)]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, "", *dict.fromkeys(_measured_on(comparison) for _, comparison in pairs)]).strip()


def _measured_on(comparison: dict) -> str:
    hardware, versions = comparison["hardware"], comparison["versions"]
    return (
        f"{hardware['gpu'] or hardware['cpu']}, {hardware['threads']} thread(s) a run; Paddle {versions['paddle']}, "
        f"numpy {versions['numpy']}, Python {versions['python']}."
    )


def _row(folder: str, comparison: dict) -> tuple[str, ...]:
    final = comparison["final"]
    title = f"[{comparison['title']}]({folder})"
    sides = [
        percent(final[half]["mean"]) + (f" ± {100 * final[half]['sd']:.2f}" if comparison["n"] > 1 else "")
        for half in ("off", "on")
    ]
    difference = final["difference"]
    intervals = (interval(difference[name]) for name in ("t_interval", "images_and_seeds_interval"))
    return (title, str(comparison["n"]), *sides, points(difference["mean"]), *intervals)


def with_table(text: str, table: str) -> str:
    """The README's text with its table replaced. Raises UserError without the two markers."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise UserError(f"a README has lost the lines {BEGIN} and {END}; put them back where the table belongs")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def update_readme(readme: Path, results: Path = RESULTS) -> None:
    write_text(readme, with_table(readme.read_text(encoding="utf-8"), results_table(results)))
