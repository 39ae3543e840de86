"""Whether an answer is correct, as people would judge it."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.scoring.normalise import normalise


def is_correct(question: str, answer: str, golds: Sequence[str]) -> bool:
    """True where the answer contains a gold at token boundaries."""
    text = f" {normalise(answer)} "
    return any(f" {gold} " in text for gold in map(normalise, golds) if gold)
