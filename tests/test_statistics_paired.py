"""The paired estimator against scipy, statsmodels and matrices written out; its interval covers as often as it says."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pipeline.statistics.paired import ClusterSums, Effect, robust_variance


def effect_of(difference, cluster=None, binary=False):
    difference = np.asarray(difference, dtype=float)
    cluster = np.arange(len(difference)) if cluster is None else np.asarray(cluster)
    return Effect(ClusterSums.of(difference, cluster), binary)


def test_with_single_items_it_is_the_paired_t_test():
    rng = np.random.default_rng(3)
    a, b = rng.random(60), rng.random(60) + 0.1
    e = effect_of(b - a)
    expected = stats.ttest_rel(b, a)
    interval = expected.confidence_interval(0.95)
    assert e.value == pytest.approx((b - a).mean())
    assert e.p_value() == pytest.approx(expected.pvalue)
    assert e.interval(0.05) == pytest.approx((interval.low, interval.high))
    assert e.df == pytest.approx(59)
    assert e.method == "t (paired)"


def test_with_equal_clusters_it_is_the_liang_zeger_variance_of_statsmodels():
    rng = np.random.default_rng(4)
    cluster = np.repeat(np.arange(50), 4)
    d = rng.standard_normal(200) + rng.standard_normal(50)[cluster]
    fit = sm.OLS(d, np.ones(200)).fit(cov_type="cluster", cov_kwds={"groups": cluster})
    variance, df = robust_variance(ClusterSums.of(d, cluster))
    assert variance == pytest.approx(fit.cov_params()[0, 0])
    assert df == pytest.approx(49)


def test_cr2_and_its_degrees_of_freedom_agree_with_the_matrices_written_out():
    """Pustejovsky & Tipton (2018), eq. 4 and 11, with an intercept only and an identity working matrix."""
    rng = np.random.default_rng(5)
    sizes = [1, 2, 3, 5, 9, 14]
    cluster = np.repeat(np.arange(6), sizes)
    n = len(cluster)
    d = rng.standard_normal(n)
    residual = d - d.mean()
    middle = np.eye(n) - np.ones((n, n)) / n
    variance, columns = 0.0, []
    for g in range(6):
        mine = cluster == g
        values, vectors = np.linalg.eigh(middle[np.ix_(mine, mine)])
        adjust = vectors @ np.diag(values**-0.5) @ vectors.T
        ones = np.ones(mine.sum())
        variance += float(ones @ adjust @ residual[mine]) ** 2 / n**2
        columns.append(middle[:, mine] @ adjust @ ones / n)
    gram = np.array(columns) @ np.array(columns).T
    expected_df = np.trace(gram) ** 2 / np.sum(gram**2)
    assert robust_variance(ClusterSums.of(d, cluster)) == pytest.approx((variance, expected_df))


def test_the_interval_leaves_out_zero_exactly_where_p_is_below_alpha():
    rng = np.random.default_rng(6)
    for n, binary in ((30, True), (30, False), (300, True)):
        for _ in range(40):
            e = effect_of(rng.choice([1.0, -1.0, 0.0], p=[0.25, 0.1, 0.65], size=n), binary=binary)
            low, high = e.interval(0.05)
            assert (e.p_value() < 0.05) == (low > 0 or high < 0)
            low, high = e.interval(0.1)
            assert (e.p_above(-0.05) < 0.05) == (low > -0.05)
            assert (e.p_below(0.05) < 0.05) == (high < 0.05)


def test_tango_takes_over_below_200_items_or_25_discordant_pairs_of_single_answers():
    def made(n, discordant, binary=True):
        return effect_of([1.0, -1.0] * (discordant // 2) + [0.0] * (n - discordant), binary=binary)

    assert made(199, 60).score and made(500, 24).score
    assert not made(200, 26).score
    assert not made(199, 60, binary=False).score
    assert not effect_of([1.0, -1.0] * 30, cluster=np.arange(60) // 2, binary=True).score


def test_no_difference_at_all_is_no_evidence_of_equivalence():
    """Zero variance gives no t interval; the score interval keeps a width without a single discordant pair."""
    e = effect_of(np.zeros(100))
    assert np.isnan(e.interval(0.05)).all() and not e.testable
    low, high = effect_of(np.zeros(50), binary=True).interval(0.05)
    assert low == pytest.approx(-high) and 0.05 < high < 0.1


def test_below_ten_clusters_there_is_no_p_value():
    assert not effect_of([1.0, -1.0, 1.0] * 30, cluster=np.arange(90) % 9).testable
    assert not effect_of([1.0] * 9, binary=True).testable
    assert effect_of(np.arange(40) % 7, cluster=np.arange(40) % 10).testable


def test_warnings_name_few_uneven_and_skewed_data():
    assert "4 clusters" in effect_of([1.0, 0.5, 0.2, 0.1]).warnings[0]
    assert "12 clusters differ" in effect_of([0.5] * 6 + [-0.2] * 6 + [0.0] * 80).warnings[0]
    uneven = effect_of(np.arange(230) % 3 - 1.0, cluster=np.r_[np.arange(30), np.full(200, 30)])
    assert any("unequal size" in w for w in uneven.warnings)
    assert effect_of(np.r_[np.full(40, 0.5), np.full(35, -0.5), np.zeros(100)]).warnings == []


differences = st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0]), min_size=12, max_size=60)


@settings(max_examples=60, deadline=None)
@given(differences, st.integers(1, 4))
def test_swapping_the_arms_flips_the_sign_of_everything(values, size):
    cluster = np.arange(len(values)) // size
    there, back = effect_of(values, cluster), effect_of(np.negative(values), cluster)
    assert back.value == pytest.approx(-there.value)
    np.testing.assert_allclose(back.interval(0.05), np.negative(there.interval(0.05))[::-1], atol=1e-12)
    assert (there.p_value(), there.df) == pytest.approx((back.p_value(), back.df), nan_ok=True)


@settings(max_examples=60, deadline=None)
@given(differences, st.integers(1, 4), st.randoms(use_true_random=False))
def test_the_order_of_items_changes_nothing(values, size, random):
    cluster = np.arange(len(values)) // size
    order = list(range(len(values)))
    random.shuffle(order)
    one, other = effect_of(values, cluster), effect_of(np.array(values)[order], cluster[order])
    np.testing.assert_allclose([one.value, one.se, *one.interval(0.05)], [other.value, other.se, *other.interval(0.05)])


@settings(max_examples=40, deadline=None)
@given(differences)
def test_copies_of_items_within_their_cluster_add_no_information(values):
    """Asked twice with the same result, an item counts as two items of one cluster: same effect, same standard error."""
    n = len(values)
    one, two = effect_of(values), effect_of(values + values, np.r_[np.arange(n), np.arange(n)])
    np.testing.assert_allclose([one.value, one.se, one.df], [two.value, two.se, two.df], atol=1e-12)


def test_twice_the_items_with_the_same_effects_narrow_the_interval_by_the_root_of_two():
    values = [1.0, 0.5, -0.25, 0.0, 0.0, 1.0, -1.0, 0.25] * 40
    one, two = effect_of(values), effect_of(values * 2)
    assert one.se / two.se == pytest.approx(np.sqrt(2), rel=0.01)


def test_a_known_effect_lies_inside_its_95_percent_interval_in_94_to_96_percent_of_2000_analyses():
    """A paired 0/1 experiment with difficulty shared between arms; 2,000 seeds. Three binomial standard errors are 1.5 points."""
    n, effect, inside = 400, 0.08, 0
    for seed in range(2000):
        rng = np.random.default_rng([77, seed])
        chance = rng.uniform(0.1, 0.8, n)
        d = (rng.random(n) < chance + effect) * 1.0 - (rng.random(n) < chance)
        low, high = effect_of(d, binary=True).interval(0.05)
        inside += low <= effect <= high
    assert 0.94 <= inside / 2000 <= 0.96
