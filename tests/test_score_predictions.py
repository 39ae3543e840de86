"""`python -m scripts.score_predictions`: official totals as one JSON object, mistakes as one line and exit 2."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scripts.score_predictions import main
from tests.shared_data import shared


def _qa(key: str, golds: list[str], plausible: list[str] | None = None) -> dict[str, Any]:
    answers = [{"text": gold, "answer_start": 0} for gold in golds]
    return {
        "id": key,
        "question": "?",
        "is_impossible": not golds,
        "answers": answers,
        "plausible_answers": [{"text": t} for t in plausible or []],
    }


QAS = [_qa("a", ["big red dog", "."]), _qa("b", ["the cat"]), _qa("c", [], ["fish"])]
SQUAD = {"version": "v2.0", "data": [{"title": "t", "paragraphs": [{"context": "c", "qas": QAS}]}]}


def run(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, dict[str, Any], str]:
    code = main([str(a) for a in args])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else {}, err


def write(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value), "utf-8")
    return path


def test_squad_totals_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One partial, one exact, one right silence: totals over all, answerable and unanswerable questions. Plausible answers are no golds."""
    data = write(tmp_path / "data.json", SQUAD)
    answers = write(tmp_path / "p.json", {"a": "red dog", "b": "Cat", "c": ""})
    code, total, err = run(capsys, "--dataset", "squad_v2", "--data", data, "--predictions", answers)
    assert code == 0 and err == ""
    assert total == {
        "exact": 100 * 2 / 3, "f1": 100 * (0.8 + 1 + 1) / 3, "total": 3,
        "HasAns_exact": 50.0, "HasAns_f1": 100 * 1.8 / 2, "HasAns_total": 2, "NoAns_exact": 100.0, "NoAns_f1": 100.0, "NoAns_total": 1,
    }  # fmt: skip
    fish = write(tmp_path / "p.json", {"a": "red dog", "b": "Cat", "c": "fish"})
    assert run(capsys, "--dataset", "squad_v2", "--data", data, "--predictions", fish)[1]["NoAns_exact"] == 0


def test_abstention_is_the_empty_answer_unless_asked_otherwise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """ "I don't know" is right on an unanswerable question; with --abstentions as_text it is a text like any other."""
    data = write(tmp_path / "data.json", SQUAD)
    answers = write(tmp_path / "p.json", {"a": "I don’t know.", "b": "cat", "c": "I don't know"})
    code, total, err = run(capsys, "--dataset", "squad_v2", "--data", data, "--predictions", answers)
    assert (code, total["NoAns_exact"], total["HasAns_exact"]) == (0, 100.0, 50.0)
    assert "2 abstentions" in err
    _, total, err = run(capsys, "--dataset", "squad_v2", "--data", data, "--predictions", answers, "--abstentions", "as_text")
    assert total["NoAns_exact"] == 0.0 and err == ""


def test_missing_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """SQuAD's script cannot total missing answers: they are refused, or counted as wrong on demand. A file of other ids is refused."""
    data = write(tmp_path / "data.json", SQUAD)
    answers = write(tmp_path / "p.json", {"a": "big red dog", "b": "cat"})
    code, total, err = run(capsys, "--dataset", "squad_v2", "--data", data, "--predictions", answers)
    assert (code, total) == (2, {}) and "1 of 3" in err and "'c'" in err and "--missing wrong" in err
    _, total, _ = run(capsys, "--dataset", "squad_v2", "--data", data, "--predictions", answers, "--missing", "wrong")
    assert total["exact"] == pytest.approx(200 / 3) and total["NoAns_exact"] == 0
    other = write(tmp_path / "p.json", {"z": "x"})
    assert run(capsys, "--dataset", "squad_v2", "--data", data, "--predictions", other, "--missing", "wrong")[0] == 2


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 1}', '"x"'])
def test_predictions_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str) -> None:
    """Anything but an object of texts is one line on stderr, exit 2, nothing on stdout."""
    data = write(tmp_path / "data.json", SQUAD)
    answers = tmp_path / "p.json"
    answers.write_text(content)
    code, total, err = run(capsys, "--dataset", "squad_v2", "--data", data, "--predictions", answers)
    assert (code, total) == (2, {}) and err.startswith("error: ") and err.count("\n") == 1 and "p.json" in err


@pytest.mark.parametrize("dataset", ["squad_v2", "nq_open", "triviaqa"])
def test_data_of_another_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str], dataset: str) -> None:
    """A data file of another dataset, or none at all, is named with its path."""
    answers = write(tmp_path / "p.json", {"a": "x"})
    wrong = write(tmp_path / "wrong.json", {"rows": [1]})
    for data in (wrong, tmp_path / "absent.json"):
        code, _, err = run(capsys, "--dataset", dataset, "--data", data, "--predictions", answers)
        assert code == 2 and data.name in err and "Traceback" not in err


def test_triviaqa_scores_normalised_aliases_by_question_or_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Golds are NormalizedAliases, not Value; keys are question ids, or `<id>--<document>` as in the official web evaluation."""
    data = shared("triviaqa/triviaqa_sample.json")
    answers = write(tmp_path / "p.json", {"tc_33": "The Sunset_Boulevard!"})
    _, total, _ = run(capsys, "--dataset", "triviaqa", "--data", data, "--predictions", answers)
    assert (total["exact_match"], total["f1"], total["denominator"]) == (100.0, 100.0, 1)
    answers = write(tmp_path / "p.json", {"tc_33--Andrew_Lloyd_Webber.txt": "Sunset Boulevard musical"})
    _, total, _ = run(capsys, "--dataset", "triviaqa", "--data", data, "--predictions", answers)
    assert (total["exact_match"], total["common"], total["denominator"]) == (0.0, 1, 2)
    assert total["f1"] == pytest.approx(100 * 0.8 / 2)
    only = {"Domain": "Wikipedia", "Data": [{"QuestionId": "q", "Answer": {"Value": "Paris", "NormalizedAliases": ["lutetia"]}}]}
    answers = write(tmp_path / "p.json", {"q": "Paris"})
    assert run(capsys, "--dataset", "triviaqa", "--data", write(tmp_path / "d.json", only), "--predictions", answers)[1]["exact"] == 0.0


def _squad_questions() -> list[tuple[str, list[str], str]]:
    data = json.loads(shared("squad/dev-v2.0.json").read_text("utf-8"))
    return [
        (qa["id"], [a["text"] for a in qa["answers"]], p["context"])
        for article in data["data"]
        for p in article["paragraphs"]
        for qa in p["qas"]
    ]


def test_squad_dev_perfect_empty_and_first_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The whole dev set: perfect answers are 100 everywhere, empty ones right on exactly the 5,945 unanswerable questions."""
    data, questions = shared("squad/dev-v2.0.json"), _squad_questions()
    cases = {
        "perfect": {key: golds[-1] if golds and golds[-1] != "." else (golds or [""])[0] for key, golds, _ in questions},
        "empty": {key: "" for key, _, _ in questions},
        "sentence": {key: context.split(". ")[0] for key, _, context in questions},
    }
    totals = {}
    for name, answers in cases.items():
        path = write(tmp_path / f"{name}.json", answers)
        code, totals[name], _ = run(capsys, "--dataset", "squad_v2", "--data", data, "--predictions", path)
        assert code == 0
    assert {k: v for k, v in totals["perfect"].items() if not k.endswith("total")} == dict.fromkeys(
        ["exact", "f1", "HasAns_exact", "HasAns_f1", "NoAns_exact", "NoAns_f1"], 100.0
    )
    assert [totals["perfect"][k] for k in ("total", "HasAns_total", "NoAns_total")] == [11873, 5928, 5945]
    assert totals["empty"]["exact"] == totals["empty"]["f1"] == 100 * 5945 / 11873
    assert (totals["empty"]["HasAns_f1"], totals["empty"]["NoAns_exact"]) == (0.0, 100.0)
    assert totals["sentence"]["NoAns_exact"] == 0.0 and totals["sentence"]["exact"] == 100 * 2 / 11873
    assert totals["sentence"]["f1"] == 5.0977277714631315


def test_nq_dev_perfect_and_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """NQ-open dev, keyed by question: perfect answers 100; the empty answer is right on the four golds that normalise to nothing."""
    data = shared("nq/NQ-open.dev.jsonl")
    rows = [json.loads(line) for line in data.read_text("utf-8").splitlines()]
    perfect = write(tmp_path / "p.json", {row["question"]: row["answer"][-1] for row in rows})
    empty = write(tmp_path / "e.json", {row["question"]: "" for row in rows})
    total = run(capsys, "--dataset", "nq_open", "--data", data, "--predictions", perfect)[1]
    assert (total["exact"], total["total"]) == (100.0, 3610)
    total = run(capsys, "--dataset", "nq_open", "--data", data, "--predictions", empty)[1]
    assert (total["exact"], total["num_correct"]) == (100 * 4 / 3610, 4)
