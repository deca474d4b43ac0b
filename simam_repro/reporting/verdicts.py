"""What is said of a difference, in one word: the same in the text, in the tables and in the colours of the figures."""

from simam_repro.evaluation import statistics, wording
from simam_repro.reporting.numbers import holm_p

SHOWN, NOT_AFTER_HOLM, EQUIVALENT = "shown", "not after Holm", "equivalent"
NOT_SHOWN, NO_INTERVAL = "not shown", "no interval"
# Colour, and what a legend says. No colour stands for good or bad: a loss is shown as well as a gain.
LOOKS = {
    SHOWN: ("#1f6fb4", "an effect is shown: both intervals exclude zero, also adjusted for the number of rows"),
    NOT_AFTER_HOLM: ("#b87800", "both intervals exclude zero, but not adjusted for the number of rows"),
    EQUIVALENT: ("#00857a", "equivalent within the margin"),
    NOT_SHOWN: ("#5a5a5a", "no effect is shown"),
    NO_INTERVAL: ("#8a8a8a", "too few seeds: each seed, no interval"),
}


def verdict(difference: dict, p: float | None) -> str:
    """A key of LOOKS. `p`: of the rule for an effect, adjusted for all rows of the table that it stands in."""
    if not difference["t_interval"]:
        return NO_INTERVAL
    if wording.effect(difference):
        return SHOWN if p is not None and p < statistics.LEVEL else NOT_AFTER_HOLM
    tested = difference["equivalence"]
    return EQUIVALENT if tested and tested["shown"] and not wording.side(difference["t_interval"]) else NOT_SHOWN


def judged(comparisons: list[dict], which: str = "final") -> list[tuple[dict, dict, float | None, str]]:
    """(comparison, arm, p adjusted for all of them, verdict) of each arm's accuracy after the final or best epoch."""
    rows = wording.rows_of(comparisons)
    return [(*row, p, verdict(row[1][which]["difference"], p)) for row, p in zip(rows, holm_p(rows, which))]
