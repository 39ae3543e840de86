"""Compare two runs: what differs in prompts, config and versions; effects side by side; the paired difference where items are shared."""

from __future__ import annotations

import argparse
import difflib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.base.errors import ManifestError, UsageError
from pipeline.base.schemas import read_document
from pipeline.config import read_yaml
from pipeline.layout import RunPaths, find_root
from pipeline.records.run_state import RunState
from scripts.compare_scores import arm_rows, item_digests, paired
from scripts.edge import Parser, command

HASHES = ("request_hash", "config_hash", "primary_hash")
SHOWN, DIFF_SHOWN = 60, 20
"""Characters of a value; lines of a text's diff."""


def parser() -> argparse.ArgumentParser:
    """The command line of this script."""
    p = Parser(prog="python -m scripts.compare_runs", description=__doc__)
    p.add_argument("a", metavar="A", help="a run's id")
    p.add_argument("b", metavar="B", help="another run's id")
    p.add_argument("--experiments_dir", default="experiments")
    p.add_argument("--json", action="store_true", help="print everything as JSON")
    return p


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0; 2 for wrong usage or a run that is not there."""
    args = parser().parse_args(argv)
    root = find_root()
    found = compare(RunPaths(root / args.experiments_dir, args.a), RunPaths(root / args.experiments_dir, args.b), root)
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        show(found)
    return 0


def compare(a: RunPaths, b: RunPaths, root: Path) -> dict[str, Any]:
    """The whole comparison as plain JSON. Raises UsageError for a run that is not there, ManifestError for a damaged one."""
    runs = (_open(a), _open(b))
    return {
        "runs": [a.run_id, b.run_id],
        "finished": [bool(run["trials"]) for run in runs],
        "hashes": {
            key: {"a": runs[0]["state"][key], "b": runs[1]["state"][key], "same": runs[0]["state"][key] == runs[1]["state"][key]}
            for key in HASHES
        },
        "config": list(differences(runs[0]["config"], runs[1]["config"])),
        "texts": list(texts(a.inputs, b.inputs)),
        "versions": list(differences(runs[0]["versions"], runs[1]["versions"])),
        "trials": [_trial(a, b, *pair, root) for pair in pairs(runs[0]["trials"], runs[1]["trials"])],
    }


def _open(paths: RunPaths) -> dict[str, Any]:
    try:
        state = RunState.load(paths.state)
    except FileNotFoundError:
        raise UsageError(f"there is no run {paths.run_id}", where=str(paths.folder), remedy="See python -m scripts.list_runs.") from None
    config = {k: v for k, v in read_yaml(paths.effective_config)[0].items() if k not in ("run_id", "paths")}
    trials = sorted(p.parent.parent.name for p in paths.folder.glob("*/results/significance.json"))
    versions: dict[str, str] = {}
    for slug in trials:
        try:
            versions |= read_document(paths.trial(slug).provenance, "provenance")["versions"]
        except (FileNotFoundError, ManifestError):
            continue  # the way there is not known for this trial; what it found is compared all the same
    return {"state": state, "config": config, "trials": trials, "versions": versions}


def differences(a: Any, b: Any, at: str = "") -> Any:
    """{key, a, b} of each key path at which two plain documents differ."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in dict.fromkeys([*a, *b]):
            yield from differences(a.get(key), b.get(key), f"{at}.{key}" if at else str(key))
    elif a != b:
        yield {"key": at, "a": a, "b": b}


def texts(a: Path, b: Path) -> Iterator[dict[str, Any]]:
    """{file, diff} of each prompt or task instruction that both snapshots have, with different words: the lines of a unified diff."""
    for path in sorted(p for p in a.rglob("*") if p.is_file()):
        name = path.relative_to(a)
        if (b / name).is_file() and (b / name).read_bytes() != path.read_bytes():
            old, new = (p.read_text("utf-8").splitlines() for p in (path, b / name))
            yield {"file": name.as_posix(), "diff": list(difflib.unified_diff(old, new, "A", "B", n=1, lineterm=""))[2:]}


def pairs(a: Sequence[str], b: Sequence[str]) -> list[tuple[str, str]]:
    """Trials to set side by side: those of one name, and the rest in their order."""
    same = [slug for slug in a if slug in b]
    rest = zip([s for s in a if s not in same], [s for s in b if s not in same], strict=False)
    return [(s, s) for s in same] + list(rest)


def _trial(a: RunPaths, b: RunPaths, slug_a: str, slug_b: str, root: Path) -> dict[str, Any]:
    effects = [_effects(paths, slug) for paths, slug in ((a, slug_a), (b, slug_b))]
    notes: list[str] = []
    found: dict[str, Any] = {"a": slug_a, "b": slug_b, "effects": [], "paired": {}, "notes": notes}
    for key in dict.fromkeys([*effects[0], *effects[1]]):
        found["effects"].append({"temp": key[0], "type": key[1], "metric": key[2], "a": effects[0].get(key), "b": effects[1].get(key)})
    digests = item_digests(a, root), item_digests(b, root)
    if None in digests:
        notes.append("the items of one run are not at hand: they are taken for the same where their keys are")
    for condition in ("treatment", "control"):
        rows = arm_rows(a.trial(slug_a).scores, condition), arm_rows(b.trial(slug_b).scores, condition)
        shared = [key for key in rows[0] if key in rows[1]]
        if digests[0] is not None and digests[1] is not None:
            same = [key for key in shared if digests[0].get(key[:2]) == digests[1].get(key[:2])]
            if len(same) < len(shared):
                notes.append(f"{condition}: {len(shared) - len(same)} items have one key in both runs, but another content: left out")
            shared = same
        if shared:
            found["paired"][condition] = list(paired(*rows, shared))
        else:
            notes.append(f"{condition}: no item at a shared temperature was asked in both runs")
    return found


def _effects(paths: RunPaths, slug: str) -> dict[tuple[Any, str, str], dict[str, Any]]:
    document = read_document(paths.trial(slug).significance, "significance")
    keep = ("role", "effect", "ci_low", "ci_high", "p_value", "n_items", "control_mean", "treatment_mean")
    return {(r["temp"], r["type"], r["metric"]): {k: r[k] for k in keep} for r in document["rows"] if r["dataset"] == "all"}


# --- for people --------------------------------------------------------------------------------------------------------------


def show(found: dict[str, Any]) -> None:
    """Print the comparison."""
    a, b = found["runs"]
    print(f"A = {a}\nB = {b}")
    print("hashes: " + ", ".join(f"{key} {'same' if h['same'] else 'differs'}" for key, h in found["hashes"].items()))
    for run, finished in zip((a, b), found["finished"], strict=True):
        if not finished:
            print(f"note: {run} has no results yet: doit run --run_id {run} --resume")
    for name in ("config", "versions"):
        if name == "versions" and not all(found["finished"]):
            continue
        print(f"{name}: " + ("no difference" if not found[name] else ""))
        for entry in found[name]:
            print(f"  {entry['key']}: {_short(entry['a'])} -> {_short(entry['b'])}")
    for text in found["texts"]:
        print(f"{text['file']} differs:")
        for line in text["diff"][:DIFF_SHOWN]:
            print(f"  {line}")
        if len(text["diff"]) > DIFF_SHOWN:
            print(f"  ... {len(text['diff']) - DIFF_SHOWN} more lines (--json has all)")
    for trial in found["trials"]:
        print(f"\n{trial['a']}" + (f"\n  against {trial['b']}" if trial["a"] != trial["b"] else ""))
        print(f"  {'effect (treatment - control)':<40}{'A':>26}{'B':>26}")
        for row in trial["effects"]:
            if row["type"] == "all":
                cells = [_interval(row[run], "effect", "ci_low", "ci_high") for run in ("a", "b")]
                print(f"  {_row_name(row):<40}" + "".join(f"{cell:>26}" for cell in cells))
        for condition, rows in trial["paired"].items():
            print(f"  {'paired difference of the ' + condition + 's, B - A':<40}{'difference':>26}{'items':>8}")
            for row in rows:
                print(f"  {_row_name(row):<40}{_interval(row, 'difference', 'low', 'high'):>26}{row['items']:>8}")
        for note in trial["notes"]:
            print(f"  note: {note}")


def _row_name(row: dict[str, Any]) -> str:
    temp = row["temp"]
    return f"{row['metric']} at {temp if isinstance(temp, str) else format(temp, 'g')}"


def _interval(row: dict[str, Any] | None, value: str, low: str, high: str) -> str:
    if row is None:
        return "-"
    limits = f" [{row[low]:+.3f}, {row[high]:+.3f}]" if row[low] is not None else " (no interval)"
    return f"{row[value]:+.3f}{limits}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else text[:SHOWN] + " ..."


if __name__ == "__main__":
    raise SystemExit(main())
