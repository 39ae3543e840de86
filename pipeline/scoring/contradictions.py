"""Answers that have words of a gold and yet say something else: the opposite, another person, another amount or time of day."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.scoring.golds import CAPITALISED, STOP, TITLES, Gold
from pipeline.scoring.quantities import quantities
from pipeline.scoring.similar import Covering
from pipeline.scoring.words import fold, listed, words

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
            "bc ad",
        ),
    )
)


def contradicted(gold: Gold, asked: frozenset[str], said: Sequence[str], covering: Covering, answer: str) -> bool:
    """Whether the answer names the opposite, a number of the other sign, "York" for "New York", or another person of that surname.

    `asked` and `said` are the plain words of question and answer, `covering` those of the answer.
    """
    for group in _OPPOSITES:
        for word in group.intersection(gold.content):
            if word not in covering.distinct and any(w in covering.distinct and w not in asked for w in group - {word}):
                return True
    if gold.numbers and ("minus" in gold.content) != ("minus" in covering.distinct):
        return True
    if gold.new and gold.new in covering.distinct and not {"new", *_ABBREVIATED} & covering.distinct:
        return True
    return bool(gold.last) and gold.last in covering.distinct and _another_person(gold, said, covering, answer)


_ABBREVIATED = ("ny", "nyc", "nj", "nz")


def _another_person(gold: Gold, said: Sequence[str], covering: Covering, answer: str) -> bool:
    last, first = gold.last, gold.first
    if covering.share(first, True):
        return _other_middle(gold, said)
    if first[0] in covering.distinct or any(covering.share(name, True) for name in gold.middle):
        return False
    if initials(gold, first, said) or (len(first) == 1 and any(w[0] == first for w in said)):
        return False
    capitals = {w for word in CAPITALISED.findall(fold(answer)) if word[0].isupper() for w in words(word)}
    return any(
        said[at] == last
        and said[at - 1] in capitals
        and said[at - 1] not in STOP
        and said[at - 1] not in TITLES
        and said[at - 1] not in gold.content
        for at in range(1, len(said))
    )


def _other_middle(gold: Gold, said: Sequence[str]) -> bool:
    """Whether the answer has first and last name with other initials between: "George W. Bush" for "George H. W. Bush"."""
    if len(gold.middle) != 1:
        return False
    (middle,) = gold.middle
    found = {said[at + 1] for at in range(len(said) - 2) if said[at] == gold.first and said[at + 2] == gold.last}
    return bool(found) and all(
        len(other) <= 2 and other not in STOP and not middle.startswith(other) and not (len(middle) <= 2 and other.startswith(middle))
        for other in found
    )


def initials(gold: Gold, word: str, said: Sequence[str]) -> bool:
    """Whether `word` of a name is covered by initials: "B. R. Ambedkar" for "Bhimrao Ramji Ambedkar", and the other way round."""
    if word == gold.last or gold.last not in said:
        return False
    at = said.index(gold.last)
    if 1 < len(word) <= 3 and "".join(w[0] for w in said[max(0, at - len(word)) : at]) == word:
        return True
    return at > 0 and len(gold.content) > 2 and said[at - 1] == "".join(w[0] for w in gold.content[:-1])


def same_quantity(gold: Gold, said: Sequence[str], close: float) -> bool | None:
    """Whether the answer has the gold's amount, in whatever unit (up to a relative difference of `close`); False where it has its number
    only with other units; None where nothing can be said, because a unit is missing on one side.
    """
    if gold.quantity is None:
        return None
    found = quantities(said)
    if any(gold.quantity.same(other, close) for other in found):
        return True
    with_unit = {at for other in found for at in other.at}
    if any(said[at] in gold.numbers and at not in with_unit for at in range(len(said))):
        return None
    return (
        False if any(other.dimension == gold.quantity.dimension or said[at] in gold.numbers for other in found for at in other.at) else None
    )
