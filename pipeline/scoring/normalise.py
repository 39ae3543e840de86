"""The three official normalisations, and which of them a dataset's answers are scored under.

Reimplemented from the definitions of the official scripts (`evaluate-v2.0.py`, `triviaqa_evaluation.py`, NQ-open's `eval_utils.py`).
All three lower-case, treat punctuation, drop the articles a, an, the as whole words, and squeeze white space, in that order.
"""

from __future__ import annotations

import functools
import re
import string
import unicodedata
from collections.abc import Callable, Mapping

KINDS = ("squad_v2", "nq_open", "triviaqa", "default")
"""Kinds of scoring. `default` (users' own datasets) is scored as SQuAD 2.0 is."""

CACHED_STRINGS = 1 << 15
"""Distinct strings whose normal form is remembered: bounded, so that memory does not grow with the number of items."""

_CACHED_LENGTH = 200
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_DELETE = {ord(c): None for c in string.punctuation}
_TO_SPACE = {ord(c): " " for c in string.punctuation + "‘’´`"}


def _squeeze(text: str) -> str:
    return " ".join(_ARTICLES.sub(" ", text).split())


def _squad(text: str) -> str:
    return _squeeze(text.lower().translate(_DELETE))


def _nq(text: str) -> str:
    # NFD first: "é" becomes "e" and a combining accent, which is no ASCII punctuation and stays.
    return _squeeze(unicodedata.normalize("NFD", text).lower().translate(_DELETE))


def _trivia(text: str) -> str:
    return _squeeze(text.lower().translate(_TO_SPACE))


def _cached(function: Callable[[str], str]) -> Callable[[str], str]:
    remembered = functools.lru_cache(CACHED_STRINGS)(function)

    @functools.wraps(function)
    def normalise(text: str) -> str:
        return remembered(text) if len(text) <= _CACHED_LENGTH else function(text)

    return normalise


_NORMALISERS: dict[str, Callable[[str], str]] = {
    "squad_v2": _cached(_squad),
    "default": _cached(_squad),
    "nq_open": _cached(_nq),
    "triviaqa": _cached(_trivia),
}


def normaliser(kind: str) -> Callable[[str], str]:
    """The normalisation of a kind. Raises KeyError for a name that is not in `KINDS`."""
    return _NORMALISERS[kind]


def normalise(text: str, kind: str = "default") -> str:
    """`text` in the normal form of `kind`: words separated by single spaces, possibly none."""
    return _NORMALISERS[kind](text)


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
