"""Text as a list of plain words, so that one thing is spelled one way: accents, plurals, number words, ordinals, units, initials.

`words("Twenty-first St. John's, £1.5 million")` gives `["21", "saint", "john", "£", "1500000"]`.
"""

from __future__ import annotations

import functools
import re
import unicodedata


def listed(text: str) -> frozenset[str]:
    """The words of a list written as one text."""
    return frozenset(text.split())


def _numbered(text: str, start: int = 0) -> dict[str, int]:
    return {word: n for n, word in enumerate(text.split(), start)}


_UNITS = _numbered(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
)
_TENS = {word: 10 * n for word, n in _numbered("twenty thirty forty fifty sixty seventy eighty ninety", 2).items()}
_ORDINALS = _numbered(
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth sixteenth"
    " seventeenth eighteenth nineteenth twentieth",
    1,
)
_ROMAN = {"ii": 2, "iii": 3, "iv": 4, "vi": 6, "vii": 7, "viii": 8, "ix": 9} | _numbered("xi xii xiii xiv xv xvi xvii xviii xix xx", 11)
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12}
MONTHS = _numbered("january february march april may june july august september october november december", 1)
MONTHS |= {name[:3]: n for name, n in MONTHS.items()} | {"sept": 9}
"""Month names and their abbreviations, to 1..12."""

_NUMBER_WORDS = {word: str(n) for words in (_UNITS, _TENS, _ORDINALS, _ROMAN) for word, n in words.items()}
_TENS_DIGITS = {str(n) for n in _TENS.values()}

_SAME = dict(
    pair.split("=")
    for pair in listed(
        "km=kilometer kilometre=kilometer kilometres=kilometer kilometers=kilometer mi=mile miles=mile ft=foot feet=foot metre=meter"
        " metres=meter meters=meter cm=centimeter mm=millimeter kg=kilogram lb=pound lbs=pound pounds=pound yrs=year yr=year years=year"
        " hrs=hour hr=hour min=minute mins=minute sec=second percent=% percentage=% usa=us mt=mount st=saint ste=saint dr=doctor &=and"
        " bros=brothers tv=television dept=department govt=government vs=versus"
        # a country and its adjective answer the same questions ("where is it from?")
        " british=uk britain=uk american=us america=us english=england french=france german=germany spanish=spain italian=italy"
        " indian=india chinese=china japanese=japan canadian=canada australian=australia russian=russia irish=ireland scottish=scotland"
        " mexican=mexico greek=greece dutch=netherlands european=europe egyptian=egypt"
    )
)

RESPELLED = frozenset(_NUMBER_WORDS) | frozenset(_SCALES) | frozenset(MONTHS) | frozenset(_SAME) | {"united", "great", "yes", "no"}
"""Words in lower case that become others, or mean more than themselves."""

_COUNTRIES = (
    (re.compile(r"\bunited states(?: of america)?\b"), "us"),
    (re.compile(r"\b(?:united kingdom|great britain)\b"), "uk"),
)
_TOKEN = re.compile(r"\d+(?:[.,]\d+)*(?:st|nd|rd|th|s)?|[^\W\d_]+|[%$£€&]")
_SUPERSCRIPTS = {ord(c): None for c in "⁰¹²³⁴⁵⁶⁷⁸⁹"}
_APOSTROPHES = {ord(c): "'" for c in "’‘`´"}
_POSSESSIVE = re.compile(r"'s\b|(?<=s)'(?=\s|$)")
_INITIALS = re.compile(r"\b(?:[A-Z]\.\s?)+(?:[A-Z]\.|[A-Z]\b)\s?|\b(?:[a-z]\.){2,}")
_NAMED = re.compile(r"\b(?!The |And |But |Type |Vitamin )[A-Z]\w*[a-z] (?:I|V|X)\b(?!')")
_YEARS = re.compile(r"\b((?:1\d|20))(\d\d)\s?[–-]\s?(\d\d)\b")
_JOINED = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[a-z]{3})(?=\d)")
_SPLIT_DECIMAL = re.compile(r"(\d)\. (\d)")
_ORDINAL_DIGITS = re.compile(r"(?<=\d)(?:st|nd|rd|th)$")
_DIGITS = {"I": "1", "V": "5", "X": "10"}


def fold(text: str) -> str:
    """`text` without accents, superscript digits (citations) and compatibility forms, with straight apostrophes."""
    if text.isascii():
        return text
    decomposed = unicodedata.normalize("NFKD", text.translate(_SUPERSCRIPTS).translate(_APOSTROPHES))
    return "".join(c for c in decomposed if not unicodedata.combining(c))


def stem(word: str) -> str:
    """`word` without its plural ending."""
    if len(word) > 4:
        if word.endswith("ies"):
            return word[:-3] + "y"
        if word.endswith(("sses", "xes", "ches", "shes")):
            return word[:-2]
        if word.endswith("s") and not word.endswith(("ss", "us", "is")):
            return word[:-1]
    elif len(word) == 4 and word.endswith("s") and word[-2] not in "su":
        return word[:-1]
    return word


def split(text: str) -> list[str]:
    """`text` taken apart at spaces, punctuation and joints (`isKirsten`, `2016th`), in lower case, not yet plain."""
    text = fold(text)
    if "'" in text:
        text = _POSSESSIVE.sub("", text).replace("'", "")
    if "." in text:
        text = _INITIALS.sub(lambda m: m[0].replace(".", "").replace(" ", "") + " ", text)
        text = _SPLIT_DECIMAL.sub(r"\1.\2", text)
    if "1" in text or "20" in text:
        text = _YEARS.sub(r"\1\2 \1\3", text)  # "1979-80"
    if " I" in text or " V" in text or " X" in text:
        text = _NAMED.sub(lambda m: m[0][:-1] + _DIGITS[m[0][-1]], text)
    text = _JOINED.sub(" ", text).lower()
    if "united" in text or "britain" in text:
        for pattern, name in _COUNTRIES:
            text = pattern.sub(name, text)
    return _TOKEN.findall(text)


@functools.lru_cache(1 << 14)
def _word(token: str) -> str:
    return stem(_SAME.get(token, token))


@functools.lru_cache(1 << 13)
def words(text: str) -> tuple[str, ...]:
    """The plain words of `text`, in order."""
    found: list[str] = []
    for token in split(text):
        if token[0].isdigit():
            digits = _ORDINAL_DIGITS.sub("", token).replace(",", "")
            found.append(digits.removesuffix(".0"))
        elif token in _NUMBER_WORDS:
            if token in _UNITS and found and found[-1] in _TENS_DIGITS:  # "forty two"
                found[-1] = str(int(found[-1]) + _UNITS[token])
            elif token in _ORDINALS and found and found[-1] in _TENS_DIGITS:  # "forty second"
                found[-1] = str(int(found[-1]) + _ORDINALS[token])
            else:
                found.append(_NUMBER_WORDS[token])
        elif token in _SCALES and found and value(found[-1]) is not None:  # "1.5 million"
            found[-1] = f"{(value(found[-1]) or 0) * _SCALES[token]:.15g}"
        else:
            found.append(_word(token))
    return tuple(found)


def value(word: str) -> float | None:
    """The number that a plain word is, or None."""
    try:
        return float(word) if word[0].isdigit() else None
    except ValueError:
        return None
