"""Planning from the command line: numbers by hand, a pilot's variance but not its effect, one line for every mistake."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from pipeline.statistics import planning
from scripts.power import main
from tests.score_tables import paired_rows, random_arms, score_row, write_scores


def plan(capsys, *argv):
    assert main([*argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_items_for_an_assumed_discordance_by_the_binary_formula(capsys):
    """psi 0.2, d 0.1: 155 by hand (see test_statistics_more)."""
    found = plan(capsys, "--discordance", "0.2", "--effect", "0.1", "--usd_per_answer", "0.01")
    assert [(r["replicates"], r["items"], r["answers"], r["usd"]) for r in found["plans"]] == [(1, 155, 310, pytest.approx(3.10))]
    assert any("what replicates buy is not planned" in n for n in found["notes"])


def test_replicates_shrink_only_the_variance_within_items(capsys):
    found = plan(capsys, "--between", "0.05", "--within", "0.3", "--effect", "0.05", "--replicates", "1,3")
    by_hand = [math.ceil(7.8488797 * (0.05 + 0.3 / k) / 0.0025) for k in (1, 3)]
    assert [r["items"] for r in found["plans"]] == by_hand
    assert [r["answers"] for r in found["plans"]] == [2 * by_hand[0], 6 * by_hand[1]]
    assert any("more items beat more replicates" in n for n in found["notes"])


def test_replicates_pay_where_items_are_dear(capsys):
    found = plan(capsys, "--between", "0.05", "--within", "0.2", "--usd_per_item", "1", "--usd_per_answer", "0.125")
    assert any(n.startswith("Cheapest K: 4.0") for n in found["notes"])
    cheap = plan(capsys, "--between", "0.05", "--within", "0.2", "--usd_per_answer", "0.125")
    assert any(n.startswith("Cheapest K: 1.0") for n in cheap["notes"])
    assert cheap["plans"][0]["usd"] == min(r["usd"] for r in cheap["plans"])


def test_clusters_and_comparisons_ask_for_more(capsys):
    base = plan(capsys, "--sd", "0.5")["plans"][0]["items"]
    clustered = plan(capsys, "--sd", "0.5", "--cluster_size", "10", "--icc", "0.05")
    assert clustered["design_effect"] == pytest.approx(1.45)
    assert clustered["plans"][0]["items"] == pytest.approx(1.45 * base, abs=2)
    assert plan(capsys, "--sd", "0.5", "--comparisons", "3")["plans"][0]["items"] > 1.3 * base


def test_claims_about_a_margin(capsys):
    """Non-inferiority at a true difference of 0 needs what a difference of the margin needs; equivalence both one-sided tests."""
    base = plan(capsys, "--sd", "0.5")["plans"][0]["items"]
    assert plan(capsys, "--sd", "0.5", "--claim", "not_inferior")["plans"][0]["items"] == base
    equivalent = plan(capsys, "--sd", "0.5", "--claim", "equivalent")["plans"][0]["items"]
    assert equivalent == math.ceil((1.6448536 + 1.2815516) ** 2 * 0.25 / 0.0025)


def test_too_few_items_say_what_they_can_do(capsys):
    found = plan(capsys, "--between", "0.05", "--within", "0.3", "--effect", "0.05", "--items", "400", "--replicates", "1,2")
    row = found["plans"][0]
    assert row["power_at_items"] == pytest.approx(planning.power_of(400, 0.05, 0.35))
    assert row["detectable_at_items"] == pytest.approx(2.8015852 * math.sqrt(0.35 / 400))
    needed = math.ceil(0.3 / (400 * 0.0025 / 7.8488797 - 0.05))
    assert any(f"they would do with K = {needed}" in n for n in found["notes"])
    hopeless = plan(capsys, "--between", "0.35", "--within", "0.3", "--effect", "0.05", "--items", "400")
    assert any("no number of replicates" in n for n in hopeless["notes"])


def pilot(tmp_path, shift=0.0, k=1, n=200):
    rng = np.random.default_rng(2)
    chance = rng.uniform(0.2, 0.6, n)
    rows = []
    for condition, lift in (("control", 0.0), ("treatment", shift)):
        for i in range(n):
            x = (rng.random(k) < chance[i] + lift).astype(float)
            rows.append(score_row(f"d|{i}", condition, x.mean(), n=k, correct_std=f"{x.std(ddof=1):.12g}" if k > 1 else ""))
    return str(write_scores(tmp_path / f"pilot{k}.csv", rows))


def test_a_pilot_gives_its_variance_at_the_upper_80_percent_limit(tmp_path, capsys):
    a, b = random_arms(200, 1)
    path = write_scores(tmp_path / "pilot.csv", paired_rows(a, b))
    found = plan(capsys, "--pilot", str(path), "--effect", "0.05")
    upper = planning.upper_variance(float(np.var(b - a, ddof=1)), 199)
    assert found["variance"] == pytest.approx(upper) and upper > np.var(b - a, ddof=1)
    assert found["plans"][0]["items"] == planning.items_needed(0.05, upper)
    assert len(found["plans"]) == 1


def test_a_pilot_with_replicates_tells_noise_from_spread(tmp_path, capsys):
    """No item differs between the arms, so all variance is within items: K answers are worth K items."""
    found = plan(capsys, "--pilot", pilot(tmp_path, k=5), "--replicates", "1,4")
    assert found["variance_within"] == pytest.approx(2 * 0.227, abs=0.03)
    assert found["variance_between"] < 0.03
    one, four = found["plans"]
    assert 2.5 < one["items"] / four["items"] <= 4.05


def test_a_clustered_pilot_gives_its_design_effect(tmp_path, capsys):
    rng = np.random.default_rng(3)
    d = np.repeat(rng.choice([0.0, 1.0], 60), 5)
    path = write_scores(tmp_path / "pilot.csv", paired_rows(np.zeros(300), d, size=5))
    assert plan(capsys, "--pilot", str(path))["design_effect"] == pytest.approx(5, rel=0.05)


def test_the_table_is_readable(capsys):
    assert main(["--discordance", "0.2", "--effect", "0.1", "--items", "100", "--usd_per_answer", "1"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("To detect an effect of 0.1 with 80% power (assumed discordance; variance 0.19, design effect 1):")
    assert "K  items  answers  dollars  power now  detects now" in out
    assert "1    155      310   310.00" in out


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "nothing says how items spread"),
        (["--sd", "0.4", "--discordance", "0.2"], "--discordance and --sd are given"),
        (["--sd", "much"], "'much' is no number above 0"),
        (["--sd", "nan"], "no number above 0"),
        (["--discordance", "0.02", "--effect", "0.05"], "at least that discordance"),
        (["--within", "0.2"], "belong together"),
        (["--between", "0", "--within", "0"], "do not spread"),
        (["--sd", "0.4", "--within", "0.5"], "cannot exceed"),
        (["--sd", "0.4", "--replicates", "0,2"], "whole numbers"),
        (["--sd", "0.4", "--comparisons", "0"], "--comparisons: must be at least 1"),
        (["--pilot", "nowhere.csv"], "nowhere.csv: no such file"),
        (["--sd", "0.4", "--bogus"], "unrecognized arguments: --bogus"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(capsys, argv, words):
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and words in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--metric", "bleu"], "no metric 'bleu'"),
        (["--temperature", "0.7"], "no scores at temperature 0.7"),
        (["--temperature", "warm"], "'warm' is no temperature"),
        (["--type", "open"], "too few to plan from"),
        (["--metric", "correct"], "differ by the same amount"),
    ],
)
def test_what_a_pilot_lacks_is_named(tmp_path, capsys, argv, words):
    path = write_scores(tmp_path / "pilot.csv", paired_rows(np.zeros(20), np.ones(20)))
    assert main(["--pilot", str(path), *argv]) == 2
    assert words in capsys.readouterr().err
