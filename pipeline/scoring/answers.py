"""One answer to one item, scored: the core measures, from text and outcome to numbers."""

from __future__ import annotations

from typing import NamedTuple

from pipeline.base.rows import Item
from pipeline.scoring.abstention import compiled
from pipeline.scoring.correct import is_correct
from pipeline.scoring.normalise import kind_of, normaliser
from pipeline.scoring.official import f1, scored_golds
from pipeline.scoring.settings import ScoringSettings


class Scores(NamedTuple):
    """The core measures of one answer, each in [0, 1]; None where not defined for the item."""

    em: float
    f1: float
    abstained: int
    false_answer: int | None
    unsupported: int | None
    correct: float


class ItemScorer:
    """Scores the answers to one item: what depends on the item alone is worked out once."""

    __slots__ = ("_golds", "_kind", "_normalise", "_settings", "_test", "item")

    def __init__(self, item: Item, settings: ScoringSettings, test: AnswerTest) -> None:
        self.item, self._settings, self._test = item, settings, test
        self._kind = test.kind(item.dataset)
        self._normalise = normaliser(self._kind)
        self._golds = [""] if item.is_unanswerable else scored_golds(item.answers, self._kind)

    def score(self, text: str, outcome: str) -> Scores:
        """The measures of one answer. Whatever is not `answered` (failed, truncated, refused, filtered) is wrong and no abstention.

        An abstention is scored as the empty answer, except where the text is itself a gold ("unknown", "none").
        """
        item = self.item
        answered = outcome == "answered"
        normal = self._normalise(text) if answered else ""
        exact = normal in self._golds
        abstained = answered and self._test.abstains(text) and not (exact and normal)
        if abstained and normal:
            normal = ""
            exact = "" in self._golds
        if not answered:
            em, score, right = 0, 0.0, False
        elif exact:
            # An exact match is right, but an empty text is so only where nothing was to be said.
            em, score, right = 1, f1(normal, (normal,), self._kind), bool(normal) or item.is_unanswerable
        else:
            em, score = 0, f1(normal, self._golds, self._kind) if normal else 0.0
            right = bool(normal) and not item.is_unanswerable and is_correct(item.question, text, item.answers)
        return Scores(
            em,
            score,
            int(abstained),
            int(not abstained) if item.is_unanswerable else None,
            None if item.context is None else int(bool(text) and not abstained and not self._supported(text)),
            int(right),
        )

    def _supported(self, text: str) -> bool:
        return self._settings.support.supported(text, self.item.context or "", self._kind)


class AnswerTest:
    """What scoring asks of every answer: the kind of its dataset, and whether it abstains."""

    def __init__(self, settings: ScoringSettings) -> None:
        self.abstains = compiled(settings.patterns)
        self._given = settings.kinds
        self._kinds: dict[str, str] = {}

    def kind(self, dataset: str) -> str:
        """The kind of scoring of `dataset`."""
        known = self._kinds.get(dataset)
        if known is None:
            known = self._kinds[dataset] = kind_of(dataset, self._given)
        return known
