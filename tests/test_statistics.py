"""Statistics of paired differences, against numbers worked out by hand and against simulated data."""

import math

import numpy as np
import pytest

from simam_repro.evaluation import statistics
from simam_repro.evaluation.statistics import (
    bootstrap_interval,
    detectable_difference,
    equivalence,
    expected_calibration_error,
    holm,
    mcnemar,
    percentile_interval,
    percentile_p,
    power_of_t_test,
    resampled_means,
    sd,
    seeds_needed,
    simultaneous,
    t_interval,
    t_p,
)


def test_t_interval_by_hand():
    # Mean 3, sd sqrt(10 / 4), standard error sqrt(2.5 / 5), t(0.975, 4) = 2.776445 from a printed table.
    low, high = t_interval([1, 2, 3, 4, 5])
    assert sd([1, 2, 3, 4, 5]) == pytest.approx(1.5811388)
    assert (low, high) == pytest.approx((3 - 2.776445 * math.sqrt(0.5), 3 + 2.776445 * math.sqrt(0.5)), rel=1e-6)
    # t = 3 / sqrt(0.5); with 4 degrees of freedom p = 1 - s (1 + (1 - s^2) / 2), where s = t / sqrt(t^2 + 4).
    s = 3 / math.sqrt(0.5) / math.sqrt(22)
    assert t_p([1, 2, 3, 4, 5]) == t_p([-1, -2, -3, -4, -5]) == pytest.approx(1 - s * (1 + (1 - s * s) / 2))


def test_what_one_seed_or_equal_differences_do_not_tell():
    assert sd([0.1]) is None and sd([0.1, 0.1]) == 0.0
    # 0.8 - 0.7 and 0.3 - 0.2 differ by rounding only.
    alike = [0.8 - 0.7, 0.3 - 0.2, 0.1, 0.1, 0.1]
    for differences in ([0.1], [0.1] * 5, alike, [0.1, 0.2, 0.3, 0.4]):  # the last: too few
        assert t_interval(differences) is t_p(differences) is bootstrap_interval(differences) is None
    assert detectable_difference(None, 1) is detectable_difference(0.0, 5) is None
    assert seeds_needed(0.01, None) is seeds_needed(0.01, 0.0) is None
    over_images, over_both = map(percentile_interval, resampled_means([[1, 0, 0, -1]]))
    assert over_both is None and over_images[0] < 0 < over_images[1]
    assert equivalence([0.1], None) is percentile_p(None) is None


def coverage(interval, experiments: int, n: int = 5, truth: float = 0.3) -> float:
    """The share of simulated experiments, n normal differences each, whose interval covers the true mean."""
    draws = np.random.default_rng(1).normal(truth, 2.0, (experiments, n))
    return np.mean([low <= truth <= high for low, high in map(interval, draws)])


def test_t_interval_covers_the_truth_as_often_as_it_says():
    assert coverage(t_interval, 2000) == pytest.approx(0.95, abs=0.015)


def test_bootstrap_over_few_seeds_covers_less_than_it_says(monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 1000)
    assert coverage(bootstrap_interval, 600) == pytest.approx(0.84, abs=0.04)
    assert coverage(bootstrap_interval, 300, n=30) == pytest.approx(0.94, abs=0.03)


def test_bootstrap_interval_by_hand(monkeypatch):
    monkeypatch.setattr(statistics, "FEWEST_SEEDS", 3)
    # Of the 27 resamples of three, one is all 0 and one all 10: 3.7 % each, more than the 2.5 % beyond an end.
    assert bootstrap_interval([0.0, 1.0, 10.0]) == pytest.approx((0.0, 10.0))


def simulated_outcomes(rng, images: int, luck: float) -> np.ndarray:
    """Images of different difficulty, for some of which SimAM is better; seeds of different luck. Mean 0.

    On minus off [5 seeds, images], -1, 0 or 1.
    """
    difficulty, gain = rng.normal(1.5, 2.0, images), rng.normal(0, 0.3, images)
    off, on = (
        rng.random((5, images)) < 1 / (1 + np.exp(-(ability + rng.normal(0, luck, (5, 1)))))
        for ability in (difficulty - gain / 2, difficulty + gain / 2)
    )
    return on.astype(float) - off


@pytest.mark.parametrize(
    "images, luck, expected",
    [
        (365, 0.0, (0.97, 1.00)),  # single images' noise alone: too careful
        (365, 0.2, (0.92, 0.99)),  # as much from the seeds: as it says
        (1000, 0.5, (0.80, 0.93)),  # nearly all from 5 seeds: too narrow, the t interval holds there
    ],
)
def test_coverage_over_images_and_seeds(images, luck, expected, monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 300)
    rng = np.random.default_rng(2)
    intervals = [
        percentile_interval(resampled_means(simulated_outcomes(rng, images, luck), seed=n)[1]) for n in range(250)
    ]
    share = np.mean([low <= 0 <= high for low, high in intervals])
    assert expected[0] <= share <= expected[1]


def simulated_arms(rng, images: int, luck: float, gain: float, arms: int) -> list[np.ndarray]:
    """Of each arm [5 seeds, images], -1, 0 or 1: no arm is better on average over all images and seeds.

    An arm helps with some images and harms with others (standard deviation `gain`, of log odds); every run has its
    luck. All arms share the baseline's runs and the images' difficulty.
    """
    difficulty = rng.normal(1.5, 2.0, images)

    def right(ability) -> np.ndarray:
        return rng.random((5, images)) < 1 / (1 + np.exp(-(ability + rng.normal(0, luck, (5, 1)))))

    baseline = right(difficulty).astype(float)
    return [right(difficulty + rng.normal(0, gain, images)) - baseline for _ in range(arms)]


def claims(outcomes, seed: int, arms: int) -> tuple[bool, bool]:
    """Whether the interval over seeds excludes the true 0, and whether both do: a false claim by the rule."""
    confidence = simultaneous(arms)
    over_seeds = t_interval(outcomes.mean(axis=1), confidence)
    over_both = percentile_interval(resampled_means(outcomes, seed)[1], confidence)
    sides = [int(low > 0) - int(high < 0) for low, high in (over_seeds or (0, 0), over_both)]
    return sides[0] != 0, sides[0] != 0 and sides[0] == sides[1]


@pytest.mark.parametrize(
    "images, luck, gain, arms",
    [(365, 0.0, 1.0, 1), (365, 0.2, 1.0, 1), (365, 0.2, 0.3, 1), (365, 0.5, 0.3, 1), (365, 0.0, 1.0, 4)],
)
def test_how_often_an_effect_is_claimed_where_there_is_none(images, luck, gain, arms, monkeypatch):
    """What `wording.RULE` says: of all arms of an experiment together, too. With 1000 experiments: 0.2 to 5.7 %."""
    monkeypatch.setattr(statistics, "RESAMPLES", 300)
    rng, experiments = np.random.default_rng(1), 200 if arms == 1 else 60
    false = np.zeros(2)
    for number in range(experiments):
        false += np.any([claims(one, number, arms) for one in simulated_arms(rng, images, luck, gain, arms)], axis=0)
    by_seeds_alone, by_the_rule = false / experiments
    assert by_the_rule <= 0.08  # 6 %, and two standard errors of it
    if (luck, arms) == (0.0, 1):
        assert 0.12 < by_seeds_alone < 0.24 and by_the_rule < 0.5 * by_seeds_alone


def test_intervals_of_several_arms_hold_together():
    """The t intervals of four arms against one baseline, which share its runs: all of them in 95 of 100 experiments."""
    rng = np.random.default_rng(4)
    truth, experiments = np.array([0.0, 0.5, -1.0, 2.0]), 500
    together = alone = 0
    for _ in range(experiments):
        differences = truth[:, None] + rng.normal(0, 1, (4, 5)) - rng.normal(0, 1, 5)
        covered = [
            [low <= mean <= high for (low, high), mean in zip((t_interval(row, level) for row in differences), truth)]
            for level in (simultaneous(4), 0.95)
        ]
        together, alone = together + all(covered[0]), alone + all(covered[1])
    assert together / experiments == pytest.approx(0.954, abs=0.02)
    assert alone / experiments < 0.90  # what the correction is for


def test_holm_by_hand():
    # The smallest times 4, the next times 3, ...; never below the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.6]) == [1.0, 1.0] and holm([]) == [] and holm([0.2]) == [0.2]


def test_p_over_images_and_seeds_is_where_its_interval_ends_at_zero():
    outcomes = simulated_arms(np.random.default_rng(8), 300, 0.2, 0.3, 1)[0] + 0.06
    _, means = resampled_means(outcomes)
    p = percentile_p(means)
    assert 0.001 < p < 0.2
    assert percentile_interval(means, 1 - p - 0.01)[0] > 0 > percentile_interval(means, 1 - p + 0.01)[0]
    assert percentile_p(np.ones(999)) == 2 / 1000 and percentile_p(np.zeros(999)) == 1.0


def test_equivalence_by_hand():
    # Mean 0, sd 0.001, n 5: 90 % interval -+ 2.131847 * 0.001 / sqrt(5) = 0.000953.
    differences = 0.001 * np.array([-1, -1, 0, 1, 1])
    narrow, wide = np.linspace(-0.001, 0.001, 1000), np.linspace(-0.01, 0.01, 1000)
    tested = equivalence(differences, narrow, margin=0.005)
    assert tested["t_interval"] == pytest.approx((-0.000953, 0.000953), abs=1e-6)
    assert tested["confidence"] == pytest.approx(0.9) and tested["shown"] is True
    assert equivalence(differences, wide, margin=0.005)["shown"] is False  # the images do not allow it
    assert equivalence(differences, narrow, margin=0.0009)["shown"] is False
    assert equivalence(differences, None, margin=0.005)["shown"] is None
    assert equivalence(differences, None, margin=0.0009)["shown"] is False
    assert equivalence(differences, narrow, arms=4)["confidence"] == pytest.approx(0.975)


def test_all_seeds_are_resampled_on_the_same_images():
    # The same outcomes with every seed: five seeds know no more about the images than one.
    row = np.random.default_rng(3).integers(-1, 2, 400).astype(float)
    half_width = 1.96 * row.std() / math.sqrt(400)
    for low, high in map(percentile_interval, resampled_means(np.tile(row, (5, 1)))):
        assert (low, high) == pytest.approx((row.mean() - half_width, row.mean() + half_width), abs=0.06 * half_width)


def test_seeds_are_resampled_as_whole_pairs():
    # All images alike: what varies is the seeds, as in the bootstrap over seeds.
    differences = np.array([0.3, -0.1, 0.2, 0.5, 0.05, -0.3, 0.12, 0.4])
    means = resampled_means(np.repeat(differences[:, None], 50, axis=1))
    over_images, over_both = map(percentile_interval, means)
    assert over_images == pytest.approx((differences.mean(),) * 2)
    assert over_both == pytest.approx(bootstrap_interval(differences), abs=0.015)


def test_splits_are_resampled_with_images_of_their_own():
    """Over images: the spread of a mean of independent means, by hand. Over both: the seeds' spread beside it."""
    outcomes = [np.repeat([-1.0, 0.0, 1.0], counts) for counts in ((5, 30, 15), (2, 20, 8), (9, 50, 11))]
    over_images, over_both = statistics.resampled_splits([*outcomes, *outcomes])
    deviation = np.sqrt(2 * sum(one.var() / len(one) for one in outcomes)) / 6
    assert over_images.std() == pytest.approx(deviation, rel=0.05)
    assert over_images.mean() == pytest.approx(np.mean([one.mean() for one in outcomes]), abs=0.003)
    between = np.var([one.mean() for one in outcomes]) / 6
    assert over_both.std() == pytest.approx(np.sqrt(deviation**2 + between), rel=0.05)
    assert statistics.resampled_splits(outcomes)[1] is None  # too few


def test_mcnemar_by_hand():
    off = np.array([1] * 8 + [0] * 2 + [1] * 5 + [0] * 3, bool)
    on = np.array([0] * 8 + [1] * 2 + [1] * 5 + [0] * 3, bool)
    # 2 of 10 or fewer, both tails: 2 (1 + 10 + 45) / 1024; the mid-p counts the 45 once less.
    expected = {"only_baseline_right": 8, "only_arm_right": 2, "p": 112 / 1024, "mid_p": 67 / 1024}
    assert mcnemar(off, on) == pytest.approx(expected)
    assert mcnemar(on, off) == pytest.approx({**expected, "only_baseline_right": 2, "only_arm_right": 8})
    assert mcnemar(off, off) == {"only_baseline_right": 0, "only_arm_right": 0, "p": 1.0, "mid_p": 1.0}
    # 3 of 6: both tails share the middle.
    even = mcnemar([1] * 3 + [0] * 3, [0] * 3 + [1] * 3)
    assert even["p"] == 1.0 and even["mid_p"] == pytest.approx(1.0)


def logits_for(confidence, classes=2) -> np.ndarray:
    """Logits whose softmax gives class 0 these probabilities."""
    confidence = np.asarray(confidence, float)
    return np.stack([np.log(confidence / (1 - confidence)), np.zeros_like(confidence)], axis=1)


def test_calibration_error_by_hand():
    # 0.95, 0.95 (one right): |1 - 1.9|; 0.55, 0.55 (both right): |2 - 1.1|; of 4 images.
    error = expected_calibration_error(logits_for([0.95, 0.95, 0.55, 0.55]), np.array([0, 1, 0, 0]))
    assert error == pytest.approx((0.9 + 0.9) / 4)
    # Bins are open below: of two, 0.5 belongs to the lower and 0.6 to the upper.
    logits = np.array([[0, 0], [math.log(1.5), 0]])
    assert expected_calibration_error(logits, np.array([1, 0]), bins=2) == pytest.approx((0.5 + 0.4) / 2)
    assert expected_calibration_error(np.array([[90.0, 0], [90, 0]]), np.array([0, 0])) == pytest.approx(0)


def test_calibration_error_of_a_calibrated_network_is_small():
    rng = np.random.default_rng(4)
    confidence = rng.uniform(0.5, 1, 50_000)
    labels = (rng.random(50_000) > confidence).astype(int)
    assert expected_calibration_error(logits_for(confidence), labels) < 0.01
    assert expected_calibration_error(logits_for(1 - (1 - confidence) / 2), labels) == pytest.approx(0.125, abs=0.01)


@pytest.mark.parametrize("n, difference", [(2, 8.0), (5, 1.5), (20, 0.6)])
def test_power_is_how_often_the_test_finds_the_difference(n, difference):
    draws = np.random.default_rng(5).normal(difference, 1, (20_000, n))
    t = draws.mean(axis=1) / (draws.std(axis=1, ddof=1) / math.sqrt(n))
    critical = {2: 12.7062, 5: 2.7764, 20: 2.0930}[n]  # printed table of t
    assert power_of_t_test(difference, 1.0, n) == pytest.approx(np.mean(np.abs(t) > critical), abs=0.01)


def test_power_without_a_difference_is_the_level():
    assert power_of_t_test(0.0, 1.0, 5) == pytest.approx(0.05, abs=1e-4)


def test_detectable_difference():
    for n in (2, 3, 5, 12):
        found = detectable_difference(0.02, n)
        assert power_of_t_test(found, 0.02, n) == pytest.approx(0.80, abs=1e-6)
        assert seeds_needed(found * 1.0001, 0.02) == n
    # Many seeds: the normal distribution's (1.95996 + 0.84162) sd / sqrt(n).
    assert detectable_difference(0.02, 5000) == pytest.approx(2.80158 * 0.02 / math.sqrt(5000), rel=1e-3)


def test_seeds_needed():
    assert seeds_needed(10.0, 0.001) == 2
    # About ((1.95996 + 0.84162) 0.01 / 0.00069)^2 = 1649, and t wants some two more.
    assert seeds_needed(0.00069, 0.01) == pytest.approx(1651, abs=2)
    for difference in (0.3, 0.37, 0.5, 0.55, 0.8, 1.3, 2.0):
        needed = seeds_needed(difference, 1.0)
        assert power_of_t_test(difference, 1.0, needed) >= 0.80 > power_of_t_test(difference, 1.0, needed - 1)
