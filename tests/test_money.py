"""Prices, bounds and the cap."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from pipeline.base.errors import ConfigError
from pipeline.base.rows import Usage
from pipeline.providers.money import Budget, Price, price_of, token_bounds, worst_usd
from tests.submissions import request

TABLE = {"input_per_million": 1.0, "output_per_million": 3.0, "batch_discount": 0.5}
PAID = {"name": "fireworks"}


def test_dollars_of_tokens() -> None:
    price = Price(1.0, 3.0, 0.25, 0.5, None, "t")
    assert price.usd(1_000_000, 1_000_000) == pytest.approx(2.0)
    assert price.usd(1_000_000, 0, cached=1_000_000) == pytest.approx(0.125)
    assert price.of(Usage(prompt_tokens=10, cached_tokens=99)) == pytest.approx(10 * 0.25 * 0.5 / 1e6), "never more cached than sent"


@pytest.mark.parametrize(
    ("provider", "pricing", "expected"),
    [
        (PAID, TABLE, (1.0, 3.0, 0.5)),
        (PAID, {**TABLE, "models": {"m": {"input_per_million": 7.0, "output_per_million": 8.0}}}, (7.0, 8.0, None)),
        ({"name": "local"}, {}, (0.0, 0.0, 1.0)),
        ({"name": "openai_compatible", "base_url": "http://127.0.0.1:8080/v1"}, {}, (0.0, 0.0, 1.0)),
        ({"name": "openai_compatible", "base_url": "http://[::1]:1/v1"}, {}, (0.0, 0.0, 1.0)),
        ({"name": "simulated"}, {}, (0.10, 0.40, 0.5)),
    ],
)
def test_where_a_price_comes_from(provider: dict[str, Any], pricing: dict[str, Any], expected: tuple[float, float, float | None]) -> None:
    price = price_of("m", provider, pricing)
    assert price is not None and (price.input, price.output) == expected[:2]
    if expected[2] is not None:
        assert price.factor == expected[2]


@pytest.mark.parametrize(
    "provider",
    [
        PAID,
        {"name": "openai_compatible", "base_url": "https://127.0.0.1.example.com/v1"},
        {"name": "openai_compatible", "base_url": "https://api.example.com/v1"},
    ],
)
def test_a_paid_model_without_a_price_is_refused_unless_allowed(provider: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="pric"):
        price_of("m", provider, {})
    assert price_of("m", provider, {"allow_unpriced": True}) is None


def test_without_the_batch_api_there_is_no_discount() -> None:
    price = price_of("m", PAID, TABLE, use_batch=False)
    assert price is not None and price.factor == 1.0


def test_the_worst_case_is_no_less_than_a_token_a_byte() -> None:
    row = request(1)
    expected, worst, cap = token_bounds(row.body)
    said = sum(len(m["content"].encode()) for m in row.body["messages"])
    assert expected <= said <= worst and cap == 32
    long = request(1, messages=[{"role": "user", "content": [{"type": "text", "text": "é" * 100}]}], tools=[{"name": "t" * 50}])
    assert token_bounds(long.body)[1] >= 250


def test_worst_case_dollars_cover_any_usage() -> None:
    price = Price(1.0, 3.0, None, 1.0, None, "t")
    _expected, worst, cap = token_bounds(request(1).body)
    assert worst_usd(request(1), price) >= price.of(Usage(prompt_tokens=worst, completion_tokens=cap))
    assert worst_usd(request(1), None) == 0.0


def test_a_budget_reserves_settles_and_never_overspends() -> None:
    budget = Budget(1.0)
    assert budget.reserve(0.6) and not budget.reserve(0.6)
    budget.settle(0.6, 0.1)
    assert budget.reserve(0.9) and budget.left == pytest.approx(0.0)
    budget.settle(0.9, None)
    assert budget.left == pytest.approx(0.0), "unknown: the reservation stays"
    assert Budget(None).reserve(1e9)


def test_threads_cannot_reserve_the_same_dollar_twice() -> None:
    budget, got = Budget(50.0), []
    threads = [threading.Thread(target=lambda: got.extend(budget.reserve(1.0) for _ in range(40))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(got) == 50
