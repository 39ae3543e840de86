"""significance.json read for the reader: the primary row, its verdict, and tables of ready-made strings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.base.schemas import read_document
from pipeline.reporting.numbers import DASH, Scale, count, is_share, lower_is_better, p_value, plain, scale_for

Document = Mapping[str, Any]

VERDICT_WORDS = {
    "better": "better",
    "worse": "worse",
    "equivalent": "equivalent",
    "not_inferior": "not inferior",
    "undecided": "undecided",
    "no_verdict": "no verdict",
}


@dataclass(frozen=True)
class Findings:
    """A significance document with its primary row picked out and the scale that its numbers are printed on.

    Rows hold treatment - control in the metric's own direction; the verdict is oriented, so that positive is good.
    """

    document: Document
    primary: Document
    """The row that the verdict speaks of; empty where the trial has no items for it."""
    scale: Scale

    @property
    def verdict(self) -> Document:
        """The verdict as the document has it."""
        found: Document = self.document["verdict"]
        return found

    @property
    def kind(self) -> str:
        """`better`, `worse`, `equivalent`, `not_inferior`, `undecided` or `no_verdict`."""
        return str(self.verdict["verdict"])

    @property
    def word(self) -> str:
        """The verdict in plain words: `not inferior` for `not_inferior`."""
        return VERDICT_WORDS.get(self.kind, self.kind)

    @property
    def metric(self) -> str:
        """The primary metric."""
        return str(self.verdict["metric"])

    @property
    def direction(self) -> int:
        """+1 where more of the primary metric is better (or neither is), else -1."""
        return -1 if self.primary.get("higher_is_better") is False else 1

    @property
    def margin(self) -> float | None:
        """The difference that matters, in stored units; None where none was declared."""
        margin = self.verdict["margin"]
        return None if margin is None else float(margin)

    def wish(self, metric: str) -> int:
        """+1 where more of a metric is better, -1 where less is, 0 where neither; as its rows say, else by its name."""
        said = next((r["higher_is_better"] for r in self.document["rows"] if r["metric"] == metric), ...)
        if said is ...:
            return 0 if metric == "abstain_rate" else -1 if lower_is_better(metric) else 1
        return {True: 1, False: -1}.get(said, 0)

    def effect(self) -> tuple[float | None, float | None, float | None]:
        """(effect, low, high) as the verdict is read: oriented and simultaneous."""
        return self.verdict["effect"], self.verdict["low"], self.verdict["high"]

    @property
    def level(self) -> str:
        """Of the intervals: `95%`."""
        return f"{self.document['settings']['confidence_level']:.0%}"

    @property
    def decides(self) -> str:
        """What the verdict is read from: `95% interval, simultaneous`; with alternative `greater` each end is a bound of its own."""
        several = ", simultaneous" if len(self.document["family"]["members"]) > 1 else ""
        return (f"One-sided {self.level} bounds" if self.verdict["alternative"] == "greater" else f"{self.level} interval") + several

    @property
    def temps(self) -> set[Any]:
        """The temperatures that rows speak of."""
        return {r["temp"] for r in self.document["rows"]}

    def rows(self, role: str) -> list[Document]:
        """The rows of one role in the document's order, without those that repeat another.

        A trial with one dataset per type says the same of `all` open-book items and of that dataset: the first such row stands for both.
        """
        same = ("metric", "temp", "n_items", "n_clusters", "control_mean", "treatment_mean", "se", "ci_low", "ci_high")
        rows = self.document["rows"]
        found: dict[tuple[Any, ...], Document] = {}
        for row in ([self.primary] if self.primary else []) + rows:  # the primary row stands for what repeats it
            found.setdefault(tuple(row[k] for k in same), row)
        return [r for r in found.values() if r["role"] == role]

    def is_share(self, metric: str) -> bool:
        """Whether a metric runs from 0 to 1: as its rows say, else by its name."""
        said = next((r["in_points"] for r in self.document["rows"] if r["metric"] == metric and "in_points" in r), None)
        return is_share(metric) if said is None else bool(said)

    def where(self, row: Document) -> str:
        """The part of the data a row speaks of: `squad_v2 · open book`, with the temperature where there are several."""
        return where(row, with_temp=len(self.temps) > 1)


def read_findings(path: Path) -> Findings:
    """Read and validate significance.json. Raises ManifestError where it breaks its schema."""
    return findings_of(read_document(path, "significance"))


def findings_of(document: Document) -> Findings:
    """Pick out the row that the verdict speaks of: its metric, type and temperature over all datasets."""
    verdict = document["verdict"]
    wanted = (verdict["metric"], verdict["type"], verdict["temp"], "all")
    rows = [r for r in document["rows"] if (r["metric"], r["type"], r["temp"], r["dataset"]) == wanted]
    if not rows:  # one dataset only: it may stand under its own name
        rows = [r for r in document["rows"] if (r["metric"], r["type"], r["temp"]) == wanted[:3]][:1]
    primary: Document = rows[0] if rows else {}
    return Findings(document, primary, row_scale(primary) if primary else scale_for(str(verdict["metric"])))


def row_scale(row: Document) -> Scale:
    """The scale of a row's metric, with a digit more where its interval is narrow."""
    low, high = row.get("ci_low"), row.get("ci_high")
    return scale_for(str(row["metric"]), None if low is None or high is None else (high - low) / 2, row.get("in_points"))


def where(row: Document, *, with_temp: bool = True) -> str:
    """The part of the data a row speaks of: `squad_v2 · open book · temp 0.7`."""
    parts = ["all datasets" if row["dataset"] == "all" else str(row["dataset"])]
    if row["type"] != "all":
        parts.append(f"{row['type']} book")
    if with_temp:
        parts.append(f"temp {plain(row['temp'])}")
    return " · ".join(parts)


def wish(row: Document) -> str:
    """Which direction is good: `↑`, `↓`, or nothing where neither is."""
    return {True: "↑", False: "↓"}.get(row["higher_is_better"], "")


def table(findings: Findings, role: str) -> list[dict[str, str]]:
    """One line of strings per distinct row of `role`, for HTML and Markdown alike. Effects are treatment - control, unoriented."""
    lines = []
    for row in findings.rows(role):
        scale = row_scale(row)
        lines.append(
            {
                "metric": str(row["metric"]),
                "wish": wish(row),
                "where": findings.where(row),
                "n": count(row["n_items"]),
                "clusters": count(row["n_clusters"]),
                "control": scale.level(row["control_mean"]),
                "treatment": scale.level(row["treatment_mean"]),
                "effect": scale.number(row["effect"]),
                "interval": scale.interval(row["ci_low"], row["ci_high"]),
                "simultaneous": scale.interval(row["simultaneous_low"], row["simultaneous_high"]),
                "p": p_value(row["p_value"]),
                "q": p_value(row["q_value"]),
                "moved": f"{count(row['won'])} / {count(row['lost'])} / {count(row['tied'])}",
                "method": plain(row["ci_method"]),
                "mde": scale.size(row["mde"]),
            }
        )
    return lines


def checks(row: Document) -> list[tuple[str, str]]:
    """Other looks at the primary row, beside its interval: (name, what it found). Empty for an empty row."""
    if not row:
        return []
    scale = row_scale(row)
    found = []
    if m := row["mcnemar"]:
        found.append(("McNemar's test", f"{m['won']} won, {m['lost']} lost; exact p {p_value(m['exact_p'])}, mid-p {p_value(m['mid_p'])}"))
    if m := row["permutation"]:
        how = "all sign patterns" if m["exact"] else f"{count(m['resamples'])} draws"
        found.append(("Sign-flip permutation of clusters", f"p {p_value(m['p_value'])} ({how})"))
    if m := row["bootstrap_t"]:
        found.append(("Bootstrap-t over clusters", f"{scale.interval(m['low'], m['high'])} ({count(m['resamples'])} resamples)"))
    if m := row["equivalence"]:
        tests = f"equivalence p {p_value(m['p_value'])}, non-inferiority p {p_value(m['not_inferior_p'])}"
        found.append(("Two one-sided tests", f"margin {scale.size(m['margin'])}: {tests}"))
    for kind, label in (("failed", "failed requests"), ("unanswered", "failed, truncated and refused")):
        m = row["bounds"][kind]
        if m["answers_control"] or m["answers_treatment"]:
            whose = f"{m['answers_control']} control, {m['answers_treatment']} treatment"
            span = f"effect between {scale.number(m['low'])} and {scale.number(m['high'])} whatever they would have been"
            found.append((f"Bounds for {label}", f"{whose}; {span}"))
            if m["complete_case_effect"] is not None:
                interval = scale.interval(m["complete_case_low"], m["complete_case_high"])
                without = f"{scale.number(m['complete_case_effect'])} {interval} on {count(m['complete_case_items'])} items"
                found.append((f"Without items with {label}", without))
    if row["design_effect"] is not None:
        found.append(("Design effect of clustering", f"{row['design_effect']:.2f}"))
    if row["within_variance_control"] is not None:
        found.append(
            (
                "Variance between replicates of an item",
                f"control {row['within_variance_control']:.4g}, treatment {row['within_variance_treatment']:.4g}",
            )
        )
    if m := row["effect_sizes"]:
        sizes = ", ".join(f"{name} {DASH if m[key] is None else format(m[key], '.3g')}" for key, name in _SIZES)
        found.append(("Effect sizes", f"{sizes}. {m['remark']}"))
    return found


_SIZES = (("d_z", "d_z"), ("cliffs_delta", "Cliff's delta"), ("hodges_lehmann", "Hodges-Lehmann"))


@dataclass(frozen=True)
class ForestRow:
    """One interval of the forest plot, in stored units, unoriented. `heading` is printed where it differs from the row before."""

    heading: str
    label: str
    effect: float
    low: float
    high: float
    text: str
    primary: bool


def forest_rows(findings: Findings, limit: int = 24) -> tuple[list[ForestRow], int]:
    """Rows for the forest plot: the primary one, the other arms and models of its family, then by metric; and how many the limit left out.

    Only rows on the primary's scale (points or raw units) can share its axis. Other temperatures than the primary's are left out first.
    """
    distinct = findings.rows("primary") + findings.rows("exploratory")
    drawn = [r for r in distinct if None not in (r["effect"], r["ci_low"], r["ci_high"])]
    drawn = [r for r in drawn if row_scale(r).factor == findings.scale.factor]
    order: dict[str, int] = {findings.metric: 0}
    for row in drawn:
        order.setdefault(row["metric"], len(order))
    family = _family_rows(findings)[: limit // 2] if findings.primary else []
    room = max(0, limit - len(family))
    drawn.sort(key=lambda r: (r["temp"] != findings.verdict["temp"], order[r["metric"]], r is not findings.primary))
    shown = sorted(drawn[:room], key=lambda r: (order[r["metric"]], r is not findings.primary))
    made = []
    for row in shown:
        low, high = row["ci_low"], row["ci_high"]
        if row["simultaneous_low"] is not None and row["simultaneous_high"] is not None:
            low, high = row["simultaneous_low"], row["simultaneous_high"]
        heading = " ".join(filter(None, (row["metric"], wish(row), "" if row["role"] == "primary" else "(exploratory)")))
        text = f"{findings.scale.number(row['effect'])} {findings.scale.interval(low, high)}"
        made.append(ForestRow(heading, findings.where(row), row["effect"], low, high, text, row is findings.primary))
    return made[:1] + family + made[1:], max(0, len(drawn) - room)


def _family_rows(findings: Findings) -> list[ForestRow]:
    """The other primary comparisons of the run, each with its simultaneous interval."""
    members = findings.document["family"]["members"]
    several = len({m["model"] for m in members}) > 1
    made = []
    for m in members:
        if m["trial"] != findings.document["trial"] and None not in (m["effect"], m["low"], m["high"]):
            label = f"{m['contrast']} · {m['model']}" if several else m["contrast"]
            text = f"{findings.scale.number(m['effect'])} {findings.scale.interval(m['low'], m['high'])}"
            heading = f"{findings.metric}: the other primary comparisons"
            made.append(ForestRow(heading, label, m["effect"], m["low"], m["high"], text, False))
    return made


def row_warnings(findings: Findings) -> list[str]:
    """Every warning of the rows once, with the rows it holds for, in order of appearance."""
    seen: dict[str, list[str]] = {}
    for row in findings.document["rows"]:
        for warning in row["warnings"]:
            seen.setdefault(warning, []).append(f"{row['metric']}, {findings.where(row)}")
    return [f"{text} ({'; '.join(at[:3])}{f' and {len(at) - 3} more' if len(at) > 3 else ''})" for text, at in seen.items()]
