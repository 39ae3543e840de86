"""Text as a list of plain words, so that one thing is spelled one way: accents, plurals, number words, ordinals, units, initials.

`words("Twenty-first St. John's, £1.5 million")` gives `["21", "saint", "john", "£", "1500000"]`.
"""

from __future__ import annotations

import functools
import re
import unicodedata

from pipeline.scoring import numerals


def listed(text: str) -> frozenset[str]:
    """The words of a list written as one text."""
    return frozenset(text.split())


MONTHS = numerals.numbered("january february march april may june july august september october november december", 1)
MONTHS |= {name[:3]: n for name, n in MONTHS.items()} | {"sept": 9}
"""Month names and their abbreviations, to 1..12."""

_SAME = dict(
    pair.split("=")
    for pair in listed(
        "km=kilometer kilometre=kilometer kilometres=kilometer kilometers=kilometer mi=mile miles=mile ft=foot feet=foot metre=meter"
        " metres=meter meters=meter cm=centimeter mm=millimeter kg=kilogram lb=pound lbs=pound pounds=pound yrs=year yr=year years=year"
        " hrs=hour hr=hour min=minute mins=minute sec=second percent=% percentage=% usa=us mt=mount st=saint ste=saint dr=doctor &=and"
        " bros=brothers tv=television dept=department govt=government vs=versus bce=bc sq=square"
        # British and American spelling, beyond the endings in `_BRITISH`
        " grey=gray aluminium=aluminum sulphur=sulfur programme=program defence=defense licence=license mould=mold plough=plow"
        " jewellery=jewelry cheque=check moustache=mustache storey=story"
        # a country and its adjective answer the same questions ("where is it from?")
        " british=uk britain=uk american=us america=us english=england french=france german=germany spanish=spain italian=italy"
        " indian=india chinese=china japanese=japan canadian=canada australian=australia russian=russia irish=ireland scottish=scotland"
        " mexican=mexico greek=greece dutch=netherlands european=europe egyptian=egypt"
    )
)

RESPELLED = numerals.NUMBER_WORDS.union(numerals.SCALES, MONTHS, _SAME, ("united", "great", "yes", "no", "half"))
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
_BRITISH = re.compile(r"(?:(?<=\w{3})(?:our|ise)|(?<=\w{2})(?:tre|bre))$")
_AMERICAN = {"our": "or", "ise": "ize", "tre": "ter", "bre": "ber"}
_DIGIT = re.compile(r"\d")
_SHORT_SCALE = re.compile(r"\d(?:M|B|[kK]| ?mn| ?bn)\b|[$£€]\d[\d.,]*m\b")
_SHORT_SCALES = {"m": " million", "mn": " million", "b": " billion", "bn": " billion", "k": " thousand"}
_MINUS = re.compile(r"(?<![^\s(])[-−](?=\d)")
_FRACTION = re.compile(r"(?<![\d/.])([1-9])[/\u2044]([2-9])(?![\d/])")


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


def _scaled(found: re.Match[str]) -> str:
    digits = found[0].rstrip("mMkKBbn ")
    return digits + _SHORT_SCALES[found[0][len(digits) :].strip().lower()]


def split(text: str) -> list[str]:
    """`text` taken apart at spaces, punctuation and joints (`isKirsten`, `2016th`), in lower case, not yet plain."""
    text = fold(text)
    if "'" in text:
        text = _POSSESSIVE.sub("", text).replace("'", "")
    if _DIGIT.search(text):
        text = _SHORT_SCALE.sub(_scaled, text)
        if "/" in text or "\u2044" in text:
            text = _FRACTION.sub(lambda m: f"{int(m[1]) / int(m[2]):.4g}", text)
        if "-" in text or "−" in text:
            text = _MINUS.sub("minus ", text)
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
    if token in numerals.ROMAN:
        return numerals.ROMAN[token]
    word = stem(_SAME.get(token, token))
    return _BRITISH.sub(lambda m: _AMERICAN[m[0]], word) if word[-2:] in ("ur", "se", "re") else word


@functools.lru_cache(1 << 13)
def words(text: str) -> tuple[str, ...]:
    """The plain words of `text`, in order."""
    tokens, at = split(text), 0
    found: list[str] = []
    while at < len(tokens):
        token = tokens[at]
        digits = token[0].isdigit()
        if (digits or token in numerals.STARTS) and (read := numerals.read(tokens, at)) is not None:
            number, at = read
            found.append(f"{number:.15g}")
            continue
        at += 1
        found.append(_ORDINAL_DIGITS.sub("", token).replace(",", "").removesuffix(".0") if digits else _word(token))
    return tuple(found)
