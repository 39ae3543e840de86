"""Printed numbers: signs, digits, units; Markdown that cannot be broken out of; differences of prompts."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.reporting import numbers
from pipeline.reporting.pages import markdown_text, script_hash
from pipeline.reporting.worddiff import word_diff


@pytest.mark.parametrize(
    ("value", "digits", "sign", "text"),
    [
        (0.04, 1, True, "0.0"),
        (-0.04, 1, True, "0.0"),
        (-1.25, 1, True, "−1.2"),
        (3.0, 1, True, "+3.0"),
        (3.0, 0, False, "3"),
        (None, 1, True, "–"),
    ],
)
def test_fixed(value: float | None, digits: int, sign: bool, text: str) -> None:
    """A true minus sign, no sign on what rounds to zero, a dash for nothing."""
    assert numbers.fixed(value, digits, sign=sign) == text


def test_infinite_ends_of_an_interval() -> None:
    """A one-sided interval prints its open end."""
    assert numbers.scale_for("em").interval(0.01, float("inf")) == "[+1.0, +∞]"
    assert numbers.scale_for("em").interval(0.01, None) == "[+1.0, –]"
    assert numbers.scale_for("em").interval(None, None) == "–"


@pytest.mark.parametrize(
    ("metric", "half_width", "effect", "level"),
    [
        ("em", 0.03, "+4.2 points", "4.2%"),
        ("em", 0.002, "+4.20 points", "4.20%"),
        ("abstain_rate", None, "+4.2 points", "4.2%"),
        ("words", 0.5, "+0.042", "0.042"),
        ("words", 20.0, "0.0", "0.0"),
    ],
)
def test_scale_follows_metric_and_precision(metric: str, half_width: float | None, effect: str, level: str) -> None:
    """Shares are printed in points and per cent, with a digit more where the interval is narrow; other metrics in their own units."""
    scale = numbers.scale_for(metric, half_width)
    assert (scale.effect(0.042), scale.level(0.042)) == (effect, level)


@pytest.mark.parametrize(("p", "text"), [(0.5, "0.500"), (0.0421, "0.042"), (0.0071, "0.0071"), (0.00001, "< 0.0001"), (None, "–")])
def test_p_value(p: float | None, text: str) -> None:
    """Three decimals, four below 0.01, never zero."""
    assert numbers.p_value(p) == text


@pytest.mark.parametrize(
    ("usd", "text"),
    [(12.345, "$12.35"), (0.0123, "$0.0123"), (0.00001, "< $0.0001"), (0.0, "$0.00"), (1234.5, "$1,234.50"), (None, "not priced")],
)
def test_dollars(usd: float | None, text: str) -> None:
    """Cents, and fractions of them where all is cheap; an unknown price is no zero."""
    assert numbers.dollars(usd) == text


def test_plain_prints_settings_for_people() -> None:
    """Nested settings become a phrase."""
    assert numbers.plain({"temps": [0, 0.7], "stop": None, "seed": True}) == "temps 0, 0.7, stop –, seed yes"


@given(st.text())
def test_markdown_text_is_one_inert_line(text: str) -> None:
    """No line break, no unescaped pipe, angle bracket, backtick or bracket survives, whatever the text."""
    made = markdown_text(text)
    assert "\n" not in made and "\r" not in made
    assert not re.search(r"(?<!\\)(?:\\\\)*[|<>`\[\]*]", made)


def test_markdown_text_keeps_names_readable() -> None:
    """Underscores inside words need no escape."""
    assert markdown_text("unsupported_rate _x_") == r"unsupported_rate \_x\_"


def test_script_hash_is_the_one_browsers_compute() -> None:
    """The example of the Content Security Policy specification: the hash of `doSomething();`-like text in base64 of sha256."""
    assert script_hash("alert('Hello, world.');") == "'sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng='"


@given(st.text("ab \n.", max_size=30), st.text("ab \n.", max_size=30))
def test_word_diff_loses_nothing(before: str, after: str) -> None:
    """Each side's pieces join to that side, and the unmarked ones agree between the sides."""
    left, right = word_diff(before, after)
    assert "".join(t for t, _ in left) == before
    assert "".join(t for t, _ in right) == after
    assert "".join(t for t, d in left if not d) == "".join(t for t, d in right if not d)


def test_word_diff_marks_whole_words() -> None:
    """A changed ending marks the word, not its letters."""
    left, right = word_diff("Answer briefly.", "Answer brief.")
    assert [t for t, d in left if d] == ["briefly"]
    assert [t for t, d in right if d] == ["brief"]
