"""The bundled sample: canonical, complete, and honest about what its passages say."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from pipeline.base.rows import Item, encode, read_rows

SAMPLE = Path(__file__).parents[1] / "config" / "sample"
OPEN, CLOSED = SAMPLE / "open_book.jsonl", SAMPLE / "closed_book.jsonl"


def items(path: Path) -> list[Item]:
    return list(read_rows(path, Item))


@pytest.mark.parametrize("path", [OPEN, CLOSED], ids=lambda p: p.stem)
def test_lines_are_the_canonical_encoding_of_items(path: Path) -> None:
    """Every line decodes as an Item and is byte for byte what the encoder writes, so that the prepared folder equals it."""
    assert path.read_bytes() == b"".join(encode(item) + b"\n" for item in items(path))


@pytest.mark.parametrize(("path", "dataset", "least"), [(OPEN, "sample_open", 66), (CLOSED, "sample_closed", 66)])
def test_there_are_enough_items_with_unique_ids_and_questions(path: Path, dataset: str, least: int) -> None:
    """At least `least` items of one dataset, no id and no question twice."""
    rows = items(path)
    assert len(rows) >= least
    assert {row.dataset for row in rows} == {dataset}
    assert len({row.id for row in rows}) == len(rows)
    assert len({row.question.casefold() for row in rows}) == len(rows)


@pytest.mark.parametrize("path", [OPEN, CLOSED], ids=lambda p: p.stem)
def test_answers_are_clean(path: Path) -> None:
    """No answer is empty, padded or repeated; an item has answers exactly when it is answerable."""
    for row in items(path):
        assert bool(row.answers) is not row.is_unanswerable, row.id
        assert len(set(row.answers)) == len(row.answers), row.id
        assert all(answer == answer.strip() and answer for answer in row.answers), row.id
        assert row.question.endswith("?"), row.id


WORDS = {"0": "zero", "1": "one", "2": "two", "3": "three", "4": "four", "6": "six", "8": "eight", "9": "nine"}
WORDS |= {"11": "eleven", "50": "fifty", "60": "sixty"}


@pytest.mark.parametrize("path", [OPEN, CLOSED], ids=lambda p: p.stem)
def test_small_numbers_are_accepted_as_numeral_and_as_word(path: Path) -> None:
    """A question with the answer 8 accepts "eight", and the other way round."""
    for row in items(path):
        for numeral, word in WORDS.items():
            assert (numeral in row.answers) == (word in row.answers), (row.id, numeral)


def test_closed_book_items_have_no_passage_and_a_declared_difficulty() -> None:
    """Closed-book questions spread over easy and medium, in several topics."""
    rows = items(CLOSED)
    assert all(row.context is None and not row.is_unanswerable for row in rows)
    difficulty = Counter(row.meta["difficulty"] for row in rows)
    assert set(difficulty) == {"easy", "medium"}
    assert min(difficulty.values()) >= len(rows) // 4
    assert len({row.meta["topic"] for row in rows}) >= 5


def test_passages_are_shared_short_and_name_their_cluster() -> None:
    """At least 22 passages of 60 to 120 words; the cluster is the passage's name, one to one; several questions on each."""
    by_cluster: dict[str, set[str]] = {}
    for row in items(OPEN):
        assert row.cluster is not None
        assert row.context is not None
        by_cluster.setdefault(row.cluster, set()).add(row.context)
    assert all(len(contexts) == 1 for contexts in by_cluster.values())
    passages = [next(iter(contexts)) for contexts in by_cluster.values()]
    assert len(set(passages)) == len(passages) >= 22
    assert all(60 <= len(passage.split()) <= 120 for passage in passages)
    assert min(Counter(row.cluster for row in items(OPEN)).values()) >= 2


def test_a_third_of_the_open_book_items_is_unanswerable() -> None:
    """One third, and at least one on every passage, so that the passage alone does not give it away."""
    rows = items(OPEN)
    unanswerable = [row for row in rows if row.is_unanswerable]
    assert len(unanswerable) * 3 == len(rows)
    assert {row.cluster for row in unanswerable} == {row.cluster for row in rows}


def test_the_passage_says_the_first_gold_answer_word_for_word() -> None:
    """The first gold answer of an answerable item stands in its passage, as whole words."""
    for row in items(OPEN):
        if row.answers:
            assert re.search(rf"(?<!\w){re.escape(row.answers[0])}(?!\w)", row.context or ""), row.id
