"""Optional analyses of a run: dollars per additional correct answer, and the unsupported rate under other rules, from its own answers."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from pipeline.scoring.support import Support
from pipeline.statistics.paired import ClusterSums
from pipeline.statistics.ratio import fieller
from pipeline.statistics.sensitivity import unsupported_rate
from tests.project import QUICK, Project, make

GRID = {"threshold": [0.3, 0.9], "min_token_overlap": [0.2, 1.0]}
PRICES = {"input_per_million": 100.0, "output_per_million": 400.0, "batch_discount": 0.5, "as_of": "2026-01-01"}
SOURCES = {"open_book": [{"kind": "jsonl", "path": "open.jsonl"}], "closed_book": [{"kind": "jsonl", "path": "closed.jsonl"}]}


def document(project: Project) -> dict[str, Any]:
    (path,) = project.the_run.glob("m-terse-*/results/significance.json")
    return json.loads(path.read_text())  # type: ignore[no-any-return]


def table(project: Project, name: str) -> list[dict[str, str]]:
    (path,) = project.the_run.glob(f"m-terse-*/results/{name}")
    with open(path, newline="") as f:
        return list(csv.DictReader(f))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A finished run with replicates and all optional analyses, whose control is weak."""
    project = make(tmp_path_factory.mktemp("extras"), items=40)
    project.configure(
        stats={**QUICK, "usd_per_correct": True, "unsupported_sensitivity": GRID, "robustness": True},
        provider={"name": "simulated", "accuracy": {"control": 0.3, "terse": 0.8}},
        pricing=PRICES,
        temps=[0.7],
        samples_per_item=3,
        sources=SOURCES,
    )
    project.run()
    return project


def test_dollars_per_answer_are_tokens_times_price(run: Project) -> None:
    usd: dict[str, list[float]] = defaultdict(list)
    for row in table(run, "predictions.csv"):
        usd[row["condition"]].append((int(row["prompt_tokens"]) * 100 + int(row["completion_tokens"]) * 400) * 0.5 / 1e6)
    found = document(run)["usd_per_correct"]
    assert found["usd_difference"] == pytest.approx(np.mean(usd["treatment"]) - np.mean(usd["control"]), rel=1e-6)
    assert found["ratio"] == pytest.approx(found["usd_difference"] / document(run)["verdict"]["effect"], rel=1e-6)
    assert found["finite"] and found["low"] < found["ratio"] < found["high"]
    (report,) = run.the_run.glob("m-terse-*/reports/report.md")
    assert "additional correct answer" in report.read_text()


def test_without_being_asked_for_there_are_none(tmp_path: Path) -> None:
    project = make(tmp_path, items=12)
    project.run()
    found = document(project)
    assert found["usd_per_correct"] is None and found["sensitivity"] is None and found["robustness"] == []


def test_what_costs_nothing_has_no_price_per_answer(tmp_path: Path) -> None:
    project = make(tmp_path, items=12)
    project.configure(stats={**QUICK, "usd_per_correct": True}, pricing={**PRICES, "input_per_million": 0, "output_per_million": 0})
    project.run()
    assert document(project)["usd_per_correct"] is None


def test_the_configured_rule_gives_the_scored_rate_again(run: Project) -> None:
    rates: dict[str, list[float]] = defaultdict(list)
    for row in table(run, "per_item_scores.csv"):
        if row["type"] == "open":
            rates[row["condition"]].append(float(row["unsupported_rate"]))
    rows = document(run)["sensitivity"]["rows"]
    (configured,) = [r for r in rows if r["configured"]]
    assert (configured["threshold"], configured["min_token_overlap"]) == (1, 0.5)
    assert configured["control_mean"] == pytest.approx(np.mean(rates["control"]))
    assert configured["treatment_mean"] == pytest.approx(np.mean(rates["treatment"]))
    assert len(rows) == 9 and rates["control"] != rates["treatment"]
    by_overlap = [r["control_mean"] for r in rows if r["threshold"] == 1]
    assert by_overlap == sorted(by_overlap) and by_overlap[0] < by_overlap[-1]


def test_the_report_shows_the_grid_and_the_other_models(run: Project) -> None:
    (report,) = run.the_run.glob("m-terse-*/reports/report.md")
    text = report.read_text()
    assert "1 (configured) | 0.5 |" in text and "GEE" in text


def test_a_change_of_the_grid_recomputes_the_statistics_and_asks_nothing(run: Project, tmp_path: Path) -> None:
    copy = run.copy(tmp_path / "copy")
    bill, before = copy.bill(), len(copy.began())
    config = copy.folder / "c.yaml"
    config.write_text(config.read_text().replace("- 0.3", "- 0.4"))
    copy.run()
    assert copy.bill() == bill
    assert copy.began()[before:][0] == "stats" and document(copy)["sensitivity"]["rows"][0]["threshold"] == 0.4


@pytest.mark.parametrize(
    ("answers", "threshold", "overlap", "rate"),
    [
        ([(1, 2), (2, 2)], 0.5, 0.6, 0.5),
        ([(3, 5)], 0.5, 0.6, 0.0),
        ([None, (0, 1)], 0.5, 0.6, 0.0),
        ([None, (0, 1)], 0.6, 0.6, 0.5),
        ([None, None], 0.5, 0.6, 0.0),
        ([(0, 0)], 0.0, 1.0, 0.0),
        ([(0, 1)], 0.0, 0.5, 1.0),
    ],
)
def test_the_rate_of_an_item_by_hand(answers: list[Any], threshold: float, overlap: float, rate: float) -> None:
    assert unsupported_rate(answers, threshold, overlap) == rate


@pytest.mark.parametrize("strategy", ["overlap", "baseline"])
def test_counting_tokens_agrees_with_the_rule(strategy: str) -> None:
    from pipeline.scoring.normalise import normalise

    rule = Support(strategy, 0.5, 0.6)
    passage = "The river Elbe rises in the Giant Mountains, at 1,386 metres."
    for text in ("river Elbe", "the river Oder", "Elbe mountains metres sea lake", "", "the", "Elbe", "Giant mountains"):
        normal = normalise(text)
        found, tokens = rule.counted(text, normal, passage)
        assert (found >= (0.6 if strategy == "overlap" else 1) * tokens) == rule.supported(text, normal, passage)


def test_dollars_and_the_effect_share_few_uneven_clusters() -> None:
    """Fieller is finite exactly where the interval of the effect leaves out 0, with CR2's variance and degrees of freedom too."""
    from pipeline.statistics.paired import Effect

    rng = np.random.default_rng(4)
    size = rng.integers(1, 30, 15).astype(float)
    seen = set()
    for shift in np.linspace(0, 0.4, 40):
        gain = ClusterSums(size * (shift + 0.4 * rng.standard_normal(15)), size)
        cost = ClusterSums(size * 0.01, size)
        low, high = Effect(gain, False).interval(0.05)
        finite = fieller(cost, gain, 0.05) is not None
        assert finite == (low > 0 or high < 0)
        seen.add(finite)
    assert seen == {True, False}


def test_the_mixed_model_is_reml_by_hand_where_clusters_are_equal() -> None:
    """Balanced one-way layout: the estimate is the mean, its variance the mean square between clusters over N."""
    from benchmarks.calibration_more import score_table
    from pipeline.statistics.compare import Comparison
    from pipeline.statistics.robust import mixed

    rng = np.random.default_rng(5)
    g, m = 25, 8
    difference = 0.1 + np.repeat(rng.normal(0, 0.5, g), m) + rng.normal(0, 0.4, g * m)
    c = Comparison.of(score_table(difference, np.repeat(np.arange(g), m)), "x", np.arange(g * m))
    assert c is not None and (found := mixed(c)) is not None
    means = difference.reshape(g, m).mean(axis=1)
    se = means.std(ddof=1) / np.sqrt(g)
    assert found["effect"] == pytest.approx(difference.mean()) and found["se"] == pytest.approx(se, rel=1e-3)
    assert found["p_value"] == pytest.approx(stats.ttest_1samp(means, 0).pvalue, rel=1e-2)
    singles = Comparison.of(score_table(difference, np.arange(g * m)), "x", np.arange(g * m))
    assert singles is not None and mixed(singles) is None
