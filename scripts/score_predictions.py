"""Score answers produced elsewhere as the official scripts do, and print one JSON object with their totals."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.base.errors import UsageError
from pipeline.scoring import totals
from pipeline.scoring.abstention import DEFAULT_PATTERNS, compiled
from scripts.edge import Parser, command


def parser() -> argparse.ArgumentParser:
    """The command line of this script."""
    p = Parser(prog="python -m scripts.score_predictions", description=__doc__)
    p.add_argument("--dataset", required=True, choices=("squad_v2", "nq_open", "triviaqa"))
    p.add_argument("--data", required=True, type=Path, help="the official data file (NQ-open: JSONL)")
    p.add_argument("--predictions", required=True, type=Path, help="JSON object {id: answer text}; NQ-open: keyed by question")
    p.add_argument(
        "--abstentions", choices=("empty", "as_text"), default="empty",
        help='score an abstention ("I don\'t know") as the empty answer (default), or as the text it is, as the official scripts would',
    )  # fmt: skip
    p.add_argument("--abstention_pattern", action="append", metavar="REGEX", help="instead of the built-in patterns; may be repeated")
    p.add_argument(
        "--missing", choices=("error", "wrong"), help="unanswered questions: refuse (default for squad_v2) or count as wrong (the others)"
    )
    return p


def score(args: argparse.Namespace) -> dict[str, Any]:
    """The official totals for the parsed arguments. Raises UsageError (exit 2) where a file is not what it should be."""
    texts = totals.read_predictions(args.predictions)
    if not args.data.is_file():
        raise UsageError("no such file", where=str(args.data), remedy="Name the official data file with --data.")
    if args.dataset == "triviaqa":
        questions = totals.read_triviaqa(args.data, texts)
    else:
        questions = totals.read_squad(args.data) if args.dataset == "squad_v2" else totals.read_nq(args.data)
    if not questions:
        raise UsageError("holds no question", where=str(args.data))
    missing = [q.key for q in questions if q.key not in texts]
    if len(missing) == len(questions):
        raise UsageError(
            f"holds no answer to any of the {len(questions)} questions", where=str(args.predictions),
            remedy=f"Its keys should look like {questions[0].key!r}.",
        )  # fmt: skip
    if missing and (args.missing or ("error" if args.dataset == "squad_v2" else "wrong")) == "error":
        raise UsageError(
            f"{len(missing)} of {len(questions)} questions have no answer, the first is {missing[0]!r}", where=str(args.predictions),
            remedy="Answer them (an empty text will do), or count them as wrong with --missing wrong.",
        )  # fmt: skip
    if args.abstentions == "empty":
        answers = totals.blank_abstentions(questions, texts, args.dataset, compiled(tuple(args.abstention_pattern or DEFAULT_PATTERNS)))
        if answers.abstentions:
            print(f"{answers.abstentions} abstentions are scored as the empty answer (--abstentions as_text: as they are)", file=sys.stderr)
        texts = answers.texts
    total = {"squad_v2": totals.squad_totals, "nq_open": totals.nq_totals, "triviaqa": totals.triviaqa_totals}
    return total[args.dataset](questions, texts)


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run; returns the exit code (0, or 2 with one line on stderr)."""
    print(json.dumps(score(parser().parse_args(argv)), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
