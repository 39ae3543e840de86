"""The official totals of answers produced elsewhere: SQuAD 2.0, NQ-open and TriviaQA data files against `{id: answer}`.

Sums run in the order of the data file, as in the official scripts, so that totals agree to the last digit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from pipeline.base.errors import UsageError
from pipeline.scoring.normalise import normalise
from pipeline.scoring.official import em_f1


class Question(msgspec.Struct):
    """One question of a data file: its key in the predictions, its golds, and whether it has an answer at all."""

    key: str
    golds: list[str]
    answerable: bool = True


class Answers(msgspec.Struct):
    """`texts` to score by key, and how many of them were read as abstentions."""

    texts: dict[str, str]
    abstentions: int = 0


def read_squad(path: Path) -> list[Question]:
    """The questions of a SQuAD file, in order. `plausible_answers` are no golds. Raises UsageError where it is none."""
    try:
        return [
            Question(qa["id"], [answer["text"] for answer in qa["answers"]], bool(qa["answers"]))
            for article in _load(path)["data"]
            for paragraph in article["paragraphs"]
            for qa in paragraph["qas"]
        ]
    except (KeyError, TypeError) as e:
        raise _not_a("SQuAD 2.0", path, e) from e


def read_nq(path: Path) -> list[Question]:
    """The questions of an NQ-open JSONL file, keyed by question. Raises UsageError where it is none."""
    questions = []
    try:
        for line in path.read_bytes().splitlines():
            if line.strip():
                row = msgspec.json.decode(line)
                questions.append(Question(row["question"], list(row["answer"])))
    except (KeyError, TypeError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise _not_a("NQ-open", f"{path}:{len(questions) + 1}", e) from e
    return questions


def read_triviaqa(path: Path, keys: Mapping[str, Any]) -> list[Question]:
    """The questions of a TriviaQA file: golds are `NormalizedAliases` (and the normalised `HumanAnswers`), never `Value`.

    The official script keys web questions by `<id>--<document>`; so does this where a key of the predictions is of that form, and
    otherwise by question id. Raises UsageError where the file is no TriviaQA file.
    """
    found: dict[str, Question] = {}
    try:
        data = _load(path)
        by_document = data.get("Domain") != "Wikipedia" and any("--" in key for key in keys)
        for row in data["Data"]:
            answer, key = row["Answer"], row["QuestionId"]
            golds = [*answer["NormalizedAliases"], *(normalise(text, "triviaqa") for text in answer.get("HumanAnswers", []))]
            pages = [*row.get("EntityPages", []), *row.get("SearchResults", [])] if by_document else []
            for name in [f"{key}--{page['Filename']}" for page in pages] if by_document else [key]:
                found[name] = Question(name, golds)  # a repeated id keeps its place and its last golds, as in a dict
    except (KeyError, TypeError) as e:
        raise _not_a("TriviaQA", path, e) from e
    return list(found.values())


def read_predictions(path: Path) -> dict[str, str]:
    """`{id: answer text}`. Raises UsageError where the file is anything else."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    except OSError as e:
        raise UsageError(f"cannot be read: {e.strerror}", where=str(path)) from e
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise UsageError(f"not a JSON object of texts by id: {e}", where=str(path)) from e


def blank_abstentions(questions: Sequence[Question], texts: Mapping[str, str], kind: str, abstains: Callable[[str], bool]) -> Answers:
    """`texts` with abstentions replaced by the empty answer; a text that matches a gold ("unknown") is an answer."""
    result = Answers(dict(texts))
    for question in questions:
        text = texts.get(question.key, "")
        if text and abstains(text) and not (question.golds and em_f1(text, question.golds, kind)[0]):
            result.texts[question.key] = ""
            result.abstentions += 1
    return result


def squad_totals(questions: Sequence[Question], texts: Mapping[str, str]) -> dict[str, Any]:
    """`exact, f1, total` in percent, then the same over answerable (`HasAns_*`) and unanswerable questions (`NoAns_*`)."""
    scores = {q.key: em_f1(texts[q.key], q.golds, "squad_v2") for q in questions if q.key in texts}

    def percent(keys: Sequence[str]) -> dict[str, Any]:
        total = len(keys)
        sums = (sum(scores.get(key, (0, 0.0))[i] for key in keys) for i in (0, 1))
        exact, f1 = (100.0 * s / total for s in sums)
        return {"exact": exact, "f1": f1, "total": total}

    result = percent([q.key for q in questions])
    for name, wanted in (("HasAns", True), ("NoAns", False)):
        if keys := [q.key for q in questions if q.answerable is wanted]:
            result.update({f"{name}_{measure}": value for measure, value in percent(keys).items()})
    return result


def nq_totals(questions: Sequence[Question], texts: Mapping[str, str]) -> dict[str, Any]:
    """`exact` (also as `exact_match`) in percent of all questions, `num_correct`, `missing_predictions`, `total`."""
    answered = [q for q in questions if q.key in texts]
    right = sum(em_f1(texts[q.key], q.golds, "nq_open")[0] for q in answered)
    total = len(questions)
    exact = 100.0 * right / total
    return {"exact": exact, "exact_match": exact, "num_correct": right, "missing_predictions": total - len(answered), "total": total}


def triviaqa_totals(questions: Sequence[Question], texts: Mapping[str, str]) -> dict[str, Any]:
    """`exact_match, f1` in percent of all questions, `common, denominator, pred_len, gold_len` as the official script counts them.

    `exact` and `total` repeat `exact_match` and `denominator`, so that these two stand in the totals of every dataset.
    """
    scores = [em_f1(texts[q.key], q.golds, "triviaqa") for q in questions if q.key in texts]
    total = len(questions)
    exact, f1 = 100.0 * sum(em for em, _ in scores) / total, 100.0 * sum(f for _, f in scores) / total
    result = {"exact_match": exact, "f1": f1, "common": len(scores), "denominator": total, "pred_len": len(texts), "gold_len": total}
    return result | {"exact": exact, "total": total}


def _load(path: Path) -> Any:
    try:
        return msgspec.json.decode(path.read_bytes())
    except OSError as e:
        raise UsageError(f"cannot be read: {e.strerror}", where=str(path)) from e
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise UsageError(f"not readable as JSON: {e}", where=str(path)) from e


def _not_a(what: str, where: str | Path, e: Exception) -> UsageError:
    reason = f"no key {e}" if isinstance(e, KeyError) else str(e)
    return UsageError(f"not a file of {what}: {reason}", where=str(where), remedy="Check --dataset and --data.")
