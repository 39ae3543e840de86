"""What a lost, damaged, stale or touched file costs: its step, never a request."""

from __future__ import annotations

import json
import os

import pytest

from pipeline.base.digests import sha256_bytes
from tests.project import QUICK, Project, rerun, trial_of


def test_a_deleted_predictions_file_is_parsed_again_and_nothing_else(project: Project) -> None:
    (trial_of(project) / "results" / "predictions.csv").unlink()
    assert rerun(project) == {"parse": 1}


@pytest.mark.parametrize(
    ("name", "step"),
    [("predictions.csv", "parse"), ("per_item_scores.csv", "score"), ("significance.json", "stats"), ("costs.json", "costs")],
)
@pytest.mark.parametrize("damage", ["truncated", "doubled row", "foreign", "same size"])
def test_a_damaged_result_is_made_again_by_its_step_alone(project: Project, name: str, step: str, damage: str) -> None:
    path = trial_of(project) / "results" / name
    before = path.read_bytes()
    lines = before.splitlines(keepends=True)
    path.write_bytes(
        {
            "truncated": before[: len(before) // 2],
            "doubled row": before + lines[-1],
            "foreign": b"not ours\n",
            "same size": before[:-3] + b"9" + before[-2:],
        }[damage]
    )
    assert rerun(project) == {step: 1}
    assert path.read_bytes() == before


def test_touched_files_are_looked_at_and_left(project: Project) -> None:
    for path in project.the_run.rglob("*"):
        if path.is_file() and path.suffix in (".csv", ".jsonl", ".json", ".md", ".html"):
            os.utime(path)
    assert not rerun(project)


def test_a_stale_result_of_other_settings_is_made_again(project: Project) -> None:
    """Restoring an old file with an old time stamp (a backup, `cp -p`) must not pass for the new one."""
    path = trial_of(project) / "results" / "significance.json"
    old, stamp = path.read_bytes(), path.stat()
    project.configure(stats={**QUICK, "bootstrap_samples": 150})
    project.run()
    assert path.read_bytes() != old
    path.write_bytes(old)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert rerun(project) == {"stats": 1}


def test_forgetting_and_resetting_doit_costs_a_recheck(project: Project) -> None:
    assert project.doit("forget", "--all").code == 0
    assert not rerun(project)


@pytest.mark.parametrize(
    "lost",
    [
        ".doit.db",
        ".digests.json",
        "answers.db",
        "simulated_remote.db",
        "run_state.json",
        "trial_manifest.json",
        "build_manifest.json",
        "effective_config.yaml",
    ],
)
@pytest.mark.parametrize("how", ["deleted", "corrupt"])
def test_a_lost_record_costs_no_request_and_no_byte(project: Project, lost: str, how: str) -> None:
    results = project.results()
    found = [p for p in (project.folder / "experiments").rglob("*") if p.name == lost or p.name.startswith(f"{lost}-")]
    assert found
    for path in found:
        path.unlink() if how == "deleted" else path.write_bytes(b"\x00garbage{" * 400)
    project.run("--run_id", project.the_run.name.removeprefix("run_"))
    if lost == "simulated_remote.db":
        assert not list(project.the_run.glob("answers/*/*/attempt_*"))  # nobody asked the remote for anything
    else:
        assert set(project.bill().values()) == {1}
    assert project.results() == results
    assert "everything is up to date" in project.run().out


def test_lost_answers_come_back_from_the_store(project: Project) -> None:
    for path in project.the_run.glob("answers/*/*/results.jsonl"):
        path.unlink()
    ran = rerun(project)
    assert set(ran) <= {"poll", "archive"}, "the archive holds submission.json, which counts the reuse"


def test_corrupt_submissions_bill_nothing(project: Project) -> None:
    results = project.results()
    for path in project.the_run.glob("answers/*/*/submission.json"):
        path.write_text("{")
    assert set(rerun(project)) <= {"submit", "poll", "archive"}
    assert project.results() == results


def test_results_changed_by_hand_are_gathered_again(project: Project) -> None:
    results = project.results()
    path = next(project.the_run.glob("answers/*/*/results.jsonl"))
    path.write_bytes(path.read_bytes().replace(b"number", b"NUMBER").replace(b"item", b"ITEM"))
    rerun(project)
    assert project.results() == results


def test_requests_changed_by_hand_are_built_again(project: Project) -> None:
    path = next(project.the_run.glob("batch_inputs/*/t0_p00.jsonl"))
    before = path.read_bytes()
    path.write_bytes(before.replace(b"What", b"WHAT"))
    assert rerun(project)["build"] == 1
    assert path.read_bytes() == before


def test_verify_sees_a_change_that_time_stamps_hide(project: Project) -> None:
    """Bytes changed under an untouched stamp (bit rot): only --verify can see it, and it must."""
    path = trial_of(project) / "results" / "costs.json"
    before = path.read_bytes()
    path.write_bytes(before.replace(b'"requests": 12', b'"requests": 13'))
    assert path.read_bytes() != before
    cache = project.folder / "experiments" / ".digests.json"
    known = json.loads(cache.read_text())["known"]
    name = str(path.relative_to(project.folder))
    st = path.stat()
    known[name] = [st.st_size, st.st_mtime_ns, st.st_ctime_ns, st.st_ino, known[name][4]]
    said = json.dumps(known)
    cache.write_text(f'{{"sha256": "{sha256_bytes(said.encode())}", "known": {said}}}')
    assert not rerun(project)
    assert set(rerun(project, "--verify")) == {"costs"}
    assert path.read_bytes() == before
