"""Effect sizes, pooling over data sets, Fieller, planning: published and hand-worked values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.power import TTestPower

from pipeline.statistics import planning
from pipeline.statistics.effect_sizes import cliffs_delta, effect_sizes, hodges_lehmann
from pipeline.statistics.paired import ClusterSums, Effect
from pipeline.statistics.pooling import pool, random_effects, reml_tau2
from pipeline.statistics.ratio import fieller, usd_per_correct

# Thirteen trials of the BCG vaccine (Colditz et al. 1994): log risk ratios and variances as in Viechtbauer (2010), J. Stat. Software 36(3).
BCG = np.array([-0.8893, -1.5854, -1.3481, -1.4416, -0.2175, -0.7861, -1.6209, 0.0120, -0.4694, -1.3713, -0.3394, 0.4459, -0.0173])
BCG_V = np.array([0.3256, 0.1946, 0.4154, 0.0200, 0.0512, 0.0069, 0.2230, 0.0040, 0.0564, 0.0730, 0.0124, 0.5325, 0.0714])

grades = st.lists(st.sampled_from([0.0, 0.2, 0.25, 0.5, 1.0]) | st.floats(0, 1).map(lambda x: round(x, 6)), min_size=1, max_size=40)


@settings(max_examples=80, deadline=None)
@given(grades, grades)
def test_hodges_lehmann_and_cliffs_delta_by_brute_force(a, b):
    n = min(len(a), len(b))
    d = np.round(np.array(b[:n]) - np.array(a[:n]), 12)
    walsh = [(d[i] + d[j]) / 2 for i in range(n) for j in range(i, n)]
    assert hodges_lehmann(d) == pytest.approx(np.median(walsh), abs=1e-8)
    assert cliffs_delta(np.array(a), np.array(b)) == pytest.approx(np.mean(np.sign(np.subtract.outer(b, a))))


def test_d_z_is_the_mean_over_the_spread_of_differences():
    found = effect_sizes(np.array([0.0, 0.5, 0.2, 0.4]), np.array([0.5, 0.5, 0.6, 0.4]))
    d = np.array([0.5, 0.0, 0.4, 0.0])
    assert found["d_z"] == pytest.approx(d.mean() / d.std(ddof=1))
    assert "ignores the pairing" in found["remark"]


def test_reml_and_hartung_knapp_on_the_bcg_trials():
    """Viechtbauer (2010): tau^2 0.3132, mean -0.7145; I^2 92.2%; Hartung-Knapp by its definition."""
    found = random_effects(BCG, BCG_V, 0.05)
    assert found["tau2"] == pytest.approx(0.3132, abs=2e-4)
    assert found["effect"] == pytest.approx(-0.7145, abs=2e-4)
    assert found["i2"] == pytest.approx(0.922, abs=1e-3)
    w = 1 / (BCG_V + found["tau2"])
    se = np.sqrt((w * (BCG - found["effect"]) ** 2).sum() / 12 / w.sum())
    assert found["se"] == pytest.approx(se)
    assert found["ci_high"] - found["effect"] == pytest.approx(stats.t.ppf(0.975, 12) * se)


def test_agreeing_data_sets_have_no_variance_between():
    assert reml_tau2(np.array([0.1, 0.11, 0.1, 0.09, 0.1]), np.full(5, 0.01)) == 0
    assert random_effects(np.full(5, 0.1), np.full(5, 0.01), 0.05)["se"] == pytest.approx(np.sqrt(0.01 / 5))


def effects(k, n=40):
    rng = np.random.default_rng(1)
    return [Effect(ClusterSums(rng.standard_normal(n) + 0.2, np.ones(n)), False) for _ in range(k)]


def test_random_effects_only_from_five_data_sets_on():
    few, many = pool(effects(4), 0.05), pool(effects(5), 0.05)
    assert few and few["tau2"] is None and few["method"].startswith("mean of dataset effects")
    assert few["effect"] == pytest.approx(np.mean([e.value for e in effects(4)]))
    assert few["se"] == pytest.approx(np.sqrt(sum(e.se**2 for e in effects(4))) / 4)
    assert many and many["tau2"] is not None
    assert pool(effects(1), 0.05) is None


def test_fieller_ends_are_ratios_that_the_paired_t_test_just_rejects():
    rng = np.random.default_rng(2)
    gain = rng.normal(0.2, 0.5, 80)
    cost = 0.01 + 0.005 * gain + 0.004 * rng.standard_normal(80)
    ones = np.ones(80)
    found = fieller(ClusterSums(cost, ones), ClusterSums(gain, ones), 0.05)
    assert found is not None
    ratio, low, high = found
    assert ratio == pytest.approx(cost.mean() / gain.mean()) and low < ratio < high
    for end in (low, high):
        assert stats.ttest_1samp(cost - end * gain, 0).pvalue == pytest.approx(0.05, abs=1e-9)


def test_fieller_has_no_finite_interval_where_the_effect_may_be_zero():
    rng = np.random.default_rng(3)
    found = usd_per_correct(np.full(50, 0.01), rng.choice([1.0, -1.0], 50), np.arange(50), 0.05)
    assert found["finite"] is False and found["low"] is None and "no finite interval" in found["sentence"]


def test_dollars_per_correct_answer_keep_their_unit():
    gain = np.array([1.0, 0, 1, 0, 1, 1, 0, 1, 1, 1] * 5)
    found = usd_per_correct(np.full(50, 0.002), gain, np.arange(50), 0.05)
    assert found["usd_difference"] == pytest.approx(0.002)
    assert found["ratio"] == pytest.approx(0.002 / 0.7)
    assert found["low"] < found["ratio"] < found["high"]


def test_items_needed_by_hand_and_against_statsmodels():
    """(1.959964 + 0.841621)^2 = 7.8489."""
    assert planning.items_needed(0.05, 0.2) == 628
    assert planning.items_needed(0.05, 0.2, design_effect=1.5) == 942
    solved = TTestPower().solve_power(effect_size=0.05 / 0.2**0.5, alpha=0.05, power=0.8)
    assert planning.items_needed(0.05, 0.2) == pytest.approx(solved, abs=3)
    assert planning.items_needed(0.05, 0.2, critical=2.35) == np.ceil((2.35 + 0.8416212) ** 2 * 0.2 / 0.0025)


def test_binary_items_needed_by_hand():
    """psi 0.2, d 0.1: [1.959964 sqrt(0.2) + 0.841621 sqrt(0.19)]^2 / 0.01 = 154.6."""
    assert planning.items_needed_binary(0.1, 0.2) == 155
    with pytest.raises(ValueError, match=r"discordance between 0\.3 and 1"):
        planning.items_needed_binary(0.3, 0.2)


def test_replicates_only_help_the_part_within_items():
    parts = planning.Components.of(variance=0.25, within=0.2, replicates=1)
    assert parts.between == pytest.approx(0.05)
    assert parts.variance(4) == pytest.approx(0.1)
    assert planning.Components.of(0.1, 0.2, 1).between == 0
    assert planning.Components.of(variance=0.13, within=0.4, replicates=5).between == pytest.approx(0.05)
    assert planning.best_replicates(parts, 1.0, 1.0) == pytest.approx(2)
    assert planning.best_replicates(planning.Components(0.2, 0.05), 1.0, 1.0) == 1
    assert planning.best_replicates(planning.Components(0.2, 0.0), 1.0, 1.0) == 1


def test_power_and_detectable_effect_undo_the_planning():
    n = planning.items_needed(0.05, 0.2)
    assert planning.power_of(n, 0.05, 0.2) == pytest.approx(0.8, abs=0.001)
    assert planning.detectable(n, 0.2) == pytest.approx(0.05, abs=1e-4)


def test_design_effect_and_pilot_variance():
    assert planning.design_effect(10, 0, 0.05) == pytest.approx(1.45)
    assert planning.design_effect(1, 0, 0.5) == 1
    assert planning.upper_variance(0.2, 49) == pytest.approx(0.2 * 49 / stats.chi2.ppf(0.2, 49))
