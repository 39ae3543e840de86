"""Official data sets: SQuAD 2.0, NQ-open and TriviaQA, read as their own scripts understand them."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from shared_data import shared

from pipeline.base.digests import sha256_file
from pipeline.base.errors import ConfigError
from pipeline.base.rows import Item
from pipeline.sources import read


def write(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value), "utf-8")
    return path


def items(path: Path, kind: str, type: str, **more: Any) -> list[Item]:
    return [item for item, _place in read({"kind": kind, "path": path.name, **more}, path.parent, type)]  # type: ignore[arg-type]


def squad(tmp_path: Path, *qas: dict[str, Any]) -> Path:
    paragraphs = [{"context": f"Passage {n}.", "qas": [qa]} for n, qa in enumerate(qas)]
    return write(tmp_path / "squad.json", {"version": "v2.0", "data": [{"title": "Article", "paragraphs": paragraphs}]})


def qa(id: str, *answers: str, **more: Any) -> dict[str, Any]:
    golds = [{"text": text, "answer_start": 0} for text in answers]
    return {"id": id, "question": "Which?", "answers": golds, "is_impossible": not answers, **more}


# --- SQuAD 2.0 ---------------------------------------------------------------------------------------------------------


def test_squad_dev_has_its_known_counts_and_is_read_in_well_under_a_second() -> None:
    """11,873 questions, 5,945 of them unanswerable, over 35 articles and 1,204 passages; 4 MB take under a second of processor time."""
    path = shared("squad/dev-v2.0.json")
    start = time.process_time()
    rows = items(path, "squad_v2", "open")
    assert time.process_time() - start < 1.0
    assert len(rows) == 11873
    assert sum(row.is_unanswerable for row in rows) == 5945
    assert len({row.cluster for row in rows}) == 35
    assert len({row.context for row in rows}) == 1204
    assert all(row.question == row.question.strip() for row in rows)
    assert Counter(row.id for row in rows).most_common(1)[0][1] == 1
    assert sum("." in row.answers for row in rows) == 3  # golds that normalise to nothing are kept: scoring drops them


def test_squad_dev_is_verified_by_its_sha256() -> None:
    """The declared sha256 is compared with the file's; another one is refused with both values."""
    path = shared("squad/dev-v2.0.json")
    assert len(items(path, "squad_v2", "open", sha256=sha256_file(path))) == 11873
    with pytest.raises(ConfigError, match=r"declares 0000") as e:
        items(path, "squad_v2", "open", sha256="0" * 64)
    assert sha256_file(path) in str(e.value)


def test_squad_dev_clusters_by_passage_on_request() -> None:
    """`cluster: passage` gives one cluster a passage, one to one."""
    rows = items(shared("squad/dev-v2.0.json"), "squad_v2", "open", cluster="passage")
    assert len({row.cluster for row in rows}) == len({(row.cluster, row.context) for row in rows}) == 1204


def test_plausible_answers_are_not_gold(tmp_path: Path) -> None:
    """An impossible question has no answers, whatever its plausible ones are."""
    path = squad(tmp_path, qa("u", plausible_answers=[{"text": "trap", "answer_start": 0}]))
    (row,) = items(path, "squad_v2", "open")
    assert row.is_unanswerable
    assert row.answers == []


def test_squad_golds_stand_once_and_in_order(tmp_path: Path) -> None:
    """Repeated gold answers of several annotators are kept once."""
    (row,) = items(squad(tmp_path, qa("a", "two", "one", "two")), "squad_v2", "open")
    assert row.answers == ["two", "one"]
    assert (row.dataset, row.cluster, row.meta) == ("squad_v2", "Article", {"title": "Article"})


def test_a_squad_place_is_a_json_path(tmp_path: Path) -> None:
    """The official file is one line, so a place names the path inside it."""
    path = squad(tmp_path, qa("a", "x"), qa("b", "y"))
    places = [place for _item, place in read({"kind": "squad_v2", "path": "squad.json"}, path.parent, "open")]
    assert places == ["squad.json:$.data[0].paragraphs[0].qas[0]", "squad.json:$.data[0].paragraphs[1].qas[0]"]


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ([qa("a", "x"), qa("a", "y")], r"squad.json:\$.data\[0\].paragraphs\[1\].qas\[0\]: the id 'a' .* first at squad.json:\$.data\[0\]"),
        ([qa("a", is_impossible=False)], "has no answers"),
        ([qa("a", "x", is_impossible=True)], "unanswerable but has answers"),
        ([qa("a", "x", question="  ")], "question is empty|length >= 1"),
        ([{**qa("a", "x"), "answers": "x"}], r"Expected `array`, got `str` - at `\$.data\[0\].paragraphs\[0\].qas\[0\].answers`"),
    ],
)
def test_broken_squad_questions_are_refused(tmp_path: Path, broken: list[dict[str, Any]], said: str) -> None:
    """Repeated ids, contradictions about answerability, empty questions and wrong shapes: with place, reason and remedy."""
    with pytest.raises(ConfigError, match=said) as e:
        items(squad(tmp_path, *broken), "squad_v2", "open")
    assert e.value.where is not None
    assert e.value.remedy is not None


@pytest.mark.parametrize(
    ("data", "where"), [(b'{"data": [\n{"title": "x",}]}', "squad.json:2"), (b'{"data":\n\n"\xff"}', "squad.json:3"), (b"", "squad.json")]
)
def test_files_that_are_no_json_are_refused_with_their_line(tmp_path: Path, data: bytes, where: str) -> None:
    """Malformed JSON and bytes that are no UTF-8 name the line."""
    (tmp_path / "squad.json").write_bytes(data)
    with pytest.raises(ConfigError) as e:
        items(tmp_path / "squad.json", "squad_v2", "open")
    assert e.value.where == where


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    """A file saved with a byte order mark reads the same."""
    path = squad(tmp_path, qa("a", "x"))
    plain = items(path, "squad_v2", "open")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert items(path, "squad_v2", "open") == plain


def test_unknown_cluster_option_is_refused(tmp_path: Path) -> None:
    """Only article and passage are known."""
    with pytest.raises(ConfigError, match="Use article"):
        items(squad(tmp_path, qa("a", "x")), "squad_v2", "open", cluster="chapter")


# --- NQ-open -----------------------------------------------------------------------------------------------------------


def test_nq_open_dev_has_its_known_count() -> None:
    """3,610 questions, all with answers, ids that depend on the question alone."""
    path = shared("nq/NQ-open.dev.jsonl")
    rows = items(path, "nq_open", "closed")
    assert len(rows) == len({row.id for row in rows}) == 3610
    assert rows[0].id == "nq-f5b0a6b8d9d9"
    assert rows[0].answers == ["14 December 1972 UTC", "December 1972"]


def test_nq_ids_survive_reordering(tmp_path: Path) -> None:
    """The id is of the question, not of the line."""
    lines = [json.dumps({"question": q, "answer": ["x"]}) for q in ("who", "what")]
    path = tmp_path / "nq.jsonl"
    path.write_text("\n".join(lines) + "\n")
    first = {row.question: row.id for row in items(path, "nq_open", "closed")}
    path.write_text("\n".join(reversed(lines)))
    assert {row.question: row.id for row in items(path, "nq_open", "closed")} == first


def test_a_repeated_nq_question_is_refused_with_both_lines(tmp_path: Path) -> None:
    """Two lines with one question would share an id."""
    (tmp_path / "nq.jsonl").write_text('{"question": "who", "answer": ["x"]}\n' * 2)
    with pytest.raises(ConfigError, match=r"nq.jsonl:2: .*stands twice, first at nq.jsonl:1"):
        items(tmp_path / "nq.jsonl", "nq_open", "closed")


def test_a_truncated_nq_line_is_refused_with_its_line(tmp_path: Path) -> None:
    """A torn download is told by its line."""
    (tmp_path / "nq.jsonl").write_text('{"question": "who", "answer": ["x"]}\n{"question": "wh')
    with pytest.raises(ConfigError, match=r"nq.jsonl:2: .*truncated"):
        items(tmp_path / "nq.jsonl", "nq_open", "closed")


# --- TriviaQA ----------------------------------------------------------------------------------------------------------


def trivia(id: str, *aliases: str, question: str = "Which?", **more: Any) -> dict[str, Any]:
    answer = {"Value": "VALUE", "Aliases": list(aliases), "NormalizedAliases": [a.lower() for a in aliases], "Type": "FreeForm", **more}
    return {"QuestionId": id, "Question": question, "Answer": answer, "QuestionSource": "s", "SearchResults": [{"Rank": 0}]}


def trivia_file(tmp_path: Path, *rows: dict[str, Any]) -> Path:
    return write(tmp_path / "tqa.json", {"Data": list(rows), "Domain": "Web", "VerifiedEval": False, "Version": 1.0})


def test_the_official_triviaqa_sample() -> None:
    """Aliases as answers; NormalizedAliases, which the official script scores against, in meta."""
    (row,) = items(shared("triviaqa/triviaqa_sample.json"), "triviaqa", "closed")
    assert row.id == "tc_33"
    assert row.answers == ["Sunset Blvd", "West Sunset Boulevard", "Sunset Boulevard", "Sunset Bulevard", "Sunset Blvd."]
    assert row.meta["normalized_aliases"] == ["west sunset boulevard", "sunset blvd", "sunset boulevard", "sunset bulevard"]


def test_value_is_an_answer_only_without_aliases(tmp_path: Path) -> None:
    """The official script never reads Value."""
    with_alias, without = items(trivia_file(tmp_path, trivia("a", "Alias"), trivia("b")), "triviaqa", "closed")
    assert with_alias.answers == ["Alias"]
    assert without.answers == ["VALUE"]


def test_ids_that_repeat_across_domains_are_one_question(tmp_path: Path) -> None:
    """Merged files repeat a question under its id: it is asked once, and its aliases are joined."""
    rows = items(trivia_file(tmp_path, trivia("a", "One"), trivia("b", "B"), trivia("a", "One", "Two")), "triviaqa", "closed")
    assert [row.id for row in rows] == ["a", "b"]
    assert rows[0].answers == ["One", "Two"]
    assert rows[0].meta["normalized_aliases"] == ["one", "two"]


def test_one_id_with_two_questions_is_refused(tmp_path: Path) -> None:
    """A repeated id is merged only where the question is the same."""
    path = trivia_file(tmp_path, trivia("a", "One"), trivia("a", "One", question="What?"))
    with pytest.raises(ConfigError, match=r"tqa.json:\$.Data\[1\]: the id 'a' stands twice with different questions"):
        items(path, "triviaqa", "closed")


def test_human_answers_of_verified_sets_are_gold(tmp_path: Path) -> None:
    """HumanAnswers count beside the aliases, and stay apart in meta because they are not normalised."""
    (row,) = items(trivia_file(tmp_path, trivia("a", "One", HumanAnswers=["Uno"])), "triviaqa", "closed")
    assert row.answers == ["One", "Uno"]
    assert row.meta["human_answers"] == ["Uno"]


def test_test_files_without_answers_are_refused(tmp_path: Path) -> None:
    """The official test files have no Answer."""
    row = trivia("a", "One")
    del row["Answer"]
    with pytest.raises(ConfigError, match="use a dev file"):
        items(trivia_file(tmp_path, row), "triviaqa", "closed")


# --- all of them -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "type", "other"), [("squad_v2", "closed", "open"), ("nq_open", "open", "closed"), ("triviaqa", "open", "closed")]
)
def test_a_kind_is_refused_under_the_wrong_type(tmp_path: Path, kind: str, type: str, other: str) -> None:
    """SQuAD is open-book, the others closed-book; the message names the right key."""
    (tmp_path / "x").write_text("{}")
    with pytest.raises(ConfigError, match=f"sources.{other}_book"):
        items(tmp_path / "x", kind, type)
