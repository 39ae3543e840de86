"""The built-in metrics, written as anybody's own: a function of (item, answer, row, **options) that returns
a number, named numbers or None.

`item` is the Item, `answer` the text of the answer, `row` its whole ResultRow. None says that the metric is not defined for this answer.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.base.errors import ConfigError
from pipeline.base.rows import Item, ResultRow
from pipeline.scoring import official
from pipeline.scoring.correct import is_correct
from pipeline.scoring.normalise import kind_of, normalise


def exact_match(item: Item, answer: str, row: ResultRow, *, kind: str | None = None) -> int:
    """1 where the normalised answer equals a normalised gold, under the official rules of `kind` (default: by the dataset's name)."""
    return official.em_f1(answer, item.answers, kind or kind_of(item.dataset))[0]


def f1(item: Item, answer: str, row: ResultRow, *, kind: str | None = None) -> float:
    """The best token F1 over the golds, under the official rules of `kind` (default: by the dataset's name)."""
    return official.em_f1(answer, item.answers, kind or kind_of(item.dataset))[1]


def correct(item: Item, answer: str, row: ResultRow) -> bool | None:
    """Whether people would call the answer right (see `pipeline.scoring.correct`). Not defined for an item without golds."""
    return is_correct(item.question, answer, item.answers) if item.answers else None


def contains(
    item: Item, answer: str, row: ResultRow, *, texts: Sequence[str] | None = None, ignore_case: bool = True, words: bool = True
) -> bool:
    """Whether the answer contains one of `texts` (default: a gold); with `words`, after normalisation and at word boundaries."""
    wanted = item.answers if texts is None else texts
    if words:
        return any(f" {gold} " in f" {normalise(answer)} " for gold in map(normalise, wanted) if gold)
    fold = str.casefold if ignore_case else str
    return any(fold(text) in fold(answer) for text in wanted if text)


@functools.lru_cache(256)
def _regex(pattern: str, ignore_case: bool, dot_all: bool) -> re.Pattern[str]:
    try:
        return re.compile(pattern, (re.IGNORECASE if ignore_case else 0) | (re.DOTALL if dot_all else 0))
    except re.error as e:
        raise ConfigError(f"{pattern!r} is not a regular expression: {e}", where="options.pattern") from e


def regex(
    item: Item, answer: str, row: ResultRow, *, pattern: str, ignore_case: bool = True, dot_all: bool = False, whole: bool = False
) -> bool:
    """Whether `pattern` is found in the answer; with `whole`, whether it matches the whole (stripped) answer."""
    compiled = _regex(pattern, ignore_case, dot_all)
    return bool(compiled.fullmatch(answer.strip()) if whole else compiled.search(answer))


_NUMBER = re.compile(r"(?<![\w.])[-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?|(?<![\w.])[-+−]?\.\d+")


def _numbers(text: str) -> list[float]:
    return [float(found.replace(",", "").replace("−", "-")) for found in _NUMBER.findall(text)]


def numeric(
    item: Item, answer: str, row: ResultRow, *, tolerance: float = 0.0, relative_tolerance: float = 0.0, which: str = "last"
) -> bool | None:
    """Whether the answer's number (`which`: first, last or any) is within `tolerance`, or `relative_tolerance` times the gold, of a gold.

    Not defined for an item none of whose golds is a number.
    """
    if which not in ("first", "last", "any"):
        raise ConfigError(f"{which!r} is neither first, last nor any", where="options.which")
    golds = [numbers[0] for gold in item.answers if (numbers := _numbers(gold))]
    if not golds:
        return None
    found = _numbers(answer)
    candidates = {"first": found[:1], "last": found[-1:], "any": found}[which]
    # A hair of slack, so that |0.3 - 0.1| <= 0.2 holds in binary too.
    return any(
        abs(x - gold) <= max(tolerance, relative_tolerance * abs(gold)) * (1 + 1e-12) + 1e-12 * abs(gold)
        for x in candidates
        for gold in golds
    )


_MARKED = re.compile(r"\b(?:answer|option|choice)\b(?:\s+is)?\s*[:=]?\s*\**\(?([A-Za-z])\b\)?", re.IGNORECASE)
_ALONE = re.compile(r"\s*\**\(?([A-Za-z])\)?\**\s*(?:[.:)].*)?", re.DOTALL)


def multiple_choice(item: Item, answer: str, row: ResultRow, *, choices: Sequence[str] | None = None, letters: str = "ABCDEFGHIJ") -> bool:
    """Whether the answer picks the gold option.

    Options are `choices`, else `item.meta["choices"]`; the gold is a letter or an option's text. The pick is the last "answer: X", else
    a letter at the start, else the one option whose text occurs in the answer. Two options, or none, are no pick.
    """
    options = list(choices if choices is not None else item.meta.get("choices") or [])
    known = letters[: len(options)] if options else letters
    by_text = {normalise(str(option)): letter for letter, option in zip(known, options, strict=False)}
    golds = {gold.strip().upper() for gold in item.answers if len(gold.strip()) == 1} | {
        by_text.get(normalise(g), "") for g in item.answers
    }
    return _pick(answer, known, by_text) in golds & set(known)


def _pick(answer: str, known: str, by_text: Mapping[str, str]) -> str | None:
    marked = [letter.upper() for letter in _MARKED.findall(answer) if letter.upper() in known]
    if marked:
        return str(marked[-1])
    alone = _ALONE.fullmatch(answer)
    if alone and alone[1].upper() in known:
        return str(alone[1]).upper()
    text = f" {normalise(answer)} "
    named = {letter for option, letter in by_text.items() if option and f" {option} " in text}
    return named.pop() if len(named) == 1 else None


_FENCE = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*", re.DOTALL)


def _json(answer: str, allow_fence: bool) -> Any:
    fenced = _FENCE.fullmatch(answer) if allow_fence else None

    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is not JSON")

    return json.loads(fenced[1] if fenced else answer, parse_constant=refuse)


def json_valid(item: Item, answer: str, row: ResultRow, *, allow_fence: bool = True) -> bool:
    """Whether the answer is one JSON value (strict: no NaN); with `allow_fence` a ```json block around it is overlooked."""
    try:
        _json(answer, allow_fence)
    except (ValueError, RecursionError):
        return False
    return True


@functools.lru_cache(64)
def _validator(schema: str) -> Any:
    import jsonschema  # here: only those who use this metric pay for it

    loaded = json.loads(schema)
    try:
        jsonschema.Draft202012Validator.check_schema(loaded)
    except jsonschema.SchemaError as e:
        raise ConfigError(f"not a JSON Schema: {e.message}", where="options.schema") from e
    return jsonschema.Draft202012Validator(loaded)


def json_schema(item: Item, answer: str, row: ResultRow, *, schema: Mapping[str, Any], allow_fence: bool = True) -> bool:
    """Whether the answer is JSON that conforms to `schema` (JSON Schema 2020-12)."""
    validator = _validator(json.dumps(schema, sort_keys=True))
    try:
        return bool(validator.is_valid(_json(answer, allow_fence)))
    except (ValueError, RecursionError):
        return False


def length(item: Item, answer: str, row: ResultRow, *, unit: str = "words") -> int:
    """The length of the answer in `unit`: words, characters, lines or sentences."""
    if unit == "words":
        return len(answer.split())
    if unit == "characters":
        return len(answer)
    if unit == "lines":
        return len([line for line in answer.splitlines() if line.strip()])
    if unit == "sentences":
        return len([s for s in re.split(r"(?<=[.!?])\s+|\n+", answer.strip()) if s])
    raise ConfigError(f"{unit!r} is neither words, characters, lines nor sentences", where="options.unit")


BUILT_IN = {
    function.__name__: function
    for function in (exact_match, f1, correct, contains, regex, numeric, multiple_choice, json_valid, json_schema, length)
}
"""By name; `f1` and `correct` are also core columns, so as metrics of the config they need a name of their own."""
