"""The predecessor's manifests become version 2: nothing lost, nothing guessed, nothing half written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.base import files
from pipeline.base.errors import ManifestError
from pipeline.base.schemas import problems, read_document
from pipeline.records.manifest import TrialManifest
from pipeline.records.upgrade import contains, is_predecessors, upgraded
from pipeline.records.upgrade_evidence import stages
from pipeline.records.upgrade_files import translated, upgrade_file
from pipeline.steps import upgrade_manifests
from scripts import upgrade_manifest
from tests.shared_data import shared

SLUG = "m-operational_only-tp1-tk50-mx64-64"
V1 = json.loads((Path(__file__).parent / "examples/trial_manifest.v1/pass_basic.json").read_text("utf-8"))
LATER = json.loads((Path(__file__).parent / "examples/trial_manifest.v1/pass_later.json").read_text("utf-8"))
ROW = '{"custom_id": "nq|1|control|0.0|0|closed", "response": {}}\n'


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "run_r1" / SLUG / "results" / "trial_manifest.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(V1), "utf-8")
    return path


def nothing_lost(new: dict[str, Any], old: dict[str, Any]) -> bool:
    return all(new["legacy"]["v1"].get(key, new) == value or contains(new.get(key), value) for key, value in old.items())


def test_version_1_becomes_a_valid_version_2_with_a_backup_of_the_same_bytes(manifest: Path) -> None:
    before = manifest.read_bytes()
    outcome = upgrade_file(manifest)
    new = read_document(manifest, "trial_manifest.v2")
    assert outcome.action == "upgraded"
    assert outcome.beside is not None
    assert outcome.beside.read_bytes() == before
    assert outcome.beside.name.startswith("trial_manifest.backup.")
    assert outcome.beside.suffix == ".json"
    assert nothing_lost(new, V1)
    assert new["run_id"] == "r1"
    assert new["trial"]["slug"] == SLUG
    assert new["timestamps"]["created_at"] == "2026-01-31T10:06:50.520763Z"
    assert new["prompts"]["control"] == {"path": None, "sha256": "a" * 64}
    assert new["legacy"]["v1"]["prompts"]["control"]["tokens"] == 12
    assert new["datasets"] == {"t0_control_p01": ["d-01"], "t0_control_p02": ["d-02"], "t0_treatment_p01": ["d-03"]}


def test_upgrading_twice_changes_nothing(manifest: Path) -> None:
    upgrade_file(manifest)
    first = {p.name: p.read_bytes() for p in manifest.parent.iterdir()}
    assert upgrade_file(manifest).action == "current"
    assert {p.name: p.read_bytes() for p in manifest.parent.iterdir()} == first


def test_a_dry_run_writes_nothing(manifest: Path) -> None:
    before = manifest.read_bytes()
    assert upgrade_file(manifest, dry_run=True).action == "upgraded"
    assert [p.name for p in manifest.parent.iterdir()] == [manifest.name]
    assert manifest.read_bytes() == before


@pytest.mark.parametrize("at", [1, 2])
def test_an_interrupted_upgrade_leaves_the_old_file_and_the_next_one_finishes(
    manifest: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    before, calls, replace = manifest.read_bytes(), 0, files.os.replace

    def dies(src: Any, dst: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            raise KeyboardInterrupt
        replace(src, dst)

    monkeypatch.setattr(files.os, "replace", dies)
    with pytest.raises(KeyboardInterrupt):
        upgrade_file(manifest)
    assert manifest.read_bytes() == before
    monkeypatch.setattr(files.os, "replace", replace)
    assert upgrade_file(manifest).action == "upgraded"
    assert problems(json.loads(manifest.read_text("utf-8")), "trial_manifest.v2") == []
    assert len(list(manifest.parent.glob("trial_manifest.backup.*.json"))) == 1


@pytest.mark.parametrize("version", [3, 2.5, 99])
def test_a_newer_version_is_refused_and_left_alone(manifest: Path, version: float, capsys: pytest.CaptureFixture[str]) -> None:
    manifest.write_text(json.dumps({**V1, "schema_version": version}), "utf-8")
    before = manifest.read_bytes()
    assert upgrade_manifest.main([str(manifest)]) == 2
    assert "newer" in capsys.readouterr().out
    assert manifest.read_bytes() == before
    assert [p.name for p in manifest.parent.iterdir()] == [manifest.name]


def test_the_predecessors_later_files_that_say_2_are_upgraded_too(manifest: Path) -> None:
    manifest.write_text(json.dumps(LATER), "utf-8")
    assert upgrade_file(manifest).action == "upgraded"
    new = read_document(manifest, "trial_manifest.v2")
    assert new["legacy"]["v1"]["control_registry"] == {"key": "x"}
    assert new["legacy"]["v1"]["stage_status"] == {"parsed": True}
    assert new["stage_status"]["parsed"]["status"] == "pending"
    assert nothing_lost(new, LATER)


def test_the_list_of_trials_beside_them_stays_as_it_is(manifest: Path) -> None:
    beside = manifest.parents[2] / "multi_trial_manifest.json"
    beside.write_text('{"num_trials": 1, "trials": []}', "utf-8")
    assert upgrade_manifest.main([str(manifest.parents[2])]) == 0
    assert beside.read_text("utf-8") == '{"num_trials": 1, "trials": []}'
    assert len(list(beside.parent.iterdir())) == 2


# --- evidence --------------------------------------------------------------------------------------------------------


def lay(results: Path, **contents: str) -> None:
    for name, text in contents.items():
        path = results / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


PARTS = {"t0_control_p01": "completed", "t0_treatment_p01": "completed"}
HEADER = "custom_id,dataset,item_id,condition,response_text\n"


def verdicts(results: Path) -> dict[str, str]:
    return {name: found.status for name, found in stages(results, PARTS).items()}


def test_no_files_prove_that_nothing_was_made(tmp_path: Path) -> None:
    assert set(verdicts(tmp_path / "t" / "results").values()) == {"pending"}


def test_whole_files_prove_their_stages(tmp_path: Path) -> None:
    results = tmp_path / "t" / "results"
    for part in PARTS:
        lay(results / part, results_DOT_jsonl=ROW)
    lay(results, predictions_DOT_csv=HEADER + "a,d,1,control,hi\n", per_item_scores_DOT_csv="item_key,condition,em\nd|1,control,1\n")
    lay(results, significance_DOT_json='{"p": 0.5}', costs_DOT_json='{"usd": 1}')
    lay(results.parent / "reports", report_DOT_md="# Report\n")
    lay(tmp_path, archive_manifest_DOT_json='{"files": 3}')
    assert set(verdicts(results).values()) == {"completed"}


@pytest.mark.parametrize(
    ("name", "text", "stage"),
    [
        ("predictions.csv", HEADER, "parsed"),
        ("predictions.csv", "", "parsed"),
        ("predictions.csv", HEADER + "a,d,1\n", "parsed"),
        ("predictions.csv", "x,y\n1,2\n", "parsed"),
        ("per_item_scores.csv", "item_key,condition\n", "scored"),
        ("significance.json", "{}", "stats"),
        ("significance.json", '{"schema_version": 2}', "stats"),
        ("significance.json", '{"p": ', "stats"),
        ("costs.json", "[]", "costs"),
        ("../reports/report.md", " \n", "report"),
        ("t0_control_p01/results.jsonl", "", "downloaded"),
        ("t0_control_p01/results.jsonl", ROW[:20], "downloaded"),
        ("t0_control_p01/results.jsonl", "{}\n", "downloaded"),
    ],
)
def test_a_file_that_proves_nothing_leaves_its_stage_unknown(tmp_path: Path, name: str, text: str, stage: str) -> None:
    results = tmp_path / "t" / "results"
    path = results / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    found = stages(results, PARTS)[stage]
    assert found.status == "unknown"
    assert found.reason


def test_one_downloaded_part_of_two_is_not_a_finished_download(tmp_path: Path) -> None:
    lay(tmp_path / "t/results/t0_control_p01", results_DOT_jsonl=ROW)
    assert verdicts(tmp_path / "t/results")["downloaded"] == "pending"


# --- repair ----------------------------------------------------------------------------------------------------------

CORRUPT = {
    "truncated": json.dumps(V1).encode()[:-30],
    "not JSON": b"\x00\xff\xfe garbage",
    "empty": b"",
    "BOM": b"\xef\xbb\xbf" + json.dumps(V1).encode(),
    "duplicate keys": b'{"trial": {}, "trial": {}}',
    "NaN": b'{"trial": {"x": NaN}}',
    "absurd nesting": b'{"trial": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a list": b"[1, 2]",
    "half a surrogate": b'{"trial": {"x": "\\ud800"}}',
    "nothing of a trial": b'{"hello": 1}',
    "wrong types in ours": json.dumps({**V1, "schema_version": 2, "timestamps": 3}).encode(),
}


@pytest.mark.parametrize("data", CORRUPT.values(), ids=CORRUPT.keys())
def test_a_corrupt_manifest_goes_aside_and_is_rebuilt_from_what_lies_beside(manifest: Path, data: bytes) -> None:
    manifest.write_bytes(data)
    lay(manifest.parent / "t0p7_control_p01", results_DOT_jsonl=ROW)
    lay(
        manifest.parent,
        t0p7_control_p01_job_DOT_json='{"name": "job-1", "state": "COMPLETED"}',
        t0p7_control_p01_OUTPUT_DATASET_ID_DOT_txt="o-1",
    )
    outcome = upgrade_file(manifest)
    new = read_document(manifest, "trial_manifest.v2")
    assert outcome.action == "rebuilt"
    assert outcome.beside is not None
    assert outcome.beside.read_bytes() == data
    assert ".corrupt." in outcome.beside.name
    assert new["temps"] == [0.7]
    assert new["jobs"] == {"t0p7_control_p01": ["job-1"]}
    assert new["legacy"]["v1"]["output_datasets"] == {"t0p7_control_p01": "o-1"}
    assert new["job_status"] == {"t0p7_control_p01": "completed"}
    assert new["prompts"]["control"]["sha256"] is None
    assert new["stage_status"]["downloaded"]["status"] == "completed"


words = st.text(max_size=8)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda x: st.lists(x, max_size=3) | st.dictionaries(words, x, max_size=3),
    max_leaves=8,
)
KEYS = (
    "created_utc",
    "run_id",
    "trial",
    "temps",
    "samples_per_item",
    "prompts",
    "datasets",
    "jobs",
    "job_status",
    "stage_status",
    "control_registry",
    "legacy",
    "schema_version",
)


@settings(max_examples=60, deadline=None)
@given(
    st.fixed_dictionaries({"trial": st.dictionaries(words, anything, max_size=3)}, optional=dict.fromkeys(KEYS[:2] + KEYS[3:12], anything)),
    st.dictionaries(words, anything, max_size=3),
)
def test_whatever_a_version_1_says_the_result_is_valid_and_nothing_is_lost(old: dict[str, Any], more: dict[str, Any]) -> None:
    old = {**{k: v for k, v in more.items() if k not in ("timestamps", "schema_version")}, **old}
    assert is_predecessors(old)
    pending = {"status": "pending", "updated_at": None, "inputs_digest": None, "artifacts": {}}
    names = ("downloaded", "parsed", "scored", "stats", "costs", "report", "archived")
    new = upgraded(old, slug="s", run_id=None, at="2026-01-31T10:00:00Z", stage_status=dict.fromkeys(names, pending))
    assert problems(new, "trial_manifest.v2") == []
    assert nothing_lost(new, old)


# --- where it is used --------------------------------------------------------------------------------------------------


def test_the_task_upgrades_all_runs_below_experiments_and_is_then_up_to_date(manifest: Path) -> None:
    experiments = manifest.parents[3]
    assert upgrade_manifests.inputs(experiments) == [manifest]
    assert upgrade_manifests.run(experiments) == {"upgraded": [str(manifest)]}
    assert upgrade_manifests.inputs(experiments) == []


def test_the_task_fails_on_a_newer_manifest(manifest: Path) -> None:
    manifest.write_text(json.dumps({**V1, "schema_version": 3}), "utf-8")
    with pytest.raises(ManifestError, match="newer"):
        upgrade_manifests.run(manifest.parents[3])


def test_opening_a_version_1_manifest_upgrades_it_and_looking_at_it_does_not_write(manifest: Path) -> None:
    before = manifest.read_bytes()
    seen, aside = TrialManifest.open(manifest, {"trial": {"slug": SLUG}}, readonly=True)
    assert manifest.read_bytes() == before
    opened, aside = TrialManifest.open(manifest, {"trial": {"slug": SLUG}})
    assert aside is None
    assert opened.document["stage_status"] == seen.document["stage_status"]
    assert problems(json.loads(manifest.read_text("utf-8")), "trial_manifest.v2") == []


def test_the_script_answers_in_json_and_refuses_what_is_not_there(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert upgrade_manifest.main(["--json", str(tmp_path)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [m["action"] for m in said["manifests"]] == ["upgraded"]
    assert upgrade_manifest.main([str(tmp_path / "nowhere")]) == 2
    assert "there is no such file" in capsys.readouterr().err
    assert upgrade_manifest.main([]) == 2


@pytest.mark.parametrize("text", ["# notes\n", "[1]", "{}", '{"name": "x"}'])
def test_a_file_that_is_no_manifest_is_refused_and_left(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    path = tmp_path / "notes.md"
    path.write_text(text)
    assert upgrade_manifest.main([str(path)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {path}: not a trial manifest")
    assert path.read_text() == text and list(tmp_path.iterdir()) == [path]


def test_a_real_run_of_the_predecessor(tmp_path: Path) -> None:
    run = tmp_path / "run_old"
    shutil.copytree(shared("legacy_v1") / "run_smoke_orch_20250829", run)
    path = next(run.glob("*/results/trial_manifest.json"))
    for each in [path.parent, path]:
        each.chmod(0o755)
    old = json.loads(path.read_text("utf-8"))
    new, unknown = translated(old, path)
    assert upgrade_file(path).action == "upgraded"
    assert unknown == []
    assert nothing_lost(new, old)
    found = {k: v["status"] for k, v in new["stage_status"].items()}
    assert found == {
        "downloaded": "completed",
        "parsed": "pending",
        "scored": "pending",
        "stats": "pending",
        "costs": "pending",
        "report": "pending",
        "archived": "pending",
    }
