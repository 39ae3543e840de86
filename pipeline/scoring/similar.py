"""How well one word of a gold is covered by the words of an answer: the same, a derived form, a misspelling, a nickname."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from pipeline.scoring.numerals import value
from pipeline.scoring.words import RESPELLED

DERIVED, GLUED, RELATED = 0.9, 0.8, 0.7
"""Shares of a word that is covered by another form of it, inside other letters, or by a word with the same beginning."""

_NICKNAMES = {
    name: group[0]
    for group in (
        names.split()
        for names in (
            "robert bob bobby rob", "william bill billy will", "james jim jimmy", "john johnny jack", "michael mike mick",
            "thomas tom tommy", "edward ed eddie ted", "richard rick dick ricky", "charles charlie chuck", "joseph joe joey",
            "gregory greg", "steven steve stephen", "daniel dan danny", "matthew matt", "christopher chris", "anthony tony",
            "elizabeth liz beth betty", "katherine kate kathy katie catherine", "margaret maggie peggy", "patrick pat", "samuel sam",
            "benjamin ben", "nicholas nick", "alexander alex", "andrew andy", "david dave", "timothy tim", "kenneth ken", "ronald ron",
            "donald don", "jeffrey jeff", "peter pete", "philip phil", "susan sue", "deborah debbie", "rebecca becky",
            "jennifer jenny jen", "frederick fred freddie fredrick", "lawrence larry", "raymond ray", "gerald jerry", "walter walt",
        )
    )
    for name in group
}  # fmt: skip


class Covering:
    """The plain words of one answer, ready to be asked for the words of many golds."""

    def __init__(self, said: Sequence[str]) -> None:
        self.distinct = frozenset(said)
        self.glued = "".join(said)
        self._starts = {word[:2] for word in said}
        self.numbers = [number for word in self.distinct if word[0].isdigit() and (number := value(word)) is not None]
        self._by_start: dict[str, list[str]] = {}
        for word in self.distinct:
            if len(word) >= 4:
                self._by_start.setdefault(word[:2], []).append(word)

    def touches(self, gold: str) -> bool:
        """Whether any word of `gold` may be covered, or is more than a plain word: where not, it need not be looked at closely."""
        if not gold.isascii() or not (gold.islower() or gold.istitle()):
            return True
        wanted = gold.lower().split()
        glued = "".join(wanted)
        if not glued.isalpha() or not RESPELLED.isdisjoint(wanted) or glued in self.glued:
            return True
        for word in wanted:
            if word[:2] in self._starts or (len(word) >= 6 and word in self.glued):
                return True
        return "".join([word[0] for word in wanted]) in self.distinct

    def share(self, word: str, person: bool = False) -> float:
        """How well `word` is covered, from 0 to 1. With `person`, nicknames count. Numbers are covered by themselves alone."""
        if word in self.distinct:
            return 1.0
        others = self._by_start.get(word[:2], ())
        if word[0].isdigit():
            # a year with the digits of a citation stuck to it
            return float(len(word) == 4 and any(w.startswith(word) and w.isdigit() and len(w) <= 6 for w in others))
        if len(word) == 1:
            return 0.0
        if person and word in _NICKNAMES and any(_NICKNAMES.get(w) == _NICKNAMES[word] for w in self.distinct):
            return DERIVED
        if len(word) < 4:
            return 0.0
        best = 0.0
        for other in others:
            if (other.startswith(word) or word.startswith(other)) and abs(len(other) - len(word)) <= 3:
                return DERIVED
            if len(word) >= 5 and _misspelled(word, other):
                return DERIVED
            if _same_beginning(word, other):
                best = RELATED
        return best or (GLUED if len(word) >= 6 and word in self.glued else 0.0)


def _same_beginning(a: str, b: str) -> bool:
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
    return common >= 5 and common >= 0.6 * max(len(a), len(b))


def _misspelled(a: str, b: str) -> bool:
    """Whether two words of the same beginning are one edit apart (two from eight letters on): Levenshtein, cut short."""
    limit = 1 if min(len(a), len(b)) < 8 else 2
    if abs(len(a) - len(b)) > limit or len(set(a) ^ set(b)) > 2 * limit:
        return False
    previous = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            row.append(min(previous[j] + 1, row[-1] + 1, previous[j - 1] + (x != y)))
        if min(row) > limit:
            return False
        previous = row
    return previous[-1] <= limit
