"""Amounts with units, and times of day: whether two of them are the same, in whatever unit they are said.

`quantities(words("5 ft 7 in"))` is one length of 67 inches; `clock("at 3:30 pm")` is minute 930 of the day.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from pipeline.scoring.numerals import value
from pipeline.scoring.words import fold

_PARTS = {
    "foot": ("inch",), "yard": ("foot",), "meter": ("centimeter",), "pound": ("ounce", "oz"), "hour": ("minute",), "minute": ("second",),
    "day": ("hour",), "week": ("day",), "month": ("day",), "year": ("month", "day"),
}  # fmt: skip
"""Unit -> the units that may follow it in one amount."""
_MINUTES, _DAY, _YEAR = 60.0, 86400.0, 365.25 * 86400
_LENGTH, _MASS, _TIME, _VOLUME = "length", "mass", "time", "volume"
_UNITS: dict[str, tuple[str, float]] = {
    "meter": (_LENGTH, 1), "m": (_LENGTH, 1), "kilometer": (_LENGTH, 1000), "centimeter": (_LENGTH, 0.01), "millimeter": (_LENGTH, 0.001),
    "mile": (_LENGTH, 1609.344), "yard": (_LENGTH, 0.9144), "yd": (_LENGTH, 0.9144), "foot": (_LENGTH, 0.3048), "inch": (_LENGTH, 0.0254),
    "kilogram": (_MASS, 1), "kilo": (_MASS, 1), "gram": (_MASS, 0.001), "g": (_MASS, 0.001), "milligram": (_MASS, 1e-6),
    "mg": (_MASS, 1e-6), "ounce": (_MASS, 0.028349523), "oz": (_MASS, 0.028349523), "pound": (_MASS, 0.45359237),
    "second": (_TIME, 1), "s": (_TIME, 1), "minute": (_TIME, _MINUTES), "hour": (_TIME, 3600), "h": (_TIME, 3600), "day": (_TIME, _DAY),
    "week": (_TIME, 7 * _DAY), "month": (_TIME, _YEAR / 12), "year": (_TIME, _YEAR), "decade": (_TIME, 10 * _YEAR),
    "century": (_TIME, 100 * _YEAR),
    "liter": (_VOLUME, 1), "l": (_VOLUME, 1), "milliliter": (_VOLUME, 0.001), "ml": (_VOLUME, 0.001), "gallon": (_VOLUME, 3.785411784),
    "acre": ("area", 4046.8564224), "hectare": ("area", 10_000), "ha": ("area", 10_000),
    "mph": ("speed", 0.44704), "kph": ("speed", 1 / 3.6), "kmh": ("speed", 1 / 3.6),
}  # fmt: skip
"""Plain unit word -> (dimension, how many of its base unit: m, kg, s, l, m2, m/s)."""
_DEGREES = {
    "celsius": (1.0, 273.15),
    "c": (1.0, 273.15),
    "fahrenheit": (5 / 9, 459.67 * 5 / 9),
    "f": (5 / 9, 459.67 * 5 / 9),
    "kelvin": (1.0, 0.0),
}
"""Scale of temperature -> (kelvin in a degree, its zero in kelvin)."""
_CLOCK = re.compile(r"\b(\d{1,2})(?:[:.]([0-5]\d))?\s?([ap])\.?\s?m\b|\b([01]?\d|2[0-3]):([0-5]\d)\b(?!:)")


class Quantity(NamedTuple):
    """An amount of a dimension, in its base unit. `at` are the places of its number words."""

    dimension: str
    amount: float
    at: tuple[int, ...]

    def same(self, other: Quantity, close: float) -> bool:
        """Whether both are the same amount, up to a relative difference of `close` (temperatures: half a kelvin)."""
        limit = 0.5 if self.dimension == "temperature" else close * abs(self.amount)
        return self.dimension == other.dimension and abs(self.amount - other.amount) <= limit


def is_unit(word: str) -> bool:
    """Whether a plain word is a unit when it stands behind a number."""
    return word in _UNITS or word in _DEGREES or word in ("square", "degree", "per")


def quantities(words: Sequence[str]) -> list[Quantity]:
    """The amounts in plain words, in order; feet and inches, hours and minutes together are one."""
    found: list[Quantity] = []
    at, end, last = 0, -1, ""
    while at < len(words):
        number = value(words[at])
        read = None if number is None else _unit(words, at + 1, inches=(last, end) == ("foot", at))
        if number is None or read is None:
            at += 1
            continue
        dimension, factor, zero, behind = read
        name = "inch" if words[at + 1] == "in" else words[at + 1]
        if end == at and name in _PARTS.get(last, ()):
            found[-1] = Quantity(dimension, found[-1].amount + number * factor, (*found[-1].at, at))
        else:
            found.append(Quantity(dimension, number * factor + zero, (at,)))
        at = end = behind
        last = name
        end += at < len(words) and words[at] == "and"
    return found


def _unit(words: Sequence[str], at: int, *, inches: bool) -> tuple[str, float, float, int] | None:
    """Dimension, base units in one, base units at zero, and the place behind it, of the unit at `at`; None where there is none."""
    word, following = (*words[at : at + 2], "", "")[:2]
    if word in _DEGREES or (word == "degree" and following in _DEGREES):
        degree, zero = _DEGREES[following if word == "degree" else word]
        return "temperature", degree, zero, at + 1 + (word == "degree")
    if word == "square" and following in _UNITS and _UNITS[following][0] == _LENGTH:
        return "area", _UNITS[following][1] ** 2, 0.0, at + 2
    if word == "in" and inches:
        word = "inch"
    if word not in _UNITS:
        return None
    dimension, factor = _UNITS[word]
    rest = tuple(words[at + 1 : at + 3])
    if dimension == _LENGTH and rest[:1] in (("per",), ("an",), ("a",)) and rest[1:] and _UNITS.get(rest[1], ("",))[0] == _TIME:
        return "speed", factor / _UNITS[rest[1]][1], 0.0, at + 3
    if dimension == _LENGTH and rest[:1] == ("h",):
        return "speed", factor / 3600, 0.0, at + 2
    return dimension, factor, 0.0, at + 1


def clock(text: str) -> frozenset[int]:
    """The times of day in `text`, in minutes since midnight; both where it is not said whether morning or afternoon."""
    found: set[int] = set()
    for hour, minute, half, hour_24, minute_24 in _CLOCK.findall(fold(text).lower()):
        if half and 1 <= int(hour) <= 12:
            found.add(int(hour) % 12 * 60 + int(minute or 0) + 720 * (half == "p"))
        elif hour_24:
            at = int(hour_24) * 60 + int(minute_24)
            found |= {at, (at + 720) % 1440} if 60 <= at < 780 and hour_24[0] != "0" else {at}
    return frozenset(found)
