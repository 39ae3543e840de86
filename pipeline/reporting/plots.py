"""The figures of a trial's report, drawn with matplotlib. Every number in them also stands in a table of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.reporting import svg
from pipeline.reporting.curves import Outcomes, Trade, power
from pipeline.reporting.findings import ForestRow
from pipeline.reporting.numbers import Scale, count, fixed

_ARM_COLOUR = {"control": svg.CONTROL, "treatment": svg.TREATMENT}
_ABOVE: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0)}
_PATCH = {"facecolor": svg.PAPER, "edgecolor": "none", "pad": 1.2}
"""Behind a label that stands on lines."""
_ROW = 0.33
"""Height of one row of a list-like figure, in inches."""


def _short(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _bare(axes: Any) -> None:
    axes.spines["left"].set_visible(False)
    axes.set_yticks([])
    axes.tick_params(axis="y", length=0)


def _shares(axes: Any, room: float) -> None:
    """Axes of percentages: `room` around what is drawn, six points wide at least (a trifle looks like one), within 0 to 100."""
    axes.margins(room)
    for get, put in ((axes.get_xlim, axes.set_xlim), (axes.get_ylim, axes.set_ylim)):
        low, high = get()
        short = max(0.0, 6 - (high - low)) / 2
        put(max(-1.5, low - short), min(101.5, high + short))


def forest(rows: Sequence[ForestRow], scale: Scale, margin: float | None) -> str:
    """Effects with their intervals, one row each, against zero and the margin."""
    places: list[tuple[float, ForestRow]] = []
    headings: list[tuple[float, str]] = []
    y, last = 0.0, None
    for row in rows:
        if row.heading != last:
            y += 0.95 if last is None else 1.25
            headings.append((y, row.heading))
            last = row.heading
        y += 1.0
        places.append((y, row))

    def paint(_figure: Any, axes: Any) -> None:
        _bare(axes)
        axes.axvline(0, color=svg.INK, linewidth=0.9)
        if margin:
            for edge in (-margin, margin):
                axes.axvline(edge * scale.factor, color=svg.MARGIN, linewidth=0.9, linestyle=(0, (3, 3)))
        for at, row in places:
            colour = svg.TREATMENT if row.primary else svg.MUTED
            axes.plot(
                [row.low * scale.factor, row.high * scale.factor], [at + 0.22] * 2, color=colour, linewidth=2.4 if row.primary else 1.6
            )
            axes.plot(
                [row.effect * scale.factor],
                [at + 0.22],
                marker="D" if row.primary else "o",
                markersize=5.5 if row.primary else 4.5,
                color=colour,
            )
            style = {"transform": axes.get_yaxis_transform(), "va": "center", "bbox": _PATCH, "in_layout": False}
            style["fontweight"] = "bold" if row.primary else "normal"
            axes.text(0, at - 0.2, _short(row.label, 30), ha="left", **style)
            axes.text(1, at - 0.2, row.text, ha="right", **style)
        for at, heading in headings:
            style = {"transform": axes.get_yaxis_transform(), "va": "center", "bbox": _PATCH, "in_layout": False}
            axes.text(0, at, _short(heading, 44), ha="left", color=svg.MUTED, **style)
        axes.set_ylim(y + 0.6, 0.4)
        axes.margins(x=0.06)
        axes.set_xlabel(f"treatment − control{', ' + scale.unit if scale.unit else ''}")

    described = "; ".join(f"{r.heading}, {r.label}: {r.text}" for r in rows)
    return svg.draw("forest", "Effects with their intervals", described, 0.55 + _ROW * (y + 0.2), paint)


def trade_off(points: Sequence[Trade]) -> str:
    """Abstention (x) against wrong answers (y), both as shares of all items: an arrow from control to treatment per dataset."""

    def paint(_figure: Any, axes: Any) -> None:
        by_dataset: dict[str, dict[str, Trade]] = {}
        for point in points:
            by_dataset.setdefault(point.dataset, {})[point.condition] = point
        for dataset, arms in by_dataset.items():
            if len(arms) == 2:
                a, b = arms["control"], arms["treatment"]
                arrow = {"arrowstyle": "->", "color": svg.MUTED, "linewidth": 0.9, "shrinkA": 5, "shrinkB": 5}
                axes.annotate("", (b.abstained * 100, b.wrong * 100), (a.abstained * 100, a.wrong * 100), arrowprops=arrow)
            for condition, point in arms.items():
                whole = dataset == "all" or len(by_dataset) == 1
                axes.plot(
                    [point.abstained * 100],
                    [point.wrong * 100],
                    marker="o",
                    linestyle="none",
                    markersize=7 if whole else 5,
                    color=_ARM_COLOUR[condition],
                )
            end = arms.get("treatment") or arms["control"]
            axes.annotate(_short(dataset, 22), (end.abstained * 100, end.wrong * 100), xytext=(7, 5), textcoords="offset points")
        for condition, colour in _ARM_COLOUR.items():
            axes.plot([], [], marker="o", linestyle="none", color=colour, label=condition)
        axes.legend(**_ABOVE, ncols=2, handletextpad=0.2)
        _shares(axes, 0.22)
        axes.set_xlabel("abstained, % of items")
        axes.set_ylabel("wrong, % of items")

    described = "; ".join(f"{p.dataset}, {p.condition}: abstained {p.abstained:.1%}, wrong {p.wrong:.1%}" for p in points)
    return svg.draw("trade", "Abstention against error", described, 3.3, paint)


def risk_coverage(arms: Sequence[Mapping[str, Any]]) -> str:
    """Share of wrong ones among the answered (y) at coverage (x): a point per arm, a curve where answers carry a confidence.

    `arms` are entries of significance.json's `risk` for one type and temperature.
    """
    curves = [a for a in arms if a["curve"]]

    def paint(_figure: Any, axes: Any) -> None:
        for arm in curves:
            points = [p for p in arm["curve"] if p["error"] is not None]
            axes.plot(
                [100 * p["coverage"] for p in points],
                [100 * p["error"] for p in points],
                color=_ARM_COLOUR[arm["condition"]],
                linewidth=1.4,
            )
        for arm in arms:
            if arm["error"] is not None:
                place = [100 * arm["coverage"]], [100 * arm["error"]]
                axes.plot(*place, marker="o", linestyle="none", markersize=7, color=_ARM_COLOUR[arm["condition"]], label=arm["condition"])
        axes.legend(**_ABOVE, ncols=2, handletextpad=0.2)
        _shares(axes, 0.25)
        if curves:
            axes.set_xlim(0, 103)
        axes.set_xlabel("coverage: answered, % of items")
        axes.set_ylabel("risk: wrong, % of answered")

    described = "; ".join(
        f"{a['condition']}: coverage {a['coverage']:.1%}, risk {'none' if a['error'] is None else format(a['error'], '.1%')}" for a in arms
    )
    return svg.draw("risk", "Risk and coverage", described, 3.3, paint)


def outcome_bars(rows: Sequence[Outcomes]) -> str:
    """Per dataset, the items that each arm got better, as shares of the dataset: lost to the left, won to the right."""

    def paint(_figure: Any, axes: Any) -> None:
        _bare(axes)
        for y, row in enumerate(rows):
            total = row.won + row.lost + row.both_full + row.both_zero + row.tied_between
            axes.barh(y + 0.2, -100 * row.lost / total, height=0.36, color=svg.BAD)
            axes.barh(y + 0.2, 100 * row.won / total, height=0.36, color=svg.GOOD)
            transform = axes.get_yaxis_transform()
            axes.text(0, y - 0.22, _short(row.dataset, 26), transform=transform, ha="left", va="center")
            axes.text(
                1,
                y - 0.22,
                f"{count(row.lost)} lost · {count(row.won)} won · {count(total - row.won - row.lost)} tied",
                transform=transform,
                ha="right",
                va="center",
            )
        axes.axvline(0, color=svg.INK, linewidth=0.9)
        axes.margins(x=0.08)
        edge = max(1.0, *(abs(v) for v in axes.get_xlim()))
        axes.set_xlim(-edge, edge)
        axes.set_ylim(len(rows) - 0.4, -0.5)
        axes.xaxis.set_major_formatter(lambda v, _: fixed(abs(v), 0 if edge > 4 else 1))
        axes.set_xlabel("% of items: treatment worse ◂   ▸ treatment better")

    described = "; ".join(f"{r.dataset}: {r.won} won, {r.lost} lost, {r.both_full} both full score, {r.both_zero} both zero" for r in rows)
    return svg.draw("outcomes", "Items won and lost", described, 0.6 + 0.42 * len(rows), paint)


def differences(values: Sequence[float], metric: str, factor: float, wish: int) -> str:
    """Histogram of per-item differences that are not zero; the ties are a number above, since they would dwarf the rest.

    `wish` is +1 where more is better, -1 where less is, 0 where neither: it colours the sides.
    """
    moved = [v * factor for v in values if v != 0]
    ties = len(values) - len(moved)

    def paint(_figure: Any, axes: Any) -> None:
        edge = max(map(abs, moved), default=1.0) or 1.0
        bins = 20  # an even number: no bin straddles zero
        edges = [-edge + 2 * edge * i / bins for i in range(bins + 1)]
        heights, _, bars = axes.hist(moved, bins=edges, rwidth=0.88)
        for i, bar in enumerate(bars):
            bar.set_facecolor({1: svg.GOOD, -1: svg.BAD, 0: svg.MUTED}[wish if i >= bins // 2 else -wish])
        axes.axvline(0, color=svg.INK, linewidth=0.9)
        axes.set_ylim(0, max([1, *heights]) * 1.06)
        remark = f"{count(ties)} of {count(len(values))} items: no difference"
        axes.set_title(remark, loc="center", color=svg.MUTED)
        axes.set_xlabel(f"per-item difference in {_short(metric, 30)}{', points' if factor == 100 else ''}")
        axes.set_ylabel("items")

    described = f"{len(values)} items: {sum(v > 0 for v in moved)} differ upwards, {sum(v < 0 for v in moved)} downwards, {ties} not at all"
    return svg.draw("differences", f"Per-item differences in {metric}", described, 2.7, paint)


def power_curves(se: float, n_items: int, mde: float | None, margin: float | None, scale: Scale) -> str:
    """Power against the true effect, for this number of items and for two and four times as many."""
    longest = max((mde or 0) * 1.5, (margin or 0) * 1.15, se * 4.2)
    grid = [longest * i / 60 for i in range(61)]

    def paint(_figure: Any, axes: Any) -> None:
        for times, style, width in ((1, "-", 2.0), (2, (0, (5, 2)), 1.3), (4, (0, (1.5, 2)), 1.3)):
            axes.plot(
                [e * scale.factor for e in grid],
                [100 * power(e, se / times**0.5) for e in grid],
                color=svg.TREATMENT if times == 1 else svg.MUTED,
                linestyle=style,
                linewidth=width,
                label=f"{count(n_items * times)} items" if times == 1 else count(n_items * times),
            )
        axes.axhline(80, color=svg.LINE, linewidth=0.8)
        if mde:
            axes.plot([mde * scale.factor], [80], marker="o", markersize=6, color=svg.TREATMENT)
            axes.annotate(
                f"detectable: {scale.size(mde)}", (0.98, 66), xycoords=axes.get_yaxis_transform(), ha="right", va="center", bbox=_PATCH
            )
        if margin:
            axes.axvline(margin * scale.factor, color=svg.MARGIN, linewidth=0.9, linestyle=(0, (3, 3)))
            axes.annotate("margin", (margin * scale.factor, 3), xytext=(3, 0), textcoords="offset points", color=svg.MUTED)
        axes.set_ylim(0, 102)
        axes.set_xlim(0, longest * scale.factor)
        axes.legend(**_ABOVE, ncols=3, handlelength=1.6, columnspacing=1.0, handletextpad=0.5)
        axes.set_xlabel(f"true effect{', ' + scale.unit if scale.unit else ''}")
        axes.set_ylabel("power, %")

    described = (
        f"With {count(n_items)} items a true effect of {scale.size(mde)} is found with 80% power in a two-sided test of level 5%."
        if mde
        else "Power against the true effect."
    )
    return svg.draw("power", "Power and minimum detectable effect", described, 2.9, paint)
