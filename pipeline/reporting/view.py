"""Everything that the templates of a trial's report print, as strings and small tables, for HTML and Markdown alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.reporting import findings as reading
from pipeline.reporting.findings import Findings
from pipeline.reporting.inputs import TrialReportInputs
from pipeline.reporting.method import paragraphs, result, settings_text, works
from pipeline.reporting.numbers import DASH, DRY, Scale, count, dollars, p_value, plain, scale_for
from pipeline.reporting.trust import trust_table

CONDITIONS = ("control", "treatment")


def trial_view(inputs: TrialReportInputs, findings: Findings, costs: Mapping[str, Any]) -> dict[str, Any]:
    """The context of `trial.html.j2` and `trial.md.j2`, figures and explorer aside."""
    document = findings.document
    method = paragraphs(findings, inputs.contrast, inputs.model, inputs.decoding)
    return {
        "title": inputs.title,
        "contrast": dict(inputs.contrast),
        "model": inputs.model,
        "provider": inputs.provider,
        "decoding": settings_text(inputs.decoding),
        "banner": DRY if inputs.provider == "simulated" else None,
        "verdict": {
            "kind": findings.kind,
            "word": findings.word,
            "sentence": findings.verdict["sentence"],
            "reason": findings.verdict["reason"],
        },
        "caveats": list(findings.verdict["caveats"]),
        "facts": facts(findings, costs),
        "planned": [(_PLAN.get(k, _label(k)), _planned(findings, k, v)) for k, v in inputs.planned.items()],
        "level": findings.level,
        "metric": findings.metric,
        "decides": findings.decides,
        "unit": unit_of(findings.scale),
        "changes": list(inputs.changes),
        "answers": answer_table(document),
        "primary_rows": reading.table(findings, "primary"),
        "exploratory_rows": reading.table(findings, "exploratory"),
        "checks": reading.checks(findings.primary),
        "family": family_table(findings),
        "subgroups": subgroup_tables(findings),
        "pooled": pooled_line(findings),
        "per_correct": (document.get("usd_per_correct") or {}).get("sentence"),
        "robustness": [
            (r["method"], findings.scale.effect(r["effect"]), findings.scale.interval(r["ci_low"], r["ci_high"]), p_value(r["p_value"]))
            for r in document["robustness"]
        ],
        "sensitivity": sensitivity_table(findings),
        "risk": risk_table(findings),
        "planning": planning_line(findings),
        "costs": cost_table(costs),
        "prices": price_lines(costs.get("price") or {}),
        "trust": trust_table(inputs.trust, findings),
        "prompts": {c: dict(inputs.prompts.get(c) or {}) for c in CONDITIONS},
        "warnings": reading.row_warnings(findings),
        "notes": list(document["notes"]),
        "unpaired": document["unpaired"],
        "quote": result(findings, inputs.contrast),
        "method": method,
        "works": works(findings, method),
    }


_PLAN = {"contrasts": "primary contrasts", "type": "items"}


def _label(key: str) -> str:
    return key.replace("_", " ")


def _planned(findings: Findings, key: str, value: Any) -> str:
    if key == "margin":
        return findings.scale.size(value) if value else "none"
    if key == "type":
        return "of all types" if value == "all" else f"{value} book"
    return plain(value)


def facts(findings: Findings, costs: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What stands beside the verdict: (name, value)."""
    verdict, row, scale = findings.verdict, findings.primary, findings.scale
    effect, low, high = findings.effect()
    answers = findings.document["answers"]
    lost = {c: sum(answers[c][k] for k in ("failed", "truncated", "refused")) for c in CONDITIONS}
    asked = sum(answers[c]["answers"] for c in CONDITIONS)
    by_arm = f" ({count(lost['control'])} control, {count(lost['treatment'])} treatment)" if any(lost.values()) else ""
    oriented = ", turned: less is better, so + is good" if findings.direction < 0 else ""
    unadjusted = ", unadjusted" if len(findings.document["family"]["members"]) > 1 else ""
    return [
        (f"Effect on {findings.metric}{oriented}", scale.effect(effect)),
        (findings.decides, scale.interval(low, high)),
        ("Margin that matters", scale.size(findings.margin) if findings.margin is not None else "none declared"),
        ("Control → treatment", f"{scale.level(row.get('control_mean'))} → {scale.level(row.get('treatment_mean'))}"),
        ("Items, clusters", f"{count(verdict['n_items'])} in {count(verdict['n_clusters'])}"),
        ("Answers per item and arm", plain(float(row["k"])) if row else DASH),
        (f"p-value, two-sided{unadjusted}", p_value(row.get("p_value")) if row.get("p_value") is not None else "none: too few clusters"),
        ("Failed, truncated, refused", f"{count(sum(lost.values()))} of {count(asked)}{by_arm}"),
        ("Cost of the answers used", dollars(costs.get("usd"))),
    ]


def answer_table(document: Mapping[str, Any]) -> list[list[str]]:
    """Per arm: answers asked for, failed, truncated, refused."""
    keys = ("answers", "failed", "truncated", "refused")
    return [[c, *(count(document["answers"][c][k]) for k in keys)] for c in CONDITIONS]


def family_table(findings: Findings) -> dict[str, Any]:
    """The primary family: its method and members with simultaneous intervals."""
    family, scale = findings.document["family"], findings.scale
    members = [
        (m["contrast"], m["model"], scale.number(m["effect"]), scale.interval(m["low"], m["high"]), p_value(m["p_value"]))
        for m in family["members"]
    ]
    critical = family["critical_value"]
    return {
        "method": family["method"],
        "level": f"{family['level']:.0%}",
        "critical": DASH if critical is None else f"{critical:.3f}",
        "members": members,
    }


def unit_of(scale: Scale) -> str:
    """Behind the word `effect` in a table's head: `, points`, or nothing for raw units."""
    return f", {scale.unit}" if scale.unit else ""


def subgroup_tables(findings: Findings) -> list[dict[str, Any]]:
    """Per declared factor: effects by group and the test that they are equal."""
    made = []
    for part in findings.document["subgroups"]:
        scale = findings.scale if part["metric"] == findings.metric else scale_for(part["metric"])
        groups = [
            (g["group"], count(g["n_items"]), count(g["n_clusters"]), scale.number(g["effect"]), scale.interval(g["ci_low"], g["ci_high"]))
            for g in part["groups"]
        ]
        test = f"Same effect in all groups: p {p_value(part['p_value'])} ({part['method']})."
        left = f" {count(part['without_group'])} items have no {part['factor']}." if part["without_group"] else ""
        told = {"factor": part["factor"], "metric": part["metric"], "warnings": part["warnings"]}
        made.append({**told, "unit": unit_of(scale), "groups": groups, "test": test + left})
    return made


def pooled_line(findings: Findings) -> str | None:
    """The effect over datasets in one sentence; None with one dataset."""
    pooled, scale = findings.document["pooled"], findings.scale
    if not pooled:
        return None
    spread = f" τ² {pooled['tau2']:.3g}, I² {pooled['i2']:.0%}." if pooled["tau2"] is not None and pooled["i2"] is not None else ""
    interval = scale.interval(pooled["ci_low"], pooled["ci_high"])
    effect = f"{scale.effect(pooled['effect'])} {interval}"
    return f"Over {pooled['datasets']} datasets: {effect}, by {pooled['method']}; {pooled['weights']}.{spread}"


def sensitivity_table(findings: Findings) -> list[tuple[str, ...]]:
    """The effect on the unsupported rate under each rule; the configured one is marked."""
    found, scale = findings.document.get("sensitivity"), scale_for("unsupported_rate", None, True)
    return [
        (
            f"{r['threshold']:g}" + (" (configured)" if r["configured"] else ""),
            "whole answer" if r["min_token_overlap"] is None else f"{r['min_token_overlap']:g}",
            count(r["n_items"]),
            scale.level(r["control_mean"]),
            scale.level(r["treatment_mean"]),
            scale.number(r["effect"]),
            scale.interval(r["ci_low"], r["ci_high"]),
        )
        for r in (found["rows"] if found else [])
    ]


def risk_table(findings: Findings) -> dict[str, Any]:
    """Per type, temperature and arm: items, coverage, risk; area under the curve and coverage at each risk threshold where a curve is.

    `curves` is whether there is one.
    """
    lines: list[tuple[str, ...]] = []
    entries = findings.document["risk"]
    curves = any(r["curve"] for r in entries)
    for r in entries:
        at = "; ".join(f"≤ {t['error']:.0%}: {t['coverage']:.1%}" for t in r["at_risk"] or [])
        lines.append(
            (
                (r["type"] if r["type"] == "all" else f"{r['type']} book")
                + (f" · temp {plain(r['temp'])}" if len(findings.temps) > 1 else ""),
                r["condition"],
                count(r["n_items"]),
                f"{r['coverage']:.1%}",
                DASH if r["error"] is None else f"{r['error']:.1%}",
                *((DASH if r["aurc"] is None else f"{r['aurc']:.4f}", at or DASH) if curves else ()),
            )
        )
    columns = ["data", "arm", "items", "coverage", "risk", *(["AURC", "coverage at risk"] if curves else [])]
    return {"columns": columns, "rows": lines, "curves": curves}


def planning_line(findings: Findings) -> str | None:
    """What this trial could detect, and what an undecided one would need."""
    row, verdict = findings.primary, findings.verdict
    if not row or not row["se"] or row["mde"] is None:
        return None
    detected = f"a true effect of {findings.scale.size(row['mde'])} is detected with 80% power (two-sided 5%)"
    text = f"With these {count(verdict['n_items'])} items {detected}."
    if verdict["more_items"] is not None:
        money = f", about ${verdict['more_usd']:,.2f}," if verdict["more_usd"] is not None else ""
        text += f" {count(verdict['more_items'])} more items{money} would give 80% power at {findings.scale.size(verdict['detectable'])}."
    return text


def cost_table(costs: Mapping[str, Any]) -> list[dict[str, str]]:
    """Per arm and in all: requests, tokens of each kind, dollars, and dollars per 1,000 requests."""
    lines = []
    parts = costs.get("by_condition") or {}
    for name, part in [*((c, parts[c]) for c in CONDITIONS if c in parts), ("both", costs)]:
        requests, usd = part.get("requests"), part.get("usd")
        lines.append(
            {
                "name": name,
                "requests": count(requests),
                "prompt": count(part.get("prompt_tokens")),
                "cached": count(part.get("cached_tokens")),
                "completion": count(part.get("completion_tokens")),
                "reasoning": count(part.get("reasoning_tokens")),
                "per_answer": f"{part['completion_tokens'] / requests:,.1f}"
                if requests and part.get("completion_tokens") is not None
                else DASH,
                "usd": dollars(usd),
                "per_thousand": dollars(1000 * usd / requests) if requests and usd is not None else DASH,
            }
        )
    return lines


def price_lines(prices: Mapping[str, Any]) -> list[str]:
    """One line per model: its price per million tokens and where that price comes from."""
    lines = []
    for model, price in prices.items():
        if not isinstance(price, Mapping):
            lines.append(f"{model}: no price known")
            continue
        parts = [f"{dollars(price[key])} {name}" for key, name in _PRICES if price.get(key) is not None]
        factor = price.get("batch_discount")
        times = f", times {factor:g}" if factor not in (None, 1) else ""
        told = "; ".join(str(price[key]) for key in ("source", "as_of") if price.get(key))
        lines.append(f"{model}: {', '.join(parts)} per million tokens{times}{f' ({told})' if told else ''}")
    return lines


_PRICES = (("input_per_million", "input"), ("cached_input_per_million", "cached input"), ("output_per_million", "output"))
