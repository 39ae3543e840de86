"""Damage a run's records in thousands of seeded ways and open it each time: no traceback, no lost original, no second bill, the same bytes.

A tiny experiment is run against the simulated provider in a folder of its own, finished once and left in flight once. Each round
damages one file of one of the two (or puts a folder, a link, or another file of its name in its place), then does what `doit run`
does with it, in this process; where that succeeds, `verify_run` must find nothing and the manifests must agree with the predicates.
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

from pipeline.base.digests import sha256_file
from pipeline.base.errors import AbidingError
from pipeline.base.rows import ResultRow, read_rows
from pipeline.base.schemas import parse_json, problems
from pipeline.config import Overrides
from pipeline.engine import opening, truth
from pipeline.engine.action import Action
from pipeline.engine.options import LOADER_OPTIONS, RUN_OPTIONS
from pipeline.engine.session import Session
from pipeline.layout import RunPaths
from pipeline.records import snapshot
from pipeline.records.manifest import TrialManifest
from pipeline.records.repair import fault_of_build, fault_of_prepared
from pipeline.records.run_state import RunState
from pipeline.records.submission import read_submission
from pipeline.records.verify import Verification
from scripts.edge import Parser, command
from scripts.mutations import DISPLACEMENTS, MARK, MUTATIONS

PROJECT = Path(__file__).resolve().parents[1]
CONFIG = """provider: {{name: simulated, polls_per_job: 2}}
model_id: m
max_new_tokens: {{closed_book: 8, open_book: 8}}
sources:
  closed_book: [{{kind: jsonl, path: config/sample/closed_book.jsonl}}]
  open_book: [{{kind: jsonl, path: config/sample/open_book.jsonl}}]
sizes: {{closed_book_max_items: 2, open_book_max_items: 2}}
prompt_sets:
  s: {{control: config/prompts/control.txt, treatment: config/prompts/operational_only.txt}}
  t: {{control: config/prompts/control.txt, treatment: config/prompts/default.txt}}
"""
STEPS = ("prepare", "build", "submit", "poll", "parse", "costs")
ORIGINALS = (
    "run_state.json", "trial_manifest.json", "submission.json", "build_manifest.json", "prepared_manifest.json",
    "effective_config.yaml", "results.jsonl", "collected.jsonl", "inputs",
)  # fmt: skip
"""Kinds of which a damaged file is never thrown away: it may hold what nothing else knows."""
KINDS = (
    *ORIGINALS, "registry.jsonl", "events.jsonl", "answers.db", ".digests.json", "twin", "shard", "items", "predictions.csv", "costs.json",
)  # fmt: skip
UNREAD = {
    "events.jsonl": "events.jsonl",
    "run_state.json": "events.jsonl",
    "twin": ".submission.json",
    "submission.json": ".submission.json",
    "shard": ".submission.json",
}
"""Of a damaged kind, the end of the names of files that nobody reads without --verify. The state holds the log's seal, a
submission that is damaged and still valid differs from its twin; shards and twins share a folder."""
RUN_ID, OTHER = "fuzz", "fuzz2"


def kind_of(path: Path) -> str | None:
    """Which of KINDS a file is."""
    if "inputs" in path.parts:
        return "inputs"
    if path.name.endswith(".submission.json"):
        return "twin"
    if "batch_inputs" in path.parts and path.suffix == ".jsonl":
        return "shard"
    return "items" if path.name.endswith("_book.jsonl") else path.name if path.name in KINDS else None


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
        config = CONFIG.format()
        (root / "config/eval_config.yaml").write_text(config)
        (root / "config/other.yaml").write_text(config.replace("closed_book: 8", "closed_book: 9"))
        self.experiments = root / "experiments"
        self.abide(no_wait=True)
        self.in_flight = self.files()
        self.abide()
        self.abide(run_id=OTHER, config="config/other.yaml")
        self.finished = self.files()
        self.predictions = self.predicted()
        self.like: dict[str, list[Path]] = {}
        for name, state in (("in flight", self.in_flight), ("finished", self.finished)):
            for path, data in state.items():
                copy = root.parent / "copies" / name / path.relative_to(root)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(data)
                self.like.setdefault(path.name, []).append(copy)

    def files(self) -> dict[Path, bytes]:
        """Every file that a round may change."""
        return {p: p.read_bytes() for folder in (self.experiments, self.root / "data") for p in folder.rglob("*") if p.is_file()}

    def predicted(self) -> list[bytes]:
        """The answers as parse joined them, of every trial."""
        return [p.read_bytes() for p in sorted(self.experiments.glob(f"run_{RUN_ID}/*/results/predictions.csv"))]

    def restore(self, pristine: dict[Path, bytes]) -> None:
        """Put everything back as it was."""
        for folder in (self.experiments, self.root / "data"):
            shutil.rmtree(folder)
        for path, data in pristine.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def session(self, **options: Any) -> Session:
        """As `doit run --run_id fuzz --parts_per_dataset 2` opens it."""
        given = {"run_id": RUN_ID, "always": False, "parts_per_dataset": 2} | options
        params = Params({o["name"]: o["default"] for o in (*LOADER_OPTIONS, *RUN_OPTIONS)} | given)
        params._non_default_keys = frozenset({"config"} & set(options))
        return Session(self.root, params, readonly=False)

    def abide(self, **options: Any) -> None:
        """What `doit run` does, up to parse and costs. Raises AbidingError."""
        session = self.session(**options)
        lock = opening.open_run(session)
        try:
            for step in STEPS:
                if step == "submit":
                    session.run.relayout()
                    opening.register(session)
                for _subject, ctx in session.subjects(step):
                    action = Action(session, step, ctx)
                    action.perform()
                if session.run.state is not None and session.run.state.status(step) == "in_progress":
                    session.run.state.move(step, "completed")
            truth.refresh(session)
            truth.settle(session)
        except AbidingError:
            if not options.get("no_wait"):
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
        mine = [p for p in pristine if f"run_{OTHER}" not in p.parts]
        kind = rng.choice([k for k in KINDS if any(kind_of(p) == k for p in mine)])
        path = rng.choice([p for p in mine if kind_of(p) == kind])
        what, damaged = self.damage(path, pristine[path], rng)
        where = f"{path.relative_to(self.root)} {what} ({'finished' if pristine is self.finished else 'in flight'})"
        if damaged == pristine[path] and path.is_file() and self.files() == pristine:
            return kind, "no change", []
        harmless = damaged is None or kind not in ORIGINALS or accepted(path, self.root)
        wrong: list[str] = []
        outcome = "accepted" if harmless and damaged is not None else "repaired"
        try:
            verify = rng.random() < 0.3
            self.abide(resume=rng.random() < 0.5, verify=verify)
        except (AbidingError, OSError, sqlite3.Error) as e:  # what the edge tells in one line
            outcome = f"refused (exit {getattr(e, 'exit_code', 1)})"
            self.reasons[f"{kind} {what}: {type(e).__name__}: {getattr(e, 'fact', str(e))[:110]}"] += 1
        except Exception:  # noqa: BLE001 - the very thing that is looked for
            outcome = "TRACEBACK"
            wrong.append(f"{where}\n{traceback.format_exc()}")
        if twice := [c for c, n in self.bill().items() if n > 1]:
            wrong.append(f"{where}: {len(twice)} requests were billed twice")
        kept = [p.read_bytes() for p in path.parent.parent.rglob("*") if p.is_file()]
        if (not harmless and damaged not in kept) or (what == "folder, not empty" and MARK.encode() not in kept):
            wrong.append(f"{where}: the original is lost")
        if outcome in ("accepted", "repaired"):
            wrong += [f"{where}: {told}" for told in self.told_afterwards(unread="" if verify else UNREAD.get(kind, ""))]
        return kind, outcome, wrong

    def damage(self, path: Path, data: bytes, rng: random.Random) -> tuple[str, bytes | None]:
        """Do one thing to a file. Returns what was done, and the bytes that now stand there (None: no file does)."""
        if rng.random() < 0.7:
            mutation = rng.choice(MUTATIONS)
            path.write_bytes(mutation(data, rng))
            return mutation.__name__, path.read_bytes()
        displacement = rng.choice(DISPLACEMENTS)
        displacement(path, [p for p in self.like[path.name] if p.read_bytes() != data], rng)
        if path.is_dir():
            return "folder, not empty" if any(path.iterdir()) else "folder", None
        return displacement.__name__, path.read_bytes() if path.is_file() else None

    def told_afterwards(self, *, unread: str) -> Iterator[str]:
        """What is not as it should be after a run that went well; not of files ending in `unread` (see UNREAD)."""
        if self.predicted() != self.predictions:
            yield "predictions.csv came out otherwise"
        paths = RunPaths(self.experiments, RUN_ID)
        for name, reasons in Verification(paths, self.root).run().damage.items():
            if not unread or not name.endswith(unread):
                yield f"{name}: {reasons[0]}"
        session = self.session()
        session.run.state = RunState.load(paths.state)
        for trial in session.experiment.trials.values():
            said = TrialManifest.open(paths.trial(trial.slug).manifest, {"trial": {"slug": trial.slug}}, readonly=True)[0]
            for stage, verdict in truth.stages(session, trial).items():
                if (said.stage(stage)["status"] == "completed") != (verdict == "completed"):
                    yield f"{trial.slug}: the manifest says {stage} is {said.stage(stage)['status']}, it is {verdict}"


def accepted(path: Path, root: Path) -> bool:
    """Whether the file still says something that can be true of its run: then it lives on, and changes as its like do."""
    try:
        if path.name == "run_state.json":
            return bool(RunState.load(path)["run_id"] == RUN_ID)
        if path.name == "submission.json":
            record, shard = read_submission(path), path.parents[3] / "batch_inputs" / path.parents[1].name
            return bool(record["shard"]["sha256"] == sha256_file(shard / f"{path.parent.name}.jsonl"))
        if path.name == "effective_config.yaml":
            return snapshot.load(RunPaths(path.parents[1], RUN_ID), root, Overrides(run_id=RUN_ID)) is not None
        if path.name == "collected.jsonl":
            return bool(list(read_rows(path, ResultRow)))
        if path.name == "results.jsonl" or kind_of(path) == "inputs":
            return False
        name = {"trial_manifest.json": "trial_manifest.v2"}.get(path.name, path.stem)
        document = parse_json(path.read_bytes())
        check = {"build_manifest": fault_of_build, "prepared_manifest": fault_of_prepared}.get(path.stem)
        return not problems(document, name) and (check is None or check(document) is None) and _of_this_run(path, document)
    except (AbidingError, ValueError):
        return False


def _of_this_run(path: Path, document: Any) -> bool:
    """Whether a valid document is about what lies here, and not about its like elsewhere."""
    if path.name == "trial_manifest.json":
        return bool(document["trial"].get("slug") == path.parents[1].name)
    if path.name == "build_manifest.json":
        return bool(document["request_hash"] == RunState.load(path.parents[1] / "run_state.json")["request_hash"])
    return bool(document["id"] == path.parent.name)


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
