"""Whether an answer is correct as people judge it: does it say what one of the golds says?

Not a judge that understands: rules on words, fitted on one half of the EVOUNA-NQ verdicts and reported on the other (docs/scoring.md).
For each gold, the share of its words that the answer has (`coverage`), words weighed by how much they tell; dates by their parts; yes
and no by negations. The best gold counts, and `THRESHOLD` decides. Golds that are only denied, or named as one candidate of several,
do not count.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.scoring import dates, hedges
from pipeline.scoring.similar import Covering
from pipeline.scoring.words import MONTHS, fold, listed, value, words

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
CONTRADICTED = 0.4
"""Most that a gold can have where the answer names another of that surname, or the opposite."""

STOP = listed(
    "a an the of in on at to for by with and or from as is are was were be been it its this that these those his her their s ca c circa"
    " about around approximately roughly over nearly some into during"
)
_TITLES = listed(
    "sir mr mrs ms doctor president king queen general captain justice judge prime minister lord lady prince princess pope saint jr sr"
    " reverend rev emperor empress professor colonel major sergeant chief congresswoman senator governor mbe obe"
)
_GENERIC = listed(
    "city county state country company act season episode series film movie book song river mountain ocean sea island region area party"
    " system process type group people time year team club university college school government house court army church war battle republic"
    " kingdom province district high north south east west northern southern eastern western southeastern southwestern northeastern"
    " northwestern new national international uk us"
)
_QUALIFIERS = listed(
    "more than less least most up over old older young under only just nearly almost exact exactly total year period each per plu age"
)
_OPPOSITES = tuple(
    map(
        listed,
        (
            "north south east west",
            "northern southern eastern western",
            "left right",
            "upper lower",
            "male female",
            "before after",
            "increase decrease",
            "maximum minimum",
            "inside outside",
            "winter summer spring autumn",
            "public private",
        ),
    )
)
_CAPITALISED = re.compile(r"[^\W\d_]+")
_AMOUNT = re.compile(r"\bhow (?:many|much|long|far|old|tall|big|high)\b|\bpercent|\bnumber of\b")
_YES_NO = (("yes",), ("no",))
_REGNAL = re.compile(r"[a-z] [IVX]+\b")
_NO = re.compile(r"\bno\b|\bnot\b|n't\b|\bnever\b|\bcannot\b")


@dataclass(frozen=True)
class _Gold:
    # What of a gold does not depend on the answer.
    text: str
    all: tuple[str, ...]
    content: tuple[str, ...]
    glued: str
    dates: tuple[dates.Date, ...]
    numbers: frozenset[str]
    regnal: bool
    name: bool
    last: str
    middle: frozenset[str]
    first: str


@functools.lru_cache(1 << 12)
def _gold(text: str) -> _Gold:
    every = words(text)
    content = tuple(w for w in every if w not in STOP) or every
    capitals = sum(w[0].isupper() for w in _CAPITALISED.findall(text))
    numbers = frozenset(w for w in content if w[0].isdigit())
    name = len(content) >= 2 and capitals >= len(content) and not numbers and _GENERIC.isdisjoint(content)
    core = [w for w in content if w not in _TITLES]
    return _Gold(
        fold(text).lower().strip(" .\"'"),
        every,
        content,
        "".join(w for w in every if w not in ("the", "a", "an")),
        tuple(dates.dates(every)) if "," not in text or any(w in MONTHS for w in every) else (),
        numbers,
        bool(_REGNAL.search(text)),
        name,
        core[-1] if name and len(core) > 1 else "",
        frozenset(core[1:-1]) if name else frozenset(),
        core[0] if name and len(core) > 1 else "",
    )


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
    return any(not gold.numbers and set(said) <= set(gold.all) for gold in map(_gold, golds))


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
    timed: list[_Gold] = []
    for gold in map(_gold, near):
        if gold.all in _YES_NO:
            best = max(best, float(_says_no(said, lowered) == (gold.all == ("no",))))
        elif gold.dates and not amount and dates.is_date(gold.all):
            timed.append(gold)
        elif gold.content:
            score = _score(gold, asked, said, covering, answer)
            if score > best and (echo or not hedges.denied(lowered, gold.text)):
                best = score
        elif gold.text and gold.text in lowered.split():
            best = 1.0
    return max(best, _dated(timed, asked, said)) if timed else best


def _says_no(said: Sequence[str], lowered: str) -> bool:
    return said[0] == "no" or (said[0] != "yes" and bool(_NO.search(lowered[:200])))


def _dated(golds: Sequence[_Gold], asked: frozenset[str], said: Sequence[str]) -> float:
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


def _score(gold: _Gold, asked: frozenset[str], said: Sequence[str], covering: Covering, answer: str) -> float:
    if len(gold.glued) >= 7 and gold.glued in covering.glued:
        return 1.0
    content = gold.content
    if gold.name and len(content) >= 3 and "".join(w[0] for w in content) in covering.distinct:
        return 1.0  # "FBR" for "Friedman Billings Ramsey"
    numeric = (
        bool(gold.numbers)
        and not gold.regnal
        and (2 * len(gold.numbers) >= len(content) or all(w in asked or w in _QUALIFIERS or w in gold.numbers for w in content))
    )
    news = any(w not in asked for w in content)
    total = reached = 0.0
    wrong_number = False
    for at, word in enumerate(content):
        weight = _weight(gold, word, numeric) * (OF_THE_QUESTION if news and word in asked else 1.0)
        share = covering.share(word, gold.name)
        if not share and gold.name and _initials(gold, word, said):
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
    if _contradicted(gold, asked, said, covering, answer):
        score = min(score, CONTRADICTED)
    return score


def _initials(gold: _Gold, word: str, said: Sequence[str]) -> bool:
    # "B. R. Ambedkar" for "Bhimrao Ramji Ambedkar", and the other way round
    if word == gold.last or gold.last not in said:
        return False
    at = said.index(gold.last)
    if 1 < len(word) <= 3 and "".join(w[0] for w in said[max(0, at - len(word)) : at]) == word:
        return True
    return at > 0 and len(gold.content) > 2 and said[at - 1] == "".join(w[0] for w in gold.content[:-1])


def _weight(gold: _Gold, word: str, numeric: bool) -> float:
    if word in gold.numbers:
        return NUMERIC_NUMBER if numeric else NUMBER
    if word in _QUALIFIERS and not gold.name:
        return QUALIFIER
    if numeric:
        return NUMERIC_WORD
    if word in _TITLES:
        return TITLE
    if word in _GENERIC:
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


def _contradicted(gold: _Gold, asked: frozenset[str], said: Sequence[str], covering: Covering, answer: str) -> bool:
    for group in _OPPOSITES:
        for word in group.intersection(gold.content):
            if word not in covering.distinct and any(w in covering.distinct and w not in asked for w in group - {word}):
                return True
    last, first = gold.last, gold.first
    if not last or last not in covering.distinct or covering.share(first, True) or first[0] in covering.distinct:
        return False
    if any(covering.share(name, True) for name in gold.middle):
        return False
    if _initials(gold, first, said) or (len(first) == 1 and any(w[0] == first for w in said)):
        return False
    capitals = {w for word in _CAPITALISED.findall(fold(answer)) if word[0].isupper() for w in words(word)}
    return any(  # somebody else of that surname
        said[at] == last
        and said[at - 1] in capitals
        and said[at - 1] not in STOP
        and said[at - 1] not in _TITLES
        and said[at - 1] not in gold.content
        for at in range(1, len(said))
    )
