"""Statistics of paired differences, in numpy and scipy: intervals, tests, calibration, power.

A difference is always "on minus off". `differences` is float [n], one number a seed; `outcomes` is float [seeds,
images]: for each image what one network gained or lost against its other half (-1, 0 or 1 where right and wrong
are counted).
"""

import math

import numpy as np
from scipy import stats
from scipy.optimize import brentq

from simam_repro.evaluation.metrics import softmax

CONFIDENCE = 0.95
POWER = 0.80
ECE_BINS = 15
RESAMPLES = 5000
BOOTSTRAP_SEED = 0
# Differences closer to each other than this differ by rounding only.
ROUNDING = 1e-12


def sd(values) -> float | None:
    """Standard deviation with n - 1; None of fewer than two values. 0.0 where they differ by rounding only."""
    if len(values) < 2:
        return None
    return float(np.std(values, ddof=1)) if np.ptp(values) > ROUNDING else 0.0


def t_interval(differences) -> tuple[float, float] | None:
    """95 % interval of the mean, mean -+ t(n - 1) sd / sqrt(n); None of fewer than two or of equal differences."""
    if not sd(differences):
        return None
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(differences) - 1) * sd(differences) / math.sqrt(len(differences))
    mean = float(np.mean(differences))
    return mean - half, mean + half


def t_p(differences) -> float | None:
    """Two-sided p of the paired t test; None where `t_interval` is None."""
    if not sd(differences):
        return None
    t = np.mean(differences) / (sd(differences) / math.sqrt(len(differences)))
    return float(2 * stats.t.sf(abs(t), len(differences) - 1))


def bootstrap_interval(differences, seed: int = BOOTSTRAP_SEED) -> tuple[float, float] | None:
    """95 % percentile interval of the mean, seeds resampled; None where `t_interval` is None.

    It is too narrow for few seeds: with 5 it covers the truth about 84 times in 100 instead of 95 (it takes the
    spread sqrt((n - 1) / n) too small and knows no t distribution). BCa is no better there. So it is shown, and no
    claim rests on it.
    """
    if not sd(differences):
        return None
    found = stats.bootstrap(
        (np.asarray(differences, float),), np.mean, method="percentile", confidence_level=CONFIDENCE,
        n_resamples=RESAMPLES, rng=np.random.default_rng(seed),
    )  # fmt: skip
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def image_intervals(outcomes, seed: int = BOOTSTRAP_SEED) -> tuple[tuple, tuple | None]:
    """95 % percentile intervals of the mean outcome: images resampled, and images and seeds resampled together.

    Each resample draws as many images as there are, the same for both halves and all seeds, since all were measured
    on the same images; for the second interval it also draws seeds, as pairs (the pigeonhole bootstrap, A. Owen,
    Annals of Applied Statistics 2007). The first holds for these networks only; the second is None with one seed.
    The second is on the wide side where the noise of single images dominates, and too narrow, like
    `bootstrap_interval`, where the seeds do: a claim should rest on the t interval, too.

    Args:
        outcomes: float [seeds, images].
    """
    outcomes = np.asarray(outcomes, float)
    seeds, images = outcomes.shape
    rng = np.random.default_rng(seed)
    over_images, over_both = np.empty((2, RESAMPLES))
    of_image = outcomes.mean(axis=0)
    drawn_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES) / seeds
    at_once = max(1, 16_384 // images)  # arrays that fit into a cache
    for start in range(0, RESAMPLES, at_once):
        these = slice(start, start + at_once)
        drawn = rng.integers(images, size=(len(drawn_seeds[these]), images), dtype=np.int32)
        over_images[these] = of_image[drawn].mean(axis=1)
        over_both[these] = np.take_along_axis(drawn_seeds[these] @ outcomes, drawn, axis=1).mean(axis=1)
    return _percentiles(over_images), _percentiles(over_both) if seeds > 1 else None


def _percentiles(values) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def mcnemar(off_right, on_right) -> dict:
    """Exact McNemar test of two networks on the same images: do they err alike?

    Of the images that exactly one half gets right, each half gets half, when both are equally good: a binomial test.
    The mid-p counts what was observed half; it is the less conservative of the two.

    Args:
        off_right, on_right: bool [images].
    Returns:
        {"only_off_right", "only_on_right", "p", "mid_p"}.
    """
    off_right, on_right = np.asarray(off_right, bool), np.asarray(on_right, bool)
    return mcnemar_of_counts(int((off_right & ~on_right).sum()), int((on_right & ~off_right).sum()))


def mcnemar_of_counts(only_off: int, only_on: int) -> dict:
    """`mcnemar` of the two counts."""
    few, both = min(only_off, only_on), only_off + only_on
    at_most, exactly = stats.binom.cdf(few, both, 0.5), stats.binom.pmf(few, both, 0.5)
    p, mid_p = min(1.0, float(2 * at_most)), float(2 * at_most - exactly)
    return {"only_off_right": only_off, "only_on_right": only_on, "p": p, "mid_p": min(1.0, mid_p)}


def expected_calibration_error(logits, labels, bins: int = ECE_BINS) -> float:
    """How far confidence is from accuracy, 0 to 1: the mean over bins of |accuracy - confidence|, weighed by images.

    The bins of the largest softmax probability are equally wide and open below: (0, 1/15], ..., (14/15, 1]
    (Naeini et al., AAAI 2015; Guo et al., ICML 2017). Few images bias it upwards, both halves alike.

    Args:
        logits: [images, classes].
        labels: int [images].
    """
    probabilities = softmax(logits)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(place, weights=right - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(labels))


def power_of_t_test(difference: float, deviation: float, n: int) -> float:
    """Chance that a two-sided paired t test at 5 % over n seeds finds a true mean `difference`.

    The differences are normal with standard deviation `deviation`. It is the two tails of the noncentral t
    distribution, averaged over 4000 quantiles of the estimated variance (scipy's nct gives NaN for n below 20).
    """
    shift, df = difference / deviation * math.sqrt(n), n - 1
    variance = stats.chi2.ppf((np.arange(4000) + 0.5) / 4000, df) / df
    critical = stats.t.ppf((1 + CONFIDENCE) / 2, df) * np.sqrt(variance)
    return float(np.mean(stats.norm.sf(critical - shift) + stats.norm.cdf(-critical - shift)))


FEWEST_FOR_POWER = 5  # seeds; the standard deviation of fewer differences says next to nothing about that of more


def detectable_difference(deviation: float | None, n: int) -> float | None:
    """The true mean difference that n seeds find with 80 % power, two-sided 5 %; smaller ones are missed more often.

    None without a standard deviation of the differences, or when it is 0.
    """
    if not deviation or n < 2:
        return None
    # With two seeds the critical t is 12.7, the largest there is.
    shift = brentq(lambda shift: power_of_t_test(shift, math.sqrt(n), n) - POWER, 0.1, 100)
    return float(shift * deviation / math.sqrt(n))


def seeds_needed(difference: float, deviation: float | None) -> int | None:
    """The fewest seeds that find a true mean `difference` with 80 % power; None as `detectable_difference`."""
    if not deviation:
        return None
    enough = 2
    while power_of_t_test(difference, deviation, enough) < POWER:
        enough *= 2
    too_few = enough // 2  # less than 2 seeds are none
    while enough - too_few > 1:
        middle = (enough + too_few) // 2
        if power_of_t_test(difference, deviation, middle) < POWER:
            too_few = middle
        else:
            enough = middle
    return enough
