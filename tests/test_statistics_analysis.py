"""significance.json as a whole: valid, the same for the same input, and saying what the data say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.base.errors import ConfigError
from pipeline.base.schemas import problems
from pipeline.statistics.analysis import analyse
from pipeline.statistics.settings import AnalysisSettings, MetricInfo, Primary, TrialInfo
from tests.score_tables import paired_rows, random_arms, score_row, table_of

REPO = Path(__file__).parents[1]
QUICK = AnalysisSettings(bootstrap_samples=199, permutation_samples=199, primary=Primary(margin=0.05, declared=True))


def trial(name="t1", contrast="b_vs_a", treatment="b", **more):
    return TrialInfo(name, contrast, "a", treatment, "model", **more)


def document(tmp_path, rows, config=QUICK, **more):
    found = analyse({"t1": table_of(tmp_path, rows)}, {"t1": trial(**more)}, config, "t1")
    assert problems(json.loads(json.dumps(found)), "significance") == []
    return found


def one(found, **place):
    place = {"type": "all", "dataset": "all", "temp": 0, **place}
    (row,) = [r for r in found["rows"] if all(r[k] == v for k, v in place.items())]
    return row


def full_rows(n=60, k=1, seed=0):
    """Two types, two data sets, all built-in metrics."""
    rng = np.random.default_rng(seed)
    rows = []
    for condition in ("control", "treatment"):
        for i in range(n):
            correct = int(rng.random() < 0.5)
            kind = "open" if i % 2 else "closed"
            cells = {
                "em": correct,
                "f1": max(correct, round(rng.random() * (rng.random() < 0.5), 3)),
                "abstain_rate": int(rng.random() < 0.1),
            }
            cells |= {"false_answer_rate": int(rng.random() < 0.3)} if i % 3 == 0 else {}
            cells |= {"unsupported_rate": int(rng.random() < 0.2)} if kind == "open" else {}
            rows.append(score_row(f"{'xy'[i % 3 == 0]}|{i}", condition, correct, type=kind, cluster=f"p{i // 2}", **cells))
    return rows


def test_every_metric_type_and_data_set_has_its_row_and_the_document_is_valid(tmp_path):
    found = document(tmp_path, full_rows())
    assert {(r["metric"], r["type"]) for r in found["rows"]} >= {(m, t) for m in ("correct", "em", "f1") for t in ("open", "closed", "all")}
    assert {r["dataset"] for r in found["rows"]} == {"all", "x", "y"}
    assert [r["role"] for r in found["rows"]].count("primary") == 1
    assert one(found, metric="unsupported_rate")["n_items"] == 30
    assert one(found, metric="f1")["effect_sizes"] and not one(found, metric="em")["effect_sizes"]


def test_the_example_documents_are_valid():
    examples = sorted((REPO / "tests/examples/significance").glob("*.json"))
    assert len(examples) >= 2
    for path in examples:
        assert (problems(json.loads(path.read_text("utf-8")), "significance") == []) == path.name.startswith("pass_"), path.name


def test_the_same_input_gives_the_same_document(tmp_path):
    assert document(tmp_path, full_rows()) == document(tmp_path, full_rows())


def test_another_seed_moves_only_what_is_drawn(tmp_path):
    one_seed, other = document(tmp_path, full_rows()), document(tmp_path, full_rows(), replace(QUICK, random_seed=2))
    assert one_seed["verdict"] == other["verdict"]
    assert one(one_seed, metric="f1")["bootstrap_t"] != one(other, metric="f1")["bootstrap_t"]


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.randoms(use_true_random=False), st.integers(0, 50))
def test_the_order_of_rows_changes_nothing(tmp_path, random, seed):
    rows = full_rows(20, seed=seed)
    shuffled = list(rows)
    random.shuffle(shuffled)
    found, other = document(tmp_path, rows), document(tmp_path, shuffled)
    key = lambda r: (r["type"], r["metric"], r["dataset"])  # noqa: E731
    assert sorted(found.pop("rows"), key=key) == sorted(other.pop("rows"), key=key)
    for d in (found, other):
        d["fdr"]["metrics"].sort()
    assert found == other


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 1000), st.sampled_from([1, 3]), st.sampled_from([None, 0.05, 0.2]))
def test_swapping_the_arms_swaps_better_and_worse(tmp_path, seed, size, margin):
    a, b = random_arms(120, seed, 0.15)
    config = replace(QUICK, primary=Primary(margin=margin))
    there, back = document(tmp_path, paired_rows(a, b, size=size), config), document(tmp_path, paired_rows(b, a, size=size), config)
    r, s = one(there, metric="correct"), one(back, metric="correct")
    assert (r["effect"], r["ci_low"], r["ci_high"]) == pytest.approx((-s["effect"], -s["ci_high"], -s["ci_low"]))
    assert (r["won"], r["lost"]) == (s["lost"], s["won"])
    assert r["p_value"] == pytest.approx(s["p_value"])
    swap = {"better": "worse", "worse": "better", "not_inferior": None, "undecided": None}
    expected = swap.get(there["verdict"]["verdict"], there["verdict"]["verdict"])
    assert expected is None or back["verdict"]["verdict"] == expected


def test_a_clear_effect_is_better_and_its_interval_agrees_with_the_row(tmp_path):
    a, b = random_arms(400, 1, 0.2)
    found = document(tmp_path, paired_rows(a, b))
    row, verdict = one(found, metric="correct"), found["verdict"]
    assert (verdict["verdict"], verdict["role"], verdict["rule"]) == ("better", "primary", 2)
    assert (verdict["low"], verdict["high"]) == (row["simultaneous_low"], row["simultaneous_high"]) == (row["ci_low"], row["ci_high"])
    assert verdict["sentence"].startswith("b is better than a on correct by")
    assert found["family"]["members"][0]["p_value"] == row["p_value"]


def test_for_a_metric_that_should_be_low_less_is_better(tmp_path):
    a, b = random_arms(400, 1, 0.2)
    config = replace(QUICK, primary=Primary(margin=0.05), metrics={"correct": MetricInfo(0, 1, False)})
    found = document(tmp_path, paired_rows(a, b), config)
    verdict, equivalence = found["verdict"], one(found, metric="correct")["equivalence"]
    assert verdict["verdict"] == "worse"
    assert equivalence["not_inferior_p"] == equivalence["p_upper"] > 0.99 > 0.01 > equivalence["p_lower"]
    assert verdict["effect"] == pytest.approx(-(b - a).mean()) and verdict["low"] < verdict["high"] < 0


def test_the_same_answers_are_equivalent_only_if_there_are_enough(tmp_path):
    a, _ = random_arms(400, 2)
    assert document(tmp_path, paired_rows(a, a))["verdict"]["verdict"] == "equivalent"
    few = document(tmp_path, paired_rows(a[:40], a[:40]))["verdict"]
    assert few["verdict"] == "undecided" and few["more_items"] > 0
    clustered = document(tmp_path, paired_rows(a, a, size=2))["verdict"]
    assert clustered["verdict"] == "no_verdict" and "no informative cluster" in clustered["reason"]


def test_few_clusters_give_no_p_value_and_no_verdict(tmp_path):
    a, b = random_arms(400, 3, 0.3)
    found = document(tmp_path, paired_rows(a, b, size=50))
    row = one(found, metric="correct")
    assert row["n_clusters"] == 8 and row["p_value"] is None and row["permutation"] is None and row["equivalence"] is None
    assert found["verdict"]["verdict"] == "no_verdict" and found["family"]["members"][0]["p_value"] is None


def test_alternative_greater_asks_at_one_sided_bounds_and_never_says_worse(tmp_path):
    a, b = random_arms(400, 1, 0.055)
    two = document(tmp_path, paired_rows(a, b), replace(QUICK, primary=Primary()))
    one_sided = document(tmp_path, paired_rows(a, b), replace(QUICK, primary=Primary(alternative="greater")))
    row = one(two, metric="correct")
    assert one_sided["verdict"]["low"] > row["ci_low"]
    assert one_sided["verdict"]["low"] == one_sided["verdict"]["inner_low"]
    assert one_sided["family"]["members"][0]["p_value"] == pytest.approx(row["p_value"] / 2)
    harmful = document(tmp_path, paired_rows(b + 0, a * 0), replace(QUICK, primary=Primary(alternative="greater")))
    assert harmful["verdict"]["verdict"] == "undecided" and harmful["verdict"]["high"] < 0
    assert harmful["family"]["members"][0]["p_value"] > 0.999


def test_failed_answers_that_could_reverse_the_verdict_leave_none(tmp_path):
    a, b = random_arms(300, 1, 0.2)
    rows = paired_rows(a, b)
    clear = document(tmp_path, rows)
    assert clear["verdict"]["verdict"] == "better"
    for row in rows[:150]:
        row.update(correct="0", failed="1")
    found = document(tmp_path, rows)
    bounds = one(found, metric="correct")["bounds"]["failed"]
    assert bounds["answers_control"] == 150 and bounds["complete_case_items"] == 150
    effect = one(found, metric="correct")["effect"]
    assert bounds["low"] == pytest.approx(effect - 0.5) and bounds["high"] == pytest.approx(effect)
    assert found["verdict"]["verdict"] == "no_verdict" and "missing answers could reverse it" in found["verdict"]["reason"]


def test_complete_cases_leave_out_items_that_either_arm_lacks(tmp_path):
    a, b = random_arms(100, 1, 0.2)
    rows = paired_rows(a, b)
    rows[3].update(correct="0", failed="1")
    rows[103].update(correct="0", failed="1")
    for row in rows[110:120]:
        row.update(correct="0", refused="1")
    bounds = one(document(tmp_path, rows), metric="correct")["bounds"]
    whole = [i for i in range(100) if i != 3 and not 10 <= i < 20]
    assert (bounds["failed"]["complete_case_items"], bounds["unanswered"]["complete_case_items"]) == (99, 89)
    assert bounds["unanswered"]["complete_case_effect"] == pytest.approx((b - a)[whole].mean())


def test_an_interval_that_may_be_too_narrow_is_said_beside_the_verdict(tmp_path):
    rows = paired_rows(np.zeros(60), np.r_[np.full(20, 0.5), np.zeros(40)])
    found = document(tmp_path, rows)
    assert (
        "20 clusters differ" in found["verdict"]["caveats"][0] and one(found, metric="correct")["warnings"] == found["verdict"]["caveats"]
    )


def test_truncated_answers_count_as_wrong_with_a_caveat_unless_declared_missing(tmp_path):
    a, b = random_arms(300, 1, 0.2)
    rows = paired_rows(a, b)
    for row in rows[:150]:
        row.update(correct="0", truncated="1")
    found = document(tmp_path, rows)
    assert found["verdict"]["verdict"] == "better" and "150 failed, truncated or refused" in found["verdict"]["caveats"][0]
    strict = document(tmp_path, rows, replace(QUICK, missing_outcomes=("failed", "truncated")))
    assert strict["verdict"]["verdict"] == "no_verdict" and strict["verdict"]["caveats"]


def test_an_unplanned_look_leaves_no_verdict(tmp_path):
    found = document(tmp_path, paired_rows(*random_arms(300, 1, 0.2)), unplanned_look="second look at a finished run")
    assert found["verdict"]["reason"] == "second look at a finished run"


def test_undecided_names_the_items_and_dollars_that_would_decide(tmp_path):
    verdict = document(tmp_path, paired_rows(*random_arms(60, 5, 0.05)), usd_per_item=0.01)["verdict"]
    assert verdict["verdict"] == "undecided" and verdict["detectable"] == 0.05
    assert verdict["more_usd"] == pytest.approx(verdict["more_items"] * 0.01, abs=0.01)
    assert f"{verdict['more_items']:,} more items" in verdict["sentence"]
    without = document(tmp_path, paired_rows(*random_arms(60, 5, 0.05)), replace(QUICK, primary=Primary()))["verdict"]
    assert without["detectable"] in (0.1, 0.2) and without["more_items"] > 0


def test_replicates_are_averaged_first(tmp_path):
    """Five answers to 40 items are 40 items; as 0/1 answers they are not graded, and McNemar is not for them."""
    rng = np.random.default_rng(1)
    counts = rng.binomial(5, 0.5, (2, 40))
    rows = []
    for condition, values in zip(("control", "treatment"), counts, strict=True):
        for i, x in enumerate(values):
            sd = np.std([1] * x + [0] * (5 - x), ddof=1)
            rows.append(score_row(f"d|{i}", condition, x / 5, n=5, correct_std=f"{sd:.12g}"))
    row = one(document(tmp_path, rows), metric="correct")
    assert (row["n_items"], row["k"], row["mcnemar"], row["effect_sizes"]) == (40, 5, None, None)
    p = counts / 5
    assert row["within_variance_control"] == pytest.approx((p[0] * (1 - p[0]) * 5 / 4).mean())


def test_three_arms_against_one_control_get_simultaneous_intervals_that_all_documents_share(tmp_path):
    arms = random_arms(200, 4, 0.12, arms=3)
    tables = {f"t{j}": table_of(tmp_path, paired_rows(arms[0], arms[j]), f"{j}.csv") for j in (1, 2, 3)}
    trials = {f"t{j}": trial(f"t{j}", f"b{j}_vs_a", f"b{j}") for j in (1, 2, 3)}
    found = {name: analyse(tables, trials, QUICK, name) for name in tables}
    assert found["t1"]["family"] == found["t3"]["family"]
    assert 2.2 < found["t1"]["family"]["critical_value"] < 2.45
    row = one(found["t2"], metric="correct")
    member = found["t2"]["family"]["members"][1]
    assert (member["low"], member["high"]) == (row["simultaneous_low"], row["simultaneous_high"])
    assert row["simultaneous_low"] < row["ci_low"] and member["p_value"] > row["p_value"]
    assert analyse(dict(reversed(tables.items())), trials, QUICK, "t2") == found["t2"]


def test_a_contrast_outside_the_declared_ones_is_exploratory(tmp_path):
    arms = random_arms(200, 4, 0.2, arms=2)
    tables = {f"t{j}": table_of(tmp_path, paired_rows(arms[0], arms[j]), f"{j}.csv") for j in (1, 2)}
    trials = {f"t{j}": trial(f"t{j}", f"b{j}_vs_a", f"b{j}") for j in (1, 2)}
    config = replace(QUICK, primary=Primary(contrasts=("b1_vs_a",), declared=True))
    declared, other = analyse(tables, trials, config, "t1"), analyse(tables, trials, config, "t2")
    assert [m["trial"] for m in declared["family"]["members"]] == ["t1"]
    assert (declared["primary"]["role"], other["primary"]["role"], other["verdict"]["role"]) == ("primary", "exploratory", "exploratory")
    assert one(other, metric="correct")["q_value"] is not None and one(other, metric="correct")["role"] == "exploratory"
    assert one(declared, metric="correct")["q_value"] is None


def test_q_values_count_each_contrast_and_metric_once(tmp_path):
    found = document(tmp_path, full_rows())
    tested = [r for r in found["rows"] if r["q_value"] is not None]
    assert {(r["type"], r["dataset"]) for r in tested} == {("all", "all")}
    assert found["fdr"]["tests"] == len(tested) and "correct" not in found["fdr"]["metrics"]
    assert all(r["q_value"] >= r["p_value"] for r in tested)
    assert document(tmp_path, full_rows(), replace(QUICK, enable_fdr=False))["fdr"] is None


def test_switches_and_margins_do_what_they_say(tmp_path):
    config = replace(QUICK, enable_permutation=False, tost_margins={"f1": 0.3})
    found = document(tmp_path, full_rows(), config)
    assert all(r["permutation"] is None for r in found["rows"])
    assert one(found, metric="f1")["equivalence"]["margin"] == 0.3 and one(found, metric="em")["equivalence"] is None
    assert one(found, metric="correct")["equivalence"]["margin"] == 0.05


def test_items_without_a_partner_are_counted(tmp_path):
    a, b = random_arms(50, 1)
    found = document(tmp_path, [*paired_rows(a, b), score_row("a|extra", "treatment", 1)])
    assert found["unpaired"] == {"control": 0, "treatment": 1, "examples": ["a|extra (closed, temperature 0.0): only in treatment"]}
    assert any("no partner" in n for n in found["notes"]) and one(found, metric="correct")["n_items"] == 50


def test_subgroups_get_one_interaction_test(tmp_path):
    rng = np.random.default_rng(3)
    a = (rng.random(300) < 0.5).astype(float)
    b = np.where(np.arange(300) < 150, np.maximum(a, rng.random(300) < 0.4), a * (rng.random(300) < 0.6))
    keys = [r["item_key"] for r in paired_rows(a, b)[:300]]
    groups = {"domain": {k: ("early" if i < 150 else "late") for i, k in enumerate(keys[:290])}}
    (factor,) = document(tmp_path, paired_rows(a, b), groups=groups)["subgroups"]
    assert [g["group"] for g in factor["groups"]] == ["early", "late"] and factor["without_group"] == 10
    assert factor["groups"][0]["effect"] > 0 > factor["groups"][1]["effect"]
    d = b - a
    early, late = d[:150], d[150:290]
    wald = (early.mean() - late.mean()) ** 2 / (early.var(ddof=1) / 150 + late.var(ddof=1) / 140)
    assert factor["statistic"] == pytest.approx(wald) and factor["p_value"] < 0.001
    thin = {"domain": {k: ("early" if i < 5 else "late") for i, k in enumerate(keys)}}
    (factor,) = document(tmp_path, paired_rows(a, b), groups=thin)["subgroups"]
    assert factor["p_value"] is None and "'early'" in factor["warnings"][0]


def test_dollars_per_correct_answer_come_with_prices(tmp_path):
    a, b = random_arms(300, 1, 0.2)
    rows = paired_rows(a, b)
    found = document(tmp_path, rows, item_usd={r["item_key"]: (0.001, 0.003) for r in rows[:300]})
    assert found["usd_per_correct"]["ratio"] == pytest.approx(0.002 / (b - a).mean())
    assert document(tmp_path, rows)["usd_per_correct"] is None


def test_gee_and_a_mixed_model_are_second_opinions_on_demand(tmp_path):
    rows = paired_rows(*random_arms(120, 1, 0.2), size=3)
    row = one(document(tmp_path, rows), metric="correct")
    found = document(tmp_path, rows, replace(QUICK, robustness=True))["robustness"]
    assert [f["method"].split()[0] for f in found] == ["GEE,", "mixed"]
    for f in found:
        assert f["effect"] == pytest.approx(row["effect"]) and f["se"] == pytest.approx(row["se"], rel=0.1)


def test_risk_is_a_point_without_confidence_and_a_curve_with_it(tmp_path):
    rows = paired_rows([1, 0, 0, 1], [1, 1, 0, 0], abstain_rate=0)
    rows[1].update(abstain_rate="1")
    control, treatment = document(tmp_path, rows)["risk"]
    assert (control["coverage"], control["error"], control["curve"]) == (0.75, pytest.approx(1 / 3), None)
    assert (treatment["coverage"], treatment["error"]) == (1, 0.5)
    for row, confidence in zip(rows[4:], (-0.1, -0.2, -0.9, -0.9), strict=True):
        row.update(confidence=str(confidence))
    _, treatment = document(tmp_path, rows, replace(QUICK, risk_thresholds=(0.0, 0.5)))["risk"]
    assert treatment["curve"] == [{"coverage": 0.25, "error": 0}, {"coverage": 0.5, "error": 0}, {"coverage": 1, "error": 0.5}]
    assert treatment["aurc"] == pytest.approx(0.25)
    assert treatment["at_risk"] == [{"error": 0, "coverage": 0.5}, {"error": 0.5, "coverage": 1}]


def test_an_answer_to_an_unanswerable_item_is_wrong_and_an_abstention_is_not(tmp_path):
    rows = paired_rows([1, 0], [1, 0], abstain_rate=0, false_answer_rate=1)
    rows[0].update(abstain_rate="1", false_answer_rate="0")
    control, _ = document(tmp_path, rows)["risk"]
    assert (control["coverage"], control["error"]) == (0.5, 1)
    for row in rows:  # two answers each, one of them an abstention and so correct: all that was answered is wrong
        row.update(n="2", correct="0.5", abstain_rate="0.5", false_answer_rate="0.5", correct_std="0.707106781187")
    control, _ = document(tmp_path, rows)["risk"]
    assert (control["coverage"], control["error"]) == (0.5, 1)


@pytest.mark.parametrize(
    ("primary", "words"),
    [
        (Primary(metric="bleu"), ["primary.metric", "'bleu'", "correct"]),
        (Primary(temperature=0.7), ["primary.temperature", "0.7"]),
        (Primary(type="open"), ["primary", "no open item"]),
    ],
)
def test_a_primary_comparison_that_cannot_be_made_is_explained(tmp_path, primary, words):
    with pytest.raises(ConfigError) as e:
        document(tmp_path, paired_rows([0, 1], [1, 1]), replace(QUICK, primary=primary))
    assert all(w in str(e.value) for w in words), str(e.value)


def test_settings_come_from_the_config():
    config = {
        "stats": {"bootstrap_samples": 7, "random_seed": 3, "tost_margins": {"f1": 0.1}, "risk_thresholds": [0.1]},
        "primary": {"metric": "own", "contrasts": ["b_vs_a"], "margin": 2, "alternative": "greater"},
        "metrics": [{"name": "own", "use": "m:f", "range": [1, 5]}, {"name": "f1", "use": "x", "higher_is_better": False}],
    }
    s = AnalysisSettings.from_config(config)
    assert (s.bootstrap_samples, s.random_seed, s.risk_thresholds, s.permutation_samples) == (7, 3, (0.1,), 5000)
    assert s.primary == Primary(("b_vs_a",), "own", "all", None, "greater", 2, True)
    assert s.metric("own") == MetricInfo(1, 5, True) and s.metric("f1") == MetricInfo(0, 1, False)
    assert (s.margin("own"), s.margin("f1"), s.margin("em")) == (2, 0.1, None)
    assert AnalysisSettings.from_config({}).primary.declared is False


@pytest.mark.parametrize(("config", "where"), [({"stats": {"boots": 1}}, "stats"), ({"primary": {"margin": 0}}, "primary.margin"),
                                               ({"stats": {"missing_outcomes": ["late"]}}, "stats.missing_outcomes")])  # fmt: skip
def test_wrong_settings_name_their_key(config, where):
    with pytest.raises(ConfigError, match=where):
        AnalysisSettings.from_config(config)


def test_importing_the_room_and_its_settings_and_verdict_loads_no_numpy():
    code = "import sys, pipeline.statistics, pipeline.statistics.settings, pipeline.statistics.verdict; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPO, check=False).returncode == 0


def test_numbers_are_finite_and_have_ten_digits(tmp_path):
    text = json.dumps(document(tmp_path, full_rows()), allow_nan=False)
    numbers = re.findall(r"-?\d+\.(\d+)(?:e-?\d+)?[,}\]]", text)
    assert len(numbers) > 300 and max(len(n.lstrip("0")) for n in numbers) <= 10


def test_two_temperatures_each_have_their_rows_and_the_first_is_primary(tmp_path):
    a, b = random_arms(60, 1)
    rows = [r for c in (0, 1) for t in ("0", "0.7") for r in ({**x, "temp": t} for x in paired_rows(a, b)[60 * c : 60 * c + 60])]
    found = analyse({"t1": table_of(tmp_path, rows)}, {"t1": trial()}, QUICK, "t1")
    assert [r["temp"] for r in found["rows"] if r["dataset"] == "all" and r["type"] == "all"] == [0, 0.7]
    assert found["primary"]["temperature"] == 0


def test_a_trial_without_the_primary_comparison_does_not_stop_the_others(tmp_path):
    a, b = random_arms(60, 1)
    tables = {"t1": table_of(tmp_path, paired_rows(a, b)), "t2": table_of(tmp_path, paired_rows(a, b, temp="0.7"), "2.csv")}
    trials = {"t1": trial("t1"), "t2": trial("t2", "c_vs_a", "c")}
    found = analyse(tables, trials, QUICK, "t1")
    assert [m["trial"] for m in found["family"]["members"]] == ["t1"] and "Trial t2 lacks" in found["notes"][-1]


cells = st.sampled_from(["0", "1", "0.5", ""])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(cells, cells, st.sampled_from(["open", "closed"]), st.sampled_from(["", "p", "q"]), st.integers(0, 1)),
        min_size=1,
        max_size=14,
    )
)
def test_any_small_table_gives_a_valid_document_or_says_why_not(tmp_path, items):
    rows = []
    for condition, place in (("control", 0), ("treatment", 1)):
        for i, (*values, kind, cluster, failed) in enumerate(items):
            confidence = "-0.5" if cluster else ""
            rows.append(
                score_row(
                    f"{kind[0]}|{i}", condition, 0, f1=values[place], type=kind, cluster=cluster, failed=failed, confidence=confidence
                )
            )
            rows[-1]["correct"] = values[place]
    groups = {"half": {r["item_key"]: "xy"[i % 2] for i, r in enumerate(rows)}}
    try:
        found = document(tmp_path, rows, groups=groups, item_usd={r["item_key"]: (0.1, 0.2) for r in rows}, usd_per_item=0.1)
    except ConfigError as e:
        assert "has metric 'correct' in both arms" in str(e)
        return
    assert found["verdict"]["verdict"] in ("no_verdict", "undecided", "better", "worse", "equivalent", "not_inferior")
    assert found["verdict"]["n_clusters"] >= 10 or found["verdict"]["verdict"] == "no_verdict"
