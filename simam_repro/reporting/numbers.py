"""How the numbers of results are printed, the same in README, report and figures."""

from simam_repro.evaluation import statistics, wording


def percent(fraction: float | None, digits: int = 2) -> str:
    return "–" if fraction is None else f"{100 * fraction:.{digits}f} %"


def points(fraction: float | None, digits: int = 2) -> str:
    """A difference of accuracies in points, with its sign."""
    return "–" if fraction is None else wording.points(fraction, digits)


def interval(bounds, digits: int = 2) -> str:
    return wording.interval_text(bounds, decimals=digits)


def plain_interval(bounds) -> str:
    """Of a quantity that is no fraction, such as a loss."""
    return wording.interval_text(bounds, scale=1, decimals=3)


def percent_interval(bounds) -> str:
    """ "98.1 % to 103.0 %", of shares; "none" where there is no interval."""
    if bounds is None:
        return "none"
    return " to ".join(f"{end:.1f} %" for end in wording.outward(bounds, decimals=1))


def ratio_interval(bounds) -> str:
    """ "0.98 to 1.03" """
    return " to ".join(f"{end:.2f}" for end in wording.outward(bounds, scale=1))


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def holm_p(rows, which: str = "final") -> list[float | None]:
    """Of each (comparison, arm) the p of the accuracy's rule, adjusted for all of them that have one."""
    p_values = [None if c["data"]["stand_in"] else arm[which]["difference"]["p"] for c, arm in rows]
    return statistics.holm_of_known(p_values)
