"""The answer store `experiments/answers.db`: show, verify, export, prune, rebuild."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import msgspec

from pipeline.base.errors import UsageError
from pipeline.base.files import atomic_writer
from pipeline.layout import RunPaths, find_root
from pipeline.records.answers import AnswerStore
from pipeline.records.refill import kept, refill
from scripts.edge import Parser, command


def day(text: str) -> str:
    """A day as it is written in the store. Raises ValueError, which argparse tells."""
    return date.fromisoformat(text).isoformat()


def parser() -> argparse.ArgumentParser:
    """The command line of this script."""
    p = Parser(prog="python -m scripts.answers", description=__doc__)
    p.add_argument("--experiments_dir", default="experiments", help="folder of runs [default: experiments]")
    verbs = p.add_subparsers(dest="verb", required=True)
    verbs.add_parser("show", help="answers by provider, model and generation, with their age").add_argument("--json", action="store_true")
    verbs.add_parser("verify", help="read every answer; compare with the published results of all runs")
    verbs.add_parser("export", help="all answers as JSONL").add_argument("out", type=Path)
    prune = verbs.add_parser("prune", help="forget answers older than a day (they would be paid for again)")
    prune.add_argument("--before", required=True, metavar="YYYY-MM-DD", type=day)
    prune.add_argument("--yes", action="store_true", help="do it; without, only say how many")
    verbs.add_parser("rebuild", help="fill the store from what all runs hold (a run does so itself where the store is lost)")
    return p


def tell(line: str) -> None:
    """A shard that could not be read, on stderr."""
    print(line, file=sys.stderr)


def verify(store: AnswerStore, experiments: Path) -> int:
    """Count answers, and published ones that the store lacks."""
    count = 0
    try:
        for _entry in store.everything():
            count += 1
    except msgspec.DecodeError as e:
        print(f"answer {count + 1} is unreadable: {e}; python -m scripts.answers rebuild fills a new store")
        return 1
    lacking = 0
    for shard in kept(experiments, tell):
        missing = len(shard.answers) - len(store.known(shard.answers, shard.generation)) if shard.published else 0
        if missing:
            print(f"{missing} published answers of {shard.run_id} {shard.shard} are not in the store (rebuild adds them)")
            lacking += missing
    print(f"{count} answers, all readable; {lacking} published ones lacking")
    return 1 if lacking else 0


def export(store: AnswerStore, out: Path) -> int:
    """Write every answer as a JSON line."""
    count = 0
    with atomic_writer(out) as f:
        for key, generation, row, at, run_id, provider, model in store.everything():
            entry = {
                "key": key,
                "generation": generation,
                "answered_at": at,
                "run_id": run_id,
                "provider": provider,
                "model": model,
                "row": row,
            }
            f.write(msgspec.json.encode(entry) + b"\n")
            count += 1
    print(f"{count} answers -> {out}")
    return 0


def show(store: AnswerStore, as_json: bool) -> int:
    """Print the summary."""
    rows = store.summary()
    if as_json:
        print(json.dumps(rows, indent=2))
        return 0
    print(f"{'provider':<18}{'model':<40}{'gen':>4}{'answers':>10}  oldest .. newest")
    for r in rows:
        print(f"{r['provider']:<18}{r['model'][:38]:<40}{r['generation']:>4}{r['answers']:>10}  {r['oldest'][:16]} .. {r['newest'][:16]}")
    return 0


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Do what the verb says."""
    args = parser().parse_args(argv)
    experiments = find_root() / args.experiments_dir
    paths = RunPaths(experiments, "none")
    looking = args.verb in ("show", "verify", "export")
    if looking and not paths.answers_db.exists():
        raise UsageError("there is no answer store yet", where=str(paths.answers_db), remedy="It is made by the first run.")
    store = AnswerStore(paths.answers_db, readonly=looking)
    try:
        if args.verb == "show":
            return show(store, args.json)
        if args.verb == "verify":
            return verify(store, experiments)
        if args.verb == "export":
            return export(store, args.out)
        if args.verb == "prune":
            count = store.prune(args.before) if args.yes else store.older(args.before)
            print(
                f"{count} answers are older than {args.before}"
                + (": forgotten" if args.yes else "; --yes forgets them, and a later run pays for them again")
            )
            return 0
        print(f"{refill(store, experiments, tell)} answers added")
        return 0
    finally:
        store.close()


if __name__ == "__main__":
    sys.exit(main())
