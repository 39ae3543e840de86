"""Sign flips against scipy's exact permutation test, bootstrap-t against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pipeline.statistics.paired import ClusterSums, Effect
from pipeline.statistics.proportions import mcnemar
from pipeline.statistics.resampling import bootstrap_t, sign_flip


def rng():
    return np.random.default_rng(8)


def sums(difference, cluster=None):
    difference = np.asarray(difference, float)
    return ClusterSums.of(difference, np.arange(len(difference)) if cluster is None else np.asarray(cluster))


def test_few_clusters_are_enumerated_and_agree_with_scipy():
    d = np.array([0.5, 1.0, -0.25, 0.75, 0.5, 1.0, -0.5, 0.25, 0.3, 0.9])
    found = sign_flip(sums(d), 5000, rng())
    t = lambda x: stats.ttest_1samp(x, 0).statistic  # noqa: E731
    expected = stats.permutation_test(
        (d,), lambda x: abs(t(x)), permutation_type="samples", n_resamples=np.inf, alternative="greater", vectorized=False
    )
    assert found is not None and found.exact and found.resamples == 1024
    assert found.p_value == pytest.approx(expected.pvalue)


def test_on_single_answers_it_is_exact_mcnemar():
    found = sign_flip(sums([1.0] * 9 + [-1.0] * 2 + [0.0] * 60), 5000, rng())
    assert found is not None and found.exact
    assert found.p_value == pytest.approx(mcnemar(9, 2)[0])


def test_with_five_clusters_p_cannot_fall_below_two_in_32():
    found = sign_flip(sums(np.ones(50) + np.arange(50) / 100, np.arange(50) % 5), 5000, rng())
    assert found is not None and found.p_value == 2 / 32


def test_p_is_never_zero():
    found = sign_flip(sums(np.ones(200)), 999, rng())
    assert found is not None and not found.exact and found.p_value == 1 / 1000


def test_unequal_clusters_are_studentised():
    """Against a plain loop over sign patterns that recomputes the statistic each time."""
    generator = np.random.default_rng(1)
    cluster = np.repeat(np.arange(10), [1, 2, 3, 9, 1, 4, 2, 8, 5, 6])
    d = generator.standard_normal(len(cluster)) + 0.2
    s = sums(d, cluster)

    def t(total):
        residual = total - s.size * total.sum() / s.items
        return abs(total.sum()) / np.sqrt((residual**2).sum())

    signs = 2 * ((np.arange(1024)[:, None] >> np.arange(10)) & 1) - 1
    expected = np.mean([t(s.total * e) >= t(s.total) - 1e-9 for e in signs])
    found = sign_flip(s, 5000, rng())
    assert found is not None and found.p_value == pytest.approx(expected)
    assert expected != pytest.approx(np.mean([abs((s.total * e).sum()) >= abs(s.total.sum()) - 1e-9 for e in signs]))


@pytest.mark.parametrize("kind", ["few values", "many values", "clusters"])
def test_many_clusters_agree_with_drawing_every_sign(kind):
    generator = np.random.default_rng(2)
    d = {"few values": generator.choice([1.0, -1.0, 0.0], 400, p=[0.3, 0.22, 0.48]), "many values": generator.standard_normal(400) + 0.08,
         "clusters": generator.standard_normal(400) + 0.08}[kind]  # fmt: skip
    s = sums(d, np.sort(generator.integers(0, 120, 400)) if kind == "clusters" else None)
    signs = generator.choice([-1.0, 1.0], (20_000, s.clusters))
    total = signs * s.total
    effect = total.sum(axis=1) / s.items
    t = np.abs(effect) / np.sqrt(((total - s.size * effect[:, None]) ** 2).sum(axis=1))
    expected = np.mean(t >= abs(s.effect) / np.sqrt((s.residual**2).sum()) - 1e-12)
    found = sign_flip(s, 20_000, rng())
    assert found is not None and found.p_value == pytest.approx(expected, abs=4 * np.sqrt(expected / 10_000))


def test_nothing_to_flip_is_no_test():
    assert sign_flip(sums(np.zeros(30)), 999, rng()) is None
    assert bootstrap_t(sums(np.full(30, 0.5)), 999, 0.05, rng()) is None


@pytest.mark.parametrize("kind", ["few values", "many values", "clusters"])
def test_bootstrap_t_agrees_with_drawing_every_index(kind):
    generator = np.random.default_rng(3)
    d = {"few values": generator.choice([1.0, -0.25, 0.0], 150, p=[0.1, 0.3, 0.6]), "many values": generator.exponential(1, 150),
         "clusters": generator.exponential(1, 400)}[kind]  # fmt: skip
    s = sums(d, np.sort(generator.integers(0, 60, 400)) if kind == "clusters" else None)
    draws = generator.integers(0, s.clusters, (20_000, s.clusters))
    total, size = s.total[draws], s.size[draws]
    effect = total.sum(axis=1) / size.sum(axis=1)
    se = np.sqrt(((total - size * effect[:, None]) ** 2).sum(axis=1)) / size.sum(axis=1)
    low_t, high_t = np.quantile((effect - s.effect) / se, [0.025, 0.975])
    own = np.sqrt((s.residual**2).sum()) / s.items
    found = bootstrap_t(s, 20_000, 0.05, rng())
    assert found is not None
    assert (found.low, found.high) == pytest.approx((s.effect - high_t * own, s.effect - low_t * own), abs=0.1 * own)


def test_it_leans_with_the_skew_that_t_ignores():
    d = np.random.default_rng(4).exponential(1, 60)
    found, (low, high) = bootstrap_t(sums(d), 5000, 0.05, rng()), Effect(sums(d), False).interval(0.05)
    assert found is not None and found.high > high and found.low > low


def test_the_seed_decides_and_swapping_arms_keeps_the_permutation():
    d = np.random.default_rng(5).standard_normal(300)
    assert sign_flip(sums(d), 999, rng()) == sign_flip(sums(d), 999, rng()) == sign_flip(sums(-d), 999, rng())
    assert bootstrap_t(sums(d), 999, 0.05, rng()) == bootstrap_t(sums(d), 999, 0.05, rng())
