"""How far metrics agree with people: EVOUNA-NQ, five systems' answers judged right or wrong by annotators (Wang et al., 2023).

    python -m benchmarks.metric_agreement [--half reported|fitted|all]

`correct` was fitted on the questions whose sha256 is even; the table is of the others, unless asked otherwise. Prints, per system and
metric, agreement, Cohen's kappa, and both rates; then the difference of every pair of systems by people and by metric.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.scoring.correct import is_correct
from pipeline.scoring.normalise import normalise
from pipeline.scoring.official import em_f1
from tests.shared_data import FOLDER

SYSTEMS = {"fid": "FiD", "gpt35": "GPT-3.5", "chatgpt": "ChatGPT", "gpt4": "GPT-4", "newbing": "Bing Chat"}
HALVES = {"fitted": (0,), "reported": (1,), "all": (0, 1)}
BAR_AGREEMENT, BAR_KAPPA, BAR_DIFFERENCE = 90.0, 0.75, 3.0


class Judged(NamedTuple):
    """One answer and what people said of it."""

    system: str
    question: str
    answer: str
    golds: list[str]
    right: bool


class Row(NamedTuple):
    """One metric on one system. Rates and agreement in percent."""

    system: str
    n: int
    agreement: float
    kappa: float
    people: float
    metric: float


# The published file has "nan" replaced by "null" inside words ("finullce"): undone here, so that the words are words.
_DAMAGE = re.compile(r"(?<=\w)null|null(?=\w)")


def _mended(text: str | None) -> str:
    return _DAMAGE.sub("nan", text or "")


def half_of(question: str) -> int:
    """0 (fitted on) or 1 (reported): the parity of the sha256 of the question, as published."""
    return int(hashlib.sha256(question.encode("utf-8")).hexdigest(), 16) % 2


def load(path: Path, halves: Sequence[int]) -> list[Judged]:
    """The judged answers of the wanted halves, improper questions and missing verdicts left out."""
    rows = [row for row in json.loads(path.read_text("utf-8")) if not row["improper"] and half_of(row["question"]) in halves]
    judged = []
    for row in rows:
        question, golds = _mended(row["question"]), _mended(row["golden_answer"]).split("/")
        judged += [
            Judged(system, question, _mended(row[f"answer_{system}"]), golds, verdict)
            for system in SYSTEMS
            if (verdict := row[f"judge_{system}"]) is not None
        ]
    return judged


def contains(question: str, answer: str, golds: Sequence[str]) -> bool:
    """Plain containment: some normalised gold is a substring of the normalised answer."""
    text = normalise(answer)
    return any(gold in text for gold in map(normalise, golds) if gold)


METRICS: dict[str, Callable[[str, str, Sequence[str]], bool]] = {
    "exact match": lambda question, answer, golds: bool(em_f1(answer, golds)[0]),
    "contains": contains,
    "correct": is_correct,
}


def agreement(judged: Sequence[Judged], metric: Callable[[str, str, Sequence[str]], bool]) -> list[Row]:
    """Agreement of `metric` with people, by system, in the order of `SYSTEMS`."""
    rows = []
    for system in SYSTEMS:
        pairs = [(j.right, bool(metric(j.question, j.answer, j.golds))) for j in judged if j.system == system]
        n = len(pairs)
        people, machine, same = (sum(values) / n for values in zip(*((a, b, a == b) for a, b in pairs), strict=True))
        chance = people * machine + (1 - people) * (1 - machine)
        rows.append(Row(system, n, 100 * same, (same - chance) / (1 - chance), 100 * people, 100 * machine))
    return rows


def differences(rows: Sequence[Row]) -> list[tuple[str, str, float, float]]:
    """For every pair of systems: their names, the difference in points by people, and by the metric."""
    return [(a.system, b.system, a.people - b.people, a.metric - b.metric) for a, b in itertools.combinations(rows, 2)]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables. Exit 2 where the data are absent."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.metric_agreement", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    p.add_argument("--half", choices=tuple(HALVES), default="reported")
    args = p.parse_args(argv)
    path = FOLDER / "evouna/NQ.json"
    if not path.exists():
        print("error: evouna/NQ.json is not here; set ABIDING_SHARED_DATA to the folder that holds it", file=sys.stderr)
        return 2
    judged = load(path, HALVES[args.half])
    print(f"EVOUNA-NQ, {args.half}: {len({j.question for j in judged})} questions, {len(judged)} judged answers\n")
    tables = {}
    print("| metric | system | n | agreement | kappa | people | metric |\n| --- | --- | --- | --- | --- | --- | --- |")
    for name, metric in METRICS.items():
        start = time.perf_counter()
        tables[name] = agreement(judged, metric)
        seconds = time.perf_counter() - start
        for r in tables[name]:
            print(f"| {name} | {SYSTEMS[r.system]} | {r.n} | {r.agreement:.1f}% | {r.kappa:.3f} | {r.people:.1f}% | {r.metric:.1f}% |")
        print(f"{name}: {1e6 * seconds / len(judged):.0f} microseconds an answer", file=sys.stderr)
    print("\n| difference in points | people | " + " | ".join(METRICS) + " |\n| --- |" + " --- |" * (1 + len(METRICS)))
    by_metric = {name: differences(rows) for name, rows in tables.items()}
    for i, (a, b, people, _) in enumerate(by_metric["correct"]):
        print(f"| {SYSTEMS[a]} - {SYSTEMS[b]} | {people:+.1f} | " + " | ".join(f"{by_metric[name][i][3]:+.1f}" for name in METRICS) + " |")
    print("\n| metric | lowest agreement | lowest kappa | largest error of a difference |\n| --- | --- | --- | --- |")
    for name, rows in tables.items():
        error = max(abs(metric - people) for _, _, people, metric in by_metric[name])
        print(f"| {name} | {min(r.agreement for r in rows):.1f}% | {min(r.kappa for r in rows):.3f} | {error:.1f} points |")
    print(f"\nThe bar: agreement {BAR_AGREEMENT:g}%, kappa {BAR_KAPPA}, every difference within {BAR_DIFFERENCE:g} points of people's.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
