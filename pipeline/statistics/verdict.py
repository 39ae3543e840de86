"""The verdict: from a handful of numbers to one word and one plain sentence. Pure; the first rule that applies wins.

Notation: the effect is oriented so that + is good for the treatment; margin m; [L, U] the simultaneous 95% interval, [l, u] the
simultaneous 90% one.

1. Bounds for missing data reverse it, an unplanned look, or fewer informative clusters than needed: no verdict, with the reason.
2. L > 0: better (U < m: by less than matters; L > m: by more than m).
3. U < 0: worse (L > -m: by less than matters).
4. -m < l and u < m: equivalent.
5. L > -m: not inferior.
6. Otherwise undecided, with what it takes to decide.

Without a margin only 1, 2, 3 and 6. With alternative `greater` never worse (Goeman, Solari & Stijnen 2010).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Word = Literal["better", "worse", "equivalent", "not_inferior", "undecided", "no_verdict"]
Qualifier = Literal["less_than_matters", "more_than_margin"]
WORDS: tuple[Word, ...] = ("better", "worse", "equivalent", "not_inferior", "undecided", "no_verdict")


@dataclass(frozen=True)
class Plan:
    """What would decide: this many more items, at this price (None: unknown), for 80% power at effect `detectable`."""

    detectable: float
    more_items: int
    more_usd: float | None = None


@dataclass(frozen=True)
class Evidence:
    """The numbers that a verdict rests on. Effects and bounds are oriented; None where there is no interval or no bound."""

    effect: float | None
    low: float | None
    high: float | None
    inner_low: float | None
    inner_high: float | None
    margin: float | None = None
    alternative: Literal["two-sided", "greater"] = "two-sided"
    informative: int = 10
    informative_needed: int = 10
    every_cluster: bool = False
    """Clusters whose items agree count as informative too: a score interval needs no discordant pair."""
    worst_low: float | None = None
    """Effect when all missing data turn out worst for the treatment."""
    worst_high: float | None = None
    """Effect when all missing data turn out best for the treatment."""
    unplanned_look: str | None = None
    plan: Plan | None = None


@dataclass(frozen=True)
class Wording:
    """Names for the sentence; `points`: say differences in percentage points."""

    treatment: str = "treatment"
    control: str = "control"
    metric: str = "the metric"
    points: bool = True
    level: int = 95
    """Of the interval; with alternative `greater`, of each of its ends."""
    inner_level: int = 90
    """Of the interval that equivalence is read from."""
    sample: str = ""
    """For example `1,000 items in 412 clusters`."""
    decimals: int = 1
    """Decimals of a percentage point."""


@dataclass(frozen=True)
class Verdict:
    """The word, the rule that gave it, its qualifier, the sentence, and the reason why there is none."""

    verdict: Word
    rule: int
    sentence: str
    qualifier: Qualifier | None = None
    reason: str | None = None


@dataclass(frozen=True)
class _Claim:
    word: Word
    rule: int
    qualifier: Qualifier | None = field(default=None)


def decide(e: Evidence, wording: Wording = Wording()) -> Verdict:
    """Apply the rules to `e` and say the result in one sentence."""
    claim = _claim(e)
    if reason := _obstacle(e, claim, wording):
        sentence = f"No verdict on {wording.treatment} against {wording.control} by {wording.metric}: {reason}."
        return Verdict("no_verdict", 1, sentence, None, reason)
    return Verdict(claim.word, claim.rule, _sentence(e, claim, wording), claim.qualifier)


def reversed_by(e: Evidence, low: float | None, high: float | None) -> bool:
    """Whether the claim that `e` supports is contradicted by an effect of `low` or of `high` (bounds for missing data, oriented)."""
    word, m = _claim(e).word, e.margin
    if low is None or high is None:
        return False
    if word == "better":
        return low < 0
    if word == "worse":
        return high > 0
    if word == "equivalent" and m is not None:
        return low <= -m or high >= m
    return word == "not_inferior" and m is not None and low <= -m


def _claim(e: Evidence) -> _Claim:
    """Rules 2 to 6."""
    m = e.margin
    if e.low is not None and e.low > 0:
        if m is not None and e.high is not None and e.high < m:
            return _Claim("better", 2, "less_than_matters")
        return _Claim("better", 2, "more_than_margin" if m is not None and e.low > m else None)
    if e.high is not None and e.high < 0 and e.alternative != "greater":
        return _Claim("worse", 3, "less_than_matters" if m is not None and e.low is not None and e.low > -m else None)
    if m is not None:
        if e.inner_low is not None and e.inner_high is not None and -m < e.inner_low and e.inner_high < m:
            return _Claim("equivalent", 4)
        if e.low is not None and e.low > -m:
            return _Claim("not_inferior", 5)
    return _Claim("undecided", 6)


def _obstacle(e: Evidence, claim: _Claim, w: Wording) -> str | None:
    """Rule 1: the reason why there is no verdict."""
    if e.unplanned_look:
        return e.unplanned_look
    if e.informative < e.informative_needed:
        kind, which = ("cluster", "") if e.every_cluster else ("informative cluster", " (whose items differ between the arms)")
        count = f"no {kind}" if e.informative == 0 else f"only {_count(e.informative, kind)}"
        return f"{count}{which}, where at least {e.informative_needed} are needed"
    if reversed_by(e, e.worst_low, e.worst_high):
        span = _span(e.worst_low, e.worst_high, w)
        return f"missing answers could reverse it (the effect lies anywhere from {span}, depending on what they would have been)"
    return None


def _count(n: int, thing: str) -> str:
    return f"{n:,} {thing}{'' if n == 1 else 's'}"


def _number(x: float, w: Wording, *, full: bool = False) -> str:
    """`x` in points or units, with a true minus sign; `full` keeps the zeros at its end, so that the ends of an interval agree."""
    text = f"{x * 100:.{w.decimals}f}" if w.points else f"{x:#.3g}"
    if "." in text and "e" not in text:
        text = (text if full else text.rstrip("0")).rstrip(".")
    return text.lstrip("-") if float(text) == 0 else re.sub("^-", "−", text)


def _size(x: float, w: Wording) -> str:
    text = _number(x, w)
    return f"{text} point{'' if text == '1' else 's'}" if w.points else text


def _span(low: float | None, high: float | None, w: Wording) -> str:
    if low is None and high is None:
        return "unknown"
    if high is None:
        return f"{_number(low or 0.0, w, full=True)} up"
    return f"{_number(low or 0.0, w, full=True)} to {_number(high, w, full=True)}"


def _sentence(e: Evidence, claim: _Claim, w: Wording) -> str:
    t, c, on = w.treatment, w.control, f"on {w.metric}"
    effect, m = e.effect or 0.0, e.margin or 0.0
    sample = f"; {w.sample}" if w.sample else ""
    of_level = f"one-sided {w.level}% bounds" if e.alternative == "greater" else f"{w.level}% interval"
    facts = f"({of_level} {_span(e.low, e.high, w)}{sample})"
    inner = f"({w.inner_level}% interval {_span(e.inner_low, e.inner_high, w)}{sample})"
    tail = {
        None: "",
        "less_than_matters": f", but by less than matters (margin {_size(m, w)})",
        "more_than_margin": f", by more than the margin of {_size(m, w)}",
    }
    if claim.word in ("better", "worse"):
        return f"{t} is {claim.word} than {c} {on} by {_size(abs(effect), w)} {facts}{tail[claim.qualifier]}."
    if claim.word == "equivalent":
        return f"{t} and {c} are equivalent {on}: they differ by less than the margin of {_size(m, w)} {inner}."
    if claim.word == "not_inferior":
        return f"{t} is not inferior to {c} {on}: at worst it is less than the margin of {_size(m, w)} below {facts}."
    asked = "is better than" if e.alternative == "greater" else "differs from"
    text = f"Undecided whether {t} {asked} {c} {on}"
    text += f": {_size(effect, w)} {facts}" if e.effect is not None and e.low is not None else ""
    if e.plan is None:
        return text + "."
    cost = "" if e.plan.more_usd is None else f", about {e.plan.more_usd:,.2f} dollars,"
    aim = f"for 80% power at {_size(e.plan.detectable, w)}"
    if e.plan.more_items == 0:
        return f"{text}; there were items enough {aim}."
    return f"{text}; {_count(e.plan.more_items, 'more item')}{cost} {aim}."


_IMPLIES: Mapping[str, tuple[str, ...]] = {
    "better": ("better", "not_inferior"),
    "equivalent": ("equivalent", "not_inferior"),
    "not_inferior": ("not_inferior",),
}


def meets(verdict: Mapping[str, Any] | str, required: str) -> bool:
    """Whether a verdict (its word, or the `verdict` object of significance.json) fulfils `--require required`.

    Better and equivalent imply not inferior; a difference `by less than matters`, either way, lies within the margin and so is also
    equivalent. Raises ValueError for a word that is none of WORDS.
    """
    word, qualifier = (verdict, None) if isinstance(verdict, str) else (verdict["verdict"], verdict.get("qualifier"))
    for w in (word, required):
        if w not in WORDS:
            raise ValueError(f"{w!r} is no verdict; use one of {', '.join(WORDS)}")
    implied = {word, *_IMPLIES.get(word, ())}
    if word in ("better", "worse") and qualifier == "less_than_matters":
        implied |= {"equivalent", "not_inferior"}
    return required in implied
