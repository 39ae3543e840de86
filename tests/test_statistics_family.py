"""Simultaneous intervals against known laws (one, equal, independent, Dunnett); Benjamini-Hochberg the right way round."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pipeline.statistics.family import Family, Member, benjamini_hochberg
from pipeline.statistics.paired import ClusterSums, Effect


def members(differences, names=None):
    result = []
    for j, d in enumerate(differences):
        labels = [str(i) for i in range(len(d))] if names is None else names[j]
        result.append(Member(Effect(ClusterSums(np.asarray(d, float), np.ones(len(d))), False), labels))
    return result


def test_one_comparison_is_left_as_it_is():
    d = np.random.default_rng(0).standard_normal(40)
    family = Family(members([d]), 1)
    assert family.critical(0.05) == pytest.approx(stats.t.ppf(0.975, 39))
    assert family.local_alpha(0.05) == 0.05
    assert family.adjusted(0.03) == 0.03


def test_a_comparison_with_itself_costs_nothing():
    d = np.random.default_rng(0).standard_normal(200)
    family = Family(members([d, d, -d]), 1)
    assert family.critical(0.05) == pytest.approx(stats.t.ppf(0.975, 199), abs=0.03)


def test_comparisons_on_different_items_are_independent():
    rng = np.random.default_rng(0)
    made = members(rng.standard_normal((4, 2000)), [[f"{j}-{i}" for i in range(2000)] for j in range(4)])
    family = Family(made, 1)
    sidak = stats.norm.ppf(1 - (1 - 0.95**0.25) / 2)
    assert family.critical(0.05) == pytest.approx(sidak, abs=0.02)
    np.testing.assert_array_equal(family.correlation(), np.eye(4))


@pytest.mark.parametrize(("arms", "bound"), [(3, 2.35), (6, 2.57)])
def test_arms_that_share_a_control_get_dunnetts_bound(arms, bound):
    """Equal variances, a common control: correlation 1/2; Dunnett's two-sided 5% points for many degrees of freedom."""
    rng = np.random.default_rng(2)
    control = rng.standard_normal(20_000)
    family = Family(members([rng.standard_normal(20_000) - control for _ in range(arms)]), 1)
    np.testing.assert_allclose(family.correlation()[0, 1:], 0.5, atol=0.02)
    assert family.critical(0.05) == pytest.approx(bound, abs=0.025)


def test_adjusted_p_values_agree_with_the_simultaneous_intervals():
    rng = np.random.default_rng(3)
    made = members(rng.standard_normal((5, 60)) + 0.35)
    family = Family(made, 1)
    local = family.local_alpha(0.05)
    for m in made:
        low, high = m.effect.interval(local)
        assert (family.adjusted(m.effect.p_value()) < 0.05) == (low > 0 or high < 0)
        assert family.adjusted(m.effect.p_value()) >= m.effect.p_value()


def test_the_few_clusters_of_one_member_widen_the_bound():
    rng = np.random.default_rng(4)
    wide = Family(members([rng.standard_normal(12), rng.standard_normal(500)]), 1)
    narrow = Family(members([rng.standard_normal(500), rng.standard_normal(500)]), 1)
    assert wide.critical(0.05) > narrow.critical(0.05) + 0.2


def test_the_same_seed_gives_the_same_bound_and_another_one_nearly_the_same():
    rng = np.random.default_rng(5)
    made = members(rng.standard_normal((3, 100)))
    assert Family(made, 1).critical(0.05) == Family(made, 1).critical(0.05)
    assert Family(made, 1).critical(0.05) == pytest.approx(Family(made, 2).critical(0.05), abs=0.03)


def test_q_values_are_the_running_minimum_from_the_largest_p_downward():
    """By hand: 0.01*4/1, 0.04*4/2 and 0.05*4/3 both capped by 0.05*4/3, 0.9."""
    assert benjamini_hochberg([0.04, 0.9, 0.01, 0.05]) == pytest.approx([0.2 / 3, 0.9, 0.04, 0.2 / 3])
    rng = np.random.default_rng(6)
    p = rng.random(30)
    assert np.all(np.array(benjamini_hochberg(list(p))) >= p)
    assert benjamini_hochberg(list(p)) == stats.false_discovery_control(p).tolist()


def test_a_missing_test_stays_missing_and_does_not_count():
    q = benjamini_hochberg([0.02, float("nan"), 0.04])
    assert q[0] == pytest.approx(0.04) and np.isnan(q[1]) and q[2] == pytest.approx(0.04)


def clustered_members(arms, clusters, size, seed=8):
    """Arms against one control whose items stand in clusters of `size`."""
    rng = np.random.default_rng(seed)
    control = rng.standard_normal((clusters, size))
    names = [str(i) for i in range(clusters)]
    sizes = np.full(clusters, float(size))
    return [
        Member(Effect(ClusterSums((rng.standard_normal((clusters, size)) - control).sum(axis=1), sizes), False), names) for _ in range(arms)
    ]


def test_few_clusters_are_drawn_by_their_signs():
    """By hand: the 95% point of the greatest |t| over sign flips of the clusters' residuals, each flip with a standard error of its own."""
    made = clustered_members(3, 14, 5)
    family = Family(made, 1)
    assert family.wild and "wild cluster bootstrap" in family.method
    signs = np.array(list(np.ndindex(*[2] * 14))) * 2.0 - 1
    t = np.stack([stats.ttest_1samp(signs * m.effect.sums.residual, 0, axis=1).statistic for m in made])
    assert family.critical(0.05) == pytest.approx(np.quantile(np.abs(t).max(axis=0), 0.95), rel=0.01)


def test_uneven_clusters_and_members_with_different_ones_hold_together():
    """Each bound is a level of the member's own t: with fewer clusters the interval is wider than its standard error alone says."""
    rng = np.random.default_rng(9)
    size = rng.integers(1, 12, 30).astype(float)
    few, many = (
        Member(Effect(ClusterSums(size[:g] * rng.standard_normal(g), size[:g]), False), [str(i) for i in range(g)]) for g in (12, 30)
    )
    family = Family([few, many], 1)
    assert family.wild
    local = family.local_alpha(0.05)
    assert 0.01 < local < 0.05
    for m in (few, many):
        low, high = m.effect.interval(local)
        assert (high - low) / 2 == pytest.approx(stats.t.ppf(1 - local / 2, m.effect.df) * m.effect.se)


def test_many_clusters_very_few_and_score_intervals_keep_the_gaussian_multipliers():
    assert not Family(clustered_members(2, 41, 5), 1).wild
    assert not Family(clustered_members(2, 9, 5), 1).wild and np.isfinite(Family(clustered_members(2, 2, 5), 1).critical(0.05))
    names = [str(i) for i in range(30)]
    pairs = [Effect(ClusterSums(np.repeat([1.0, -1.0, 0.0], [won, 6, 24 - won]), np.ones(30)), True) for won in (3, 9)]
    assert pairs[0].score and not Family([Member(e, names) for e in pairs], 1).wild
