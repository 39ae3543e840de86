"""From items to requests and from answers to predictions.csv, through real sessions of a small project."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.base.errors import ConfigError, ManifestError
from pipeline.base.rows import RequestRow, ResultRow, encode, read_rows
from pipeline.engine import loader
from pipeline.engine.session import Session
from pipeline.steps import build, costs, parse, prepare
from pipeline.steps.context import Context, Run
from tests.desk import answer
from tests.project import Project, make

PREDECESSORS = (
    "custom_id,dataset,item_id,condition,temp,sample_index,type,request_id,finish_reason,response_text,"
    "prompt_tokens,completion_tokens,total_tokens,"
)
DEFAULTS: dict[str, Any] = {option["name"]: option["default"] for option in loader.AbidingLoader.cmd_options}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make(tmp_path / "p", items=6)


def opened(project: Project, **params: Any) -> Run:
    return Session(project.folder, {**DEFAULTS, "config": "c.yaml", **params}, readonly=False).run


def built(project: Project, **params: Any) -> Run:
    run = opened(project, **params)
    prepare.run(Context(run))
    for unit in run.experiment.units.values():
        build.run(Context(run, unit=unit))
    run.relayout()
    return run


def requests(run: Run) -> Iterator[RequestRow]:
    for refs in run.layout.values():
        for ref in refs:
            yield from read_rows(run.shard_paths(ref).rows, RequestRow)


# --- prepare -----------------------------------------------------------------------------------------------------------


def test_a_longer_limit_extends_a_shorter_one(project: Project) -> None:
    few, more = opened(project, limit_items=2), opened(project, limit_items=5)
    for kind in ("open", "closed"):
        assert {i.id for i in few.items[kind]} < {i.id for i in more.items[kind]} and len(few.items[kind]) == 2


def test_the_order_depends_on_the_seed_alone(project: Project) -> None:
    one = [i.id for i in opened(project).items["closed"]]
    lines = (project.folder / "closed.jsonl").read_text().splitlines(keepends=True)
    (project.folder / "closed.jsonl").write_text("".join(reversed(lines)))
    assert [i.id for i in opened(project).items["closed"]] == one
    project.configure(seed=7)
    assert [i.id for i in opened(project).items["closed"]] != one


def test_an_id_that_stands_twice_is_refused_with_both_places(project: Project) -> None:
    with open(project.folder / "closed.jsonl", "a") as f:
        f.write('{"dataset":"facts","id":"c1","question":"again?","answers":["x"]}\n')
    with pytest.raises(ConfigError, match=r"closed.jsonl:7: the id 'c1' of dataset 'facts' stands twice, first at .*closed.jsonl:2"):
        _ = opened(project).items


def test_a_damaged_prepared_folder_is_made_again_and_an_intact_one_left(project: Project) -> None:
    run = opened(project)
    assert prepare.run(Context(run)) == {"items": 12, "shared": False}
    assert prepare.run(Context(opened(project))) == {"items": 12, "shared": True}
    path = run.item_file("open")
    before = path.read_bytes()
    path.write_bytes(before[:-10])
    assert not prepare.intact(opened(project))
    prepare.run(Context(opened(project)))
    assert path.read_bytes() == before


# --- build -------------------------------------------------------------------------------------------------------------


@given(st.integers(1, 500), st.integers(1, 5), st.integers(1, 20), st.none() | st.integers(1, 100), st.none() | st.integers(1, 400))
@settings(max_examples=200, deadline=None)
def test_shards_are_even_whole_and_never_empty(items: int, samples: int, parts: int, lines: int | None, most: int | None) -> None:
    sizes = build.split(items, samples, parts, lines, most)
    assert sum(sizes) == items * samples
    assert all(size > 0 and size % samples == 0 for size in sizes)
    assert max(sizes) - min(sizes) <= samples
    for cap in (lines, most):
        if cap is not None and cap >= samples:
            assert max(sizes) <= cap
    assert len(sizes) >= min(parts, items)


def test_every_request_has_an_id_and_a_place_of_its_own(project: Project) -> None:
    project.configure(temps=[0.0, 0.7], samples_per_item={"0.7": 3})
    rows = list(requests(built(project, parts_per_dataset=3)))
    assert len(rows) == 2 * (12 + 36)
    assert len({r.custom_id for r in rows}) == len(rows)
    assert all(re.fullmatch(r"[0-9a-f]{32}", r.custom_id) for r in rows)
    assert {r.body["temperature"] for r in rows} == {0.0, 0.7}


def test_replicates_stand_side_by_side_with_seeds_of_their_own(project: Project) -> None:
    project.configure(temps=[0.7], samples_per_item=3)
    rows = list(requests(built(project, parts_per_dataset=4)))
    for i in range(0, len(rows), 3):
        group = rows[i : i + 3]
        assert [r.place.sample_index for r in group] == [0, 1, 2] and len({r.place.item_id for r in group}) == 1
        assert len({r.body["seed"] for r in group}) == len({r.answer_key for r in group}) == 3


def test_any_first_shard_is_a_mixture_of_both_types(tmp_path: Path) -> None:
    run = built(make(tmp_path / "q", items=40), parts_per_dataset=4)
    for refs in run.layout.values():
        kinds = [r.place.type for r in read_rows(run.shard_paths(refs[0]).rows, RequestRow)]
        assert 3 <= kinds.count("open") <= 17


def test_layouts_hold_the_same_requests_in_the_same_order(project: Project, tmp_path: Path) -> None:
    one = [encode(r) for r in requests(built(project))]
    other = make(tmp_path / "other", items=6)
    assert [encode(r) for r in requests(built(other, parts_per_dataset=5))] == one


def test_a_built_layout_is_frozen(project: Project) -> None:
    run = built(project, parts_per_dataset=2)
    assert {len(refs) for refs in run.layout.values()} == {2}
    assert {len(refs) for refs in opened(project, parts_per_dataset=5).layout.values()} == {2}
    assert build.frozen(opened(project))


def test_the_predicted_layout_is_the_built_one(project: Project) -> None:
    predicted = {slug: [(r.key, r.requests) for r in refs] for slug, refs in opened(project, lines_per_part=5).layout.items()}
    assert not (project.folder / "data").exists()
    run = built(project, lines_per_part=5)
    assert {slug: [(r.key, r.requests) for r in refs] for slug, refs in run.layout.items()} == predicted


def test_same_content_has_one_answer_key_across_arms_and_another_across_models(project: Project) -> None:
    project.configure(arms=None, prompt_sets={"aa": {"control": "prompts/control.txt", "treatment": "prompts/control.txt"}})
    rows = list(requests(built(project)))
    assert len({r.custom_id for r in rows}) == 24 and len({r.answer_key for r in rows}) == 12
    before = {r.answer_key for r in rows}
    project.configure(model_id="n")
    assert not before & {r.answer_key for r in requests(built(project))}


def test_no_system_prompt_means_no_system_message(project: Project) -> None:
    project.configure(arms={"control": {"prompt": None}, "terse": {"prompt": "prompts/terse.txt"}})
    first = {row.place.item_id: [m["role"] for m in row.body["messages"]] for row in requests(built(project))}
    roles = {tuple(m["role"] for m in r.body["messages"]) for r in requests(opened(project))}
    assert first and roles == {("user",), ("system", "user")}


# --- parse and costs -----------------------------------------------------------------------------------------------------


def answered(project: Project, **fields: Any) -> Run:
    run = built(project)
    for refs in run.layout.values():
        for ref in refs:
            paths = run.shard_paths(ref)
            paths.results.parent.mkdir(parents=True, exist_ok=True)
            paths.results.write_bytes(b"".join(encode(answer(r, **fields)) + b"\n" for r in read_rows(paths.rows, RequestRow)))
    return run


def predictions(run: Run) -> list[dict[str, str]]:
    (trial,) = run.experiment.trials.values()
    parse.run(Context(run, trial=trial))
    with open(run.paths.trial(trial.slug).predictions, encoding="utf-8", newline="") as f:
        return list(csv.DictReader(f))


def test_predictions_hold_one_row_per_request_control_first(project: Project) -> None:
    run = answered(project)
    found = predictions(run)
    assert [r["custom_id"] for r in found] == [r.custom_id for r in requests(run)]
    assert [r["condition"] for r in found] == ["control"] * 12 + ["treatment"] * 12
    assert list(found[0]) == list(parse.COLUMNS)
    assert ",".join(parse.COLUMNS).startswith(PREDECESSORS), "columns kept from the predecessor, in their order"
    assert found[0]["request_id"] == f"simulated-{found[0]['custom_id']}" and found[0]["total_tokens"] == "15"


@pytest.mark.parametrize("text", ['a,"b"\nc', "a\rb", "a\r\nb", " spaced ", "", "é…😀", "=1+1", "'", '"""', "x" * 200_000, "\u2028\u0085"])
def test_any_text_survives_predictions_csv(project: Project, text: str) -> None:
    csv.field_size_limit(10**6)
    assert {r["response_text"] for r in predictions(answered(project, text=text))} == {text}


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda lines: lines[:-1], r"results.jsonl:12: expected the answer to [0-9a-f]{32}, found nothing"),
        (lambda lines: [*lines, lines[-1]], "holds more answers than there are requests"),
        (lambda lines: [lines[1], lines[0], *lines[2:]], r"results.jsonl:1: expected the answer to"),
        (lambda lines: [lines[0], lines[0], *lines[2:]], r"results.jsonl:2: expected the answer to"),
        (lambda lines: [*lines[:3], lines[3][:20] + b"\n", *lines[4:]], r"results.jsonl:4: not a valid ResultRow"),
        (lambda lines: [encode(ResultRow(custom_id="f" * 32, outcome="answered")) + b"\n", *lines[1:]], "found custom_id ffff"),
    ],
)
def test_answers_that_do_not_fit_the_requests_are_refused_by_line(project: Project, damage: Any, said: str) -> None:
    run = answered(project)
    path = next(run.shard_paths(refs[0]).results for refs in run.layout.values())
    path.write_bytes(b"".join(damage(path.read_bytes().splitlines(keepends=True))))
    with pytest.raises(ManifestError, match=said):
        predictions(run)
    assert not list(run.paths.folder.glob("*/results/predictions.csv"))


def test_costs_add_up_and_are_priced_by_the_models_price(project: Project) -> None:
    project.configure(pricing={"input_per_million": 1.0, "output_per_million": 2.0, "batch_discount": 0.5})
    run = answered(project)
    predictions(run)
    (trial,) = run.experiment.trials.values()
    costs.run(Context(run, trial=trial))
    document = json.loads(run.paths.trial(trial.slug).costs.read_text())
    assert (document["requests"], document["prompt_tokens"], document["completion_tokens"], document["total_tokens"]) == (24, 240, 120, 360)
    assert document["usd"] == pytest.approx((240 * 1.0 + 120 * 2.0) * 0.5 / 1e6)
    assert document["by_condition"]["control"]["usd"] * 2 == pytest.approx(document["usd"])
