"""From predictions.csv to per_item_scores.csv: the cells by hand, replicates, own metrics, and what malformed input is told."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.errors import ConfigError, ManifestError, StepError
from pipeline.base.rows import Item, encode
from pipeline.scoring import files, workers
from pipeline.scoring.files import PREDICTION_COLUMNS, SCORE_COLUMNS, score_file
from pipeline.scoring.items import ItemIndex
from pipeline.scoring.settings import ScoringSettings

PASSAGE = "Paris, the capital of France, lies on the Seine."
OPEN = [
    Item(dataset="squad_v2", id="1", question="What is the capital of France?", answers=["Paris"], context=PASSAGE),
    Item(dataset="squad_v2", id="2", question="Who founded it?", answers=[], context=PASSAGE, is_unanswerable=True),
    Item(dataset="mine", id="1", question="What?", answers=["x"], context=PASSAGE, cluster="c, 1"),
]
CLOSED = [
    Item(dataset="triviaqa", id="1", question="Which street?", answers=["sunset blvd", "sunset boulevard"]),
    Item(dataset="nq_open", id="1", question="Which mark?", answers=["unknown"]),
]


def write_items(folder: Path) -> dict[str, Path]:
    files = {"open": folder / "open_book.jsonl", "closed": folder / "closed_book.jsonl"}
    for items, path in ((OPEN, files["open"]), (CLOSED, files["closed"])):
        path.write_bytes(b"".join(encode(item) + b"\n" for item in items))
    return files


def prediction(key: str, text: str, **cells: object) -> dict[str, object]:
    dataset, item_id = key.split("|")
    row: dict[str, object] = dict.fromkeys(PREDICTION_COLUMNS, "") | {
        "custom_id": "c1", "dataset": dataset, "item_id": item_id, "condition": "control", "temp": "0", "sample_index": 0, "type": "open",
        "response_text": text, "outcome": "answered", "prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5, "unit": "u",
    }  # fmt: skip
    return row | cells


def write_predictions(path: Path, rows: list[dict[str, object]]) -> Path:
    text = io.StringIO()
    writer = csv.DictWriter(text, PREDICTION_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.write_bytes(text.getvalue().encode("utf-8"))
    return path


def score(
    folder: Path, rows: list[dict[str, object]], config: Mapping[str, Any] | None = None, root: Path | None = None
) -> tuple[list[dict[str, str]], dict[str, Any]]:
    out = folder / "per_item_scores.csv"
    facts = score_file(write_predictions(folder / "p.csv", rows), write_items(folder), out, ScoringSettings.from_config(config or {}), root)
    with open(out, encoding="utf-8", newline="") as f:
        return list(csv.DictReader(f)), facts


def test_cells_of_single_answers(tmp_path: Path) -> None:
    """A right, a partly right and an abstaining answer; empty cells where a measure is not defined; clusters by passage, word or item."""
    rows, facts = score(
        tmp_path,
        [
            prediction("squad_v2|1", "Paris"),
            prediction("squad_v2|2", "I don’t know."),
            prediction("mine|1", "x y", confidence="-0.25"),
            prediction("triviaqa|1", "Sunset_Boulevard", type="closed"),
            prediction("nq_open|1", "Unknown.", type="closed", temp="0.7"),
        ],
    )
    assert list(rows[0]) == list(SCORE_COLUMNS)
    first = rows[0]
    names = ("item_key", "type", "condition", "temp", "em", "f1", "abstain_rate", "unsupported_rate", "correct", "n")
    assert [first[c] for c in names] == [
        "squad_v2|1", "open", "control", "0", "1", "1", "0", "0", "1", "1",
    ]  # fmt: skip
    assert all(first[c] == "" for c in ("em_std", "f1_std", "correct_std", "false_answer_rate", "confidence"))
    silent = rows[1]
    assert [silent[c] for c in ("em", "f1", "abstain_rate", "false_answer_rate", "unsupported_rate", "correct")] == [
        "1",
        "1",
        "1",
        "0",
        "0",
        "1",
    ]
    assert first["cluster"] == silent["cluster"] and len(first["cluster"]) == 16
    partly = rows[2]
    assert [partly[c] for c in ("em", "f1", "correct", "unsupported_rate", "cluster", "confidence")] == [
        "0", "0.666666666667", "1", "1", "c, 1", "-0.25",
    ]  # fmt: skip
    street = rows[3]
    assert (street["em"], street["cluster"], street["unsupported_rate"]) == ("1", "triviaqa|1", "")
    assert (rows[4]["em"], rows[4]["abstain_rate"], rows[4]["temp"]) == ("1", "0", "0.7"), "a text that is itself a gold is an answer"
    assert facts == {"rows": 5, "items": 5, "answered": 5, "failed": 0, "truncated": 0, "refused": 0, "abstained": 1}


def test_replicates_are_means_with_their_deviation(tmp_path: Path) -> None:
    """Four answers to one item are one row: means, K-1 deviations, and the failed, truncated and refused counted as wrong."""
    outcomes = ["answered", "answered", "failed", "filtered"]
    texts = ["Paris", "the city of Paris", "", ""]
    replicates = [prediction("squad_v2|1", t, outcome=o, sample_index=i) for i, (t, o) in enumerate(zip(texts, outcomes, strict=True))]
    rows, facts = score(tmp_path, [*replicates, prediction("squad_v2|1", "Rome", outcome="truncated", condition="treatment")])
    row = rows[0]
    assert [row[c] for c in ("n", "em", "correct", "failed", "refused", "truncated")] == ["4", "0.25", "0.5", "1", "1", "0"]
    assert row["em_std"] == "0.5" and row["correct_std"] == f"{(1 / 3) ** 0.5:.12g}"
    assert row["f1"] == f"{(1 + 0.5) / 4:.12g}"
    assert (rows[1]["condition"], rows[1]["em"], rows[1]["truncated"]) == ("treatment", "0", "1")
    assert (facts["rows"], facts["items"], facts["failed"], facts["refused"], facts["truncated"]) == (5, 2, 1, 1, 1)


def test_failed_answers_to_unanswerable_items_are_wrong(tmp_path: Path) -> None:
    """No answer is not an abstention: it counts as a false answer, and makes no claim that could be unsupported."""
    rows, _ = score(tmp_path, [prediction("squad_v2|2", "", outcome="failed")])
    assert [rows[0][c] for c in ("em", "abstain_rate", "false_answer_rate", "unsupported_rate")] == ["0", "0", "1", "0"]


@pytest.mark.parametrize(
    ("unsupported", "rate"),
    [
        ({"threshold": 0.5}, "0"),
        ({"threshold": 0.6}, "0.5"),
        ({"threshold": 1, "min_token_overlap": 0.25}, "0"),
        ({"threshold": 1, "strategy": "baseline"}, "0.5"),
    ],
)
def test_unsupported_settings(tmp_path: Path, unsupported: dict[str, Any], rate: str) -> None:
    """An item abstained on often enough never counts as unsupported; strategy and overlap decide on the others."""
    replicates = [prediction("squad_v2|1", "I don't know"), prediction("squad_v2|1", "the Seine and more rivers", sample_index=1)]
    rows, _ = score(tmp_path, replicates, {"unsupported": unsupported})
    assert rows[0]["unsupported_rate"] == rate


def test_baseline_wants_a_substring_of_the_normalised_passage(tmp_path: Path) -> None:
    """Punctuation and articles do not matter, the order of words does."""
    for text, rate in (("capital of FRANCE", "0"), ("Paris capital", "0"), ("France capital", "1")):
        rows, _ = score(tmp_path, [prediction("squad_v2|1", text)], {"unsupported": {"strategy": "baseline"}})
        assert rows[0]["unsupported_rate"] == rate


def test_texts_with_quotes_and_line_breaks(tmp_path: Path) -> None:
    """A row may span lines of the file; a carriage return inside a text stays one row."""
    rows, facts = score(tmp_path, [prediction("squad_v2|1", 'He said "Paris",\nor\r\nnot'), prediction("mine|1", "x")])
    assert facts["rows"] == 2 and rows[1]["em"] == "1"


def test_same_input_same_bytes(tmp_path: Path) -> None:
    """Scoring twice gives the same file."""
    rows = [prediction("squad_v2|1", "a city, Paris"), prediction("triviaqa|1", "x", type="closed")]
    score(tmp_path, rows)
    first = (tmp_path / "per_item_scores.csv").read_bytes()
    score(tmp_path, rows)
    assert (tmp_path / "per_item_scores.csv").read_bytes() == first and b"\r" not in first


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"item_id": "9"}, r"squad_v2\|9 .*open_book"),
        ({"type": "other"}, r"type 'other'"),
        ({"outcome": "fine"}, r"p\.csv:2: unknown outcome 'fine'"),
    ],
)
def test_rows_that_fit_nothing(tmp_path: Path, change: dict[str, object], told: str) -> None:
    """An unknown item, type or outcome is named; nothing is written."""
    with pytest.raises(ManifestError, match=told):
        score(tmp_path, [prediction("squad_v2|1", "x") | change])
    assert not (tmp_path / "per_item_scores.csv").exists()


def test_wrong_columns(tmp_path: Path) -> None:
    """A file of other columns is refused at its first line."""
    (tmp_path / "p.csv").write_text("a,b\n")
    with pytest.raises(ManifestError, match=r"p\.csv:1: expected the columns custom_id,"):
        score_file(tmp_path / "p.csv", write_items(tmp_path), tmp_path / "out.csv", ScoringSettings())


def test_item_index_finds_by_key_and_refuses_other_lines(tmp_path: Path) -> None:
    """Items are read by seek; a key that is not there is None; a line that is no item is named."""
    files = write_items(tmp_path)
    with ItemIndex(files["open"]) as index:
        assert len(index) == 3 and index.get("mine|1") == OPEN[2] and index.get("mine|2") is None
    files["open"].write_bytes(files["open"].read_bytes() + b'{"dataset": 3}\n')
    with pytest.raises(ManifestError, match=r"open_book\.jsonl:4"):
        ItemIndex(files["open"])
    (tmp_path / "empty.jsonl").write_bytes(b"")
    with ItemIndex(tmp_path / "empty.jsonl") as index:
        assert index.get("a|b") is None


MODULE = """
def polite(item, answer, row, *, word="please"):
    return {"polite": float(word in answer), "tokens": row.usage.completion_tokens}

def picky(item, answer, row):
    if item.id == "2":
        raise KeyError("two")
    return 0.5

def slow(item, answer, row):
    import time
    time.sleep(0.02)
    return True

def wild(item, answer, row):
    return {"1": "many", "x": 7, "y": float("nan")}.get(answer, answer)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "own_metrics.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "own_metrics", raising=False)
    return tmp_path


def test_own_metric_with_named_numbers(own: Path) -> None:
    """Named numbers get columns after ours; options arrive as keywords; failures take the worst end of the range."""
    metrics = [
        {"name": "polite", "use": "own_metrics:polite", "range": [0, 10], "options": {"word": "kindly"}},
        {"name": "words", "use": "length", "higher_is_better": False},
    ]
    rows, _ = score(own, [prediction("squad_v2|1", "kindly Paris"), prediction("mine|1", "", outcome="failed")], {"metrics": metrics}, own)
    assert list(rows[0])[len(SCORE_COLUMNS) :] == ["polite", "polite_std", "polite_tokens", "polite_tokens_std", "words", "words_std"]
    assert [rows[0][c] for c in ("polite", "polite_tokens", "words")] == ["1", "2", "2"]
    assert [rows[1][c] for c in ("polite", "polite_tokens", "words")] == ["0", "0", ""]


def test_own_metric_that_raises_names_items_and_function(own: Path) -> None:
    """The error says which function failed on which items and why, after trying them all; no file is written."""
    with pytest.raises(StepError, match=r"metric picky: own_metrics:picky failed on 1 answers: squad_v2\|2: KeyError: 'two'"):
        score(
            own,
            [prediction("squad_v2|1", "x"), prediction("squad_v2|2", "x")],
            {"metrics": [{"name": "picky", "use": "own_metrics:picky"}]},
            own,
        )
    assert not (own / "per_item_scores.csv").exists()


def test_own_metric_without_a_row(own: Path) -> None:
    """A function of item and answer alone will do."""
    (own / "own_metrics.py").write_text("def same(item, answer, *, factor=1):\n    return factor * (answer in item.answers)\n")
    metric = {"name": "same", "use": "own_metrics:same", "options": {"factor": 3}}
    rows, _ = score(own, [prediction("mine|1", "x"), prediction("squad_v2|1", "x")], {"metrics": [metric]}, own)
    assert [row["same"] for row in rows] == ["3", "0"]


@pytest.mark.parametrize(("answer", "told"), [("1", "'many'.*not a number"), ("x", "7 for wild, outside its range"), ("y", "returned nan")])
def test_own_metric_that_returns_nonsense(own: Path, answer: str, told: str) -> None:
    """Text, NaN and numbers outside the declared range are refused with item and function."""
    with pytest.raises(StepError, match=rf"mine\|1: .*{told}"):
        score(own, [prediction("mine|1", answer)], {"metrics": [{"name": "wild", "use": "own_metrics:wild", "range": [0, 1]}]}, own)


def test_slow_metric_is_reported(own: Path) -> None:
    """Calls that take longer than `slow_seconds` are named with item and seconds."""
    _, facts = score(
        own, [prediction("mine|1", "x")], {"metrics": [{"name": "slow", "use": "own_metrics:slow"}], "slow_seconds": 0.01}, own
    )
    assert facts["slow_calls"] == 1
    assert (facts["slow"][0]["metric"], facts["slow"][0]["item"]) == ("slow", "mine|1") and facts["slow"][0]["seconds"] >= 0.01


@pytest.mark.parametrize(
    ("metric", "told"),
    [
        ({"name": "m", "use": "absent_module:f"}, "metrics: m: use: cannot import 'absent_module'"),
        ({"name": "m", "use": "own_metrics:absent"}, "no function 'absent'"),
        ({"name": "m", "use": "absent"}, "no built-in metric.*numeric"),
        ({"name": "m", "use": "own_metrics:picky", "options": {"x": 1}}, "cannot be called as"),
        ({"name": "m", "use": "regex"}, "missing a required argument: 'pattern'"),
        ({"name": "m", "use": "regex", "options": {"pattern": "("}}, "not a regular expression"),
        ({"name": "em", "use": "exact_match"}, "the column 'em' is taken"),
        ({"name": "a b"}, "expected a name"),
        ({"name": "m", "range": [1, 0]}, r"metrics\[0\]\.range"),
        ({"name": "m", "speed": 1}, "unknown key 'speed'"),
    ],
)
def test_metrics_that_cannot_be_had(own: Path, metric: dict[str, Any], told: str) -> None:
    """Each mistake in the config is one sentence with its key path."""
    with pytest.raises(ConfigError, match=told):
        score(own, [prediction("mine|1", "x")], {"metrics": [metric]}, own)


def test_row_of_a_metric_is_the_result_row(own: Path) -> None:
    """A metric sees error, tool calls, confidence and usage as the result row has them."""
    (own / "own_metrics.py").write_text(
        "def look(item, answer, row):\n    return {'calls': len(row.tool_calls), 'confidence': row.confidence}\n"
    )
    calls = json.dumps([{"name": "f"}, {"name": "g"}])
    rows, _ = score(
        own,
        [prediction("mine|1", "x", tool_calls=calls, confidence="-1.5")],
        {"metrics": [{"name": "look", "use": "own_metrics:look"}]},
        own,
    )
    assert (rows[0]["look_calls"], rows[0]["look_confidence"]) == ("2", "-1.5")


def many(folder: Path, n: int) -> tuple[Path, dict[str, Path]]:
    rows = [prediction("squad_v2|1", f"answer {i}, Paris" if i % 3 else "I don't know", sample_index=0, temp=str(i)) for i in range(n)]
    return write_predictions(folder / "p.csv", rows), write_items(folder)


@pytest.mark.parametrize("processes", [1, 2])
def test_rows_stay_in_the_order_of_the_predictions(tmp_path: Path, processes: int) -> None:
    """Arms that have other items, or the same in another order, are scored item by item all the same."""
    control = [("squad_v2|1", "Paris"), ("squad_v2|2", "Paris"), ("mine|1", "x")]
    treatment = [("mine|1", "x"), ("squad_v2|2", "I don't know"), ("squad_v2|1", "Rome"), ("squad_v2|1", "Paris")]
    rows = [prediction(key, text, condition="control") for key, text in control]
    rows += [prediction(key, text, condition="treatment", temp=str(i)) for i, (key, text) in enumerate(treatment)]
    out = tmp_path / "out.csv"
    score_file(write_predictions(tmp_path / "p.csv", rows), write_items(tmp_path), out, ScoringSettings(), processes=processes)
    with open(out, encoding="utf-8", newline="") as f:
        found = [(r["item_key"], r["condition"], r["em"], r["abstain_rate"]) for r in csv.DictReader(f)]
    assert found == [
        ("squad_v2|1", "control", "1", "0"), ("squad_v2|2", "control", "0", "0"), ("mine|1", "control", "1", "0"),
        ("mine|1", "treatment", "1", "0"), ("squad_v2|2", "treatment", "1", "1"), ("squad_v2|1", "treatment", "0", "0"),
        ("squad_v2|1", "treatment", "1", "0"),
    ]  # fmt: skip


@pytest.mark.parametrize("processes", [2, 3])
def test_workers_change_no_byte(tmp_path: Path, processes: int) -> None:
    """The file and the counts are the same, however many processes score; the last blocks may be uneven."""
    predictions, items = many(tmp_path, 5 * files.BLOCK // 2)
    alone = score_file(predictions, items, tmp_path / "alone.csv", ScoringSettings(), processes=1)
    shared = score_file(predictions, items, tmp_path / "shared.csv", ScoringSettings(), processes=processes)
    assert shared == alone and alone["rows"] == 5 * files.BLOCK // 2
    assert (tmp_path / "shared.csv").read_bytes() == (tmp_path / "alone.csv").read_bytes()


def test_errors_of_workers_arrive_whole(tmp_path: Path) -> None:
    """What a worker finds wrong is raised in the parent with its place, and nothing is written."""
    predictions, items = many(tmp_path, 10)
    predictions.write_text(predictions.read_text("utf-8").replace("answered", "fine"), "utf-8")
    with pytest.raises(ManifestError, match=r"p\.csv:2: unknown outcome 'fine'"):
        score_file(predictions, items, tmp_path / "out.csv", ScoringSettings(), processes=2)
    assert not (tmp_path / "out.csv").exists()


def test_a_killed_worker_is_an_error_not_a_short_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that dies before its counts ends the step; the file does not appear."""
    monkeypatch.setattr(workers, "_START", "import sys; sys.stdin.buffer.read(); sys.exit(9)")
    predictions, items = many(tmp_path, 10)
    with pytest.raises(StepError, match=r"worker ended early \(exit 9\)"):
        score_file(predictions, items, tmp_path / "out.csv", ScoringSettings(), processes=2)
    assert not (tmp_path / "out.csv").exists()
