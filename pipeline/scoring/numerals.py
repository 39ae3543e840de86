"""Numbers that are spelled: "three hundred and sixty-five", "2.5 million", "half a million", "nineteen eighty-four", "VIII"."""

from __future__ import annotations

from collections.abc import Sequence


def numbered(text: str, start: int = 0) -> dict[str, int]:
    """The words of `text`, counted from `start`."""
    return {word: n for n, word in enumerate(text.split(), start)}


_UNITS = numbered(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
)
_TENS = {word: 10 * n for word, n in numbered("twenty thirty forty fifty sixty seventy eighty ninety", 2).items()}
_ORDINALS = numbered(
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth sixteenth"
    " seventeenth eighteenth nineteenth twentieth",
    1,
)
_ROMAN = {"ii": 2, "iii": 3, "iv": 4, "vi": 6, "vii": 7, "viii": 8, "ix": 9} | numbered("xi xii xiii xiv xv xvi xvii xviii xix xx", 11)
SCALES = {"dozen": 12, "hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_CARDINALS = _UNITS | _TENS
ROMAN = {word: str(n) for word, n in _ROMAN.items()}
NUMBER_WORDS = frozenset(_CARDINALS) | frozenset(_ORDINALS) | frozenset(_ROMAN)
STARTS = frozenset(_CARDINALS) | frozenset(_ORDINALS) | {"a", "half"}


def value(word: str) -> float | None:
    """The number that a plain word is, or None."""
    try:
        return float(word) if word[0].isdigit() else None
    except ValueError:
        return None


def read(tokens: Sequence[str], at: int) -> tuple[float, int] | None:
    """The number that is spelled from `tokens[at]` on, and where it ends: "three hundred and sixty-five", "2.5 million", "half a
    million", "nineteen eighty-four". None where no word of it is spelled: digits alone are a word as they are.
    """
    total, limit, spelled, start = 0.0, float("inf"), False, at
    current: float | None = None
    while at < len(tokens):
        token, following = tokens[at], tokens[at + 1] if at + 1 < len(tokens) else ""
        scale = SCALES.get(token)
        if scale and current is not None and current < scale < limit:
            current *= scale
            if scale >= 1000:
                total, current, limit = total + current, None, scale
            spelled = True
        elif token == "and" and spelled and tokens[at - 1] in SCALES and following in _CARDINALS:
            pass
        elif token == "and" and current is not None and tokens[at + 1 : at + 3] == ["a", "half"]:
            current, spelled, at = current + 0.5, True, at + 2
        elif token in ("a", "half") and at == start and following in SCALES:
            current = 0.5 if token == "half" else 1.0
        elif token == "half" and at == start and following == "a" and tokens[at + 2 : at + 3] and tokens[at + 2] in SCALES:
            current, at = 0.5, at + 1
        elif token[0].isdigit() and current is None and (at == start or following in SCALES) and (digits := value(token.replace(",", ""))):
            current = digits
        elif current is not None and not spelled:  # "1900, five of them"
            break
        elif token in _ORDINALS and (joined := _joined(current, _ORDINALS[token])) is not None:
            return total + joined, at + 1
        elif token in _CARDINALS and (joined := _joined(current, _CARDINALS[token])) is not None:
            current, spelled = joined, True
        else:
            break
        at += 1
    return (total + (current or 0.0), at) if spelled else None


def _joined(current: float | None, n: int) -> float | None:
    # What "twenty" and "one", "three hundred" and "five", "nineteen" and "eighty" make together; None where they are two numbers.
    if current is None:
        return n
    if (current % 100 in _TENS.values() and 0 < n < 10) or (current >= 100 and current % 100 == 0 and 0 < n < 100):
        return current + n
    return 100 * current + n if 17 <= current <= 20 and 10 <= n < 100 else None
