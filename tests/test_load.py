"""`pipeline.load`: a run as data frames, by polars or by pandas, and plain words where something is missing."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pipeline
from pipeline.base import frames
from pipeline.base.errors import UsageError
from tests.project import REPO, Project, make


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two trials with a subgroup; ids and years that look like numbers; an answer with a carriage return."""
    made = make(tmp_path_factory.mktemp("load") / "p", items=20)
    path = made.folder / "closed.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for n, row in enumerate(rows):
        row |= {"id": f"{n:03d}", "answers": [f"9\r{n}"], "meta": {"level": ("easy", "hard")[n % 2], "year": 1990 + n}}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    arms = {name: {"prompt": f"prompts/{name}.txt"} for name in ("control", "terse", "polite")}
    made.configure(
        arms=arms, subgroups=["level"], provider={"name": "simulated", "accuracy": {"control": 1.0, "terse": 0.2, "polite": 0.2}}
    )
    made.run()
    return made


def only(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Make `name` the one library for frames."""
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    there = frames._there
    monkeypatch.setattr(frames, "_there", lambda *modules: modules[0] == name and there(*modules))


def records(frame: Any) -> list[dict[str, Any]]:
    """The rows of a frame of either library, nulls as None."""
    if hasattr(frame, "to_dicts"):
        return list(frame.to_dicts())
    return [
        {k: None if v is None or v != v else v for k, v in row.items()}
        for row in frame.astype(object).where(frame.notna(), None).to_dict("records")
    ]


@pytest.fixture(params=["polars", "pandas"])
def run(request: pytest.FixtureRequest, project: Project, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The loaded run, with each library."""
    only(monkeypatch, request.param)
    loaded = pipeline.load(project.the_run)
    assert type(loaded.requests).__module__.startswith(request.param)
    return loaded


def test_requests_keep_text_as_text_and_numbers_as_numbers(run: Any) -> None:
    """An id 001 stays text, tokens are whole numbers, scores floats, an empty cell null; line ends inside answers survive."""
    rows = records(run.requests)
    assert len(rows) == 3 * 40
    assert {r["item_id"] for r in rows if r["type"] == "closed"} == {f"{n:03d}" for n in range(20)}
    right = [r for r in rows if r["arm"] == "control" and r["type"] == "closed"]
    assert all(r["correct"] == 1.0 and "9\r" in r["answer"] and isinstance(r["total_tokens"], int) for r in right)
    assert {r["meta_year"] for r in right} == {str(1990 + n) for n in range(20)}
    assert all(r["error"] is None for r in rows)
    assert {r["meta_level"] for r in rows if r["type"] == "open"} == {None}


def test_effects_are_all_rows_of_all_trials(run: Any, project: Project) -> None:
    """As many rows as the significance documents have, each with its trial's names and the facts of its tests."""
    documents = [json.loads(p.read_bytes()) for p in sorted(project.the_run.glob("*/results/significance.json"))]
    rows = records(run.effects)
    assert len(documents) == 2 and len(rows) == sum(len(d["rows"]) for d in documents)
    expected = [(d["contrast"]["treatment"], r["metric"], r["type"], r["effect"], r["ci_low"]) for d in documents for r in d["rows"]]
    assert [(r["treatment"], r["metric"], r["type"], r["effect"], r["ci_low"]) for r in rows] == expected
    tested = [r["mcnemar"]["exact_p"] if r["mcnemar"] else None for d in documents for r in d["rows"]]
    assert [r["mcnemar.exact_p"] for r in rows] == tested and any(p is not None for p in tested)
    assert "mcnemar" not in rows[0] and "permutation" not in rows[0]


def test_subgroups_items_and_config(run: Any) -> None:
    """Groups with their size; items as asked, with metadata as it was given; the config with its defaults."""
    groups = records(run.subgroups)
    assert {(g["factor"], g["group"], g["n_items"]) for g in groups} == {("level", "easy", 10), ("level", "hard", 10)}
    items = {r["item"]: r for r in records(run.items)}
    assert items["facts|001"]["meta_year"] == 1991 and list(items["facts|001"]["answers"]) == ["9\r1"]
    assert items["passages|o1"]["context"] == "This is item 1."
    assert run.config["samples_per_item"] == 1 and run.run_id in str(run.folder)
    assert [d["verdict"]["verdict"] for d in run.trials.values()]


@pytest.mark.parametrize(
    "named", [lambda p: p.the_run, lambda p: str(p.the_run), lambda p: p.the_run.name[4:], lambda p: "c-", lambda p: p.the_run.name]
)
def test_a_run_is_named_by_folder_id_or_beginning(
    project: Project, monkeypatch: pytest.MonkeyPatch, named: Callable[[Project], str | Path]
) -> None:
    """All of them find it from anywhere in the project."""
    monkeypatch.chdir(project.folder / "prompts")
    assert pipeline.load(named(project)).folder == project.the_run


def test_what_cannot_be_found_is_told_with_what_there_is(project: Project, tmp_path: Path) -> None:
    """An unknown id lists the runs; two that match are both named; a run without its table says how to finish it."""
    experiments = project.copy(tmp_path / "p").folder / "experiments"
    run_id = project.the_run.name[4:]
    with pytest.raises(UsageError, match=rf"there is no run 'x'. Runs: {run_id}"):
        pipeline.load("x", experiments)
    (experiments / "run_c-other").mkdir()
    (experiments / "run_c-other" / "effective_config.yaml").write_text("{}")
    with pytest.raises(UsageError, match="several runs begin with 'c-'"):
        pipeline.load("c-", experiments)
    with pytest.raises(UsageError, match="doit run --run_id c-other --resume"):
        pipeline.load("c-other", experiments).requests  # noqa: B018 - reading it is what fails
    with pytest.raises(UsageError, match="Runs: none"):
        pipeline.load("c", tmp_path / "nowhere")


def test_without_a_library_the_extra_is_named(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither polars nor pandas: one line that says what to install; what needs no frame still works."""
    monkeypatch.setattr(frames, "_there", lambda *modules: False)
    run = pipeline.load(project.the_run)
    assert run.config["model_id"] == "m" and len(run.trials) == 2
    for name in ("requests", "effects", "items", "subgroups"):
        with pytest.raises(UsageError, match=r"pip install 'abiding\[frames\]'"):
            getattr(run, name)


def test_importing_the_package_stays_cheap() -> None:
    """`import pipeline` loads nothing of ours and no heavy library."""
    code = "import sys, pipeline; print(sorted(m for m in sys.modules if m.startswith('pipeline.') or m in ('numpy', 'polars', 'yaml')))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPO, check=True)
    assert found.stdout.strip() == "[]"
