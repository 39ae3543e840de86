"""The three official normalisations, and which of them a dataset's answers are scored under.

Reimplemented from the definitions of the official scripts (`evaluate-v2.0.py`, `triviaqa_evaluation.py`, NQ-open's `eval_utils.py`).
All three lower-case, treat punctuation, drop the articles a, an, the as whole words, and squeeze white space, in that order.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Callable, Mapping

KINDS = ("squad_v2", "nq_open", "triviaqa", "default")
"""Kinds of scoring. `default` (users' own datasets) is scored as SQuAD 2.0 is."""

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_ARTICLE_WORDS = frozenset(("a", "an", "the"))
_PUNCTUATION = string.punctuation.encode()
_DELETE = {ord(c): None for c in string.punctuation}
_TO_SPACE = {ord(c): " " for c in string.punctuation + "‘’´`"}
_WHITE = {n: " " for n in range(0x3001) if chr(n).isspace()}
_DELETE_SPACED, _TO_SPACE_SPACED = _WHITE | _DELETE, _WHITE | _TO_SPACE


def _squeeze(text: str) -> str:
    words = text.split()
    if "".join(words).isalnum():  # no word boundary but at white space, so that whole words are all an article can be
        return " ".join(words if _ARTICLE_WORDS.isdisjoint(words) else [w for w in words if w not in _ARTICLE_WORDS])
    return " ".join(_ARTICLES.sub(" ", text).split())


def _without_punctuation(text: str) -> str:
    # As bytes it takes a quarter of the time; ASCII's punctuation is no part of another character in UTF-8.
    return text.encode("utf-8", "surrogatepass").translate(None, _PUNCTUATION).decode("utf-8", "surrogatepass")


def _squad(text: str) -> str:
    return _squeeze(_without_punctuation(text.lower()))


def _nq(text: str) -> str:
    # NFD first: "é" becomes "e" and a combining accent, which is no ASCII punctuation and stays.
    if not text.isascii():
        text = unicodedata.normalize("NFD", text)
    return _squeeze(_without_punctuation(text.lower()))


def _trivia(text: str) -> str:
    return _squeeze(text.lower().translate(_TO_SPACE))


_NORMALISERS: dict[str, Callable[[str], str]] = {"squad_v2": _squad, "default": _squad, "nq_open": _nq, "triviaqa": _trivia}


def normaliser(kind: str) -> Callable[[str], str]:
    """The normalisation of a kind. Raises KeyError for a name that is not in `KINDS`."""
    return _NORMALISERS[kind]


def normalise(text: str, kind: str = "default") -> str:
    """`text` in the normal form of `kind`: words separated by single spaces, possibly none."""
    return _NORMALISERS[kind](text)


def unsqueezed(text: str, kind: str = "default") -> str:
    """`text` as `kind` normalises it but for articles and runs of white space, with a space before and behind: enough to look up tokens."""
    if kind == "nq_open" and not text.isascii():
        text = unicodedata.normalize("NFD", text)
    return f" {text.lower().translate(_TO_SPACE_SPACED if kind == 'triviaqa' else _DELETE_SPACED)} "


def kind_of(dataset: str, kinds: Mapping[str, str] | None = None) -> str:
    """The kind under which `dataset` is scored: as `kinds` says, else by how its name begins, else `default`.

    Names are compared without regard to case, `-`, `_` and spaces: `SQuAD-v2.0`, `squad` and `squad_v2` are one.
    """
    if kinds and dataset in kinds:
        return kinds[dataset]
    name = re.sub(r"[\W_]+", "", dataset.lower())
    for prefix, kind in (("squad", "squad_v2"), ("nq", "nq_open"), ("naturalquestions", "nq_open"), ("triviaqa", "triviaqa")):
        if name.startswith(prefix):
            return kind
    return "default"
