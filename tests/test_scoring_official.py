"""Exact match and F1 under the three official definitions, on hand-worked cases and against a plain restatement of them."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.scoring.normalise import kind_of, normalise
from pipeline.scoring.official import em_f1, scored_golds


@pytest.mark.parametrize(
    ("kind", "text", "normal"),
    [
        ("squad_v2", "The  Cat's  a-hat.", "cats ahat"),
        ("triviaqa", "The  Cat's  a-hat_x ‘y’ ´z`", "cat s hat x y z"),
        ("squad_v2", "‘y’ snake_case", "‘y’ snakecase"),
        ("nq_open", "à la", "\u0300 la"),  # NFD leaves "a" and an accent: the article goes, the accent stays
        ("squad_v2", "à la", "à la"),
        ("squad_v2", "–the–", "– –"),  # a word boundary inside a token: articles go there too
        ("squad_v2", "---", ""),
        ("default", "An apple", "apple"),
    ],
)
def test_normal_forms_differ_by_dataset(kind: str, text: str, normal: str) -> None:
    """Each official script has its own normal form."""
    assert normalise(text, kind) == normal


def test_f1_counts_tokens_as_often_as_they_stand_in_both() -> None:
    """F1 is over multisets: "b b c" against "b b b d" shares two tokens of three and four."""
    assert em_f1("b b c", ["b b b d"]) == (0, 2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4))
    assert em_f1("b", ["b b"])[1] == pytest.approx(2 / 3)


def test_best_gold_counts() -> None:
    """EM and F1 are each the best over the golds."""
    assert em_f1("big red dog", ["dog", "the big red dog"]) == (1, 1.0)
    assert em_f1("big red dog", ["dog", "red dog"])[1] == pytest.approx(0.8)


def test_golds_that_normalise_to_nothing() -> None:
    """SQuAD drops them, NQ-open keeps them: an empty answer scores against "---" there; TriviaQA's F1 of two empty texts is 0."""
    assert em_f1("", [".", "x"], "squad_v2") == (0, 0.0)
    assert em_f1("", ["---", "x"], "nq_open")[0] == 1
    assert em_f1("", ["---"], "triviaqa") == (1, 0.0)


def test_item_without_golds_wants_the_empty_answer() -> None:
    """An unanswerable item is scored against the empty string."""
    assert em_f1("", [], "squad_v2") == (1, 1.0)
    assert em_f1("Paris", [], "squad_v2") == (0, 0.0)
    assert scored_golds([".", "!"], "squad_v2") == [""]


@pytest.mark.parametrize(
    ("dataset", "kind"),
    [
        ("squad_v2", "squad_v2"),
        ("SQuAD-v2.0", "squad_v2"),
        ("nq_open", "nq_open"),
        ("NQ", "nq_open"),
        ("TriviaQA rc", "triviaqa"),
        ("mine", "default"),
    ],
)
def test_kind_by_name(dataset: str, kind: str) -> None:
    """A dataset is scored by how its name begins; the config may say otherwise."""
    assert kind_of(dataset) == kind
    assert kind_of(dataset, {dataset: "triviaqa"}) == "triviaqa"


def _restated(text: str, kind: str) -> str:
    # The definitions, word for word and slow.
    if kind == "nq_open":
        text = unicodedata.normalize("NFD", text)
    text = text.lower()
    if kind == "triviaqa":
        marks = set(string.punctuation) | set("‘’´`")
        text = "".join(" " if c in marks else c for c in text)
    else:
        text = "".join(c for c in text if c not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


PIECES = st.sampled_from(
    ["a", "an", "the", "The", "A.", "café", "à", "naïve-ish", "_x", "x_y", "—", "–the–", "’s", "it's", "U.S.", "a\xa0b", "İ", "ß", "1,000",
     "the\x1ftail", "\x00a", "a​b", "ﬁ", "cat", "cat", "dog", "´", "‘a’", "---", "\n", "a²", "the_a", " "]
)  # fmt: skip
TEXTS = st.lists(PIECES, max_size=6).flatmap(lambda parts: st.sampled_from([" ".join(parts), "".join(parts)]))


@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=3), st.sampled_from(["squad_v2", "nq_open", "triviaqa"]))
def test_scores_equal_the_restated_definitions(answer: str, golds: list[str], kind: str) -> None:
    """The fast normalisation and F1 give exactly what the definitions give, accents, joints and odd spaces included."""
    assert normalise(answer, kind) == _restated(answer, kind)
    kept = [g for g in golds if _restated(g, kind)] or [""] if kind == "squad_v2" else golds

    def f1(gold: str) -> float:
        a, g = _restated(answer, kind).split(), _restated(gold, kind).split()
        same = sum((Counter(a) & Counter(g)).values())
        if kind != "triviaqa" and (not a or not g):
            return float(a == g)
        return 0.0 if same == 0 else 2 * (same / len(a)) * (same / len(g)) / (same / len(a) + same / len(g))

    assert em_f1(answer, golds, kind) == (int(any(_restated(answer, kind) == _restated(g, kind) for g in kept)), max(map(f1, kept)))
