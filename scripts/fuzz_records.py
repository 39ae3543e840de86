"""Damage a run's records in thousands of seeded ways and open it each time: no traceback, no lost original, no second bill, the same bytes.

A tiny experiment is run against the simulated provider in a folder of its own, finished once and left in flight once. Each round
damages one file of one of the two, then does what `doit run` does with it, in this process.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.base.errors import AbidingError
from pipeline.base.rows import ResultRow, read_rows
from pipeline.base.schemas import parse_json, problems
from pipeline.engine import opening, truth
from pipeline.engine.action import Action
from pipeline.engine.options import LOADER_OPTIONS, RUN_OPTIONS
from pipeline.engine.session import Session
from pipeline.records import snapshot
from pipeline.records.repair import fault_of_build, fault_of_prepared
from pipeline.records.run_state import RunState
from pipeline.records.submission import SubmissionRecord
from scripts.edge import Parser, command
from scripts.mutations import MUTATIONS

PROJECT = Path(__file__).resolve().parents[1]
CONFIG = """provider: {{name: simulated, polls_per_job: 2}}
model_id: m
max_new_tokens: {{closed_book: 8, open_book: 8}}
sources:
  closed_book: [{{kind: jsonl, path: config/sample/closed_book.jsonl}}]
  open_book: [{{kind: jsonl, path: config/sample/open_book.jsonl}}]
sizes: {{closed_book_max_items: 2, open_book_max_items: 2}}
prompt_sets: {{s: {{control: config/prompts/control.txt, treatment: config/prompts/operational_only.txt}}}}
"""
STEPS = ("prepare", "build", "submit", "poll", "parse", "costs")
KINDS = (
    "run_state.json",
    "trial_manifest.json",
    "submission.json",
    "build_manifest.json",
    "prepared_manifest.json",
    "effective_config.yaml",
    "results.jsonl",
    "collected.jsonl",
)
RUN_ID = "fuzz"


class Params(dict[str, Any]):
    """Options as doit parses them."""

    _non_default_keys: frozenset[str] = frozenset()


@dataclass
class Result:
    """What the rounds came to."""

    outcomes: Counter[str] = field(default_factory=Counter)
    by_kind: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


class Bench:
    """The experiment, its two pristine states, and the rounds."""

    def __init__(self, root: Path) -> None:
        """Run the experiment in `root`, which is empty."""
        self.root = root
        self.reasons: Counter[str] = Counter()
        """What was refused, and why."""
        shutil.copytree(PROJECT / "config", root / "config")
        (root / "dodo.py").write_text("")
        (root / "config/eval_config.yaml").write_text(CONFIG.format())
        self.experiments = root / "experiments"
        self.abide(no_wait=True)
        self.in_flight = self.files()
        self.abide()
        self.finished = self.files()
        self.predictions = next(self.experiments.glob("run_*/*/results/predictions.csv")).read_bytes()

    def files(self) -> dict[Path, bytes]:
        """Every file that a round may change."""
        return {p: p.read_bytes() for folder in (self.experiments, self.root / "data") for p in folder.rglob("*") if p.is_file()}

    def restore(self, pristine: dict[Path, bytes]) -> None:
        """Put all files back."""
        for path, data in self.files().items():
            if path not in pristine:
                path.unlink()
            elif data == pristine[path]:
                continue
            else:
                path.write_bytes(pristine[path])
        for path, data in pristine.items():
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)

    def session(self, **options: Any) -> Session:
        """As `doit run --run_id fuzz` opens it."""
        params = Params({o["name"]: o["default"] for o in (*LOADER_OPTIONS, *RUN_OPTIONS)} | {"run_id": RUN_ID, "always": False} | options)
        return Session(self.root, params, readonly=False)

    def abide(self, *, no_wait: bool = False, resume: bool = False) -> None:
        """What `doit run` does, up to parse and costs. Raises AbidingError."""
        session = self.session(no_wait=no_wait, resume=resume)
        lock = opening.open_run(session)
        try:
            for step in STEPS:
                if step in ("submit",):
                    session.run.relayout()
                    opening.register(session)
                for _subject, ctx in session.subjects(step):
                    action = Action(session, step, ctx)
                    action.perform()
                if session.run.state is not None and session.run.state.status(step) == "in_progress":
                    session.run.state.move(step, "completed")
            truth.refresh(session)
        except AbidingError:
            if not no_wait:
                raise
        finally:
            session.run.close()
            lock.release()

    def bill(self) -> Counter[str]:
        """How often each request was billed."""
        with sqlite3.connect(self.experiments / "simulated_remote.db") as db:
            found = Counter(dict(db.execute("select custom_id, count(*) from bill group by custom_id").fetchall()))
        db.close()
        return found

    # --- one round ------------------------------------------------------------------------------------------------------

    def round(self, rng: random.Random) -> tuple[str, str, list[str]]:
        """Damage one file, open the run. Returns kind, outcome and what went wrong."""
        pristine = self.finished if rng.random() < 0.6 else self.in_flight
        self.restore(pristine)
        candidates = [p for p in pristine if p.name in KINDS]
        path = rng.choice(candidates)
        mutation = rng.choice(MUTATIONS)
        damaged = mutation(pristine[path], rng)
        path.write_bytes(damaged)
        where = f"{path.relative_to(self.root)} {mutation.__name__} ({'finished' if pristine is self.finished else 'in flight'})"
        if damaged == pristine[path]:
            return path.name, "no change", []
        harmless = accepted(path, self.root)
        wrong: list[str] = []
        outcome = "accepted" if harmless else "repaired"
        try:
            self.abide(resume=rng.random() < 0.5)
        except AbidingError as e:
            outcome = f"refused (exit {e.exit_code})"
            self.reasons[f"{path.name}: {type(e).__name__}: {e.fact[:90]}"] += 1
        except Exception:  # noqa: BLE001 - the very thing that is looked for
            outcome = "TRACEBACK"
            wrong.append(f"{where}\n{traceback.format_exc()}")
        if twice := [c for c, n in self.bill().items() if n > 1]:
            wrong.append(f"{where}: {len(twice)} requests were billed twice")
        if not harmless and not any(damaged == p.read_bytes() for p in path.parent.rglob(f"{path.stem}*") if p.is_file()):
            wrong.append(f"{where}: the original is lost")
        if (
            outcome in ("accepted", "repaired")
            and next(self.experiments.glob("run_*/*/results/predictions.csv")).read_bytes() != self.predictions
        ):
            wrong.append(f"{where}: predictions.csv came out otherwise")
        return path.name, outcome, wrong


def accepted(path: Path, root: Path) -> bool:
    """Whether the damaged file still says something that can be true: then it lives on, and changes as its like do."""
    try:
        if path.name == "run_state.json":
            RunState.load(path)
        elif path.name == "submission.json":
            SubmissionRecord.load(path)
        elif path.name == "effective_config.yaml":
            from pipeline.config import Overrides
            from pipeline.layout import RunPaths

            return snapshot.load(RunPaths(path.parents[1], RUN_ID), root, Overrides(run_id=RUN_ID)) is not None
        elif path.name == "collected.jsonl":
            list(read_rows(path, ResultRow))
        elif path.name == "results.jsonl":
            return False
        else:
            name = {"trial_manifest.json": "trial_manifest.v2"}.get(path.name, path.stem)
            document = parse_json(path.read_bytes())
            check = {"build_manifest": fault_of_build, "prepared_manifest": fault_of_prepared}.get(path.stem)
            return not problems(document, name) and (check is None or check(document) is None)
    except (AbidingError, ValueError):
        return False
    return True


def fuzz(mutations: int, seed: int, root: Path, *, seconds: float | None = None) -> Iterator[tuple[int, Bench, Result]]:
    """Do the rounds; yields after each. The same seed damages the same files in the same ways."""
    bench, result = Bench(root), Result()
    end = None if seconds is None else time.monotonic() + seconds
    for number in range(mutations):
        kind, outcome, wrong = bench.round(random.Random(f"{seed}/{number}"))
        result.outcomes[outcome] += 1
        result.by_kind[kind, outcome] += 1
        result.faults += wrong
        yield number + 1, bench, result
        if end is not None and time.monotonic() > end:
            return


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0 where nothing went wrong, 1 else."""
    p = Parser(prog="python -m scripts.fuzz_records", description=__doc__)
    p.add_argument("--mutations", type=int, default=1000, metavar="N")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--seconds", type=float, help="stop after so long")
    p.add_argument("--reasons", action="store_true", help="print what was refused and why")
    args = p.parse_args(argv)
    fast = Path("/dev/shm")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="abiding-fuzz-", dir=fast if fast.is_dir() else None) as folder:
        done, reasons, result = 0, Counter[str](), Result()
        for done, bench, result in fuzz(args.mutations, args.seed, Path(folder) / "project", seconds=args.seconds):
            reasons = bench.reasons
            if done % 500 == 0:
                print(f"{done}: {dict(result.outcomes)}", file=sys.stderr, flush=True)
    print(f"{done} mutations, seed {args.seed}, {time.monotonic() - began:.0f} s")
    outcomes = sorted(result.outcomes)
    print(f"{'file':<24}" + "".join(f"{o:>18}" for o in outcomes))
    for kind in KINDS:
        print(f"{kind:<24}" + "".join(f"{result.by_kind[kind, o]:>18}" for o in outcomes))
    print(f"{'all':<24}" + "".join(f"{result.outcomes[o]:>18}" for o in outcomes))
    tracebacks = result.outcomes["TRACEBACK"]
    print(f"tracebacks {tracebacks}; originals lost, results changed or requests billed twice {len(result.faults) - tracebacks}")
    for fault in result.faults[:20]:
        print(fault)
    if args.reasons:
        for reason, count in reasons.most_common(40):
            print(f"{count:6} {reason}")
    return 1 if result.faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
