"""Dates in plain words, and whether an answer's date agrees with the gold ones.

A date is (year, month, day), each None where it is not said.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from pipeline.scoring.words import MONTHS, listed

Date = tuple[int | None, int | None, int | None]

# A year may have the digits of a citation stuck to it ("released in 20171"), as web answers do when their markup is lost.
_YEAR = re.compile(r"(1\d{3}|20\d\d)\d{0,2}")
_DECADE = re.compile(r"(?:1\d|20)\d0s")
_BESIDE_DATES = listed(
    "late early mid first published release released year season summer spring fall autumn winter bc ad bce ce monday tuesday wednesday"
    " thursday friday saturday sunday since until after before between end beginning start decade"
    " the a an of in on at to for by with and or from as c ca circa about around approximately during"
)


def year(word: str) -> int | None:
    """The year from 1000 to 2099 that a plain word says, or None."""
    found = _YEAR.fullmatch(word)
    return int(found[1]) if found else None


def _day(word: str) -> int | None:
    return int(word) if len(word) <= 2 and word.isdigit() and 1 <= int(word) <= 31 else None


def dates(words: Sequence[str]) -> list[Date]:
    """The dates in plain words, in order: `14 march 1879`, `march 14 1879`, `march 1879`, `14 march`, `1879`."""
    found: list[Date] = []
    at, n = 0, len(words)
    while at < n:
        word = words[at]
        at += 1
        month = MONTHS.get(word)
        if month is None:
            if (alone := year(word)) is not None:
                found.append((alone, None, None))
            continue
        day = _day(words[at - 2]) if at > 1 else None
        if day is None and at < n and (day := _day(words[at])) is not None:
            at += 1
        said = year(words[at]) if at < n else None
        if said is None and day is not None and at < n and words[at].isdigit() and len(words[at]) == 3:
            said = int(words[at])  # "13 March 624"
        if said is not None:
            at += 1
        if word not in ("may", "march", "mar") or day is not None or said is not None:  # which are words besides
            found.append((said, month, day))
    return found


def is_date(words: Sequence[str]) -> bool:
    """Whether plain words say nothing but dates (and "early", "Monday", "between" and their like)."""
    rest = [w for w in words if w not in MONTHS and w not in _BESIDE_DATES and _day(w) is None and year(w) is None]
    return not rest or (len(rest) == 1 and rest[0].isdigit() and len(rest[0]) == 3 and any(w in MONTHS for w in words))


def _compatible(gold: Date, answer: Date) -> bool:
    return all(g is None or a is None or g == a for g, a in zip(gold, answer, strict=True))


def agrees(golds: Sequence[Date], answers: Sequence[Date], asked: Collection[int | None] = ()) -> bool:
    """Whether some date of the answer agrees with the golds.

    It may say less than a gold (the year alone), but must say the year where the gold does; where it says more (a day that one gold
    leaves open), no other gold of that year may contradict it. A mere year does not count where the answer has a fuller date of that year
    (it is that date that answers), nor where it only echoes one of the years `asked` for.
    """
    fuller = {date[0] for date in answers if date[1] is not None}
    for answer in answers:
        if answer[1] is None and (answer[0] in fuller or (answer[0] in asked and all(gold[1] is not None for gold in golds))):
            continue
        matching = [gold for gold in golds if _compatible(gold, answer) and (gold[0] is None or answer[0] is not None)]
        confirmed = any(all(a is None or g is not None for g, a in zip(gold, answer, strict=True)) for gold in matching)
        contradicted = any(gold[0] is not None and gold[0] == answer[0] and not _compatible(gold, answer) for gold in golds)
        if matching and (confirmed or not contradicted):
            return True
    return False


def periods(words: Sequence[str]) -> list[tuple[int, int]]:
    """The decades and centuries in plain words, as first and last year."""
    found = []
    for at, word in enumerate(words):
        if _DECADE.fullmatch(word):
            found.append((int(word[:4]), int(word[:4]) + 9))
        elif word == "century" and at and (number := _day(words[at - 1])) is not None:
            found.append((number * 100 - 99, number * 100))
    return found
