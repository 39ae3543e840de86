"""`doit run --plan_only`: tables that fit a terminal, whole where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from project import make

from pipeline.engine.plan_table import plan_lines

LONG = "operational_only-a_model_with_quite_a_long_name-tp1-tk0-mx32-32/t0_p0"


def plan(**changes: Any) -> dict[str, Any]:
    counts = {"requests": 1200, "done": 0, "reuse": 0, "poll": 0, "repair": 0, "send": 1200}
    tokens = {"expected_prompt_tokens": 25012, "worst_prompt_tokens": 120774, "expected_completion_tokens": 1, "worst_completion_tokens": 2}
    total = {**counts, **tokens, "expected_usd": 0.25, "worst_usd": 0.75, "oldest_reused": None}
    why = "experiments/run_x/m-terse-tp1-tk0-mx64-64/results/predictions.csv is missing; step parse makes it"
    phases = [
        {"phase": "poll", "action": "execute", "reason": "build:control-a-model-tp1-tk0-mx32-32 runs before it", "tasks": 2, "to_run": 2},
        {"phase": "stats", "action": "blocked", "reason": why, "tasks": 1, "to_run": 0},
    ]
    shards = {f"{LONG}{n}": counts for n in range(2)}
    whole = {"run_id": "r", "provider": "local", "exists": False, "phases": phases, "shards": shards, "total": total, "max_usd": 0.5}
    return {**whole, "unfinished": [], "warnings": [], **changes}


@pytest.mark.parametrize("width", [80, 120])
def test_it_fits_the_terminal(width: int) -> None:
    """A long reason goes on below itself, a long name loses its middle, nothing else is lost."""
    lines = [text for text, _style in plan_lines(plan(), width)]
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert "poll     execute    2/2  build runs before it" in lines
    assert "".join(text.split()).count("predictions.csvismissing;stepparsemakesit") == 1
    assert all(f"/t0_p0{n}" in text for n in range(2))
    assert "the cap may be reached before the end" in text


def test_elsewhere_names_and_reasons_stay_whole() -> None:
    text = "\n".join(text for text, _style in plan_lines(plan(), None))
    assert f"{LONG}0" in text and "results/predictions.csv is missing; step parse makes it" in text


def test_only_counts_that_say_something_are_shown() -> None:
    text = "\n".join(text for text, _style in plan_lines(plan(), None))
    assert "requests   send\n" in text and "reuse" not in text
    reused = {**plan()["total"], "reuse": 7, "send": 0, "oldest_reused": "2026-11-01T00:00:00Z"}
    text = "\n".join(text for text, _style in plan_lines(plan(total=reused), None))
    assert "reuse" in text and "the oldest answer to be reused is of 2026-11-01" in text and "nothing to send, nothing to pay" in text


def test_what_is_under_way_is_not_said_to_be_free() -> None:
    under_way = {**plan()["total"], "poll": 7, "send": 0}
    text = "\n".join(text for text, _style in plan_lines(plan(total=under_way), None))
    assert "nothing to send: what is under way was counted when it was sent" in text and "nothing to pay" not in text


def test_a_model_without_a_price_says_so(tmp_path: Path) -> None:
    unpriced = {**plan()["total"], "expected_usd": None, "worst_usd": None}
    assert sum("no price" in text for text, _style in plan_lines(plan(total=unpriced), None)) == 2


def test_the_plan_of_a_project(tmp_path: Path) -> None:
    """New: all phases execute; done: all are skipped, nothing is to send."""
    project = make(tmp_path)
    shown = project.run("--plan_only").out
    assert shown.count(" execute ") == 10 and "(simulated, new)" in shown
    assert project.runs == []
    project.run()
    shown = project.run("--plan_only").out
    assert shown.count("skip (already done)") == 10 and "nothing to send, nothing to pay" in shown
