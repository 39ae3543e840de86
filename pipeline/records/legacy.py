"""Reading a run of the predecessor: its trials, parts and answers. Nothing is written here.

    run_<ID>/<model>-<prompt set>-tp1-tk50-mx64-64/results/{trial_manifest.json, t0_control_p01/results.jsonl, t0_control_p01_job.json ...}

Parts count from 01; a request's custom_id is `dataset|id|condition|temp|k|type`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.base.errors import ManifestError
from pipeline.base.files import not_a_file, read_file
from pipeline.base.rows import Failure, Outcome, Place, ResultRow, Usage
from pipeline.base.schemas import parse_json, problems
from pipeline.layout import RunPaths
from pipeline.records.manifest import SCHEMA, refuse_newer
from pipeline.records.run_state import RunState
from pipeline.records.upgrade import is_predecessors, part_key
from pipeline.records.upgrade_evidence import combined_files, part_folders
from pipeline.records.upgrade_files import NAME, breadcrumbs, from_artifacts, translated

OUTCOME_OF_FINISH: dict[str, Outcome] = {
    "length": "truncated",
    "max_tokens": "truncated",
    "content_filter": "filtered",
    "refusal": "refused",
}


class Request(NamedTuple):
    """What a predecessor's custom_id says."""

    place: Place
    condition: str
    custom_id: str

    @property
    def item(self) -> tuple[str, str, str]:
        """(dataset, item id, type)."""
        return self.place.dataset, self.place.item_id, self.place.type


@dataclass(frozen=True)
class LegacyTrial:
    """One trial folder of the predecessor."""

    folder: Path
    manifest: dict[str, Any]
    """Version 2 of its manifest, as it would be (or is) upgraded."""
    unknown: tuple[str, ...]

    @property
    def results(self) -> Path:
        """Its folder of results."""
        return self.folder / "results"


def unadopted(paths: RunPaths) -> bool:
    """True for a run folder of the predecessor that has no state of ours yet, or none that can be read. Raises ManifestError (newer)."""
    if not any(True for _ in trial_folders(paths.folder)):
        return False
    try:
        RunState.load(paths.state)
    except FileNotFoundError:
        return True
    except ManifestError:
        refuse_newer(paths.state)
        return True
    return False


def trial_folders(run: Path) -> Iterator[Path]:
    """The folders that the predecessor laid out as trials: part folders, joined answers, breadcrumbs, or its manifest."""
    return (results.parent for results in sorted(run.glob("*/results")) if _is_predecessors(results))


def misplaced(run: Path) -> Path | None:
    """A result folder of the predecessor that does not lie where trials lie, `run_<ID>/<trial>/results`; None where there is none."""
    return next((p for p in sorted(run.rglob("results")) if p.parent.parent != run and _is_predecessors(p)), None)


def _is_predecessors(results: Path) -> bool:
    if part_folders(results) or combined_files(results) or breadcrumbs(results):
        return True
    try:
        return is_predecessors(parse_json(read_file(results / NAME)))
    except (OSError, ValueError, ManifestError):
        return False


def read_trial(folder: Path) -> LegacyTrial:
    """A trial with its manifest, or with one made of its files where the manifest is missing or corrupt. Raises ManifestError (newer)."""
    path = folder / "results" / NAME
    document: Any = None
    with suppress(FileNotFoundError, ManifestError, ValueError):
        document = parse_json(read_file(path))
    if document is not None:
        refuse_newer(path)
    if document is not None and not problems(document, SCHEMA):  # upgraded before
        return LegacyTrial(folder, document, ())
    if not is_predecessors(document):
        document = from_artifacts(path.parent)
    new, unknown = translated(document, path)
    return LegacyTrial(folder, new, tuple(unknown))


def answers(trial: LegacyTrial, notes: list[str]) -> Iterator[tuple[str, Request, ResultRow]]:
    """(part key, request, answer) of a trial: its parts in order, then what only the joined files hold.

    Answers of a control that other trials share are read where `control_registry` says that they lie. What is passed over is told in
    `notes`: rows that cannot be read or placed, other answers to what was answered before, parts without a folder.
    """
    seen: dict[tuple[Any, ...], ResultRow] = {}
    twice: list[str] = []
    folders = dict(part_folders(trial.results))
    for shared in _registered(trial):
        folders |= {key: path for key, path in part_folders(shared).items() if key not in folders and "_control" in key}
    joined = combined_files(trial.results)
    if not joined:
        notes += _absent(trial, folders)
    for key, path in [*((key, folder / "results.jsonl") for key, folder in folders.items()), *(("joined", path) for path in joined)]:
        for request, row in read_answers(path, notes, path.relative_to(trial.results) if path.is_relative_to(trial.results) else path):
            place = (request.condition, request.item, float(request.place.temp), request.place.sample_index)
            if place not in seen:
                seen[place] = row
                yield key, request, row
            elif row != seen[place]:
                twice.append(request.custom_id)
    if twice:
        notes.append(f"{len(twice)} requests are answered twice and not alike, the first answer counts; first {twice[0]}")


def _absent(trial: LegacyTrial, folders: Mapping[str, Path]) -> Iterator[str]:
    """Parts that the manifest names and that hold no answers here; those of a control that lies with another trial are not meant."""
    here = {part_key(key) for key in folders}
    for condition in ("control", "treatment"):
        named = [key for key in trial.manifest["job_status"] if f"_{condition}_" in key]
        absent = [key for key in named if key not in here]
        if absent and (len(absent) < len(named) or condition == "treatment"):
            yield f"{', '.join(absent)}: named by the manifest, but without answers here; items asked in them alone are not in the analysis"


def _registered(trial: LegacyTrial) -> Iterator[Path]:
    found = trial.manifest.get("legacy", {}).get("v1", {}).get("control_registry")
    todo: list[Any] = [found]
    while todo:
        value = todo.pop(0)
        if isinstance(value, (dict, list)):
            todo += value.values() if isinstance(value, dict) else value
        elif isinstance(value, str) and value:
            for base in (trial.folder.parents[2], trial.folder.parent, trial.results):
                path = base / value
                if path.exists():
                    yield path if path.is_dir() else path.parent


def read_answers(path: Path, notes: list[str], shown: Path) -> Iterator[tuple[Request, ResultRow]]:
    """The rows of a predecessor's results file. Rows that are torn, or that cannot be placed, are passed over and told in `notes`."""
    bad: list[str] = []
    with not_a_file(path), open(path, "rb") as f:
        for number, line in enumerate(f, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)  # as leniently as the predecessor wrote: a NaN among its numbers does not make an answer none
            except (ValueError, RecursionError) as e:
                bad.append(f"{shown}:{number} is not readable as JSON ({e})")
                continue
            request = request_of(row.get("custom_id")) if isinstance(row, dict) else None
            if request is None:
                bad.append(f"{shown}:{number} has no custom_id dataset|id|condition|temp|k|type")
            else:
                yield request, answer_of(row, request)
    if bad:
        more = f", and {len(bad) - 1} more lines there" if len(bad) > 1 else ""
        notes.append(f"{bad[0]}{more}: passed over; what is answered nowhere else counts as failed")


def request_of(custom_id: Any) -> Request | None:
    """The request that a predecessor's custom_id names, or None. The item's id may itself hold bars."""
    if not isinstance(custom_id, str):
        return None
    head, *rest = custom_id.rsplit("|", 4)
    dataset, bar, item = head.partition("|")
    if len(rest) != 4 or not bar or not dataset or not item:
        return None
    condition, temp, k, kind = rest
    try:
        place = Place(dataset=dataset, item_id=item, type=kind, temp=float(temp), sample_index=int(k))  # type: ignore[arg-type]
    except ValueError:
        return None
    good = condition in ("control", "treatment") and kind in ("open", "closed") and place.sample_index >= 0 and 0 <= float(place.temp) < 100
    return Request(place, condition, custom_id) if good else None


def answer_of(row: Mapping[str, Any], request: Request) -> ResultRow:
    """The answer of a results row, in any of the shapes that the predecessor's providers returned. Its custom_id is set by the caller."""
    response = _dict(row.get("response"))
    body = _dict(response.get("body")) or response
    choice = _dict((body.get("choices") or [None])[0]) if isinstance(body.get("choices"), list) else {}
    message, usage = _dict(choice.get("message")), _dict(body.get("usage")) or _dict(response.get("usage"))
    content, finish, error = message.get("content"), choice.get("finish_reason"), row.get("error") or response.get("error")
    given = next((v for v in (body.get("id"), response.get("request_id"), row.get("id")) if isinstance(v, str) and v), None)
    outcome = OUTCOME_OF_FINISH.get(str(finish), "refused" if message.get("refusal") else "answered")
    failure = None
    if error or (not isinstance(content, str) and outcome == "answered"):
        outcome, failure = "failed", _failure(error)
    return ResultRow(
        custom_id="x",
        outcome=outcome,
        text=content if isinstance(content, str) else "",
        finish_reason=finish if isinstance(finish, str) else None,
        request_id=given,
        model=body["model"] if isinstance(body.get("model"), str) else None,
        usage=Usage(prompt_tokens=_count(usage.get("prompt_tokens")), completion_tokens=_count(usage.get("completion_tokens"))),
        error=failure,
    )


def _failure(error: Any) -> Failure:
    if isinstance(error, dict):
        return Failure(code=str(error.get("code") or "failed"), message=str(error.get("message") or ""))
    return Failure(code="failed", message=str(error)) if error else Failure(code="missing", message="the row holds no answer")


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
