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


def official_golds(item: Item, kind: str) -> list[str]:
    """The golds that the official script scores against: TriviaQA's are `NormalizedAliases` and human answers, not the aliases."""
    if kind == "triviaqa" and (aliases := item.meta.get("normalized_aliases")):
        return [*aliases, *item.meta.get("human_answers", [])]
    return item.answers


class ItemScorer:
    """Scores the answers to one item: what depends on the item alone is worked out once, and only where it is needed; so is each answer."""

    __slots__ = ("_golds", "_kind", "_known", "_normalise", "_settings", "_test", "item")

    def __init__(self, item: Item, settings: ScoringSettings, test: AnswerTest) -> None:
        self.item, self._settings, self._test = item, settings, test
        self._kind = test.kind(item.dataset)
        self._normalise = normaliser(self._kind)
        self._golds: list[str] | None = None
        self._known: dict[tuple[str, str], Scores] = {}

    def score(self, text: str, outcome: str) -> Scores:
        """The measures of one answer. Whatever is not `answered` (failed, truncated, refused, filtered) is wrong and no abstention.

        An abstention is scored as the empty answer, except where the text is itself a gold ("unknown", "none").
        """
        known = self._known.get((text, outcome))
        if known is None:
            known = self._known[text, outcome] = self._score(text, outcome)
        return known

    def _score(self, text: str, outcome: str) -> Scores:
        item = self.item
        false_answer = 1 if item.is_unanswerable else None
        normal = self._normalise(text)
        supported = item.context is None or self._settings.support.supported(text, normal, item.context, self._kind)
        unsupported = None if item.context is None else int(not supported)
        if outcome != "answered":
            return Scores(0, 0.0, 0, false_answer, unsupported, 0)
        if normal and text in item.answers and not item.is_unanswerable:
            return Scores(1, 1.0, 0, None, unsupported, 1)
        golds = self._golds
        if golds is None:
            golds = self._golds = [""] if item.is_unanswerable else scored_golds(official_golds(item, self._kind), self._kind)
        if normal and normal in golds:
            return Scores(1, 1.0, 0, None, unsupported, 1)
        if self._test.abstains(text):
            right = int(item.is_unanswerable)
            return Scores(int("" in golds), f1("", golds, self._kind), 1, 0 if right else None, None if item.context is None else 0, right)
        score = f1(normal, golds, self._kind)
        right = int(not item.is_unanswerable and is_correct(item.question, text, item.answers))
        return Scores(int(normal in golds), score, 0, false_answer, unsupported, right)


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
