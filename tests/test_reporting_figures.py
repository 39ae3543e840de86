"""What the figures draw, and that their SVG is stable, themed and safe."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from xml.etree import ElementTree

import pytest
from report_factory import make_trial

from pipeline.base.errors import ManifestError
from pipeline.reporting import curves, plots, svg
from pipeline.reporting.findings import ForestRow, forest_rows, read_findings
from pipeline.reporting.gauge import place_on
from pipeline.reporting.numbers import scale_for
from pipeline.reporting.pairs import Arm, Pairs, read_pairs
from pipeline.statistics.planning import z_sum


def _pairs(**metrics: tuple[list[float | None], list[float | None]]) -> Pairs:
    n = len(next(iter(metrics.values()))[0])
    none: list[float | None] = [None] * n
    arms = {c: Arm({m: v[i] for m, v in metrics.items()}, none, none, none, none, none) for i, c in enumerate(("control", "treatment"))}
    return Pairs(list(metrics), [f"d|{i}" for i in range(n)], ["open"] * n, ["0"] * n, ["d"] * n, arms)


def test_trade_off_counts_wrong_answers_not_abstentions() -> None:
    """An abstention is not wrong on an answerable item and right on an unanswerable one; an answer to the latter is wrong."""
    pairs = _pairs(
        correct=([1, 0, 0, 0], [1, 0, 0, 1]),
        abstain_rate=([0, 1, 0, 0], [0, 1, 0, 1]),
        false_answer_rate=([None, None, None, 1], [None, None, None, 0]),
    )
    control, treatment = curves.trades(pairs, range(4))
    assert (control.abstained, control.wrong) == (0.25, 0.5)
    assert (treatment.abstained, treatment.wrong) == (0.5, 0.25)


def test_trade_off_tells_replicates_of_an_unanswerable_item_apart() -> None:
    """Of two answers to an unanswerable item one abstained: half abstained, half wrong, whatever `correct` averages to."""
    pairs = _pairs(correct=([0.5], [1]), abstain_rate=([0.5], [1]), false_answer_rate=([0.5], [0]))
    control, treatment = curves.trades(pairs, [0])
    assert (control.abstained, control.wrong) == (0.5, 0.5)
    assert (treatment.abstained, treatment.wrong) == (1, 0)


def test_trade_off_adds_a_total_over_several_datasets() -> None:
    """`all` stands only beside several datasets, and weighs items alike."""
    pairs = _pairs(correct=([1, 0, 0], [1, 1, 0]), abstain_rate=([0, 0, 0], [0, 0, 0]))
    pairs.datasets[0] = "e"
    found = {(t.dataset, t.condition): t.wrong for t in curves.trades(pairs, range(3))}
    assert found[("all", "control")] == pytest.approx(2 / 3)
    assert {d for d, _ in found} == {"d", "e", "all"}


@pytest.mark.parametrize(("direction", "expected"), [(1, (2, 1, 1, 1, 1)), (-1, (1, 2, 1, 1, 1))])
def test_outcomes_follow_the_direction(direction: int, expected: tuple[int, ...]) -> None:
    """Won and lost swap where less is better; ties at the best, the worst and between are told apart; the unscored are left out."""
    pairs = _pairs(m=([0, 0, 1, 1, 0, 0.5, None], [1, 0.5, 0, 1, 0, 0.5, 1]))
    (row,) = curves.outcomes(pairs, range(7), "m", direction)
    assert (row.won, row.lost, row.both_full, row.both_zero, row.tied_between) == expected


def test_power_agrees_with_theory() -> None:
    """At no effect power is the level; at the minimum detectable effect, z(0.975) + z(0.8) standard errors, it is 80%."""
    assert curves.power(0, 1) == pytest.approx(0.05)
    assert curves.power(z_sum() * 0.3, 0.3) == pytest.approx(0.8, abs=1e-4)
    assert curves.power(-1, 0.5) == pytest.approx(curves.power(2, 1))


def test_histogram_is_coloured_by_what_is_good() -> None:
    """More is good, less is good, neither: the sides take good and bad, bad and good, or no judgement."""
    drawn = {wish: plots.differences([0.5, -0.5, 0], "words", 1.0, wish) for wish in (1, -1, 0)}
    sides = {w: [s.index(c) for c in ("var(--good)", "var(--bad)")] for w, s in drawn.items() if w}
    assert sides[1][0] > sides[1][1] and sides[-1][0] < sides[-1][1], "bars stand from left to right"
    assert "var(--good)" not in drawn[0] and "var(--bad)" not in drawn[0]


def test_gauge_places_in_order() -> None:
    """Low, effect and high stand in order inside the picture, zero at the middle of the margin's band."""
    places = place_on([0, 1, 3, 2, -2.5, 2.5], 2, 1, 3, 2.5)
    assert places is not None
    assert 0 < places["low"] < places["effect"] < places["high"] < 100
    assert places["zero"] == pytest.approx((places["margin"]["from"] + places["margin"]["to"]) / 2, abs=0.01)
    assert place_on([0], None, None, None, None) is None
    assert place_on([0, 1, 0.5], 1, 0.5, None, None)["high"] == 100  # type: ignore[index]


def test_forest_leaves_out_what_cannot_share_the_axis(tmp_path: Path) -> None:
    """Rows on another scale or without interval are not drawn; rows beyond the limit are counted; the primary comes first."""
    inputs = make_trial(tmp_path)
    findings = read_findings(inputs.significance)
    findings.document["rows"][3]["ci_low"] = None
    findings.document["rows"][4]["metric"] = "answer_words"
    rows, left_out = forest_rows(findings, limit=5)
    assert (len(rows), left_out) == (5, len(findings.document["rows"]) - 2 - 5)
    assert rows[0].primary
    assert not any(r.primary for r in rows[1:])


def test_forest_shows_the_other_arms_and_this_temperature_first(tmp_path: Path) -> None:
    """The other primary comparisons follow the primary row, with their simultaneous intervals; other temperatures are left out first."""
    inputs = make_trial(tmp_path)
    findings = read_findings(inputs.significance)
    other = {"trial": "t2", "contrast": "other", "model": "tiny", "effect": 0.05, "low": 0.01, "high": 0.09, "p_value": 0.01}
    findings.document["family"]["members"].append(other)
    findings.document["rows"] += [{**r, "temp": 0.7, "role": "exploratory"} for r in findings.document["rows"]]
    rows, left_out = forest_rows(findings, limit=13)
    assert [r.label for r in rows[:2]] == ["all datasets · temp 0", "other"]
    assert rows[1].text == "+5.0 [+1.0, +9.0]"
    assert not any("temp 0.7" in r.label for r in rows)
    assert (len(rows), left_out) == (13, 12)


def _forest(label: str) -> str:
    return plots.forest([ForestRow("correct", label, 0.04, 0.01, 0.07, "+4.0 [+1.0, +7.0]", True)], scale_for("correct"), 0.02)


def test_svg_is_stable_themed_and_well_formed() -> None:
    """Two drawings are equal; no colour is fixed; no id, style sheet or date comes from elsewhere; it is XML."""
    one, two = _forest("all datasets"), _forest("all datasets")
    assert one == two
    ElementTree.fromstring(one)
    assert not re.search(r"#[0-9a-f]{6}", one), "every colour must be a variable of the page"
    assert "var(--treatment)" in one
    assert "<style" not in one and "date" not in one.lower()
    assert all(i.startswith("forest-") for i in re.findall(r'\bid="([^"]+)"', one))


def test_svg_text_is_inert_and_literal() -> None:
    """A dataset's name with markup, mathematics or letters that matplotlib's font lacks is printed as it is."""
    drawn = _forest("<b>$x^2$</b> 数据")
    assert re.search(r"<text[^>]*>&lt;b&gt;\$x\^2\$&lt;/b&gt; 数据</text>", drawn)
    assert "<b>" not in drawn


def test_svg_is_the_same_from_threads() -> None:
    """Reports written side by side do not disturb one another's settings."""
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(_forest("x"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert set(found) == {_forest("x")}


def test_settings_of_the_user_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed default of matplotlib leaves the drawing as it was, and stays changed."""
    import matplotlib

    before = _forest("x")
    monkeypatch.setitem(matplotlib.rcParams, "axes.grid", True)
    assert _forest("x") == before
    assert matplotlib.rcParams["axes.grid"] is True


@pytest.mark.parametrize("row", ["d|a,open,control,0,x,,d,1", "d|a,open,somebody,0,1,,d,1", "d|a,open"])
def test_pairs_name_the_line_that_is_wrong(tmp_path: Path, row: str) -> None:
    """A cell that is no number, an unknown condition, a torn row: the error says file and line."""
    path = tmp_path / "per_item_scores.csv"
    path.write_text(f"item_key,type,condition,temp,em,em_std,dataset,n\nd|b,open,control,0,1,,d,1\n{row}\n")
    with pytest.raises(ManifestError, match=r"per_item_scores\.csv:3"):
        read_pairs(path)


def test_pairs_keep_file_order_and_gaps(tmp_path: Path) -> None:
    """Arms are joined by item, type and temperature; a missing side is None, not zero."""
    path = tmp_path / "per_item_scores.csv"
    header = "item_key,type,condition,temp,em,em_std,dataset,n\n"
    path.write_text(header + "d|b,open,control,0,1,,d,1\nd|a,open,control,0,0,,d,1\nd|a,open,treatment,0,1,,d,1\n")
    pairs = read_pairs(path)
    assert pairs.keys == ["d|b", "d|a"]
    assert pairs.differences("em") == [None, 1.0]
    assert pairs.differences("nothing") == [None, None]
    assert svg.WIDTH < 5.2, "wider figures would shrink below reading size on a phone"
