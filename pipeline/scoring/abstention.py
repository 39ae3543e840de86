"""Whether an answer declines to answer: an abstention pattern matches the whole of it, never a part.

The text is made *plain* first: curly apostrophes and quotes straight, accents left alone, white space squeezed, markup and the
punctuation around sentences taken off. Patterns are regular expressions against that plain text, without regard to case, and are made
plain in the same way, so that a pattern written with a curly apostrophe (or none: `dont`) is as reachable as any other.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence

from pipeline.base.errors import ConfigError

_QUOTES = {ord(c): "'" for c in "’‘ʼ´`＇"} | {ord(c): '"' for c in "“”„«»"} | {ord("*"): None, ord("_"): " "}
_AROUND = " \t\n.,;:!?\"'()[]{}<>-–—…"
_SENTENCES = re.compile(r"(?<=[.!?])\s+|\n+")
_CUES = ("no", "un", "n't", "n’t", "sorry", "cant", "n/a", "nil", "null", "idk", "insufficient", "never", "indeterminate", "abstain")
_CUE = re.compile(
    r"\b(?:not?|none|cannot|know|sorry|nil|null|idk|dunno|never|insufficient|indeterminate|abstain|n/a"
    r"|un(?:able|sure|aware|certain|known|answerable|clear|specified|determin|stated|mentioned|available|fortunately)\w*)\b"
    r"|(?:n['’‘ʼ´`＇]t|dont|cant|couldnt|doesnt|didnt)\b",
    re.IGNORECASE,
)
"""What every default pattern needs. Most answers lack it, and looking for its letters first costs least."""
_LONGEST = 600
"""Characters. A longer answer says something; it is not looked at."""

_NOT = r"(?:(?:do|does|can|could|did|is|was|am|are) not|cannot|(?:am|was|is|are) (?:not able|unable) to)"
_SOURCE = (
    r"(?:(?:the|this|that|given|provided|above|supplied) )*"
    r"(?:passage|text|context|article|paragraph|document|excerpt|information|question|source|answer)s?(?: (?:provided|given|above))?"
)
_IN_SOURCE = rf"(?: (?:in|from|by|within|based on|using|on the basis of) {_SOURCE})?"
# What may follow without turning the sentence into an answer: no contrast, no guess, no second clause.
_REST = r"\b(?:(?!\b(?:but|however|though|although|perhaps|maybe|probably|guess|think|believe|likely|instead|only that)\b)[^,;:])*"
_SORRY = (
    r"(?:(?:(?:i am|i'm|we are|we're) )?(?:very |so )?sorry,?(?: but)? |unfortunately,? |apologies,?(?: but)? "
    r"|(?:based on|according to) [^,]*, |as an ai[^,]*, )*"
)
_IT = r"(?:it|this|that|the answer|the question|this question|that question)"

DEFAULT_PATTERNS: tuple[str, ...] = (
    # in the first person
    rf"{_SORRY}(?:i|we) (?:really |just |simply )?{_NOT} (?:really |actually )?"
    r"(?:know|say|tell|answer|determine|find|be sure|be certain|recall|remember)"
    r"(?: (?:the|an|any|a|that|this|it|for sure|for certain"
    rf"|who|what|when|where|which|why|how|whether|if|to|about|of){_REST})?{_IN_SOURCE}",
    rf"{_SORRY}(?:i|we) {_NOT} have (?:(?:enough|any|the|an|sufficient|that|this|specific|more) )*"
    rf"(?:information|answer|idea|knowledge|data|details){_REST}",
    rf"{_SORRY}(?:i|we) have no (?:idea|information|answer|knowledge|clue){_REST}",
    rf"{_SORRY}(?:i am|we are|we're) (?:not (?:(?:really|quite|entirely) )?(?:sure|certain|aware)|unsure|uncertain|unaware){_REST}",
    r"(?:(?:i|we) )?(?:dunno|have no clue|no idea|no clue|not sure|unsure|don't know|do not know|idk)",
    r"(?:i am )?(?:very |so )?sorry",
    # of the passage or the question
    rf"{_SORRY}{_SOURCE} (?:{_NOT}|never) (?:(?:explicitly|specifically|directly|actually|clearly) )?"
    r"(?:say|state|mention|specify|provide|contain|give|include|indicate|answer|tell|have|address|discuss|explain|offer|reveal|identify|name)"
    + _REST,
    rf"{_SORRY}there (?:is|are) (?:no|not|not enough|insufficient|no such) "
    r"(?:(?:enough|any|sufficient|relevant|specific|clear|known|definitive|direct) )*"
    rf"(?:answer|information|mention|data|evidence|details?){_REST}",
    rf"{_SORRY}(?:{_IT} )?(?:(?:is|was|are) )?(?:not |un)"
    r"(?:known|mentioned|stated|specified|given|provided|answerable|available|applicable|determinable|clear|found|sure|enough information"
    r"|possible to (?:answer|say|tell|determine|know)\b[^,;:]*|in (?:the )?(?:passage|text|context))" + _IN_SOURCE,
    rf"{_SORRY}{_IT} (?:cannot|can not|could not) be (?:answered|determined|found|known|inferred|said){_REST}",
    rf"{_SORRY}(?:cannot|can not|could not) (?:be )?(?:answer(?:ed)?|determined?|say|tell|found|find|known|inferred)"
    rf"(?: (?:the|this|that) (?:answer|question))?{_IN_SOURCE}",
    r"(?:no|insufficient|not enough) (?:answer|information|context|data|details?)"
    r"(?: (?:is |was )?(?:available|given|provided|found|possible|exists?))?" + _IN_SOURCE,
    r"(?:(?:the )?answer(?: is|:)? )?(?:unknown|unanswerable|undetermined|indeterminate|unclear|unspecified|n/a|none|null|nil|abstain)",
)
"""The patterns used where the config gives none."""


def plain(text: str) -> str:
    """`text` with straight quotes, single spaces and no punctuation around it."""
    return " ".join(text.translate(_QUOTES).split()).strip(_AROUND)


def _expanded(text: str) -> str:
    # One spelling of the negations: "don't", "dont" and "do not" are the same words.
    return _SHORT.sub(lambda m: _LONG[m[0].replace("'", "").lower()], text)


_LONG = {
    "dont": "do not", "doesnt": "does not", "didnt": "did not", "cant": "can not", "cannot": "can not", "couldnt": "could not",
    "isnt": "is not", "wasnt": "was not", "arent": "are not", "im": "i am",
}  # fmt: skip
_SHORT = re.compile(r"\b(?:don'?t|doesn'?t|didn'?t|can'?t|cannot|couldn'?t|isn'?t|wasn'?t|aren'?t|i'?m)\b", re.IGNORECASE)


def _regex(pattern: str, number: int) -> re.Pattern[str]:
    try:
        return re.compile(pattern.translate({ord(c): "'" for c in "’‘ʼ"}), re.IGNORECASE)
    except re.error as e:
        raise ConfigError(f"{pattern!r} is not a regular expression: {e}", where=f"abstention.patterns[{number}]") from e


def compiled(patterns: Sequence[str]) -> Callable[[str], bool]:
    """A test "does this answer abstain?" for `patterns`.

    True where the whole plain text, or each of its sentences, is matched by some pattern from its first to its last character,
    and where there is no text at all (an empty answer claims nothing).
    Raises ConfigError naming the pattern that is no regular expression.
    """
    regexes = []
    needs_cue = tuple(patterns) == DEFAULT_PATTERNS
    for number, pattern in enumerate(patterns):
        regexes.append(_regex(pattern, number))

    def matches(sentence: str) -> bool:
        text = plain(sentence)
        forms = {text, _expanded(text), text.replace("'", "")}
        return not text or any(regex.fullmatch(form) for form in forms for regex in regexes)

    @functools.lru_cache(1 << 14)
    def abstains(answer: str) -> bool:
        return matches(answer) or ((" " in answer or "\n" in answer) and all(map(matches, _SENTENCES.split(answer.strip()))))

    def test(answer: str) -> bool:
        if not answer:
            return True
        if len(answer) > _LONGEST:
            return not answer.strip()
        if needs_cue:
            low = answer.lower()
            if not any(cue in low for cue in _CUES) or not _CUE.search(answer):
                return not any(map(str.isalnum, answer))
        return abstains(answer)

    return test
