"""Whether an open-book answer has support in its passage."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from pipeline.scoring.normalise import normalise, unsqueezed

STRATEGIES = ("baseline", "overlap")

# Items of one passage stand together in the shards, so a few remembered passages are enough.
_passage_text = functools.lru_cache(64)(normalise)
_passage_words = functools.lru_cache(64)(unsqueezed)


@dataclass(frozen=True)
class Support:
    """The rule by which an answer counts as supported.

    `baseline`: its normal form is a substring of the passage's. `overlap`: at least `min_token_overlap` (0 to 1) of its tokens occur in
    the passage. An item whose abstention rate over its replicates reaches `threshold` never counts as unsupported.
    """

    strategy: str = "overlap"
    threshold: float = 1.0
    min_token_overlap: float = 0.5

    def supported(self, text: str, normal: str, passage: str, kind: str = "default") -> bool:
        """Whether `passage` supports the answer `text`, whose normal form is `normal`. An answer without any token claims nothing: True."""
        if not normal or _quoted(text, passage):
            return True
        if self.strategy == "baseline":
            return normal in _passage_text(passage, kind)
        words, said = _passage_words(passage, kind), normal.split()
        return sum([f" {token} " in words for token in said]) >= self.min_token_overlap * len(said)

    def counted(self, text: str, normal: str, passage: str, kind: str = "default") -> tuple[int, int]:
        """(tokens of the answer in the passage, its tokens), so that `supported` is found >= min_token_overlap * tokens.

        `baseline` counts the answer as one token; an answer that is quoted, or without any token, as none.
        """
        if not normal or _quoted(text, passage):
            return 0, 0
        if self.strategy == "baseline":
            return int(normal in _passage_text(passage, kind)), 1
        words, said = _passage_words(passage, kind), normal.split()
        return sum([f" {token} " in words for token in said]), len(said)


def _quoted(text: str, passage: str) -> bool:
    # Found as it is, between white space: then it is in the normal form too, which need not be made.
    at = passage.find(text)
    if at < 0 or (at > 0 and not passage[at - 1].isspace()):
        return False
    return passage[at + len(text) : at + len(text) + 1] in ("", " ", "\n") or passage[at + len(text) : at + len(text) + 2] in (
        ". ",
        ", ",
        "; ",
    )
