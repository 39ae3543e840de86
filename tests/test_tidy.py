"""The table of a run: a row per request, with everything that is known of it, the same bytes again."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.base import frames
from pipeline.base.tables import joined
from pipeline.steps.tidy import FIXED, column_of, kinds_of
from tests.project import Project, make

ARMS = {name: {"prompt": f"prompts/{name}.txt"} for name in ("control", "terse", "polite")}
SCORER = '''
def answer(item, answer, row):
    """Its name is a fixed column's: the table calls it score_answer. A second number is not defined for item c0."""
    return {"answer": len(answer) / 1000, "odd": None if item.id == "c0" else row.usage.completion_tokens % 2}
'''


def table(run: Path) -> list[dict[str, str]]:
    with open(run / "results.csv", encoding="utf-8", newline="") as f:
        return list(csv.DictReader(f))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Three arms at two temperatures, three replicates at the second; meta columns of several kinds; an own metric; two models."""
    made = make(tmp_path_factory.mktemp("tidy") / "p", items=3)
    (made.folder / "tidy_scorer.py").write_text(SCORER)
    path = made.folder / "closed.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[0]["meta"] = {"level": "easy", "year": 1999, "model": 'a "quoted", one', "tags": ["x", "y"]}
    rows[1]["meta"] = {"level": "two\nlines\rand a return"}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made.configure(
        arms=ARMS,
        models=["m", "n"],
        temps=[0.0, 0.7],
        samples_per_item={"0.7": 3},
        metrics=[{"name": "answer", "use": "tidy_scorer:answer", "range": [0, 1]}],
    )
    made.run()
    return made


def test_one_row_per_request_and_a_shared_control_once(project: Project) -> None:
    """3 arms x 2 models x 6 items x (1 + 3) answers; each custom_id once, and exactly those that were billed."""
    rows = table(project.the_run)
    assert len(rows) == 3 * 2 * 6 * 4
    assert {r["custom_id"] for r in rows} == set(project.bill())
    assert len({r["custom_id"] for r in rows}) == len(rows)
    assert {(r["arm"], r["model"]) for r in rows} == {(a, m) for a in ARMS for m in ("m", "n")}


def test_answers_and_tokens_are_those_of_predictions(project: Project) -> None:
    """Every cell that predictions.csv has of a request, the table has too."""
    rows = {r["custom_id"]: r for r in table(project.the_run)}
    seen = 0
    for path in project.the_run.glob("*/results/predictions.csv"):
        with open(path, encoding="utf-8", newline="") as f:
            for p in csv.DictReader(f):
                r = rows[p["custom_id"]]
                assert (r["answer"], r["replicate"], r["temp"]) == (p["response_text"], p["sample_index"], p["temp"])
                assert all(r[name] == p[name] for name in ("unit", "item_id", "outcome", "total_tokens", "request_id", "finish_reason"))
                seen += 1
    assert seen > len(rows)  # control stands in two trials


def test_scores_of_one_answer_and_their_mean_over_replicates(project: Project) -> None:
    """The mean over an item's answers in the table is its row of per_item_scores.csv, also for the own metric."""
    rows = table(project.the_run)
    compared = 0
    for path in project.the_run.glob("*/results/per_item_scores.csv"):
        arms = json.loads((path.parent / "trial_manifest.json").read_bytes())["trial"]
        with open(path, encoding="utf-8", newline="") as f:
            for s in csv.DictReader(f):
                unit = arms["units"][s["condition"]]
                same = [r for r in rows if (r["unit"], r["item"], r["temp"]) == (unit, s["item_key"], s["temp"])]
                assert len(same) == int(s["n"]) == (1 if s["temp"] == "0.0" else 3)
                for metric in ("em", "f1", "correct", "abstain_rate", "answer", "answer_odd"):
                    values = [r[column_of(metric)] for r in same]
                    if not s[metric]:
                        assert set(values) == {""}
                        continue
                    assert sum(map(float, values)) / len(values) == pytest.approx(float(s[metric]), abs=1e-11)
                    compared += 1
    assert compared > 500
    assert len({r["correct"] for r in rows}) == 2


def test_metadata_of_any_kind_is_text(project: Project) -> None:
    """Numbers and lists as JSON, quotes and line ends kept, empty where an item lacks it."""
    rows = {r["item_id"]: r for r in table(project.the_run)}
    assert [rows["c0"][f"meta_{n}"] for n in ("level", "year", "model", "tags")] == ["easy", "1999", 'a "quoted", one', '["x", "y"]']
    assert rows["c1"]["meta_level"] == "two\nlines\rand a return"
    assert rows["c2"]["meta_level"] == rows["o0"]["meta_year"] == ""
    assert rows["c0"]["golds"] == '["number 0"]' and rows["o1"]["cluster"] != rows["o2"]["cluster"]


def test_a_metric_never_takes_a_fixed_column(project: Project) -> None:
    """An own metric named `answer` is `score_answer`; the answer itself stays."""
    row = table(project.the_run)[0]
    assert float(row["score_answer"]) == pytest.approx(len(row["answer"]) / 1000)
    assert column_of("model") == "score_model" and column_of("meta_x") == "score_meta_x" and column_of("em") == "em"


def test_parquet_holds_the_same_rows_typed(project: Project) -> None:
    """Text, whole numbers and floats; null where a cell is empty."""
    polars = pytest.importorskip("polars")
    frame = polars.read_parquet(project.the_run / "results.parquet")
    rows = table(project.the_run)
    assert frame.columns == list(rows[0])
    kinds = {str: polars.String, int: polars.Int64, float: polars.Float64}
    assert dict(frame.schema) == {name: kinds[kind] for name, kind in kinds_of(frame.columns).items()}
    for row, cells in zip(frame.to_dicts(), rows, strict=True):
        for name, text in cells.items():
            value: Any = row[name]
            assert (value is None) == (text == "")
            assert value is None or (value == text if isinstance(value, str) else value == float(text))


def test_the_same_bytes_again_and_only_when_needed(project: Project, tmp_path: Path) -> None:
    """A deleted table comes back byte for byte; another bootstrap leaves it alone; a project elsewhere writes the same bytes."""
    again = project.copy(tmp_path / "again")
    before = {name: (again.the_run / name).read_bytes() for name in ("results.csv", "results.parquet")}
    for name in before:
        (again.the_run / name).unlink()
    again.run()
    assert {name: (again.the_run / name).read_bytes() for name in before} == before
    done = len([s for s in again.began() if s == "tidy"])
    again.configure(**{**_config(again), "stats": {"bootstrap_samples": 120, "permutation_samples": 100, "random_seed": 1}})
    again.run()
    assert len([s for s in again.began() if s == "tidy"]) == done and again.began().count("stats") > 4
    assert {name: (again.the_run / name).read_bytes() for name in before} == before


def test_a_damaged_score_file_is_told(project: Project, tmp_path: Path) -> None:
    """Scores that do not follow predictions are refused with file and line, not joined wrongly."""
    from pipeline.base.errors import ManifestError
    from pipeline.steps import tidy

    copy = project.copy(tmp_path / "copy")
    path = next(copy.the_run.glob("*/results/per_item_scores.csv"))
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], *lines[2:]]))
    this = _run_of(copy)
    with pytest.raises(ManifestError, match=r"per_item_scores\.csv:2: does not follow predictions\.csv"):
        list(tidy.answers(this, ['em']))


def test_the_archive_and_the_plan_know_the_table(project: Project) -> None:
    """It stands in the archive's list, and is a task of the report phase."""
    files = json.loads((project.the_run / "archive_manifest.json").read_bytes())["files"]
    assert {"results.csv", "results.parquet"} <= set(files)
    assert project.letters()["tidy:run"] == "U"
    (project.the_run / "results.csv").unlink()
    letters = project.letters()
    assert letters["tidy:run"] == letters["archive:run"] == "R" and letters["stats:" + next(iter(_trials(project)))] == "U"
    project.run()


def test_without_a_library_there_is_the_csv_alone(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No polars and no pandas: results.csv is written, nothing fails, nothing is called damaged at the next run."""
    monkeypatch.setattr(frames, "_there", lambda *modules: False)
    bare = make(tmp_path / "bare", items=2)
    bare.run()
    assert (bare.the_run / "results.csv").is_file() and not (bare.the_run / "results.parquet").exists()
    assert bare.letters()["tidy:run"] == "U"


def test_every_row_can_be_read_back() -> None:
    """A carriage return, a quote, a line end in a cell: the csv module reads the row as it was written."""
    rows = [["a\rb", "c"], ["\r", 'q"\n,', ""], ["a\r\nb", ""], ['"', "x,y"], ["plain", "1"], ["", ""]]
    text = "".join(f"{joined(row)}\n" for row in rows)
    assert list(csv.reader(io.StringIO(text, newline=""))) == rows


def test_fixed_columns_have_one_kind_each() -> None:
    """The kinds cover every fixed column, a score is a float, metadata is text."""
    kinds = kinds_of([*FIXED, "meta_x", "label"])
    assert kinds["replicate"] is int and kinds["label"] is float and kinds["meta_x"] is str and set(kinds) == {*FIXED, "meta_x", "label"}


def _trials(project: Project) -> list[str]:
    return sorted(path.parents[1].name for path in project.the_run.glob("*/results/predictions.csv"))


def _config(project: Project) -> dict[str, Any]:
    import yaml

    found: dict[str, Any] = yaml.safe_load((project.folder / "c.yaml").read_text())
    return found


def _run_of(project: Project) -> Any:
    from pipeline.base.digests import sha256_file
    from pipeline.config import load
    from pipeline.experiment import Experiment
    from pipeline.layout import RunPaths
    from pipeline.records.digest_cache import DigestCache
    from pipeline.steps.context import Run

    experiment = Experiment(load(project.folder / "c.yaml", project.folder), sha256_file)
    folder = project.folder / "experiments"
    cache = DigestCache(folder / ".digests.json", project.folder)
    return Run(project.folder, experiment, RunPaths(folder, experiment.run_id), cache, readonly=True)
