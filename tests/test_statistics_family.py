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
