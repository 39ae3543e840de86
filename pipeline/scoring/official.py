"""Exact match and F1 of one answer, as the official script of its dataset defines them."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.scoring.normalise import normaliser


def scored_golds(answers: Sequence[str], kind: str) -> list[str]:
    """The normalised golds that count, without repetitions.

    SQuAD drops golds that normalise to nothing, and scores an item without golds against the empty string. The other two
    scripts keep them all (so that an empty answer scores 1 against NQ-open's gold `---`).
    """
    normal = normaliser(kind)
    golds = list(dict.fromkeys(map(normal, answers)))
    if kind in ("squad_v2", "default"):
        golds = [gold for gold in golds if gold]
    return golds or [""]


def exact_match(answer: str, golds: Sequence[str]) -> int:
    """1 where the normalised `answer` equals one of the normalised `golds`, else 0."""
    return int(answer in golds)


def _f1(answer: list[str], gold: list[str], kind: str) -> float:
    if not answer or not gold:
        # SQuAD: 1 where both are empty. TriviaQA's script has no such case: no common token, no score.
        return float(kind != "triviaqa" and answer == gold)
    # Multisets: a token counts as often as it stands in both. A gold of one word, the usual case, needs no counting.
    same = int(gold[0] in answer) if len(gold) == 1 else sum(min(answer.count(token), gold.count(token)) for token in set(gold))
    if not same:
        return 0.0
    precision, recall = same / len(answer), same / len(gold)
    return (2 * precision * recall) / (precision + recall)


def f1(answer: str, golds: Sequence[str], kind: str = "default") -> float:
    """The best token F1 (multisets of white-space tokens) of the normalised `answer` over the normalised `golds`, in [0, 1]."""
    tokens = answer.split()
    distinct, best = set(tokens), 0.0
    for gold in golds:
        words = gold.split()
        if not (words and distinct and distinct.isdisjoint(words)):
            best = max(best, _f1(tokens, words, kind))
    return best


def em_f1(answer: str, answers: Sequence[str], kind: str = "default") -> tuple[int, float]:
    """Exact match and F1 of a raw `answer` against the raw gold `answers`, both normalised as `kind` demands."""
    golds, normal = scored_golds(answers, kind), normaliser(kind)(answer)
    if normal in golds:
        return 1, f1(normal, [normal], kind)
    return 0, f1(normal, golds, kind)
