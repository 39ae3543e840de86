"""Whether an open-book answer has support in its passage."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from pipeline.scoring.normalise import normalise

STRATEGIES = ("baseline", "overlap")


@functools.lru_cache(64)
def _source(passage: str, kind: str) -> tuple[str, frozenset[str]]:
    # Items of one passage stand together in the shards, so a few remembered passages are enough.
    text = normalise(passage, kind)
    return text, frozenset(text.split())


@dataclass(frozen=True)
class Support:
    """The rule by which an answer counts as supported.

    `baseline`: its normal form is a substring of the passage's. `overlap`: at least `min_token_overlap` (0 to 1) of its tokens occur in
    the passage. An item whose abstention rate over its replicates reaches `threshold` never counts as unsupported.
    """

    strategy: str = "overlap"
    threshold: float = 0.5
    min_token_overlap: float = 0.6

    def supported(self, answer: str, passage: str, kind: str = "default") -> bool:
        """Whether `passage` supports the normalised `answer`. An answer without any token claims nothing: True."""
        text, words = _source(passage, kind)
        if answer in text:
            return True
        if self.strategy == "baseline":
            return False
        tokens = answer.split()
        return sum(token in words for token in tokens) >= self.min_token_overlap * len(tokens)
