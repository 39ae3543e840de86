"""The queue and the money cap: reserved at worst case, settled by usage, never exceeded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.base.errors import Stopped
from pipeline.base.rows import RequestRow, Usage
from pipeline.providers.money import worst_usd
from tests.desk import PRICE, answer, finish, office
from tests.submissions import request

pytestmark = pytest.mark.timeout(30)


def rows(*numbers: int) -> list[RequestRow]:
    return [request(n) for n in numbers]


def test_a_cap_between_expected_and_worst_case_completes(tmp_path: Path) -> None:
    """Reserved at worst case, settled by usage: the answers cost far less than the worst case of all of them at once."""
    worst = [worst_usd(r, PRICE) for r in rows(*range(6))]
    cap = max(worst) + 6 * PRICE.usd(10, 5)
    assert cap < sum(worst) / 2
    desk = office(tmp_path, cap=cap)
    finish(desk.queue(a=rows(0, 1, 2), b=rows(3, 4, 5)))
    assert set(desk.remote.billed.values()) == {1} and len(desk.remote.billed) == 6


def test_the_cap_is_never_exceeded_and_a_higher_one_goes_on(tmp_path: Path) -> None:
    big = Usage(prompt_tokens=40, completion_tokens=32)
    desk = office(tmp_path, cap=2.5 * worst_usd(request(1), PRICE))
    desk.provider.rows_of = lambda job, listed: [answer(r, usage=big) for r in listed]
    with pytest.raises(Stopped, match=r"the money cap is reached.*--max_usd") as raised:
        finish(desk.queue(a=rows(*range(8))))
    assert raised.value.exit_code == 3
    sent = sum(desk.remote.billed.values())
    assert 0 < sent < 8 and sent * PRICE.of(big) <= desk.cap  # type: ignore[operator]
    finish(desk.again(cap=1.0).queue(a=rows(*range(8))))
    assert set(desk.remote.billed.values()) == {1} and len(desk.remote.billed) == 8


def test_a_cap_below_one_request_sends_nothing(tmp_path: Path) -> None:
    desk = office(tmp_path, cap=worst_usd(request(1), PRICE) * 0.99)
    with pytest.raises(Stopped):
        finish(desk.queue(a=rows(1)))
    assert not desk.remote.billed


def test_what_earlier_processes_and_generations_spent_counts(tmp_path: Path) -> None:
    """`max_usd` caps all that the run ever spends: a `--fresh` generation does not start from nothing."""
    desk = office(tmp_path)
    finish(desk.queue(a=rows(1, 2)))
    spent = 2 * PRICE.usd(10, 5)
    assert desk.again().queue(a=rows(1, 2)).shards["a/t0_p00"].desk.budget.spent == pytest.approx(spent)
    fresh = desk.again(generation=1, cap=spent + worst_usd(request(1), PRICE) * 0.5)
    with pytest.raises(Stopped, match="money cap"):
        finish(fresh.queue(a=rows(1, 2)))


def test_without_a_price_there_is_no_reservation(tmp_path: Path) -> None:
    desk = office(tmp_path, price=None, cap=0.0)
    finish(desk.queue(a=rows(1)))
    assert json.loads(desk.paths("a").submission.read_text())["attempts"][0]["reserved_usd"] is None
