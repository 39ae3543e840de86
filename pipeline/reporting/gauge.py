"""The picture beside a verdict: the effect with its interval against zero and the margin, drawn by the template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.reporting.findings import Findings


def place_on(
    axis: Sequence[float], effect: float | None, low: float | None, high: float | None, margin: float | None
) -> dict[str, Any] | None:
    """Places in per cent of the width of a picture that holds all values of `axis`; None where there is no effect.

    An end that is None (one-sided interval) lies at the picture's edge, and `open_low` or `open_high` says so.
    """
    if effect is None:
        return None
    room = (max(axis) - min(axis)) * 0.12 or 1.0
    left, right = min(axis) - room, max(axis) + room

    def place(value: float) -> float:
        return round(100 * (value - left) / (right - left), 3)

    band = None
    if margin:
        band = {"from": place(-margin), "to": place(margin), "width": round(place(margin) - place(-margin), 3)}
    return {
        "zero": place(0.0),
        "effect": place(effect),
        "low": 0.0 if low is None else place(low),
        "high": 100.0 if high is None else place(high),
        "open_low": low is None,
        "open_high": high is None,
        "margin": band,
    }


def gauge(findings: Findings) -> dict[str, Any] | None:
    """The trial's own picture with its labels, oriented so that right is good; None where there is no effect."""
    effect, low, high = findings.effect()
    margin, scale = findings.margin or 0.0, findings.scale
    places = place_on([v for v in (0.0, effect, low, high, -margin, margin) if v is not None], effect, low, high, margin)
    if places is None:
        return None
    beside = f" and a margin of {scale.size(margin)}" if margin else ""
    return {
        **places,
        "margin_labels": bool(places["margin"]) and places["margin"]["width"] > 18,
        "effect_text": scale.effect(effect),
        "margin_size": scale.size(margin),
        "margin_text": scale.number(margin).lstrip("+"),
        "described": f"Effect {scale.effect(effect)}, interval {scale.interval(low, high)}, drawn against zero{beside}",
    }
