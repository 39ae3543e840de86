"""Method notes in words that a paper can use, and the works behind the methods that this trial really used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.reporting.findings import Findings
from pipeline.reporting.numbers import DASH, count, p_value, plain
from pipeline.reporting.pages import asset


def paragraphs(findings: Findings, contrast: Mapping[str, str], model: str, decoding: Mapping[str, Any]) -> list[str]:
    """The method of this trial, a paragraph each for design, primary analysis, missing answers, secondary outcomes and power."""
    document, verdict, row = findings.document, findings.verdict, findings.primary
    settings, family = document["settings"], document["family"]
    k = row.get("k", 1)
    replicates = "; replicates are averaged within item and arm first" if k != 1 else ""
    design = (
        f"The system prompts “{contrast.get('treatment')}” (treatment) and “{contrast.get('control')}” (control) were given to the model "
        f"{model}{f' ({settings_text(decoding)})' if decoding else ''} with the same {count(verdict['n_items'])} items in "
        f"{count(verdict['n_clusters'])} clusters, with {k:g} answer{'s' if k != 1 else ''} per item and arm{replicates}. "
        "Units of both arms were sent alternately, in seeded random order of clusters."
    )
    margin = f"a margin of {findings.scale.size(findings.margin)}" if findings.margin is not None else "no margin"
    inner = f"{1 - 2 * settings['tost_alpha']:.0%}"
    equivalence = f", equivalence from the one of level {inner}" if findings.margin is not None else ""
    declared = document["primary"]["declared"]
    said = "as declared in the configuration" if declared else "by the program's default, since the configuration declares none"
    primary = (
        f"The primary outcome is “{findings.metric}”, {said}, with {margin}; the alternative is {verdict['alternative']}. "
        f"The effect is the mean over items of treatment − control. Interval: {plain(row.get('ci_method'))}; "
        f"p-value: {plain(row.get('p_method'))}. "
        f"The verdict is read from the simultaneous {settings['confidence_level']:.0%} interval of the primary family "
        f"({family['method']}){equivalence}, "
        f"by the first rule that applies (rule {verdict['rule']} of docs/statistics.md here)."
    )
    missing = (
        "Requests that failed, were truncated or refused count as wrong in the main analysis; bounds over whatever they could have been, "
        "and the analysis without their items, stand beside it."
    )
    parts = [design, primary, missing]
    if fdr := document["fdr"]:
        contrasts = f"{fdr['contrasts']} contrast{'s' if fdr['contrasts'] != 1 else ''}"
        parts.append(
            f"Secondary outcomes are exploratory. Their q-values control the false discovery rate ({fdr['method']}) over {fdr['tests']} "
            f"tests ({contrasts} × {len(fdr['metrics'])} metrics); other p-values are unadjusted."
        )
    parts.append(
        "The minimum detectable effect is computed from the standard error, for 80% power at a two-sided level of 5%, never from the "
        "observed effect. Abstentions are answers that an abstention pattern matches as a whole."
    )
    return parts


def settings_text(decoding: Mapping[str, Any]) -> str:
    """The decoding in words, without what is not set."""
    return ", ".join(f"{key.replace('_', ' ')} {plain(value)}" for key, value in decoding.items() if plain(value) != DASH)


def result(findings: Findings, contrast: Mapping[str, str]) -> str | None:
    """The result in one sentence to quote, with all that a reader needs to judge it; None where there is no effect."""
    verdict, row, scale = findings.verdict, findings.primary, findings.scale
    effect, low, high = findings.effect()
    if not row or effect is None:
        return None
    if findings.direction < 0:  # the verdict's numbers are turned so that + is good; a quotation keeps treatment - control
        effect, low, high = (None if v is None else -v for v in (effect, high, low))
    return (
        f"On “{findings.metric}”, “{contrast.get('treatment')}” reached {scale.level(row['treatment_mean'])} and "
        f"“{contrast.get('control')}” {scale.level(row['control_mean'])}: treatment − control {scale.effect(effect)}, "
        f"{findings.decides[0].lower() + findings.decides[1:]} {scale.interval(low, high)}, two-sided p {p_value(row['p_value'])}, "
        f"{count(verdict['n_items'])} items in {count(verdict['n_clusters'])} clusters; verdict: {findings.word}."
    )


def works(findings: Findings, text: list[str]) -> list[str]:
    """Full references of the methods that the document or the text names, in the order of assets/references.tsv."""
    row, document = findings.primary, findings.document
    named = [*text, *(str(row.get(k)) for k in ("ci_method", "p_method")), document["family"]["method"]]
    by_key = {"permutation": "permutation", "bootstrap_t": "bootstrap", "mcnemar": "mcnemar", "equivalence": "equivalence"}
    named += [name for key, name in by_key.items() if row.get(key)]
    if findings.verdict["alternative"] == "greater":
        named.append("goeman")
    if any(r["curve"] for r in document["risk"]):
        named.append("risk-coverage")
    named += [str((document[k] or {}).get("method", "")) for k in ("pooled", "usd_per_correct")]
    everything = " ".join(named).lower()
    found = []
    for line in asset("references.tsv").splitlines():
        words, _, work = line.partition("\t")
        if any(word in everything for word in words.split(" | ")):
            found.append(work)
    return found
