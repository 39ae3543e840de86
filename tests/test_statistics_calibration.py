"""The simulated truth of the calibration is the truth, and the benchmark fails where a method does."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import calibration, known_effect
from benchmarks.simulate import binary, clustered, f1_like, replicated, singles, totals
from pipeline.statistics.paired import Effect


@pytest.mark.parametrize("effect", [0.0, 0.05])
@pytest.mark.parametrize("make", [lambda d: binary(0.2, d), lambda d: f1_like(0.4, d), lambda d: replicated(3, d)])
def test_populations_have_the_effect_they_claim(make, effect):
    population = make(effect)
    assert population.probabilities.sum() == pytest.approx(1) and population.probabilities.min() >= 0
    assert population.effect == pytest.approx(effect, abs=1e-9)
    drawn = np.array([t.sum() / 200 for t in totals(population, singles(200), 4000, np.random.default_rng(1))])
    assert drawn.mean() == pytest.approx(effect, abs=4 * np.sqrt(population.variance / 200 / 4000))
    assert drawn.var() == pytest.approx(population.variance / 200, rel=0.1)


def test_replicates_average_the_noise_away():
    """Within-item variance of both arms is 2 E[p(1-p)] = 1/3 at Beta(1, 1), and nothing else varies under the null."""
    assert replicated(1).variance == pytest.approx(1 / 3)
    assert replicated(4).variance == pytest.approx(1 / 12)


def test_clusters_have_the_correlation_they_claim():
    """Var(S) of a cluster of m is m v (1 + (m - 1) rho)."""
    population, design = binary(0.3, 0.1), clustered(200, 20, 0.2)
    drawn = np.concatenate(list(totals(population, design, 3000, np.random.default_rng(2))))
    assert drawn.var() == pytest.approx(10 * population.variance * (1 + 9 * 0.2), rel=0.03)


def test_the_benchmark_prints_its_tables(capsys, tmp_path):
    path = tmp_path / "tables.json"
    assert calibration.main(["--quick", "--runs", "150", "--only", "power", "--json", str(path)]) == 0
    assert "### Power at the planned number of items" in capsys.readouterr().out
    (table,) = json.loads(path.read_text("utf-8"))
    assert len(table["rows"]) == 6 and all(len(r) == len(table["columns"]) for r in table["rows"])


def test_an_interval_that_is_too_narrow_fails_the_benchmark(monkeypatch, capsys):
    proper = Effect.interval
    monkeypatch.setattr(Effect, "interval", lambda self, alpha: proper(self, 3 * alpha))
    monkeypatch.setattr(calibration, "grid", lambda quick: [(lambda d: binary(0.2, d), 0.05, singles(100))])
    assert calibration.main(["--runs", "400", "--only", "single"]) == 1
    assert "!" in capsys.readouterr().out


def test_the_simulated_effect_is_found_by_the_whole_path(capsys):
    assert known_effect.main(["--runs", "12"]) == 0
    assert "12 analyses of the bundled sample" in capsys.readouterr().out


def test_an_effect_that_is_not_found_fails_the_benchmark(monkeypatch):
    monkeypatch.setattr(known_effect, "interval", lambda folder, seed, accuracy: (0.13, 0.2, True))
    assert known_effect.main(["--runs", "200"]) == 1


def test_scores_of_simulated_answers_are_right_as_often_as_the_prompt_is(tmp_path):
    """What the provider means as right and as wrong is scored so: over 20 draws of the sample, to three standard errors."""
    ends = [known_effect.interval(tmp_path, seed, {"control": 0.2, "treatment": 0.9}) for seed in range(20)]
    middle = float(np.mean([(low + high) / 2 for low, high, _claim in ends]))
    assert middle == pytest.approx(0.7, abs=0.03)
