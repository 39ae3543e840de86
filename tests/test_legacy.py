"""A run of the predecessor is adopted: its answers and items are used as they are, nothing is asked, nothing is overwritten unseen."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.digests import sha256_bytes
from pipeline.base.schemas import read_document
from pipeline.records.legacy import answer_of, read_answers, request_of
from tests.project import Project, make
from tests.shared_data import shared

SLUG = "m-polite-tp1-tk50-mx64-64"
ADOPT = ("--run_id", "old", "--resume", "--from_step", "parse")


def row(item: str, condition: str, k: int = 0, text: str | None = "number 1", finish: str = "stop", temp: str = "0.0", **more: Any) -> str:
    message = {"message": {"content": text}, "finish_reason": finish}
    body = {"choices": [message], "id": f"r-{item}"}
    dataset, kind = ("passages", "open") if item.startswith("o") else ("facts", "closed")
    said = {
        "custom_id": f"{dataset}|{item}|{condition}|{temp}|{k}|{kind}",
        "response": {"body": body, "usage": {"prompt_tokens": 3, "completion_tokens": 2}},
    }
    return json.dumps({**said, **more}) + "\n"


class Old:
    """A predecessor's run `run_old` in a small project."""

    def __init__(self, folder: Path) -> None:
        self.project: Project = make(folder)
        self.run = self.project.folder / "experiments" / "run_old"
        self.trial(SLUG)
        (self.run / "prepared").mkdir()
        for kind in ("open", "closed"):
            shutil.copy(self.project.folder / f"{kind}.jsonl", self.run / "prepared" / f"{kind}_book.jsonl")

    def trial(self, slug: str, control: str = "number 1", sha: str = "a") -> Path:
        results = self.run / slug / "results"
        for condition, text in (("control", control), ("treatment", "number 2")):
            for part, items in (("p01", ("c0", "c1", "o0")), ("p02", ("c2", "o1", "o2"))):
                path = results / f"t0_{condition}_{part}" / "results.jsonl"
                path.parent.mkdir(parents=True)
                path.write_text("".join(row(item, condition, text=text) for item in items))
                (results / f"t0_{condition}_{part}_OUTPUT_DATASET_ID.txt").write_text(f"out-{condition}-{part}")
        parts = {f"t0_{c}_{p}": "completed" for c in ("control", "treatment") for p in ("p01", "p02")}
        said = {
            "created_utc": "2026-01-31T10:00:00Z",
            "run_id": "elsewhere",
            "trial": {"model_id": "accounts/x/models/m", "prompt_set": slug.split("-")[1]},
            "temps": [0.0],
            "prompts": {"control": {"sha256": sha * 64}, "treatment": {"sha256": sha256_bytes(slug.encode())}},
            "datasets": {"t0_control": ["d1", "d2"]},
            "jobs": {"t0_control": ["j1", "j2"]},
            "job_status": parts,
        }
        (results / "trial_manifest.json").write_text(json.dumps(said))
        return results

    @property
    def results(self) -> Path:
        return self.run / SLUG / "results"

    def predictions(self, slug: str = SLUG) -> list[dict[str, str]]:
        with open(self.run / slug / "results" / "predictions.csv", newline="") as f:
            return list(csv.DictReader(f))


@pytest.fixture
def old(tmp_path: Path) -> Old:
    return Old(tmp_path / "project")


def test_it_is_finished_to_a_report_from_its_answers(old: Old) -> None:
    done = old.project.run(*ADOPT)
    assert "adopted" in done.err
    rows = old.predictions()
    assert [(r["condition"], r["item_id"], r["response_text"]) for r in rows][:3] == [
        ("control", i, "number 1") for i in ("c0", "c1", "o0")
    ]
    assert len(rows) == 12
    assert {r["request_id"] for r in rows} == {f"r-{i}" for i in ("c0", "c1", "c2", "o0", "o1", "o2")}
    assert (old.run / SLUG / "reports" / "report.html").exists()
    assert old.project.bill() == {}
    assert not (old.project.folder / "experiments" / "answers.db").exists()


def test_the_state_says_that_it_was_adopted_and_the_manifest_agrees(old: Old) -> None:
    old.project.run(*ADOPT)
    state = json.loads((old.run / "run_state.json").read_text())
    assert state["migrated"] is True
    assert state["locked"] is None
    assert {v["status"] for v in state["phases"].values()} == {"completed"}
    assert "not registered" in state["notes"][0]
    manifest = read_document(old.results / "trial_manifest.json", "trial_manifest.v2")
    assert {v["status"] for v in manifest["stage_status"].values()} == {"completed"}
    assert manifest["jobs"] == {"t0_control_p01": ["j1"], "t0_control_p02": ["j2"]}
    assert manifest["datasets"]["t0_control_p02"] == ["d2"]
    assert manifest["legacy"]["v1"]["run_id"] == "elsewhere"
    assert set(manifest["job_status"]) == {f"t0_{c}_{p}" for c in ("control", "treatment") for p in ("p01", "p02")}
    submission = json.loads(next(old.run.glob("answers/control*/t0_p01/submission.json")).read_text())
    assert submission["attempts"][0]["ids"] == {"job": "j1", "input_dataset": "d1", "output_dataset": "out-control-p01"}


def test_a_second_run_does_nothing_and_later_steps_work_alone(old: Old) -> None:
    old.project.run(*ADOPT)
    before = old.project.results()
    old.project.run(*ADOPT)
    old.project.run("--run_id", "old", "--resume")
    assert [e for e in (old.run / "events.jsonl").read_text().splitlines() if '"begin"' in e and '"parse"' in e].__len__() == 1
    (old.run / SLUG / "reports" / "report.md").unlink()
    old.project.run("--run_id", "old", "--resume", "--only_step", "report")
    assert old.project.results() == before


def test_nothing_is_ever_asked_for_it(old: Old) -> None:
    old.project.run(*ADOPT)
    done = old.project.run("--run_id", "old", "--resume", "--only_step", "submit", code=2)
    assert "never asked anew" in done.err
    next(old.run.glob("answers/*/*/results.jsonl")).unlink()
    old.project.run("--run_id", "old", "--resume", code=2)


def test_it_must_be_resumed_and_looking_writes_nothing(old: Old) -> None:
    before = sorted(p for p in old.run.rglob("*"))
    assert "not adopted yet" in old.project.run("--run_id", "old", code=2).err
    assert "not adopted yet" in old.project.run("--run_id", "old", "--resume", "--plan_only", code=2).err
    assert sorted(p for p in old.run.rglob("*")) == before


def test_without_its_items_it_says_where_to_put_them(old: Old) -> None:
    shutil.rmtree(old.run / "prepared")
    old.project.configure(sources={"closed_book": [{"kind": "jsonl", "path": "nowhere.jsonl"}]})
    assert old.project.run(*ADOPT, code=2).err
    old.project.configure()
    old.project.run(*ADOPT)  # a config given beside may name them


def test_items_that_are_not_the_asked_ones_are_refused(old: Old) -> None:
    (old.run / "prepared" / "closed_book.jsonl").write_text('{"dataset": "facts", "id": "zz", "question": "?", "answers": ["x"]}\n')
    assert "facts|c0|closed" in old.project.run(*ADOPT, code=2).err
    assert not (old.run / "run_state.json").exists()


def test_interrupted_it_is_adopted_again(old: Old, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.engine import adoption

    def dies(*_args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(adoption, "_write_state", dies)
    with pytest.raises(KeyboardInterrupt):
        old.project.doit("run", *ADOPT)
    monkeypatch.undo()
    old.project.run(*ADOPT)
    assert len(old.predictions()) == 12
    assert len(list(old.results.glob("trial_manifest.backup.*.json"))) == 1


def test_joined_answers_serve_where_parts_are_gone(old: Old) -> None:
    part = old.results / "t0_treatment_p02"
    (old.results / "results_combined.jsonl").write_text(
        "".join(p.read_text() for p in sorted(old.results.glob("t0_treatment_*/results.jsonl")))
    )
    shutil.rmtree(part)
    old.project.run(*ADOPT)
    assert sum(r["condition"] == "treatment" and r["outcome"] == "answered" for r in old.predictions()) == 6


def test_a_missing_answer_counts_as_failed_and_is_noted(old: Old) -> None:
    path = old.results / "t0_control_p02" / "results.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    done = old.project.run(*ADOPT)
    assert "1 requests of the control have no answer" in done.err
    failed = [r for r in old.predictions() if r["outcome"] == "failed"]
    assert [(r["item_id"], r["condition"]) for r in failed] == [("c2", "control")]
    assert failed[0]["error"].startswith("missing: ")


def test_replicates_of_an_item_stand_together_even_where_parts_tore_them_apart(old: Old) -> None:
    for condition in ("control", "treatment"):
        for part, k in (("p01", 0), ("p02", 1)):
            path = old.results / f"t0_{condition}_{part}" / "results.jsonl"
            path.write_text("".join(row(item, condition, k) for item in ("c0", "c1", "o0")))
    old.project.run(*ADOPT)
    assert [(r["item_id"], r["sample_index"]) for r in old.predictions()][:4] == [("c0", "0"), ("c0", "1"), ("c1", "0"), ("c1", "1")]


def test_a_corrupt_manifest_does_not_keep_it_from_being_adopted(old: Old) -> None:
    path = old.results / "trial_manifest.json"
    path.write_text("{ torn")
    old.project.run(*ADOPT)
    assert len(old.predictions()) == 12
    assert [p.read_text() for p in old.results.glob("trial_manifest.json.corrupt.*")] == ["{ torn"]


def test_the_predecessors_own_results_are_kept_beside(old: Old) -> None:
    (old.results / "predictions.csv").write_text("custom_id,item_id,condition,response_text\na,b,control,x\n")
    (old.results / "significance.json").write_text("{}")
    done = old.project.run(*ADOPT)
    assert "stats: significance.json holds no number" in done.err
    kept = old.run / SLUG / "legacy_v1"
    assert (kept / "significance.json").read_text() == "{}"
    assert (kept / "predictions.csv").read_text().startswith("custom_id,item_id")
    assert len(old.predictions()) == 12


def without_control(results: Path) -> None:
    for part in results.glob("t0_control_*"):
        shutil.rmtree(part) if part.is_dir() else part.unlink()


def test_trials_that_share_a_control_share_its_answers(old: Old) -> None:
    without_control(old.trial("m-brief-tp1-tk50-mx64-64"))
    old.project.run(*ADOPT)
    for slug in (SLUG, "m-brief-tp1-tk50-mx64-64"):
        assert {r["response_text"] for r in old.predictions(slug) if r["condition"] == "control"} == {"number 1"}
    assert len(list(old.run.glob("answers/control*"))) == 1


def test_a_control_that_was_asked_twice_stays_two(old: Old) -> None:
    old.trial("m-brief-tp1-tk50-mx64-64", control="number 0")
    old.project.run(*ADOPT)
    for slug, text in ((SLUG, "number 1"), ("m-brief-tp1-tk50-mx64-64", "number 0")):
        assert {r["response_text"] for r in old.predictions(slug) if r["condition"] == "control"} == {text}


def test_which_of_two_controls_a_trial_shared_is_not_guessed(old: Old) -> None:
    old.trial("m-brief-tp1-tk50-mx64-64", control="number 0")
    without_control(old.trial("m-curt-tp1-tk50-mx64-64"))
    assert "asked more than once" in old.project.run(*ADOPT, code=2).err


def test_a_control_registry_says_where_the_answers_lie(old: Old) -> None:
    shared_control = old.run / "controls" / "c1"
    shared_control.parent.mkdir()
    old.results.joinpath("t0_control_p01").rename(shared_control.parent / "t0_control_p01")
    shutil.rmtree(old.results / "t0_control_p02")
    path = old.results / "trial_manifest.json"
    said = json.loads(path.read_text())
    path.write_text(json.dumps({**said, "schema_version": 2, "control_registry": {"key": "controls"}}))
    old.project.run(*ADOPT)
    assert [r["outcome"] for r in old.predictions() if r["condition"] == "control"] == ["answered"] * 3 + ["failed"] * 3


@pytest.mark.parametrize(
    "text",
    [
        "a|b|control|0.0|0",
        "a|b|other|0.0|0|open",
        "a|b|control|x|0|open",
        "a|b|control|0.0|-1|open",
        "a|b|control|0.0|0|both",
        "|b|control|0.0|0|open",
        None,
        3,
    ],
)
def test_what_is_no_custom_id_of_the_predecessor_is_not_read_as_one(text: Any) -> None:
    assert request_of(text) is None


def test_an_item_id_may_hold_bars() -> None:
    found = request_of("d|a|b|c|treatment|0.7|2|open")
    assert found is not None
    assert (found.place.dataset, found.place.item_id, found.place.temp, found.place.sample_index) == ("d", "a|b|c", 0.7, 2)


def test_outcomes_are_told_apart() -> None:
    request = request_of("d|a|control|0|0|open")
    assert request is not None
    for line, outcome in (
        (row("c0", "control"), "answered"),
        (row("c0", "control", finish="length"), "truncated"),
        (row("c0", "control", finish="content_filter"), "filtered"),
        (row("c0", "control", text=None), "failed"),
        (row("c0", "control", error={"code": "500", "message": "oh"}), "failed"),
        ('{"custom_id": "x", "response": null}', "failed"),
    ):
        assert answer_of(json.loads(line), request).outcome == outcome


def test_a_torn_and_a_foreign_row_are_named_by_file_and_line_and_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + row("c0", "control").encode() + b'{"custom_id": "facts|c1\n{"custom_id": "x"}\n')
    notes: list[str] = []
    assert [request.place.item_id for request, _row in read_answers(path, notes, Path("here"))] == ["c0"]
    assert len(notes) == 1
    assert notes[0].startswith("here:2 is not readable as JSON") and "1 more lines" in notes[0]


# --- what a predecessor's run may look like ----------------------------------------------------------------------------------


def part(old: Old, key: str) -> Path:
    return old.results / key / "results.jsonl"


def twice(old: Old) -> str:
    """A part was downloaded again under another number, with other answers."""
    part(old, "t0_control_p03").parent.mkdir()
    part(old, "t0_control_p03").write_text(part(old, "t0_control_p02").read_text().replace("number 1", "other"))
    return "3 requests are answered twice and not alike, the first answer counts"


def half_joined(old: Old) -> str:
    """The step that joins the parts was killed."""
    whole = "".join(p.read_text() for p in sorted(old.results.glob("t0_*/results.jsonl")))
    (old.results / "results_combined.jsonl").write_text(whole[: len(whole) // 2])
    return "results_combined.jsonl:7 is not readable as JSON"


def crlf(old: Old) -> str:
    """It was copied by way of another system."""
    for path in [*old.run.rglob("*.jsonl"), *old.run.rglob("*.json"), *old.run.rglob("*.txt")]:
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    return ""


def later(old: Old) -> str:
    """The predecessor's own version 2, which has our keys and other things in them."""
    path = old.results / "trial_manifest.json"
    more = {
        "schema_version": 2,
        "timestamps": {"created_at": "2025-01-01T00:00:00Z", "updated_at": "2025-01-02T00:00:00Z"},
        "stage_status": {"downloaded": {"status": "completed", "updated_at": "x", "artifacts": {"a": "b"}}, "parsed": "completed"},
        "control_registry": {"key": "k"},
    }
    path.write_text(json.dumps({**json.loads(path.read_text()), **more}))
    return ""


def crumbs_that_are_no_text(old: Old) -> str:
    (old.results / "t0_control_p01_OUTPUT_DATASET_ID.txt").write_bytes(b"\xff\xfe\x00x")
    (old.results / "t0_control_p01_job.json").write_bytes(b"{")
    return ""


def folders_for_files(old: Old) -> str:
    for path in (old.results / "trial_manifest.json", old.results / "t0_control_p01_job.json"):
        path.unlink(missing_ok=True)
        path.mkdir()
    return ""


@pytest.mark.parametrize("change", [twice, half_joined, crlf, later, crumbs_that_are_no_text, folders_for_files])
def test_an_odd_run_is_adopted_whole_and_what_is_odd_is_told(old: Old, change: Callable[[Old], str]) -> None:
    told = change(old)
    done = old.project.run(*ADOPT)
    assert told in done.err
    assert [(r["outcome"], r["response_text"]) for r in old.predictions()].count(("answered", "number 1")) == 6
    assert any(told in note for note in json.loads((old.run / "run_state.json").read_text())["notes"])


def test_a_part_that_is_gone_from_both_conditions_is_told(old: Old) -> None:
    for condition in ("control", "treatment"):
        shutil.rmtree(old.results / f"t0_{condition}_p02")
    done = old.project.run(*ADOPT)
    assert "t0_control_p02: named by the manifest, but without answers here" in done.err
    assert len(old.predictions()) == 6


def test_the_predecessors_own_version_2_loses_nothing(old: Old) -> None:
    later(old)
    said = json.loads((old.results / "trial_manifest.json").read_text())
    old.project.run(*ADOPT)
    kept = read_document(old.results / "trial_manifest.json", "trial_manifest.v2")["legacy"]["v1"]
    assert {key: kept[key] for key in ("timestamps", "stage_status", "control_registry")} == {
        key: said[key] for key in ("timestamps", "stage_status", "control_registry")
    }


@pytest.mark.parametrize("manifest", [True, False], ids=["with its manifest", "alone"])
def test_breadcrumbs_alone_are_no_answers(old: Old, manifest: bool) -> None:
    for path in old.results.glob("t0_*_p0?"):
        shutil.rmtree(path)
    if not manifest:
        (old.results / "trial_manifest.json").unlink()
    assert "there are no answers" in old.project.run(*ADOPT, code=2).err
    assert not (old.run / "run_state.json").exists()


@pytest.mark.parametrize("place", ["trials", ""])
def test_results_in_another_place_are_named(old: Old, place: str) -> None:
    target = old.run / "trials" / SLUG / "results" if place else old.run / "results"
    target.parent.mkdir(parents=True, exist_ok=True)
    old.results.rename(target)
    done = old.project.run(*ADOPT, code=2)
    assert done.err.startswith(f"error: {target}: results of the predecessor lie where no trial lies. Move them to run_old/")


def test_a_newer_manifest_is_refused_before_anything_is_written(old: Old) -> None:
    path = old.results / "trial_manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 3}))
    before = {p for p in old.run.rglob("*") if p.name != ".run.lock"}
    assert "newer than this abiding knows" in old.project.run(*ADOPT, code=2).err
    assert {p for p in old.run.rglob("*") if p.name != ".run.lock"} == before


def test_adopted_it_stays_so_when_its_state_is_damaged(old: Old) -> None:
    """A run that is taken for one of ours would ask its lost answers anew."""
    old.project.run(*ADOPT)
    before = old.project.results()
    (old.run / "run_state.json").write_text("{ torn")
    next(old.run.glob("answers/*/*/results.jsonl")).unlink()
    old.project.run("--run_id", "old", "--resume")
    assert json.loads((old.run / "run_state.json").read_text())["migrated"] is True
    assert [p.read_text() for p in old.run.glob("run_state.json.corrupt.*")] == ["{ torn"]
    assert old.project.results() == before
    assert old.project.bill() == {}
    assert not (old.run / SLUG / "legacy_v1").exists()  # results of ours are not taken for the predecessor's


def test_a_real_run_of_the_predecessor(tmp_path: Path) -> None:
    project = make(tmp_path / "project")
    experiments = project.folder / "experiments"
    shutil.copytree(shared("legacy_v1") / "run_smoke_orch_20250829", experiments / "run_old")
    shutil.copytree(shared("legacy_v1") / "prepared", project.folder / "data" / "prepared")
    for path in [experiments, *experiments.rglob("*"), *(project.folder / "data").rglob("*")]:
        path.chmod(0o755)
    project.run(*ADOPT)
    trial = "gpt-oss-120b-operational_only-tp1-tk50-mx1024-1024"
    document = json.loads((experiments / "run_old" / trial / "results" / "significance.json").read_text())
    assert document["verdict"]["n_items"] == 48
    assert (experiments / "run_old" / trial / "reports" / "report.md").exists()
