"""Numbers as a reader wants them: points, percentages, p-values, money, with a true minus sign and stable digits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

MINUS = "−"
DASH = "–"
DRY = "Simulated answers: this is a dry run. Its numbers show that the experiment works; they say nothing about any model."
"""Above every report of a dry run."""

_SHARES = {"em", "f1", "correct", "accuracy", "precision", "recall", "contains"}
_LOWER_IS_BETTER = {"false_answer_rate", "unsupported_rate", "abstain_rate", "error", "error_rate"}


def is_share(metric: str) -> bool:
    """True where a metric runs from 0 to 1, so that its effects are given in percentage points."""
    return metric in _SHARES or metric.endswith("_rate")


def lower_is_better(metric: str) -> bool:
    """True where a smaller value of the metric is the better one (used only where the document does not say)."""
    return metric in _LOWER_IS_BETTER


def fixed(value: float | None, digits: int, *, sign: bool = False) -> str:
    """`value` with `digits` decimals and a true minus sign; a dash for None; never `−0.0`."""
    if value is None or math.isnan(value):
        return DASH
    if math.isinf(value):
        return ("+" if sign else "") + "∞" if value > 0 else MINUS + "∞"
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    return (MINUS if value < 0 else "+" if sign else "") + text


@dataclass(frozen=True)
class Scale:
    """How a metric's levels and effects are printed. `factor` turns a stored number into the printed one."""

    factor: float
    digits: int
    unit: str
    """Of an effect: `points` or empty."""
    percent: str
    """Behind a level: `%` or empty."""

    def number(self, value: float | None) -> str:
        """An effect without its unit, signed: `+4.2`."""
        return fixed(None if value is None else value * self.factor, self.digits, sign=True)

    def effect(self, value: float | None) -> str:
        """An effect with its unit: `+4.2 points`."""
        return self.number(value) + (f" {self.unit}" if self.unit and value is not None else "")

    def size(self, value: float | None) -> str:
        """A margin or a detectable effect, unsigned: `2.0 points`."""
        text = fixed(None if value is None else abs(value) * self.factor, self.digits)
        return text + (f" {self.unit}" if self.unit and value is not None else "")

    def interval(self, low: float | None, high: float | None) -> str:
        """An interval: `[+1.1, +7.3]`; a dash where there is none."""
        return DASH if low is None and high is None else f"[{self.number(low)}, {self.number(high)}]"

    def level(self, value: float | None) -> str:
        """A mean: `61.3%`."""
        return DASH if value is None else fixed(value * self.factor, self.digits) + self.percent


def scale_for(metric: str, half_width: float | None = None, share: bool | None = None) -> Scale:
    """The scale of `metric`. Shares: percentage points with one decimal, two where the interval's half-width is below one point.

    `share` is what the document says of it; None: it is taken from the name.
    """
    if is_share(metric) if share is None else share:
        fine = half_width is not None and 0 < half_width < 0.01
        return Scale(100.0, 2 if fine else 1, "points", "%")
    wide = half_width is not None and half_width >= 10
    return Scale(1.0, 1 if wide else 3, "", "")


def p_value(value: float | None) -> str:
    """`0.034`, `0.0071`, `< 0.0001`; a dash for None."""
    if value is None:
        return DASH
    if value < 0.0001:
        return "< 0.0001"
    return f"{value:.4f}" if value < 0.01 else f"{value:.3f}"


def count(value: float | None) -> str:
    """`11,873`; a dash for None."""
    return DASH if value is None else f"{value:,.0f}"


def dollars(value: float | None) -> str:
    """`$12.34`, four decimals below ten cents, `< $0.0001` below those; `not priced` for None."""
    if value is None:
        return "not priced"
    if 0 < value < 0.00005:
        return "< $0.0001"
    return f"${value:,.4f}" if 0 < abs(value) < 0.1 else f"${value:,.2f}"


def plain(value: Any) -> str:
    """A setting or a cell of unknown kind as text: floats short, mappings as `key value`, None as a dash."""
    if value is None or value == "":
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict):
        return ", ".join(f"{k} {plain(v)}" for k, v in value.items()) or DASH
    if isinstance(value, (list, tuple)):
        return ", ".join(plain(v) for v in value) or DASH
    return str(value)
