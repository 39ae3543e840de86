"""Answers that name the gold without giving it: denied ("not Paris") or one of several candidates ("Paris, Rome or London")."""

from __future__ import annotations

import re

_DENIED = re.compile(
    r"(?:\bnot|n't|\bnever|\brather than|\binstead of|\bother than|\bneither)"
    r"\s+(?:(?:in|at|on|by|the|a|an|is|it)\s+){0,2}[\"']?$"
    r"|\b(?:whether|unclear if|not sure if|doubt(?: that)?)\s+(?:it|this|that|he|she|they)\s+(?:is|was|are|were)\s+(?:the\s+)?$"
)
_DENIED_AFTER = re.compile(r"[\"']?\s+(?:is|was|are|were)(?:n't|\s+not)\s+(?!only\b|just\b)")
_CONCEDED = re.compile(
    r"(?:\b(?:some|many|most|other)(?: people| sources)? (?:(?:may|might|would|will) )?(?:say|think|believe|claim|assume|guess)"
    r"|\bi (?:first |once |had |used to )?(?:think|thought|believed|guessed)"
    r"|\b(?:often|commonly|widely|mistakenly) (?:mis)?(?:taken|thought|believed)"
    r"|\bpeople (?:often )?(?:say|think|believe))[^.;\n]{0,40}$"
)
_RETRACTED = re.compile(r"[^.;\n]{0,40}[,.;]?\s(?:but|however|though|yet)\b")
_NEGATION = re.compile(r"\b(?:not|never|no|neither|except)\b|n't\b")
_VERB = re.compile(r"\b(?:is|was|are|were|has|have|had|did|does|called|known|won|wrote|by|in)\b")
_SEVERAL = re.compile(
    r"\b(?:name|list|what are|what were|who are|who were|which are|who all|both|two|three|four|five|six|all|some|types|examples"
    r"|members|or)\b"
)
_ASKS = re.compile(r"\b(?:who|whom|whose|what|which|when|where|how|is|was|are|were|did|does|do)\b")
_NAME = r"[A-Z0-9][\w.'-]*(?: [A-Z0-9][\w.'-]*){0,3}"
_ALTERNATIVES = re.compile(rf"(?<!known as )(?<!called )((?:{_NAME}, (?:the )?){{2,}}or (?:the |maybe |possibly )?{_NAME})")
_EITHER = re.compile(r"\beither (?:the )?(\S+(?: \S+){0,3}),? or (?:the )?(\S+(?: \S+){0,3})")
_OR = re.compile(r",? (?:or|and/or) (?:maybe |possibly |perhaps )?|,\s+|;\s*")
_LINE_MARK = re.compile(r"^\s*(?:\d+[.)]|[-*•])\s*")
_BARE, _PIECE, _SEARCHED = 160, 5, 1000
"""Characters of an answer that may be a bare list; words of one of its pieces; characters that are searched for alternatives."""


def denied(answer: str, gold: str) -> bool:
    """Whether every mention of `gold` in `answer` (both lower case, straight apostrophes) is taken back: right behind a negation ("not
    Paris"), right before one ("Paris is not"), or conceded to others before a "but" ("some say Paris, but")."""
    at, mentions = answer.find(gold), 0
    while at >= 0:
        mentions += 1
        end = at + len(gold)
        if not (
            _DENIED.search(answer, max(0, at - 40), at)
            or _DENIED_AFTER.match(answer, end)
            or (_RETRACTED.match(answer, end) and _CONCEDED.search(answer, max(0, at - 90), at))
        ):
            return False
        at = answer.find(gold, at + 1)
    return mentions > 0


def asks_negatively(question: str) -> bool:
    """Whether the question itself denies something, so that a negation in the answer may be a mere echo."""
    return bool(_NEGATION.search(question.lower()))


def candidates(question: str, answer: str) -> tuple[list[str], str]:
    """The alternatives between which the answer does not choose, and the rest of the answer; no alternatives where it chooses, or
    where the question asks for several.

    Counted as such: three or more alternatives joined by "or"; two after "either", or as the whole answer where both are names or
    numbers; the whole answer a bare list of four or more (of three lines, or three numbers). An "and" is no hedge: people who ask who
    wrote a song are content with both writers.
    """
    asked = question.lower()
    if _SEVERAL.search(asked) or not _ASKS.search(asked):
        return [], answer
    text = answer.strip().rstrip(".!")
    lines = [_LINE_MARK.sub("", line).strip() for line in text.split("\n") if line.strip()]
    if len(lines) >= 3:
        return (lines, "") if all(map(_short, lines)) else ([], answer)
    if len(text) <= _BARE and not _VERB.search(text):
        pieces = [piece for piece in _OR.split(text) if piece]
        names = all(map(_short, pieces)) and all(piece[0].isupper() or piece[0].isdigit() for piece in pieces)
        enough = 2 if " or " in text else 3 if all(piece.isdigit() for piece in pieces) else 4
        if names and len(pieces) >= enough:
            return pieces, ""
    for pattern in (_ALTERNATIVES, _EITHER) if " or " in text[:_SEARCHED] else ():
        if found := pattern.search(text, 0, _SEARCHED):
            pieces = _OR.split(found[1]) if pattern is _ALTERNATIVES else [found[1], found[2]]
            return pieces, text[: found.start()] + " " + text[found.end() :]
    return [], answer


def _short(piece: str) -> bool:
    return 0 < len(piece.split()) <= _PIECE
