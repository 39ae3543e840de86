"""Word-level difference of two texts, for the prompts. The explorer does the same for answers, in the browser."""

from __future__ import annotations

import difflib
import re

Piece = tuple[str, bool]
"""(text, differs): joined, the texts of one side are that side."""


def words(text: str) -> list[str]:
    """Words, runs of white space and single other characters; joined they are `text`."""
    return re.findall(r"\s+|\w+|[^\w\s]", text)


def word_diff(before: str, after: str) -> tuple[list[Piece], list[Piece]]:
    """Both sides cut into pieces, each marked by whether the other side lacks it."""
    a, b = words(before), words(after)
    left: list[Piece] = []
    right: list[Piece] = []
    for tag, a0, a1, b0, b1 in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if a1 > a0:
            left.append(("".join(a[a0:a1]), tag != "equal"))
        if b1 > b0:
            right.append(("".join(b[b0:b1]), tag != "equal"))
    return left, right
