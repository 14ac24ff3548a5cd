"""Worked values, and simulations that show what the intervals and tests are worth."""

import math

import numpy as np
import pytest

from benchmarks.reading import stats
from benchmarks.reading.power import detectable_difference


def test_the_mean_is_over_prompts_not_over_images():
    # Prompt a: (0 + 1) / 2 = 0.5; prompt b: 2; prompt c: 3.5. Mean 2.0, sd of (0.5, 2, 3.5) = 1.5.
    result = stats.estimate([0.0, 1.0, 2.0, 3.5], ["a", "a", "b", "c"])
    assert result.mean == pytest.approx(2.0)
    assert result.stderr == pytest.approx(1.5 / math.sqrt(3))
    assert result.prompts == 3
    assert result.ci_low < 2.0 < result.ci_high


def test_the_mean_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="no scores"):
        stats.estimate([], [])
    for function in (stats.bootstrap_interval, stats.sign_flip_p, stats.win_rate):
        with pytest.raises(ValueError, match="no prompts"):
            function([])


def test_a_score_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="not finite"):
        stats.estimate([1.0, math.nan], ["a", "b"])
    with pytest.raises(ValueError, match="do not go with"):
        stats.estimate([1.0, 2.0], ["a"])


def test_strata_weigh_the_same_however_many_prompts_they_have():
    # (0, 1): mean 0.5, error sqrt(1/2) / sqrt(2) = 0.5. (1, 2, 3): mean 2, error 1 / sqrt(3).
    result = stats.estimate_strata([[0.0, 1.0], [1.0, 2.0, 3.0]])
    assert result.mean == pytest.approx(1.25)
    assert result.stderr == pytest.approx(math.sqrt(0.5**2 + 1 / 3) / 2)
    assert result.prompts == 5
    assert result.ci_low < 1.25 < result.ci_high


def test_one_stratum_is_an_estimate_and_a_stratum_of_one_prompt_claims_no_certainty():
    values = [0.0, 1.0, 4.0, 2.0]
    one, whole = stats.estimate_strata([values]), stats.estimate(values, list("abcd"))
    assert (one.mean, one.stderr, one.interval) == (whole.mean, whole.stderr, stats.FEW_PROMPTS)
    assert (one.ci_low, one.ci_high) == pytest.approx((whole.ci_low, whole.ci_high))
    assert math.isnan(stats.estimate_strata([values, [1.0]]).ci_low)
    assert math.isnan(stats.estimate_strata([values, [1.0]]).stderr)
    with pytest.raises(ValueError, match="no strata"):
        stats.estimate_strata([])
    with pytest.raises(ValueError, match="no prompts"):
        stats.estimate_strata([values, []])


def test_the_interval_of_strata_covers_the_truth_about_as_often_as_it_says(monkeypatch):
    monkeypatch.setattr(stats, "RESAMPLES", 1000)
    generator = np.random.default_rng(5)
    chances = (0.9, 0.5, 0.3)
    hits = 0
    for _ in range(100):
        strata = [
            generator.binomial(4, chance, size=size) / 4 for chance, size in zip(chances, (40, 60, 80), strict=True)
        ]
        result = stats.estimate_strata(strata)
        hits += result.ci_low <= np.mean(chances) <= result.ci_high
    assert 88 <= hits <= 99


def test_one_prompt_claims_no_certainty():
    result = stats.compare_pairs([0.0, 0.0], [1.0, 1.0], ["a", "a"])
    assert result.delta == 1.0
    assert math.isnan(result.stderr)
    assert math.isnan(result.ci_low)
    assert math.isnan(result.ci_high)
    assert result.p == 1.0  # both signs of one number are equally far from zero


def test_nothing_depends_on_the_order_of_rows():
    generator = np.random.default_rng(3)
    scores = generator.normal(size=60)
    prompts = [f"p{i % 12}" for i in range(60)]
    order = generator.permutation(60)
    assert stats.estimate(scores, prompts) == stats.estimate(scores[order], [prompts[i] for i in order])


def test_bootstrap_of_two_prompts_by_hand():
    # Resampled means of (0, 1) are 0, 0.5, 1 with probabilities 1/4, 1/2, 1/4: the 2.5 % and 97.5 % points are 0 and 1.
    assert stats.bootstrap_interval([0.0, 1.0]) == (0.0, 1.0)
    # At level 0.4 the points are at 30 % and 70 %, both inside the half that sits on 0.5.
    assert stats.bootstrap_interval([0.0, 1.0], level=0.4) == (0.5, 0.5)


def test_bootstrap_interval_is_that_of_the_normal_for_many_prompts():
    values = np.random.default_rng(0).normal(size=4000)
    low, high = stats.bootstrap_interval(values, resamples=2000)
    half = 1.96 * values.std(ddof=1) / math.sqrt(4000)
    assert low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_memory_bound_changes_no_number(monkeypatch):
    values = np.random.default_rng(1).normal(size=37)
    whole = (*stats.bootstrap_interval(values), stats.sign_flip_p(values))
    assert list(stats._chunks(stats.RESAMPLES, 37)) == [10_000]
    monkeypatch.setattr(stats, "CHUNK_ELEMENTS", 37 * 64)
    assert len(list(stats._chunks(stats.RESAMPLES, 37))) == 157
    assert (*stats.bootstrap_interval(values), stats.sign_flip_p(values)) == whole


def test_sign_flip_by_hand():
    # Four equal differences: |sum| is as large as observed only if all four signs agree, 2 of 16 ways.
    assert stats.sign_flip_p([1.0, 1.0, 1.0, 1.0]) == 2 / 16
    # (3, 1): all four sign patterns give |4| or |2|; 2 of 4 reach 4.
    assert stats.sign_flip_p([3.0, 1.0]) == 0.5
    # Thirteen prompts have 8,192 ways and are counted out; fourteen have 16,384, more than are flipped.
    assert stats.sign_flip_p(np.ones(13)) == 2 / 2**13
    assert stats.sign_flip_p(np.ones(14)) == pytest.approx(2 / 2**14, abs=3e-4)
    # Equal despite rounding: 0.1 + 0.2 - 0.3 is not exactly 0, yet every flip must count as at least as extreme.
    assert stats.sign_flip_p([0.1, 0.2, -0.3]) == 1.0
    assert stats.sign_flip_p([0.0, 0.0]) == 1.0


def test_p_is_never_zero():
    assert stats.sign_flip_p(np.ones(100)) == pytest.approx(1 / 10_001)


def test_holm_by_hand():
    # Sorted 0.01 * 3 = 0.03, 0.03 * 2 = 0.06, 0.04 * 1 = 0.04 but never below its predecessor: 0.06.
    assert stats.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert stats.holm([0.5, 0.9]) == [1.0, 1.0]
    assert stats.holm([0.2]) == [0.2]
    assert stats.holm([]) == []


def test_win_rate_counts_ties_half():
    assert stats.win_rate([0.5, 0.0, -1.0, 2.0]) == 0.625
    assert stats.win_rate([0.0, 0.0]) == 0.5
    assert stats.win_rate([0.1 + 0.2 - 0.3, 1.0]) == 0.75  # 5.6e-17 is a tie


def test_a_pair_by_hand():
    # Prompt a: base (0, 1), run (1, 1): +0.5. Prompt b: base 0.2, run 0.4: +0.2. Prompt c: no change.
    result = stats.compare_pairs([0.0, 1.0, 0.2, 0.7], [1.0, 1.0, 0.4, 0.7], ["a", "a", "b", "c"])
    assert result.base_mean == pytest.approx((0.5 + 0.2 + 0.7) / 3)
    assert result.run_mean == pytest.approx((1.0 + 0.4 + 0.7) / 3)
    assert result.delta == pytest.approx(0.7 / 3)
    deviations = [0.5 - 0.7 / 3, 0.2 - 0.7 / 3, 0.0 - 0.7 / 3]
    assert result.stderr == pytest.approx(math.sqrt(sum(d * d for d in deviations) / 2 / 3))
    assert result.win_rate == pytest.approx(2.5 / 3)
    assert result.differing == 2


class Simulated:
    """Intervals and p-values of many simulated trials at once; value_TP holds a trial a row, a prompt a column.

    Every call of `stats` draws the same resamples and flips (seed 0), so those of all trials are two matrix products.
    That these are the numbers of `stats` is checked on some trials each time.
    """

    def __init__(self, value_TP, resamples=1000, flips=999):
        trials, prompts = value_TP.shape
        drawn_RP = np.random.default_rng(stats.SEED).integers(0, prompts, size=(resamples, prompts))
        weight_RP = np.stack([np.bincount(row, minlength=prompts) for row in drawn_RP]) / prompts
        self.low_T, self.high_T = np.percentile(weight_RP @ value_TP.T, [2.5, 97.5], axis=0)
        heads_FP = np.random.default_rng(stats.SEED).integers(0, 2, size=(flips, prompts), dtype=np.int8)
        total_T = value_TP.sum(axis=1)
        flipped_FT = np.abs(2 * (heads_FP.astype(np.float64) @ value_TP.T) - total_T)
        extreme_T = np.abs(total_T) - stats.ROUNDING * np.abs(value_TP).sum(axis=1)
        self.p_T = (1 + (flipped_FT >= extreme_T).sum(axis=0)) / (1 + flips)
        for trial in range(0, trials, trials // 3):
            found = stats.bootstrap_interval(value_TP[trial], resamples=resamples)
            assert found == pytest.approx((self.low_T[trial], self.high_T[trial]), rel=1e-9, abs=1e-12)
            assert stats.sign_flip_p(value_TP[trial], flips=flips) == self.p_T[trial]

    def coverage(self, truth):
        return float(((self.low_T <= truth) & (truth <= self.high_T)).mean())


def upper_bound(share, trials):
    """What a true rate of `share` exceeds in `trials` trials once in a thousand times."""
    return share + 3.1 * math.sqrt(share * (1 - share) / trials)


def prompt_means_of(design, generator, trials, prompts, seeds=4):
    """Means over the seeds of each prompt, and their true mean; prompts differ much more than seeds do."""
    shape = (trials, prompts, 1)
    noise = generator.normal(0, 0.5, size=(trials, prompts, seeds))
    if design == "normal":
        return (generator.normal(0, 1.2, size=shape) + noise).mean(axis=2), 0.0
    if design == "skewed":
        return (generator.gamma(2.0, 0.5, size=shape) + noise).mean(axis=2), 1.0
    chance = generator.beta(0.6, 0.4, size=shape)  # words that are read or not: prompts are easy or hopeless
    return generator.binomial(seeds, chance)[..., 0] / seeds, 0.6


@pytest.mark.parametrize("design", ["normal", "skewed", "yes or no"])
def test_the_interval_covers_the_truth_as_often_as_it_says(design):
    """DrawBench's 200 prompts by four seeds: in 2,000 trials the truth lies inside 93 to 97 times in 100."""
    values, truth = prompt_means_of(design, np.random.default_rng(11), 2000, 200)
    assert 0.93 <= Simulated(values).coverage(truth) <= 0.97


def test_a_bootstrap_over_few_prompts_is_a_little_too_narrow():
    """20 prompts cover about 92 in 100, never as little as 88; with fewer the interval is another one."""
    values, truth = prompt_means_of("normal", np.random.default_rng(14), 2000, 20)
    assert 0.88 <= Simulated(values).coverage(truth) <= 0.95


def test_images_taken_as_independent_would_cover_far_too_seldom():
    """The mistake that clustering by prompt prevents: the same data, each image for itself."""
    generator = np.random.default_rng(15)
    images = generator.normal(0, 1.2, size=(500, 100, 1)) + generator.normal(0, 0.5, size=(500, 100, 4))
    assert Simulated(images.reshape(500, 400), flips=99).coverage(0.0) < 0.8
    assert Simulated(images.mean(axis=2), flips=99).coverage(0.0) > 0.92


@pytest.mark.parametrize("spread", ["normal", "heavy tails", "mostly ties", "unequal prompts"])
def test_equal_models_are_told_apart_no_more_often_than_announced(spread):
    """2,000 pairs of equally good models over 100 prompts: at most 5 % have p below 0.05, give or take chance."""
    generator = np.random.default_rng(12)
    shape = (2000, 100)
    delta = {
        "normal": lambda: generator.normal(size=shape),
        "heavy tails": lambda: generator.standard_t(3, size=shape),
        "mostly ties": lambda: generator.choice([-1.0, 0.0, 1.0], p=[0.1, 0.8, 0.1], size=shape),
        "unequal prompts": lambda: generator.normal(size=shape) * generator.gamma(1.0, 1.0, size=(1, 100)),
    }[spread]()
    trials = Simulated(delta)
    assert (trials.p_T < 0.05).mean() <= upper_bound(0.05, 2000)
    assert (trials.p_T < 0.05).mean() >= 0.03  # and it is not blunt
    assert 0.93 <= trials.coverage(0.0) <= 0.97


def test_a_table_of_equal_models_shows_a_difference_in_at_most_one_of_twenty():
    """Five rewards that agree in part, as judges of one image do: Holm and the verdict over a whole table."""
    from benchmarks.reading.compare import NO_DIFFERENCE, judge

    generator = np.random.default_rng(16)
    tables, prompts, rewards = 500, 100, 5
    common = generator.normal(size=(tables, prompts, 1))
    delta = 0.6 * common + 0.8 * generator.normal(size=(tables, prompts, rewards))
    trials = Simulated(delta.transpose(0, 2, 1).reshape(tables * rewards, prompts))
    shown = 0
    for table in range(tables):
        rows = range(table * rewards, (table + 1) * rewards)
        adjusted = stats.holm([trials.p_T[row] for row in rows])
        intervals = [(trials.low_T[row], trials.high_T[row]) for row in rows]
        verdicts = [
            judge(stats.Difference(0, 0, 0, 0, low, high, p, 0.5, prompts, stats.BOOTSTRAP, prompts), p, True)
            for (low, high), p in zip(intervals, adjusted, strict=True)
        ]
        shown += any(verdict != NO_DIFFERENCE for verdict in verdicts)
    assert shown / tables <= upper_bound(0.05, tables)
    assert (trials.p_T.reshape(tables, rewards) < 0.05).any(axis=1).mean() > 0.12  # without Holm it would be more


def test_the_power_line_keeps_its_word():
    """Where the true difference is 2.8 standard errors, about 80 of 100 trials find it."""
    generator = np.random.default_rng(17)
    prompts, spread = 200, 0.38
    truth = detectable_difference(spread / math.sqrt(prompts), prompts, 1, 0.05)
    assert truth is not None
    found = Simulated(truth + generator.normal(0, spread, size=(2000, prompts))).p_T < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.03)


def test_the_margin_is_granted_to_no_more_than_one_in_forty_that_lose_it():
    """Runs that truly lose exactly the margin: the interval's lower end lies above it 2.5 times in 100."""
    generator = np.random.default_rng(18)
    trials = Simulated(-0.05 + generator.normal(0, 0.3, size=(2000, 200)))
    assert (trials.low_T > -0.05).mean() <= upper_bound(0.03, 2000)


def test_pairing_finds_what_unpaired_means_hide():
    """A gain of 0.05 under a prompt spread of 1.2, as in the specification: the paired stderr is about a third."""
    generator = np.random.default_rng(13)
    difficulty = generator.normal(0, 1.2, size=(200, 1))
    noise = generator.normal(0, 0.5, size=(200, 5))
    base = difficulty + noise
    run = base + 0.05 + generator.normal(0, 0.8, size=(200, 5))
    names = [f"p{i}" for i in range(200) for _ in range(5)]
    paired = stats.compare_pairs(base.ravel(), run.ravel(), names)
    unpaired = math.hypot(stats.estimate(base.ravel(), names).stderr, stats.estimate(run.ravel(), names).stderr)
    assert paired.stderr < unpaired / 3
