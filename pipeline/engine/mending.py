"""Putting a run's damaged documents right when it is opened: aside what cannot be trusted, rebuilt from what the other files know."""

from __future__ import annotations

from pipeline.base.errors import ManifestError
from pipeline.base.files import put_aside, write_atomic
from pipeline.base.schemas import read_document, write_document
from pipeline.engine.session import Session
from pipeline.records import repair
from pipeline.records.clock import now_iso
from pipeline.records.events import fault_of_log
from pipeline.records.run_state import RunState
from pipeline.records.submission import fault_of_twin


def restore(session: Session, state: RunState) -> None:
    """Fill a new state of a run that has answers already with what its other files witness; what is lost is noted. Not saved yet."""
    paths, document = session.run.paths, state.document
    document["request_hash"] = repair.request_hash_on_disk(paths.build_manifest) or document["request_hash"]
    if generation := repair.generation_on_disk(paths.folder):
        document["generation"] = generation
        document["forced"] = [
            {"at": now_iso(), "what": f"{repair.REBUILT}: generation, from the submissions", "was": None, "now": str(generation)}
        ]
    if (found := repair.registration(paths.registry, paths.run_id, document["request_hash"])) is not None:
        document["locked"], document["primary_hash"], document["looks"] = found
    document["notes"] = [
        f"run_state.json was rebuilt at {now_iso()}: notes and uses of --force before that are unknown; events.jsonl has what it has"
    ]


def build_manifest(session: Session) -> None:
    """Put a build manifest aside that is damaged or of other requests.

    Where requests were sent already, the layout that the shard files show is kept.
    """
    run, path = session.run, session.run.paths.build_manifest
    if path.exists():
        try:
            document = read_document(path, "build_manifest")
            fault = repair.fault_of_build(document)
            if fault is None and document["request_hash"] != run.experiment.request_hash:
                fault = "it is about other requests"
        except ManifestError as e:
            fault = str(e)
        if fault is None:
            return
        aside = put_aside(path)
        run.events.add("set_aside", file=aside.name, reason=fault)
        run.notice(f"build_manifest.json does not fit ({fault}) and lies beside as {aside.name}; the shards are built again")
    parts = repair.parts_on_disk(run.paths.batch_inputs)
    if parts and repair.was_sent(run.paths.folder):
        layout = {"parts": parts, "lines_per_part": None}
        document = {
            "schema_version": 1,
            "request_hash": run.experiment.request_hash,
            "prepared": run.experiment.prepared_id,
            "layout": layout,
            "units": {},
        }
        write_document(path, document, "build_manifest")
        run.relayout()


def event_log(session: Session) -> None:
    """With --verify: put a log aside that is not the one that was written; a new one is begun."""
    path, state = session.run.paths.events, session.run.state
    fault = fault_of_log(path, state.document.get("events") if state else None)
    if fault is None:
        return
    session.run.events.close()  # what is added from now on belongs into the new one
    beside = f"lies beside as {put_aside(path).name}, and" if path.exists() else "is gone;"
    session.run.notice(f"events.jsonl is damaged ({fault}); it {beside} a new one begins")
    session.run.events.add("set_aside", file=path.name, reason=fault)


def twins(session: Session) -> None:
    """With --verify: a published submission whose twin is not the same gets a new one; what was there goes aside."""
    run = session.run
    for slug, unit in (run.built() or {"units": {}})["units"].items():
        for key in unit["shards"]:
            paths = run.paths.shard(slug, key)
            if (fault := fault_of_twin(paths)) is not None:
                beside = f"; it lies beside as {put_aside(paths.submission_twin).name}" if paths.submission_twin.exists() else ""
                run.notice(f"{slug}/{paths.submission_twin.name} {fault}{beside}")
                write_atomic(paths.submission_twin, paths.submission.read_bytes())
