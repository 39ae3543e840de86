"""A seeded maker of a finished trial's files, so that report tests need no pipeline run and no shared data."""

from __future__ import annotations

import csv
import hashlib
import json
import random
import statistics
from pathlib import Path
from typing import Any

import msgspec

from pipeline.base.rows import Item
from pipeline.reporting.inputs import TrialReportInputs

PREDICTIONS = (
    "custom_id dataset item_id condition temp sample_index type request_id finish_reason response_text prompt_tokens completion_tokens "
    "total_tokens outcome cached_tokens reasoning_tokens confidence error tool_calls unit"
)
METRICS = ("em", "f1", "abstain_rate", "false_answer_rate", "unsupported_rate")
_VOCABULARY = "river amber castle seven north engine copper violin harbour theory basalt winter market signal orchard"
WORDS = list(_VOCABULARY.split())

_PRICE = {
    "input_per_million": 0.1,
    "output_per_million": 0.4,
    "cached_input_per_million": None,
    "batch_discount": 0.5,
    "as_of": None,
    "source": "config",
}

HOSTILE = [
    '<script>window.__pwned = 1</script><img src=x onerror="window.__pwned = 2">',
    "</script><script>window.__pwned = 3</script><!-- <script>",
    "\u202eright to left override \u2066 and isolates, مرحبا بالعالم, שלום עולם",
    "x" * 100_000,
    "a | b \\| c\n# not a heading\n```\n[link](javascript:alert(1)) ${7*7} {{7*7}} \u2028\u2029 \x07",
]


def _sentence(rng: random.Random, n: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(n))


def make_items(rng: random.Random, n: int, kind: str) -> list[Item]:
    """`n` items in two datasets; open-book ones share passages by ten and every fifth is unanswerable."""
    items = []
    for i in range(n):
        dataset = "alpha" if i % 3 else "beta"
        passage = f"Passage {i // 10}. " + _sentence(random.Random(i // 10), 60)
        unanswerable = kind == "open" and i % 5 == 4
        items.append(
            Item(
                dataset=dataset,
                id=f"{kind[0]}{i:05d}",
                question=f"Question {i}: {_sentence(rng, 7)}?",
                answers=[] if unanswerable else [f"{rng.choice(WORDS)} {i}", f"the {rng.choice(WORDS)} {i}"],
                context=passage if kind == "open" else None,
                is_unanswerable=unanswerable,
                meta={"topic": ("science", "history", "sport")[i % 3]},
            )
        )
    return items


def _answer(rng: random.Random, item: Item, skill: float) -> tuple[str, dict[str, float | None]]:
    roll = rng.random()
    if roll < 0.12 or (item.is_unanswerable and roll < 0.55):
        right = float(item.is_unanswerable)
        text, f1, abstained = "I don't know", right, 1.0
    elif item.answers and roll < 0.12 + skill:
        right, f1, text, abstained = 1.0, 1.0, f"{item.answers[0]}", 0.0
    else:
        right, f1, text, abstained = 0.0, rng.choice([0.0, 0.0, 0.25, 0.4, 0.5, 2 / 3]), "It is " + _sentence(rng, rng.randint(2, 14)), 0.0
    scores: dict[str, float | None] = {"correct": right, "em": right, "f1": f1, "abstain_rate": abstained}
    scores["false_answer_rate"] = 1 - abstained if item.is_unanswerable else None
    scores["unsupported_rate"] = (0.0 if right or abstained else float(rng.random() < 0.6)) if item.context else None
    return text, scores


def _row(metric: str, dataset: str, role: str, a: list[float], b: list[float], k: int) -> dict[str, Any]:
    d = [y - x for x, y in zip(a, b, strict=True)]
    effect, se = statistics.fmean(d), statistics.stdev(d) / len(d) ** 0.5
    low, high = effect - 1.96 * se, effect + 1.96 * se
    primary = role == "primary"
    missing = {
        "answers_control": 2,
        "answers_treatment": 1,
        "low": effect - 0.01,
        "high": effect + 0.01,
        "complete_case_items": len(d) - 3,
        "complete_case_effect": effect,
        "complete_case_low": low,
        "complete_case_high": high,
    }
    return {
        "temp": 0,
        "type": "all",
        "metric": metric,
        "dataset": dataset,
        "role": role,
        "n_items": len(d),
        "n_clusters": max(1, len(d) // 10),
        "informative_clusters": max(1, len(d) // 20),
        "k": k,
        "control_mean": statistics.fmean(a),
        "treatment_mean": statistics.fmean(b),
        "effect": effect,
        "higher_is_better": {"abstain_rate": None, "unsupported_rate": False, "false_answer_rate": False}.get(metric, True),
        "se": se,
        "df": len(d) - 1,
        "ci_low": low,
        "ci_high": high,
        "ci_method": "t (cluster-robust)",
        "p_value": 0.0123,
        "p_method": "t (cluster-robust)",
        "q_value": None if primary else 0.0456,
        "simultaneous_low": effect - 2.2 * se if primary else None,
        "simultaneous_high": effect + 2.2 * se if primary else None,
        "won": sum(x > 0 for x in d),
        "lost": sum(x < 0 for x in d),
        "tied": sum(x == 0 for x in d),
        "within_variance_control": None,
        "within_variance_treatment": None,
        "design_effect": 1.08,
        "mcnemar": None,
        "permutation": {"p_value": 0.0131, "resamples": 2000, "exact": False},
        "bootstrap_t": {"low": low, "high": high, "resamples": 2000, "cells": 9},
        "equivalence": None,
        "bounds": {"failed": missing, "unanswered": missing},
        "effect_sizes": None,
        "mde": 2.8 * se,
        "warnings": [],
    }


def make_trial(
    folder: Path,
    *,
    n_open: int = 60,
    n_closed: int = 30,
    k: int = 1,
    seed: int = 7,
    hostile: bool = False,
    confidence: bool = False,
    name: str = "brief",
) -> TrialReportInputs:
    """Write a trial's tables and documents below `folder`; returns what `write_trial_report` takes."""
    rng = random.Random(seed)
    items = {"open": make_items(rng, n_open, "open"), "closed": make_items(rng, n_closed, "closed")}
    folder.mkdir(parents=True, exist_ok=True)
    for kind, rows in items.items():
        if hostile and rows:
            rows[0].question = HOSTILE[0]
            rows[0].meta = {"topic": "</script><b>bold</b>"}
            rows[1].answers = [HOSTILE[1]]
            if rows[0].context:
                rows[0].context = HOSTILE[1] + rows[0].context
        (folder / f"{kind}_book.jsonl").write_bytes(b"".join(msgspec.json.encode(r) + b"\n" for r in rows))
    scored: dict[tuple[str, str], dict[str, dict[str, float | None]]] = {}
    with open(folder / "predictions.csv", "w", newline="", encoding="utf-8") as f:
        out = csv.writer(f, lineterminator="\n")
        out.writerow(PREDICTIONS.split())
        for condition, skill in (("control", 0.42), ("treatment", 0.5)):
            for kind in ("open", "closed"):
                for i, item in enumerate(items[kind]):
                    samples = []
                    for sample in range(k):
                        text, scores = _answer(rng, item, skill)
                        failed = (i + sample) % 41 == 40
                        if failed:
                            text, scores = "", {m: (None if v is None else 0.0) for m, v in scores.items()}
                        elif hostile and i < len(HOSTILE):
                            text = HOSTILE[(i + (condition == "treatment")) % len(HOSTILE)]  # the arms differ: marked words are hostile too
                        samples.append(scores)
                        custom_id = hashlib.sha256(f"{condition}{kind}{item.key}{sample}".encode()).hexdigest()[:32]
                        tokens = (180 if kind == "open" else 40, len(text.split()))
                        out.writerow(
                            [
                                *(custom_id, item.dataset, item.id, condition, "0", sample, kind),
                                *(f"sim-{custom_id[:8]}", "error" if failed else "stop", text, *tokens, sum(tokens)),
                                *("failed" if failed else "answered", 0, 0, "" if failed or not confidence else f"{-rng.random():.6g}"),
                                *("server_error: no answer" if failed else "", "", f"{condition}-tiny-0123abcd"),
                            ]
                        )
                    scored[(item.key, kind)] = {**scored.get((item.key, kind), {}), condition: _mean(samples)}
    _write_scores(folder / "per_item_scores.csv", items, scored, k, confidence, rng)
    document = _significance(items, scored, k, name)
    (folder / "significance.json").write_text(json.dumps(document), encoding="utf-8")
    arm = {
        "requests": (n_open + n_closed) * k,
        "prompt_tokens": 12000,
        "completion_tokens": 3000,
        "total_tokens": 15000,
        "cached_tokens": 0,
        "reasoning_tokens": 0,
        "usd": 0.0123,
    }
    total = {key: value * 2 for key, value in arm.items()}
    costs = {
        "schema_version": 1,
        **total,
        "price": {"tiny": _PRICE},
        "by_condition": {"control": arm, "treatment": arm},
        "by_unit": {},
    }
    (folder / "costs.json").write_text(json.dumps(costs), encoding="utf-8")
    return TrialReportInputs(
        title=f"{name} on tiny",
        contrast={"name": name, "control": "plain", "treatment": name},
        model="tiny",
        provider="simulated",
        decoding={"temperature": 0, "max_tokens": 64, "top_p": 1.0},
        prompts={
            "control": {"path": "config/prompts/control.txt", "text": "Answer the question.", "sha256": "a" * 64},
            "treatment": {
                "path": f"config/prompts/{name}.txt",
                "text": "Answer the question in as few words as possible.",
                "sha256": "b" * 64,
            },
        },
        significance=folder / "significance.json",
        costs=folder / "costs.json",
        scores=folder / "per_item_scores.csv",
        predictions=folder / "predictions.csv",
        item_files={"open": folder / "open_book.jsonl", "closed": folder / "closed_book.jsonl"},
        planned={"metric": "correct", "type": "all", "dataset": "all", "margin": 0.02, "alternative": "two-sided"},
        changes=[],
        trust={
            "columns": ["metric", "judged", "agreement", "bias of the difference"],
            "rows": [["correct", 120, "95.0%", "+0.8 points"]],
            "notes": ["Judged by two people."],
        },
        out_dir=folder / "reports",
    )


def _mean(samples: list[dict[str, float | None]]) -> dict[str, float | None]:
    return {m: None if samples[0][m] is None else statistics.fmean(float(s[m] or 0) for s in samples) for m in samples[0]}


def _write_scores(path: Path, items: dict[str, list[Item]], scored: Any, k: int, confidence: bool, rng: random.Random) -> None:
    header = ["item_key", "type", "condition", "temp"]
    for metric in METRICS:
        header += [metric, f"{metric}_std"]
    header += ["dataset", "cluster", "correct", "correct_std", "n", "failed", "truncated", "refused", "confidence"]
    with open(path, "w", newline="", encoding="utf-8") as f:
        out = csv.writer(f, lineterminator="\n")
        out.writerow(header)
        for kind, rows in items.items():
            for i, item in enumerate(rows):
                for condition in ("control", "treatment"):
                    scores = scored[(item.key, kind)][condition]
                    cells: list[Any] = [item.key, kind, condition, "0"]
                    for metric in METRICS:
                        cells += ["" if scores[metric] is None else f"{scores[metric]:.12g}", ""]
                    failed = sum((i + s) % 41 == 40 for s in range(k))
                    sure = f"{scores['correct'] * 0.3 - rng.random():.6g}" if confidence and not failed else ""
                    cells += [item.dataset, f"c{i // 10}", f"{scores['correct']:.12g}", "", k, failed, 0, 0, sure]
                    out.writerow(cells)


def _significance(items: dict[str, list[Item]], scored: Any, k: int, name: str) -> dict[str, Any]:
    rows = []
    for metric in ("correct", "f1", "abstain_rate", "unsupported_rate"):
        for dataset in ("all", "alpha", "beta"):
            pairs = [
                (s["control"][metric], s["treatment"][metric])
                for kind, its in items.items()
                for item in its
                if dataset in ("all", item.dataset) and (s := scored[(item.key, kind)])["control"][metric] is not None
            ]
            if len(pairs) > 2:
                role = "primary" if metric == "correct" and dataset == "all" else "exploratory"
                rows.append(_row(metric, dataset, role, [p[0] for p in pairs], [p[1] for p in pairs], k))
    first = rows[0]
    effect, low, high = first["effect"], first["simultaneous_low"], first["simultaneous_high"]
    kind = "better" if low > 0 else "worse" if high < 0 else "undecided"
    points = f"{effect * 100:+.1f}".replace("-", "−")
    common = {"metric": "correct", "type": "all", "alternative": "two-sided", "margin": 0.02, "role": "primary"}
    answers = {"answers": first["n_items"] * k, "failed": 2, "truncated": 1, "refused": 0}
    risk = {"temp": 0, "type": "all", "n_items": first["n_items"], "aurc": None, "at_risk": None, "curve": None}
    return {
        "schema_version": 2,
        "trial": f"{name}-tiny",
        "contrast": {"name": name, "control": "plain", "treatment": name},
        "model": "tiny",
        "settings": {
            "confidence_level": 0.95,
            "bootstrap_samples": 2000,
            "permutation_samples": 2000,
            "random_seed": 1,
            "enable_permutation": True,
            "enable_fdr": True,
            "risk_thresholds": [0.1],
            "tost_alpha": 0.05,
            "tost_margins": {},
            "missing_outcomes": ["failed"],
        },
        "primary": {**common, "temperature": 0, "declared": True},
        "verdict": {
            **common,
            "verdict": kind,
            "qualifier": None,
            "rule": 6 if kind == "undecided" else 2,
            "sentence": f"“{name}” is {kind} against “plain” on correct: {points} points ({first['n_items']:,} items).",
            "reason": None,
            "caveats": [],
            "temp": 0,
            "effect": effect,
            "low": low,
            "high": high,
            "inner_low": effect - 1.7 * first["se"],
            "inner_high": effect + 1.7 * first["se"],
            "n_items": first["n_items"],
            "n_clusters": first["n_clusters"],
            "informative_clusters": first["informative_clusters"],
            "informative_needed": 10,
            "detectable": 0.02 if kind == "undecided" else None,
            "more_items": 1500 if kind == "undecided" else None,
            "more_usd": 0.31 if kind == "undecided" else None,
        },
        "rows": rows,
        "family": {
            "method": "one comparison: t",
            "level": 0.95,
            "critical_value": 1.97,
            "members": [
                {"trial": f"{name}-tiny", "contrast": name, "model": "tiny", "effect": effect, "low": low, "high": high, "p_value": 0.0123}
            ],
        },
        "fdr": {"method": "Benjamini-Hochberg", "tests": 3, "contrasts": 1, "metrics": ["f1", "abstain_rate", "unsupported_rate"]},
        "risk": [
            {
                **risk,
                "condition": "control",
                "coverage": 0.8,
                "error": 0.42,
                "curve": [{"coverage": c / 10, "error": 0.2 + c / 36} for c in range(1, 9)],
            },
            {**risk, "condition": "treatment", "coverage": 0.83, "error": 0.37},
        ],
        "subgroups": [],
        "pooled": None,
        "usd_per_correct": None,
        "robustness": [],
        "answers": {"control": answers, "treatment": answers},
        "unpaired": {"control": 0, "treatment": 0, "examples": []},
        "notes": ["Effects are treatment minus control.", "Clusters are passages."],
    }
