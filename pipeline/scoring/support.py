"""Whether an open-book answer has support in its passage."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.scoring.normalise import normalise

STRATEGIES = ("baseline", "overlap")


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
        """Whether `passage` supports `answer`, both normalised as `kind` demands. An answer without any token claims nothing: True."""
        claim, source = normalise(answer, kind), normalise(passage, kind)
        if claim in source:
            return True
        if self.strategy == "baseline":
            return False
        words, tokens = set(source.split()), claim.split()
        return sum(token in words for token in tokens) >= self.min_token_overlap * len(tokens)
