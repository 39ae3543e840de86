"""The explorer's data: columns that agree with the tables, and a way back from each answer to its row."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from report_factory import make_trial

from pipeline.reporting import explorer
from pipeline.reporting.explorer import explorer_data
from pipeline.reporting.findings import read_findings
from pipeline.reporting.inputs import TrialReportInputs
from pipeline.reporting.pages import json_for_script
from pipeline.reporting.pairs import read_pairs


def _data(inputs: TrialReportInputs) -> dict:  # type: ignore[type-arg]
    return explorer_data(inputs, read_pairs(inputs.scores), read_findings(inputs.significance))


def test_every_answer_knows_its_line(tmp_path: Path) -> None:
    """The line of predictions.csv that is named holds the start of that very row, also behind answers with line breaks."""
    inputs = make_trial(tmp_path, hostile=True, n_open=12, n_closed=6, k=2)
    data, lines = _data(inputs), inputs.predictions.read_text("utf-8").split("\n")
    for arm in ("control", "treatment"):
        columns = data["answers"][arm]
        assert len(columns["line"]) == 36
        for line, custom_id in zip(columns["line"], columns["custom_id"], strict=True):
            assert lines[line - 1].startswith(custom_id + ",")


def test_replicates_of_an_entry_stand_together(tmp_path: Path) -> None:
    """`first` cuts the flat columns into the K answers of each entry, in order."""
    inputs = make_trial(tmp_path, n_open=8, n_closed=4, k=3)
    data = _data(inputs)
    with open(inputs.predictions, encoding="utf-8", newline="") as f:
        rows = [r for r in csv.DictReader(f) if r["condition"] == "treatment"]
    first, columns = data["answers"]["treatment"]["first"], data["answers"]["treatment"]
    for n, item in enumerate(data["entries"]["item"]):
        key = data["items"]["dataset"][item], data["items"]["id"][item]
        mine = [r["response_text"] for r in rows if (r["dataset"], r["item_id"]) == key]
        assert columns["text"][first[n] : first[n + 1]] == mine
        assert len(mine) == 3


def test_passages_stand_once(tmp_path: Path) -> None:
    """Ten questions on one passage embed it once."""
    data = _data(make_trial(tmp_path, n_open=60, n_closed=30))
    assert len(data["passages"]) == len(set(data["passages"])) == 6
    assert sum(p is None for p in data["items"]["passage"]) == 30


def test_raw_lines_are_shown_where_known(tmp_path: Path) -> None:
    """Where the caller says which results files hold the answers, the explorer carries file and line of each; none beyond their ends."""
    inputs = make_trial(tmp_path, n_open=5, n_closed=0)
    columns = _data(replace(inputs, raw_files=[("a/results.jsonl", 2), ("b/results.jsonl", 2)]))["answers"]["control"]
    with open(inputs.predictions, encoding="utf-8", newline="") as f:
        ids = [r["custom_id"] for r in csv.DictReader(f)]
    places = dict(zip(columns["custom_id"], zip(columns["file"], columns["raw_line"], strict=True), strict=True))
    at = {name: n for n, name in enumerate(columns["files"])}
    a, b = at["a/results.jsonl"], at["b/results.jsonl"]
    assert [places[i] for i in ids[:4]] == [(a, 1), (a, 2), (b, 1), (b, 2)]
    assert places[ids[4]] == (None, None)
    assert _data(inputs)["answers"]["control"]["file"] == []


def test_missing_item_file_leaves_the_answers(tmp_path: Path) -> None:
    """Without the prepared items the explorer still lists every answer under its id."""
    inputs = replace(make_trial(tmp_path, n_open=5, n_closed=5), item_files={"open": None, "closed": None})
    data = _data(inputs)
    assert data["items"]["question"] == [None] * 10
    assert sorted(data["items"]["dataset"])[0] == "alpha"
    assert len(data["answers"]["control"]["text"]) == 10


def test_too_many_items_keep_those_that_differ(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """Beyond the limit, items where the arms differ are kept first and the rest is counted."""
    inputs = make_trial(tmp_path, n_open=60, n_closed=30)
    whole = _data(inputs)
    changes = [b - a for a, b in zip(*(whole["scores"][c]["correct"] for c in ("control", "treatment")), strict=True)]
    monkeypatch.setattr(explorer, "MAX_ENTRIES", sum(map(bool, changes)) + 3)
    less = _data(inputs)
    kept = [b - a for a, b in zip(*(less["scores"][c]["correct"] for c in ("control", "treatment")), strict=True)]
    assert sum(map(bool, kept)) == sum(map(bool, changes))
    assert less["left_out"] == 90 - len(kept) > 0


def test_answers_beyond_the_budget_are_cut_alike(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """When all answers together are too long for a page, one lower cap holds for every answer."""
    monkeypatch.setattr(explorer, "MAX_CHARACTERS", 8_000)
    answers = _data(make_trial(tmp_path, hostile=True, n_open=10, n_closed=5))["answers"]
    assert answers["cap"] == 1_000
    assert max(map(len, answers["control"]["text"])) == 1_000


@given(st.recursive(st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_json_for_script_means_the_same_and_cannot_leave(value: object) -> None:
    """Embedded JSON decodes to the value and holds no character that an HTML parser acts on inside a script."""
    text = json_for_script(value)
    assert json.loads(text) == value
    assert not set("<>&\u2028\u2029") & set(text)
    text.encode("utf-8")
