"""Statistics of paired differences, in numpy and scipy: intervals, tests, equivalence, calibration, power.

A difference is always "arm minus baseline". `differences` is float [n], one number a seed; `outcomes` is float [seeds,
images]: for each image what one network gained or lost against the baseline's of the same seed (-1, 0 or 1 where right
and wrong are counted).

Several arms against one baseline: each arm's intervals have the level `simultaneous(arms)`, by Bonferroni, so that all
of them hold together with 95 %. That is so however the arms depend on each other (they share the baseline's runs and
the images), for the t interval with each arm's own variance as for the percentiles of a bootstrap, and with another
number of seeds for each arm. Dunnett's or a max-t interval would be narrower, with 4 arms and 5 seeds by 3 %, but
asks for a common variance or for correlations, which five seeds do not tell.
"""

import math

import numpy as np
import scipy  # its parts load when they are used: they take longer than many a command

from simam_repro.evaluation.metrics import softmax

CONFIDENCE = 0.95
LEVEL = 1 - CONFIDENCE
# Differences of accuracy smaller than this are taken for none; written down before any test of equivalence.
MARGIN = 0.005
# Below so many seeds there is no interval over seeds, and nothing is claimed: the spread of two or three differences
# says next to nothing about that of more, and resampling two seeds covers the truth far less often than it says.
FEWEST_SEEDS = 5
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


def simultaneous(arms: int) -> float:
    """The level of each interval when those of so many arms are to hold together with 95 %."""
    return 1 - LEVEL / arms


def tell_about_seeds(differences) -> bool:
    """Whether these differences give an interval over seeds: FEWEST_SEEDS of them, and not all equal."""
    return len(differences) >= FEWEST_SEEDS and bool(sd(differences))


def t_interval(differences, confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """Interval of the mean, mean -+ t(n - 1) sd / sqrt(n); None where `tell_about_seeds` is False."""
    if not tell_about_seeds(differences):
        return None
    half = scipy.stats.t.ppf((1 + confidence) / 2, len(differences) - 1) * sd(differences) / math.sqrt(len(differences))
    mean = float(np.mean(differences))
    return mean - half, mean + half


def prediction_interval(values, confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """Where one more value of the same normal distribution falls, mean -+ t(n - 1) sd sqrt(1 + 1 / n).

    None of fewer than two values, or when all are equal.
    """
    if not sd(values):
        return None
    n = len(values)
    half = scipy.stats.t.ppf((1 + confidence) / 2, n - 1) * sd(values) * math.sqrt(1 + 1 / n)
    return float(np.mean(values)) - half, float(np.mean(values)) + half


def t_p(differences) -> float | None:
    """Two-sided p of the paired t test; None where `t_interval` is None."""
    if not tell_about_seeds(differences):
        return None
    t = np.mean(differences) / (sd(differences) / math.sqrt(len(differences)))
    return float(2 * scipy.stats.t.sf(abs(t), len(differences) - 1))


def bootstrap_interval(
    differences, confidence: float = CONFIDENCE, seed: int = BOOTSTRAP_SEED
) -> tuple[float, float] | None:
    """Percentile interval of the mean, seeds resampled; None where `t_interval` is None.

    It is too narrow for few seeds: with 5 it covers the truth about 84 times in 100 instead of 95 (it takes the
    spread sqrt((n - 1) / n) too small and knows no t distribution). BCa is no better there. So it is shown, and no
    claim rests on it.
    """
    if not tell_about_seeds(differences):
        return None
    found = scipy.stats.bootstrap(
        (np.asarray(differences, float),), np.mean, method="percentile", confidence_level=confidence,
        n_resamples=RESAMPLES, rng=np.random.default_rng(seed),
    )  # fmt: skip
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def resampled_means(outcomes, seed: int = BOOTSTRAP_SEED) -> tuple[np.ndarray, np.ndarray | None]:
    """The mean outcome of RESAMPLES resamples: images resampled, and images and seeds resampled together.

    Each resample draws as many images as there are, the same for both arms and all seeds, since all were measured
    on the same images; for the second it also draws seeds, as pairs (the pigeonhole bootstrap, A. Owen, Annals of
    Applied Statistics 2007). The first holds for these networks only; the second is None where there are too few seeds.
    The interval of the second is on the wide side where the noise of single images dominates, and too narrow, like
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
    return over_images, over_both if seeds >= FEWEST_SEEDS else None


def resampled_splits(outcomes, seed: int = BOOTSTRAP_SEED) -> tuple[np.ndarray, np.ndarray | None]:
    """As `resampled_means`, where each seed was evaluated on images of its own: a split goes with each.

    The second draws seeds, and for each that is drawn as many images of its split as it has: over images, seeds and
    splits. What single images add is in the spread of the seeds already, so that its interval is on the wide side.

    Args:
        outcomes: for each seed float [its images] of -1, 0 and 1.
    """
    rng, seeds = np.random.default_rng(seed), len(outcomes)
    counts = np.array([[np.sum(np.equal(one, value)) for value in (-1, 0, 1)] for one in outcomes])
    images = counts.sum(axis=1)

    def means(drawn: np.ndarray) -> np.ndarray:
        """drawn: int [RESAMPLES, seeds], the seeds of each resample."""
        lost, _, gained = np.moveaxis(rng.multinomial(images[drawn], (counts / images[:, None])[drawn]), -1, 0)
        return ((gained - lost) / images[drawn]).mean(axis=1)

    over_images = means(np.tile(np.arange(seeds), (RESAMPLES, 1)))
    over_both = means(rng.integers(seeds, size=(RESAMPLES, seeds)))
    return over_images, over_both if seeds >= FEWEST_SEEDS else None


def percentile_interval(means, confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """The interval that `resampled_means` give; None of None."""
    if means is None:
        return None
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def percentile_p(means) -> float | None:
    """Two-sided p of no difference from `resampled_means`: the level at which their interval begins to include 0."""
    if means is None:
        return None
    beyond = min(np.sum(means <= 0), np.sum(means >= 0))
    return min(1.0, float(2 * (beyond + 1) / (len(means) + 1)))


def holm(p_values) -> list[float]:
    """p values adjusted for how many there are (Holm, Scandinavian Journal of Statistics 1979), in their order."""
    order = np.argsort(p_values, kind="stable")
    adjusted, largest = np.empty(len(p_values)), 0.0
    for rank, position in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[position]))
        adjusted[position] = largest
    return adjusted.tolist()


def holm_of_known(p_values) -> list[float | None]:
    """`holm` of those that are not None, the others as they are."""
    adjusted = iter(holm([p for p in p_values if p is not None]))
    return [None if p is None else next(adjusted) for p in p_values]


def equivalence(differences, over_both, margin: float = MARGIN, arms: int = 1) -> dict | None:
    """Two one-sided tests at 5 % (TOST; Schuirmann 1987): is the true difference smaller than `margin`?

    It is shown where both intervals, over seeds and over images and seeds, lie within -margin to margin, at the level
    90 % (of two one-sided tests; higher with several arms). None where there is no interval over seeds.

    Args:
        over_both: `resampled_means` of images and seeds; None where they are not known, then `shown` may be, too.
    """
    confidence = 1 - 2 * LEVEL / arms
    over_seeds, both = t_interval(differences, confidence), percentile_interval(over_both, confidence)
    if over_seeds is None:
        return None
    inside = [-margin < low and high < margin for low, high in filter(None, (over_seeds, both))]
    return {
        "margin": margin,
        "confidence": confidence,
        "t_interval": over_seeds,
        "images_and_seeds_interval": both,
        "shown": False if not all(inside) else None if both is None else True,
    }


def effect_size(differences) -> dict[str, float | None]:
    """The mean difference in units of its standard deviation over seeds: Cohen's d of pairs, and Hedges' g.

    g is d times 1 - 3 / (4 (n - 1) - 1), without most of the bias of few seeds. None where `t_interval` is None.
    """
    if not tell_about_seeds(differences):
        return {"d": None, "g": None}
    d = float(np.mean(differences)) / sd(differences)
    return {"d": d, "g": d * (1 - 3 / (4 * (len(differences) - 1) - 1))}


def mcnemar(baseline_right, arm_right) -> dict:
    """Exact McNemar test of two networks on the same images: do they err alike?

    Of the images that exactly one network gets right, each gets half, when both are equally good: a binomial test.
    The mid-p counts what was observed half; it is the less conservative of the two.

    Args:
        baseline_right, arm_right: bool [images].
    Returns:
        {"only_baseline_right", "only_arm_right", "p", "mid_p"}.
    """
    baseline_right, arm_right = np.asarray(baseline_right, bool), np.asarray(arm_right, bool)
    only_baseline, only_arm = int((baseline_right & ~arm_right).sum()), int((arm_right & ~baseline_right).sum())
    few, both = min(only_baseline, only_arm), only_baseline + only_arm
    at_most, exactly = scipy.stats.binom.cdf(few, both, 0.5), scipy.stats.binom.pmf(few, both, 0.5)
    p, mid_p = min(1.0, float(2 * at_most)), float(2 * at_most - exactly)
    return {"only_baseline_right": only_baseline, "only_arm_right": only_arm, "p": p, "mid_p": min(1.0, mid_p)}


def expected_calibration_error(logits, labels, bins: int = ECE_BINS) -> float:
    """How far confidence is from accuracy, 0 to 1: the mean over bins of |accuracy - confidence|, weighed by images.

    The bins of the largest softmax probability are equally wide and open below: (0, 1/15], ..., (14/15, 1]
    (Naeini et al., AAAI 2015; Guo et al., ICML 2017). Few images bias it upwards, all arms alike.

    Args:
        logits: [images, classes].
        labels: int [images].
    """
    probabilities = softmax(logits)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(place, weights=right - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(labels))


def power_of_t_test(difference: float, deviation: float, n: int, confidence: float = CONFIDENCE) -> float:
    """Chance that a two-sided paired t test at 1 - confidence over n seeds finds a true mean `difference`.

    The differences are normal with standard deviation `deviation`. It is the two tails of the noncentral t
    distribution, averaged over 4000 quantiles of the estimated variance (scipy's nct gives NaN for n below 20).
    """
    shift, df = difference / deviation * math.sqrt(n), n - 1
    variance = scipy.stats.chi2.ppf((np.arange(4000) + 0.5) / 4000, df) / df
    critical = scipy.stats.t.ppf((1 + confidence) / 2, df) * np.sqrt(variance)
    return float(np.mean(scipy.stats.norm.sf(critical - shift) + scipy.stats.norm.cdf(-critical - shift)))


def detectable_difference(deviation: float | None, n: int, confidence: float = CONFIDENCE) -> float | None:
    """The true mean difference that n seeds find with 80 % power, two-sided; smaller ones are missed more often.

    None without a standard deviation of the differences, or when it is 0.
    """
    if not deviation or n < 2:
        return None
    # With two seeds the critical t is 12.7, for 12 arms 153: the largest there is.
    shift = scipy.optimize.brentq(
        lambda shift: power_of_t_test(shift, math.sqrt(n), n, confidence) - POWER, 0.1, 10_000
    )
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
