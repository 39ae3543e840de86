"""Whether an answer is correct as people judge it: does it say what one of the golds says?

Not a judge that understands: rules on words, fitted on one half of the EVOUNA-NQ verdicts and reported on the other (docs/scoring.md).
For each gold, the share of its words that the answer has (`coverage`), words weighed by how much they tell; dates by their parts; yes
and no by negations. The best gold counts, and `THRESHOLD` decides. Golds that are only denied, or named as one candidate of several,
do not count.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pipeline.scoring import dates, hedges
from pipeline.scoring.contradictions import contradicted, initials, same_quantity
from pipeline.scoring.golds import GENERIC_WORDS, QUALIFIERS, STOP, TITLES, Gold, parsed
from pipeline.scoring.numerals import value
from pipeline.scoring.quantities import clock, is_unit
from pipeline.scoring.similar import Covering
from pipeline.scoring.words import fold, words

THRESHOLD = 0.45
"""Coverage from which an answer is correct. Fitted, as are the weights."""
PART = 0.3
"""Coverage from which a short answer that says nothing but words of a gold is correct ("Argent" for "the British band Argent")."""
SHORT = 5
"""Content words of an answer that is short in this sense."""
TITLE, GENERIC, INITIAL, QUALIFIER, MIDDLE_NAME, PLAIN, SURNAME, NUMBER = 0.3, 0.3, 0.3, 0.1, 0.25, 1.0, 1.5, 1.5
"""Weights of a gold's words."""
OF_THE_QUESTION = 0.3
"""Factor for words that the question already has, where the gold has others."""
NUMERIC_NUMBER, NUMERIC_WORD = 2.0, 0.4
"""Weights in a gold that is mainly a number ("12 years"): the number decides."""
WRONG_NUMBER = 0.5
"""Factor for such a gold where one of its numbers is not in the answer."""
CLOSE = 0.005
"""Relative difference up to which two numbers are the same, one of them rounded. Not for years."""
CONTRADICTED = 0.25
"""Most that a gold can have where the answer names another of that surname, the opposite, or another amount."""

_AMOUNT = re.compile(r"\bhow (?:many|much|long|far|old|tall|big|high)\b|\bpercent|\bnumber of\b")
_UNSPACED = re.compile("[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]")  # scripts without spaces between words
_YES_NO = (("yes",), ("no",))
_NO = re.compile(r"\bno\b|\bnot\b|n't\b|\bnever\b|\bcannot\b")


def is_correct(question: str, answer: str, golds: Sequence[str]) -> bool:
    """True where `answer` says what one of `golds` says. Deterministic; an empty answer and an empty list of golds give False."""
    return coverage(question, answer, golds) >= THRESHOLD


def coverage(question: str, answer: str, golds: Sequence[str]) -> float:
    """How far `answer` covers the best of `golds`, from 0 to 1: the graded measure behind `is_correct`."""
    best = _best(question, answer, golds)
    if best == 1 and words(answer) in map(words, golds):  # a gold as it is, be it a list itself ("L1 or L2")
        return best
    if best < THRESHOLD:
        return THRESHOLD if best >= PART and _is_part(question, answer, golds) else best
    several, rest = hedges.candidates(question, fold(answer))
    if several and _best(question, rest, golds) < THRESHOLD:
        chosen = sum(_best(question, piece, golds) >= THRESHOLD for piece in several)
        if chosen < len(several) and 2 * chosen <= len(several):
            return min(best, CONTRADICTED)
    return best


def _is_part(question: str, answer: str, golds: Sequence[str]) -> bool:
    said = [w for w in words(answer) if w not in STOP]
    if not 0 < len(said) <= SHORT or all(w in words(question) for w in said):
        return False
    return any(not gold.numbers and set(said) <= set(gold.all) for gold in map(parsed, golds))


def _best(question: str, answer: str, golds: Sequence[str]) -> float:
    said = words(answer)
    if not said:  # nothing, or a sign: "*", "×"
        return float(bool(answer.strip()) and answer.strip() in [gold.strip() for gold in golds])
    covering = Covering(said)
    near = [gold for gold in golds if covering.touches(gold)]
    if not near:
        return 0.0
    asked = frozenset(words(question))
    lowered = fold(answer).lower()
    amount = bool(_AMOUNT.search(question.lower()))
    echo = hedges.asks_negatively(question)
    best = 0.0
    timed: list[Gold] = []
    for gold in map(parsed, near):
        if gold.all in _YES_NO:
            best = max(best, float(_says_no(said, lowered) == (gold.all == ("no",))))
        elif gold.dates and not amount and dates.is_date(gold.all):
            timed.append(gold)
        elif _UNSPACED.search(gold.text):
            best = max(best, float(gold.text in lowered and (echo or not hedges.denied(lowered, gold.text))))
        elif gold.content:
            score = _score(gold, asked, said, covering, answer)
            if score > best and (echo or not hedges.denied(lowered, gold.text)):
                best = score
        elif gold.text and gold.text in lowered.split():
            best = 1.0
    return max(best, _dated(timed, asked, said)) if timed else best


def _says_no(said: Sequence[str], lowered: str) -> bool:
    return said[0] == "no" or (said[0] != "yes" and bool(_NO.search(lowered[:200])))


def _dated(golds: Sequence[Gold], asked: frozenset[str], said: Sequence[str]) -> float:
    found = dates.dates(said)
    every = [date for gold in golds for date in gold.dates]
    best = 0.0
    for gold in golds:
        if len(gold.dates) == 1:
            if dates.agrees(every, found, [dates.year(w) for w in asked]):
                return 1.0
            start = gold.dates[0][0]
            if start and all(date[0] is None for date in found) and any(low <= start <= high for low, high in dates.periods(said)):
                best = max(best, 0.7)  # "in the 1920s" for 1923
        elif max(years := [date[0] or 0 for date in gold.dates]) - min(years) <= 1 and dates.agrees(gold.dates, found):
            best = 1.0  # a season, 1979-80
        else:  # a span: both ends
            best = max(best, sum(dates.agrees([date], found) for date in gold.dates) / len(gold.dates) - 0.1)
    return best


def _score(gold: Gold, asked: frozenset[str], said: Sequence[str], covering: Covering, answer: str) -> float:
    if len(gold.glued) >= 7 and not gold.numbers and gold.glued in covering.glued:
        return 1.0
    if gold.clock and (times := clock(answer)):
        return 1.0 if gold.clock & times else CONTRADICTED
    content = gold.content
    if gold.name and len(content) >= 3 and "".join(w[0] for w in content) in covering.distinct:
        return 1.0  # "FBR" for "Friedman Billings Ramsey"
    numeric = (
        bool(gold.numbers)
        and not gold.regnal
        and (
            2 * len(gold.numbers) >= len(content)
            or all(w in asked or w in QUALIFIERS or w in gold.numbers or (gold.quantity and is_unit(w)) for w in content)
        )
    )
    amount = same_quantity(gold, said, CLOSE) if numeric else None
    if amount is False:
        return CONTRADICTED
    news = any(w not in asked for w in content)
    total = reached = 0.0
    wrong_number = False
    for at, word in enumerate(content):
        weight = _weight(gold, word, numeric) * (OF_THE_QUESTION if news and word in asked else 1.0)
        share = 1.0 if amount and (word in gold.numbers or is_unit(word)) else covering.share(word, gold.name)
        if not share and gold.name and initials(gold, word, said):
            share = 0.9
        elif not share:
            if word in gold.numbers:
                share = 0.9 if _close(word, covering) else 0.0
                wrong_number = wrong_number or not share
            elif gold.name and len(word) == 1:  # an initial for a name that is spelled out
                share = 0.5 if any(w[0] == word for w in said) else 0.0
            elif gold.name and at < len(content) - 1 and word[0] in covering.distinct:  # a name for which the answer has an initial
                share = 0.8
        total += weight
        reached += weight * share
    score = reached / total
    if wrong_number and numeric:
        score *= WRONG_NUMBER
    if contradicted(gold, asked, said, covering, answer):
        score = min(score, CONTRADICTED)
    return score


def _weight(gold: Gold, word: str, numeric: bool) -> float:
    if word in gold.numbers:
        return NUMERIC_NUMBER if numeric else NUMBER
    if word in QUALIFIERS and not gold.name:
        return QUALIFIER
    if numeric:
        return NUMERIC_WORD
    if word in TITLES and word != gold.last:
        return TITLE
    if word in GENERIC_WORDS:
        return GENERIC
    if len(word) == 1:
        return INITIAL
    if word == gold.last:
        return SURNAME
    return MIDDLE_NAME if word in gold.middle else PLAIN


def _close(word: str, covering: Covering) -> bool:
    wanted = value(word)
    if wanted is None or dates.year(word) is not None:
        return False
    return any(abs(number - wanted) <= CLOSE * abs(wanted) for number in covering.numbers)
