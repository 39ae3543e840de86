"""How many items and replicates a comparison needs, what that costs, and what replicates buy."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from math import ceil, isfinite
from pathlib import Path
from typing import Any

from pipeline.base.errors import UsageError
from pipeline.statistics import planning
from pipeline.statistics.planning import Components
from scripts.edge import Parser, command

EPILOG = """examples:
  python -m scripts.power --pilot experiments/run_X/TRIAL/results/per_item_scores.csv --effect 0.03 --usd_per_answer 0.0004
  python -m scripts.power --discordance 0.2 --effect 0.05
  python -m scripts.power --between 0.05 --within 0.30 --effect 0.03 --replicates 1,3,5 --cluster_size 10 --icc 0.05
"""


def _replicates(text: str) -> list[int]:
    try:
        found = [int(x) for x in text.split(",")]
    except ValueError:
        found = [0]
    if min(found) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of whole numbers from 1 on, such as 1,2,5")
    return sorted(set(found))


def _number(low: float, high: float, *, zero: bool = False) -> Any:
    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not ((low <= value if zero else low < value) and value <= high and isfinite(value)):
            reach = f"above {low:g}" if high > 1e300 else f"between {low:g} and {high:g}"
            raise argparse.ArgumentTypeError(f"{text!r} is no number {reach}")
        return value

    return read


def parser() -> argparse.ArgumentParser:
    """The command line of this script."""
    positive = _number(0, 1e308)
    free = _number(0, 1e308, zero=True)
    p = Parser(prog="python -m scripts.power", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter)
    spread = p.add_argument_group("how items spread (a pilot, or one of the assumptions)")
    spread.add_argument("--pilot", type=Path, metavar="CSV", help="per_item_scores.csv of a pilot run")
    spread.add_argument("--metric", default="correct", help="of the pilot (default correct)")
    spread.add_argument("--type", choices=("open", "closed", "all"), default="all", help="of the pilot (default all)")
    spread.add_argument("--temperature", help="of the pilot (default its first)")
    spread.add_argument(
        "--discordance", type=_number(0, 1), metavar="PSI", help="share of items that one arm gets right and the other wrong"
    )
    spread.add_argument("--sd", type=positive, help="standard deviation of the differences of items, one answer each")
    spread.add_argument("--between", type=free, metavar="VAR", help="variance of the true differences of items")
    spread.add_argument("--within", type=free, metavar="VAR", help="variance between replicates, summed over both arms")
    spread.add_argument("--cluster_size", type=_number(1, 1e9, zero=True), default=1.0, help="mean items per cluster (default 1)")
    spread.add_argument("--cluster_cv", type=free, default=0.0, help="coefficient of variation of cluster sizes (default 0)")
    spread.add_argument(
        "--icc", type=_number(0, 1, zero=True), default=0.0, help="intra-cluster correlation of the differences (default 0)"
    )
    aim = p.add_argument_group("aim")
    aim.add_argument("--effect", type=positive, default=0.05, help="effect to detect, or the margin; metric units (default 0.05)")
    aim.add_argument("--claim", choices=("difference", "not_inferior", "equivalent"), default="difference", help="default difference")
    aim.add_argument("--power", type=_number(0, 0.9999), default=0.8, help="default 0.8")
    aim.add_argument("--comparisons", type=int, default=1, metavar="J", help="primary comparisons in the family (default 1)")
    cost = p.add_argument_group("cost")
    cost.add_argument("--replicates", type=_replicates, default=[1, 2, 3, 5, 10], metavar="K,K", help="default 1,2,3,5,10")
    cost.add_argument("--usd_per_answer", type=free, help="dollars per answer, mean of both arms")
    cost.add_argument("--usd_per_item", type=free, default=0.0, help="dollars to make one more item (default 0)")
    cost.add_argument("--items", type=int, metavar="N", help="items that there are at most")
    p.add_argument("--json", action="store_true", help="print JSON")
    return p


def plan(args: argparse.Namespace) -> dict[str, Any]:
    """The plan for the parsed arguments. Raises UsageError where they do not describe one experiment."""
    if args.comparisons < 1 or (args.items is not None and args.items < 1):
        raise UsageError("must be at least 1", where="--comparisons" if args.comparisons < 1 else "--items")
    parts, deff, source, notes, known = _spread(args)
    alpha, power = 0.05 / args.comparisons, args.power
    if args.comparisons > 1:
        notes.append(f"{args.comparisons} comparisons: planned at 5% / {args.comparisons} each, a little more than max-|t| will ask for.")
    if args.claim == "equivalent":
        alpha, power = 2 * alpha, (1 + power) / 2
    rows = []
    for k in args.replicates if known else [1]:
        variance = parts.variance(k)
        n = planning.items_needed(args.effect, variance, power=power, alpha=alpha, design_effect=deff)
        if args.discordance is not None and args.claim == "difference" and k == 1:
            n = planning.items_needed_binary(args.effect, args.discordance, power=power, alpha=alpha, design_effect=deff)
        row: dict[str, Any] = {"replicates": k, "items": n, "answers": 2 * k * n, "usd": _usd(args, n, k)}
        if args.items is not None:
            row["power_at_items"] = _power(args, args.items, variance, alpha, deff)
            row["detectable_at_items"] = planning.detectable(args.items, variance, power=power, alpha=alpha, design_effect=deff)
        rows.append(row)
    notes += _advice(args, parts, known, rows)
    return {
        "source": source,
        "claim": args.claim,
        "effect": args.effect,
        "power": args.power,
        "comparisons": args.comparisons,
        "variance_between": parts.between if known else None,
        "variance_within": parts.within if known else None,
        "variance": parts.variance(1) if known else parts.between,
        "design_effect": deff,
        "plans": rows,
        "notes": notes,
    }


def _spread(args: argparse.Namespace) -> tuple[Components, float, str, list[str], bool]:
    """Variance components, design effect, where they come from, notes, and whether replicates can be planned."""
    given = [name for name in ("pilot", "discordance", "sd") if getattr(args, name) is not None]
    if args.between is not None or (args.within is not None and not given):
        given.append("between")
    if len(given) != 1:
        fact = f"{' and '.join('--' + g for g in given)} are given" if given else "nothing says how items spread"
        raise UsageError(fact, remedy="Give one of --pilot, --discordance, --sd, or --between with --within.")
    deff = planning.design_effect(args.cluster_size, args.cluster_cv, args.icc)
    if given == ["pilot"]:
        return _pilot(args)
    unknown = "One answer per item cannot tell spread between items from noise: what replicates buy is not planned. Give --within."
    if given == ["between"]:
        if args.between is None or args.within is None:
            raise UsageError("--between and --within belong together", where="--between" if args.between is None else "--within")
        if args.between + args.within <= 0:
            raise UsageError("items that do not spread at all need no planning", where="--between")
        return Components(args.between, args.within), deff, "assumed variances", [], True
    if args.discordance is not None:
        if args.effect > args.discordance:
            raise UsageError(f"an effect of {args.effect:g} needs at least that discordance", where="--discordance")
        variance, source = args.discordance - args.effect**2, "assumed discordance"
    else:
        variance, source = args.sd**2, "assumed standard deviation"
    if args.within is None:
        return Components(variance, 0.0), deff, source, [unknown], False
    if args.within > variance:
        raise UsageError(f"cannot exceed the whole variance of a difference, {variance:.3g}", where="--within")
    return Components.of(variance, args.within, 1), deff, source, [], True


def _pilot(args: argparse.Namespace) -> tuple[Components, float, str, list[str], bool]:
    from pipeline.statistics.pilot import read_pilot
    from pipeline.statistics.table import read_scores

    if not args.pilot.is_file():
        raise UsageError("no such file", where=str(args.pilot), remedy="Name the per_item_scores.csv of a trial.")
    try:
        temp: Any = args.temperature if args.temperature in (None, "default") else float(args.temperature)
    except ValueError:
        raise UsageError(f"{args.temperature!r} is no temperature", where="--temperature") from None
    try:
        table = read_scores(args.pilot)
    except OSError as e:
        raise UsageError(f"cannot be read: {e.strerror}", where=str(args.pilot)) from None
    found = read_pilot(table, args.metric, args.type, temp)
    notes = ["The pilot's variance stands at its upper 80% limit; its observed effect is not used."]
    known = found.replicates_known
    if not known:
        notes.append("The pilot has one answer per item: what replicates buy is not planned. Run a pilot with K = 2 or more for that.")
    source = f"pilot of {found.items:,} items in {found.clusters:,} clusters, K = {found.replicates:g}"
    return found.parts, found.design_effect, source, notes, known


def _usd(args: argparse.Namespace, n: int, k: int) -> float | None:
    return None if args.usd_per_answer is None else n * (args.usd_per_item + 2 * k * args.usd_per_answer)


def _power(args: argparse.Namespace, n: int, variance: float, alpha: float, deff: float) -> float:
    reached = planning.power_of(n, args.effect, variance, alpha=alpha, design_effect=deff)
    return max(0.0, 2 * reached - 1) if args.claim == "equivalent" else reached


def _advice(args: argparse.Namespace, parts: Components, known: bool, rows: list[dict[str, Any]]) -> list[str]:
    notes = []
    if known and len(rows) > 1:
        one, most = rows[0], rows[-1]
        if one["replicates"] == 1 and most["answers"] > one["answers"]:
            saved, factor = one["items"] - most["items"], most["answers"] / one["answers"]
            notes.append(
                f"K = {most['replicates']} saves {saved:,} items but asks for {factor:.1f} times the answers: "
                "while unused items remain, more items beat more replicates."
            )
    if known and args.usd_per_answer:
        best = planning.best_replicates(parts, args.usd_per_item, 2 * args.usd_per_answer)
        rule = "the root of within / between variance times item cost / replicate cost, at least 1"
        notes.append(f"Cheapest K: {best:.1f} ({rule})." if isfinite(best) else "Cheapest K: as many as you like, items do not differ.")
    if args.items is not None and rows[0]["items"] > args.items:
        notes.append(_with_few_items(args, parts, known, rows))
    return notes


def _with_few_items(args: argparse.Namespace, parts: Components, known: bool, rows: list[dict[str, Any]]) -> str:
    """What K the available items need, if any K will do."""
    short = f"{args.items:,} items are fewer than the {rows[0]['items']:,} needed at K = {rows[0]['replicates']}"
    if not known:
        return f"{short}."
    allowed = parts.variance(rows[0]["replicates"]) * args.items / rows[0]["items"]
    if allowed <= parts.between:
        return f"{short}, and no number of replicates makes up for that."
    return f"{short}; they would do with K = {ceil(parts.within / (allowed - parts.between))}."


def table(found: dict[str, Any]) -> str:
    """The plan as text."""
    claim = {"difference": "detect an effect of", "not_inferior": "show non-inferiority within", "equivalent": "show equivalence within"}
    head = f"To {claim[found['claim']]} {found['effect']:g} with {found['power']:.0%} power ({found['source']}"
    lines = [f"{head}; variance {found['variance']:.4g}, design effect {found['design_effect']:.3g}):", ""]
    columns = ["K", "items", "answers", "dollars", "power now", "detects now"]
    cells = [columns]
    for r in found["plans"]:
        usd = "-" if r["usd"] is None else f"{r['usd']:,.2f}"
        now = [f"{r['power_at_items']:.0%}", f"{r['detectable_at_items']:.3g}"] if "power_at_items" in r else []
        cells.append([str(r["replicates"]), f"{r['items']:,}", f"{r['answers']:,}", usd, *now])
    wide = len(cells[1])
    widths = [max(len(row[i]) for row in cells if i < len(row)) for i in range(wide)]
    lines += ["  ".join(c.rjust(w) for c, w in zip(row, widths)) for row in cells]  # noqa: B905 - headers beyond `wide` are left out
    return "\n".join([*lines, *([""] if found["notes"] else []), *found["notes"]])


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run; returns the exit code (0, or 2 with one line on stderr)."""
    args = parser().parse_args(argv)
    found = plan(args)
    print(json.dumps(found, indent=2) if args.json else table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
