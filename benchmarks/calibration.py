"""Is the printed 5% a 5%? Simulated experiments with known truth, analysed by the code that analyses real ones.

    python -m benchmarks.calibration [--runs N] [--quick] [--seed S] [--only PART] [--json FILE]

Parts: single (size and coverage of one comparison), resampling, claims (false verdicts), family (several arms, one control), power, others
(Fieller, subgroups, random effects), looks (growing data). Prints Markdown tables; a cell outside its band carries `!`. Exit 1 if one does.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.calibration_more import fieller_rows, look_rows, random_effects_rows, subgroup_rows
from benchmarks.simulate import Design, Floats, Population, binary, clustered, f1_like, replicated, singles, totals
from pipeline.base.files import json_bytes, write_atomic
from pipeline.statistics.family import Family, Member
from pipeline.statistics.paired import ClusterSums, Effect
from pipeline.statistics.planning import Components, design_effect, items_needed, items_needed_binary
from pipeline.statistics.proportions import mcnemar
from pipeline.statistics.resampling import bootstrap_t, sign_flip
from pipeline.statistics.verdict import Evidence, decide

Rng = np.random.Generator


@dataclass
class Table:
    """One table of the report."""

    title: str
    columns: list[str]
    rows: list[list[str]] = field(default_factory=list)

    def markdown(self) -> str:
        """As Markdown."""
        lines = [f"### {self.title}", "", "| " + " | ".join(self.columns) + " |", "|" + " --- |" * len(self.columns)]
        return "\n".join(lines + ["| " + " | ".join(r) + " |" for r in self.rows]) + "\n"


def share(hits: float, runs: float, low: float | None = None, high: float | None = None) -> str:
    """A percentage, marked `!` where it lies outside [low, high] by more than three standard errors of the simulation."""
    if not runs:
        return "-"
    p = hits / runs
    slack = 3 * np.sqrt(max(p * (1 - p), 1e-4) / runs)
    bad = (high is not None and p > high + slack) or (low is not None and p < low - slack)
    return f"{100 * p:.1f}{' !' if bad else ''}"


def effects(population: Population, design: Design, runs: int, rng: Rng) -> Iterator[Effect]:
    """The analysed effect of each simulated experiment. Experiments with equal counts share one."""
    sizes = design.sizes.astype(float)
    seen: dict[tuple[int, int], Effect] = {}
    for total in totals(population, design, runs, rng):
        rounded = np.round(total, 12)
        if not (population.binary and design.sizes.max() == 1):
            yield Effect(ClusterSums(rounded, sizes), population.binary)
            continue
        key = (int((rounded > 0).sum()), int((rounded < 0).sum()))
        if key not in seen:
            seen[key] = _Remembered(ClusterSums(rounded, sizes), True)
        yield seen[key]


class _Remembered(Effect):
    """An effect whose intervals are computed once."""

    def __init__(self, sums: ClusterSums, binary: bool) -> None:
        super().__init__(sums, binary)
        self._intervals: dict[float, tuple[float, float]] = {}

    def interval(self, alpha: float) -> tuple[float, float]:
        if alpha not in self._intervals:
            self._intervals[alpha] = super().interval(alpha)
        return self._intervals[alpha]


Cell = tuple[Callable[[float], Population], float, Design]
"""Population by effect, an effect that it can have, design."""


def grid(quick: bool) -> list[Cell]:
    """The cells of `single`."""
    cells: list[Cell] = []
    ns = (50, 500) if quick else (50, 500, 5000)
    for n in ns:
        cells += [(partial(binary, psi), psi / 2, singles(n)) for psi in (0.02, 0.05, 0.1, 0.2, 0.4)]
        cells += [(partial(f1_like, q), q / 10, singles(n)) for q in (0.05, 0.2, 0.6)]
        cells += [(partial(replicated, k), 0.05, singles(n)) for k in (3, 5)]
    designs = [
        clustered(100, 10, 0.05), clustered(200, 20, 0.05), clustered(200, 20, 0.05, 0.8), clustered(500, 50, 0.05),
        clustered(500, 50, 0.05, 0.8), clustered(500, 50, 0.2, 1.5),
    ]  # fmt: skip
    if not quick:
        designs += [clustered(5000, 35, 0.01, 0.6), clustered(5000, 500, 0.05, 0.8)]
    for design in designs:
        cells += [(partial(binary, 0.1), 0.05, design), (partial(binary, 0.3), 0.1, design), (partial(f1_like, 0.4), 0.04, design)]
    return cells


def single(runs: int, rng: Rng, quick: bool) -> list[Table]:
    """Size of the tests and coverage of the interval, over the runs that print a test without a warning; the rest in their own columns.

    Where fewer than a fifth of the runs do, the coverage is that of a selection and does not enter the mean and the least.
    """
    columns = [
        "data", "design", "method", "no test %", "warned %", "size", "exact McNemar", "mid-p", "coverage", "coverage at effect",
        "90% interval", "coverage where warned",
    ]  # fmt: skip
    table = Table("Size of tests and coverage of intervals (nominal 5, 95, 90)", columns)
    covers = []
    for make, effect, design in grid(quick):
        null = _count(make(0.0), design, runs, rng)
        other = _count(make(effect), design, runs, rng)
        expected = design.n * make(0.0).probabilities[:2].sum() if make(0.0).binary else 0
        floor = 0.04 if expected >= 25 and null["pairs"] else None
        covers += [x["covered"] / x["decided"] for x in (null, other) if x["decided"] > 0.2 * runs]
        pairs = null["pairs"] > 0
        table.rows.append([
            make(0.0).name, design.name, "/".join(sorted(null["methods"])), share(null["silent"], runs), share(null["warned"], runs),
            share(null["rejected"], null["decided"], floor, 0.06),
            share(null["exact"], runs, None, 0.05) if pairs else "-", share(null["mid"], runs, None, 0.055) if pairs else "-",
            share(null["covered"], null["decided"], 0.925), share(other["covered"], other["decided"], 0.925),
            share(other["covered90"], other["decided"], 0.865), share(null["warned_covered"], null["warned"]),
        ])  # fmt: skip
    mean, least = float(np.mean(covers)), float(np.min(covers))
    verdict = [f"mean {100 * mean:.1f}{'' if mean >= 0.945 else ' !'}", f"least {100 * least:.1f}{'' if least >= 0.925 else ' !'}"]
    table.rows.append(["**all**", *[""] * 7, *verdict, "", ""])
    return [table]


def _count(population: Population, design: Design, runs: int, rng: Rng) -> dict[str, Any]:
    kinds = ("decided", "rejected", "exact", "mid", "covered", "covered90", "pairs", "silent", "warned", "warned_covered")
    got: dict[str, Any] = dict.fromkeys(kinds, 0) | {"methods": set()}
    truth = population.effect
    tests: dict[tuple[int, int], tuple[float, float]] = {}
    for effect in effects(population, design, runs, rng):
        if not effect.testable:
            got["silent"] += 1
            continue
        low, high = effect.interval(0.05)
        if effect.warnings:
            got["warned"] += 1
            got["warned_covered"] += low <= truth <= high
            continue
        got["decided"] += 1
        got["methods"].add(effect.method.split(" (")[0])
        got["covered"] += low - 1e-9 <= truth <= high + 1e-9
        got["rejected"] += low > 0 or high < 0
        low, high = effect.interval(0.1)
        got["covered90"] += low - 1e-9 <= truth <= high + 1e-9
        if effect.pairs:
            got["pairs"] += 1
            key = (effect.won, effect.lost)
            if key not in tests:
                tests[key] = mcnemar(*key)
            exact, mid = tests[key]
            got["exact"] += exact <= 0.05
            got["mid"] += mid <= 0.05
    return got


def resampling(runs: int, rng: Rng, quick: bool) -> list[Table]:
    """Sign flips and bootstrap-t with 999 resamples."""
    columns = ["data", "design", "test printed %", "of these warned %", "sign-flip size", "bootstrap-t coverage"]
    table = Table("Resampling checks (999 resamples; nominal 5 and 95)", columns)
    designs = [singles(50), singles(500), clustered(200, 20, 0.05, 0.8), clustered(500, 50, 0.05, 0.8)]
    runs = max(200, runs // 5)
    for population in (binary(0.1), f1_like(0.2), f1_like(0.6), replicated(3)):
        for design in designs:
            decided = warned = flips = rejected = covered = boots = 0
            for effect in effects(population, design, runs, rng):
                if not effect.testable or effect.sums.informative < 10:
                    continue
                decided += 1
                warned += bool(effect.warnings)
                if not effect.pairs:
                    flips += 1
                    found = sign_flip(effect.sums, 999, rng)
                    rejected += found is not None and found.p_value <= 0.05
                if boot := bootstrap_t(effect.sums, 999, 0.05, rng):
                    boots += 1
                    covered += boot.low <= 0 <= boot.high
            # Where most runs carry a warning, or few print a test at all, the band does not apply.
            top, least = (0.06, 0.925) if decided > 0.2 * runs and warned < decided / 2 else (None, None)
            cells = [share(decided, runs), share(warned, decided), share(rejected, flips, None, top), share(covered, boots, least)]
            table.rows.append([population.name, design.name, *cells])
    return [table]


def claims(runs: int, rng: Rng, quick: bool) -> list[Table]:
    """How often the verdict says something false, at the truths where that is easiest; verdicts with a caveat on the interval apart."""
    columns = ["data", "design", "margin", "better or worse at 0", "equivalent at the margin", "not inferior at minus the margin"]
    columns += ["no verdict at 0", "caveat at 0", "better or worse at 0, with caveat"]
    table = Table("False verdicts (each at most 5)", columns)
    cells: list[Cell] = [(partial(binary, psi), psi / 2, singles(n)) for n in (50, 500) for psi in (0.02, 0.1, 0.3)]
    cells += [(partial(f1_like, q), q / 10, singles(n)) for n in (50, 500) for q in (0.05, 0.4)]
    cells += [(partial(binary, 0.2), 0.05, design) for design in (clustered(200, 20, 0.05, 0.8), clustered(500, 50, 0.05, 0.8))]
    for make, margin, design in cells:
        found = {truth: _claims(make(truth), design, margin, runs, rng) for truth in (0.0, margin, -margin)}
        zero = found[0.0]
        row = [make(0.0).name, design.name, f"{margin:g}"]
        for truth, kind in ((0.0, "differs"), (margin, "within"), (-margin, "above")):
            plain = runs - found[truth]["caveat"]
            row.append(share(found[truth][kind], plain, None, 0.055) if plain > 0.2 * runs else "-")
        row += [share(zero["none"], runs), share(zero["caveat"], runs), share(zero["differs with caveat"], zero["caveat"])]
        table.rows.append(row)
    return [table]


def _claims(population: Population, design: Design, margin: float, runs: int, rng: Rng) -> Counter[str]:
    """Counts of verdicts without a caveat that claim a difference, one within the margin, one above minus the margin; and the others."""
    found: Counter[str] = Counter()
    for e in effects(population, design, runs, rng):
        low, high = (None if x != x else x for x in e.interval(0.05))
        inner_low, inner_high = (None if x != x else x for x in e.interval(0.1))
        evidence = Evidence(
            e.value, low, high, inner_low, inner_high, margin, informative=e.informative, informative_needed=e.informative_needed
        )
        v = decide(evidence)
        if v.verdict == "no_verdict":
            found["none"] += 1
            continue
        differs, small = v.verdict in ("better", "worse"), v.qualifier == "less_than_matters"
        if e.warnings:
            found["caveat"] += 1
            found["differs with caveat"] += differs
            continue
        found["differs"] += differs
        found["within"] += v.verdict == "equivalent" or small
        found["above"] += v.verdict in ("better", "equivalent", "not_inferior") or small
    return found


def family(runs: int, rng: Rng, quick: bool) -> list[Table]:
    """Any false claim among several arms that share one control, none of them different."""
    columns = ["arms against one control", "data", "items", "critical value", "any false claim", "unadjusted"]
    table = Table("Family error (nominal 5)", columns)
    for arms in (3, 6):
        for kind in ("binary", "graded", "clustered"):
            for n in (100, 500):
                place = np.arange(n) // (5 if kind == "clustered" else 1)
                labels = [str(i) for i in range(place[-1] + 1)]
                false, naive, bound = 0, 0, 0.0
                for _ in range(runs):
                    x = _arms(arms + 1, n, kind, rng)
                    effects_ = [Effect(ClusterSums.of(x[j] - x[0], place), kind == "binary") for j in range(1, arms + 1)]
                    found = Family([Member(e, labels) for e in effects_], int(rng.integers(1 << 30)), draws=4000)
                    local = found.local_alpha(0.05)
                    bound += found.critical(0.05)
                    false += any(low > 0 or high < 0 for low, high in (e.interval(local) for e in effects_))
                    naive += any(low > 0 or high < 0 for low, high in (e.interval(0.05) for e in effects_))
                cells = [f"{bound / runs:.2f}", share(false, runs, None, 0.055), share(naive, runs)]
                table.rows.append([str(arms), kind, str(n), *cells])
    return [table]


def _arms(arms: int, n: int, kind: str, rng: Rng) -> Floats:
    """Scores of arms that do not differ: (arms, n), with the items' difficulty in common."""
    chance = rng.beta(1, 1, n)
    if kind == "clustered":
        chance = np.clip(np.repeat(rng.beta(1, 1, n // 5), 5) + 0.2 * rng.standard_normal(n), 0, 1)
    x = (rng.random((arms, n)) < chance).astype(float)
    return np.round(x * rng.integers(5, 11, (arms, n)) / 10, 1) if kind == "graded" else x


def power(runs: int, rng: Rng, quick: bool) -> list[Table]:
    """Power at the number of items that the planning formula asks for."""
    table = Table("Power at the planned number of items (nominal 80)", ["data", "effect", "planned items", "power"])
    plans: list[tuple[Population, Design, float]] = []
    for psi, d in ((0.1, 0.05), (0.2, 0.05), (0.4, 0.1)):
        plans.append((binary(psi, d), singles(items_needed_binary(d, psi)), d))
    graded = f1_like(0.4, 0.04)
    plans.append((graded, singles(items_needed(0.04, graded.variance)), 0.04))
    # Planned for K = 3 from a pilot's components at K = 1: w^2 + within / K.
    within = 2 / 6.0  # E[p (1 - p)] of Beta(1, 1), both arms
    parts = Components.of(replicated(1, 0.05).variance, within, 1)
    plans.append((replicated(3, 0.05), singles(items_needed(0.05, parts.variance(3))), 0.05))
    rho, cv, mean = 0.05, 0.8, 10.0
    base = binary(0.2, 0.05)
    n = items_needed(0.05, base.variance, design_effect=design_effect(mean, cv, rho))
    plans.append((base, clustered(n, round(n / mean), rho, cv), 0.05))
    for population, design, d in plans:
        hits = sum(e.testable and e.interval(0.05)[0] > 0 for e in effects(population, design, runs, rng))
        table.rows.append([population.name, f"{d:g}", design.name, share(hits, runs, 0.77, 0.84)])
    return [table]


def others(runs: int, rng: Rng, quick: bool) -> list[Table]:
    """Intervals and tests that are printed in special cases."""
    runs = max(300, runs // 5)
    table = Table("Other printed quantities", ["what", "setting", "measured", "nominal"])
    for what, setting, hits, n, low, high, nominal in (
        *fieller_rows(runs, rng),
        *subgroup_rows(runs, rng),
        *random_effects_rows(runs, rng),
    ):
        table.rows.append([what, setting, share(hits, n, low, high), nominal])
    return [table]


def looks(runs: int, rng: Rng, quick: bool) -> list[Table]:
    """Any false claim over several looks at growing data, unplanned and planned."""
    table = Table("Looks (nominal 5)", ["looks at", "any false claim, each at 5%", "planned: each at its share"])
    for at, naive, shared in look_rows(runs, rng):
        table.rows.append([f"{at} items", share(naive, runs), share(shared, runs, None, 0.055)])
    return [table]


PARTS: dict[str, Callable[[int, Rng, bool], list[Table]]] = {
    "single": single, "resampling": resampling, "claims": claims, "family": family, "power": power, "others": others,
    "looks": looks,
}  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Run the parts asked for and print their tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calibration", description="Calibrate the statistics by simulation.")
    parser.add_argument("--runs", type=int, default=10_000, help="simulated experiments per cell (default 10000)")
    parser.add_argument("--quick", action="store_true", help="1,000 runs and no cell of 5,000 items")
    parser.add_argument("--seed", type=int, default=2024)
    parser.add_argument("--only", choices=list(PARTS), help="one part")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the tables as JSON")
    args = parser.parse_args(argv)
    runs = min(args.runs, 1000) if args.quick else args.runs
    if runs < 1:
        parser.error("--runs must be at least 1")
    tables = []
    for number, (name, part) in enumerate(PARTS.items()):
        if args.only in (None, name):
            start = time.perf_counter()
            for table in part(runs, np.random.default_rng([args.seed, number]), args.quick):
                tables.append(table)
                print(table.markdown(), flush=True)
            print(f"[{name}: {time.perf_counter() - start:.0f} s]", file=sys.stderr)
    misses = sum(cell.endswith("!") for t in tables for r in t.rows for cell in r)
    print(f"{runs:,} runs a cell, seed {args.seed}. Outside the band: {misses}.")
    if args.json:
        write_atomic(args.json, json_bytes([{"title": t.title, "columns": t.columns, "rows": t.rows} for t in tables]))
    return 1 if misses else 0


if __name__ == "__main__":
    sys.exit(main())
