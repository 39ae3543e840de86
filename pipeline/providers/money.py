"""Money: what a request may cost at worst, what it probably costs, what it did cost, and the hard cap on all of it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from pipeline.base.errors import ConfigError
from pipeline.base.rows import RequestRow, Usage

EXPECTED_MARGIN = "bytes/4, typically within 25% for English"
OVERHEAD_TOKENS = 64  # a message, at worst: role words and template tokens
FREE = ("local", "vllm_file")
SIMULATED_PRICE = {"input_per_million": 0.10, "output_per_million": 0.40, "batch_discount": 0.5}


@dataclass(frozen=True)
class Price:
    """Dollars per million tokens; `factor` is the batch discount (0.5: half price)."""

    input: float
    output: float
    cached: float | None
    factor: float
    as_of: str | None
    source: str

    def usd(self, prompt: int, completion: int, cached: int = 0) -> float:
        """Dollars for these tokens (`cached` of the prompt tokens came from the provider's cache)."""
        cached_price = self.input if self.cached is None else self.cached
        return ((prompt - cached) * self.input + cached * cached_price + completion * self.output) * self.factor / 1e6

    def of(self, usage: Usage) -> float:
        """Dollars for a row's usage."""
        return self.usd(usage.prompt_tokens, usage.completion_tokens, min(usage.cached_tokens, usage.prompt_tokens))

    def document(self) -> dict[str, Any]:
        """As `costs.json` shows it."""
        return {
            "input_per_million": self.input,
            "output_per_million": self.output,
            "cached_input_per_million": self.cached,
            "batch_discount": self.factor,
            "as_of": self.as_of,
            "source": self.source,
        }


def price_of(model_id: str, provider: Mapping[str, Any], pricing: Mapping[str, Any], *, use_batch: bool = True) -> Price | None:
    """The price of a model: `pricing.models`, else the general table. None where `allow_unpriced`; else raises ConfigError.

    Models on one's own machine (local, vllm_file, openai_compatible on a loopback address) are free unless priced.
    """
    table = pricing.get("models", {}).get(model_id)
    source = f"pricing.models.{model_id}"
    if table is None and "input_per_million" in pricing and "output_per_million" in pricing:
        table, source = pricing, "pricing"
    if table is None:
        name = provider["name"]
        host = urlsplit(provider.get("base_url", "")).hostname
        if name in FREE or (name == "openai_compatible" and host in ("127.0.0.1", "localhost", "::1")):
            return Price(0.0, 0.0, None, 1.0, None, "runs on this machine")
        if name == "simulated":
            table, source = SIMULATED_PRICE, "nominal price of the dry run"
        elif pricing.get("allow_unpriced"):
            return None
        else:
            raise ConfigError(
                f"model {model_id!r} has no price",
                where="pricing",
                remedy="Give pricing.input_per_million and output_per_million (or pricing.models), or set pricing.allow_unpriced: true.",
            )
    factor = float(table.get("batch_discount", pricing.get("batch_discount", 1.0))) if use_batch else 1.0
    return Price(
        float(table["input_per_million"]),
        float(table["output_per_million"]),
        table.get("cached_input_per_million"),
        factor,
        table.get("as_of") or pricing.get("as_of"),
        source,
    )


def _text_bytes(value: Any) -> int:
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode())
    if isinstance(value, list):
        return sum(map(_text_bytes, value))
    if isinstance(value, dict):
        return sum(_text_bytes(v) for v in value.values())
    return 0


def token_bounds(body: Mapping[str, Any]) -> tuple[int, int, int]:
    """(expected prompt tokens, worst-case prompt tokens, cap on new tokens) of a request body.

    Expected: UTF-8 bytes / 4. Worst: one token per byte (no tokenizer makes more) + 64 a message.
    """
    text = _text_bytes(body["messages"]) + _text_bytes(body.get("tools", [])) + _text_bytes(body.get("response_format", {}))
    return max(1, text // 4), text + OVERHEAD_TOKENS * len(body["messages"]), int(body.get("max_tokens", 0))


def worst_usd(row: RequestRow, price: Price | None) -> float:
    """What this request may cost at most."""
    if price is None:
        return 0.0
    _expected, prompt, completion = token_bounds(row.body)
    return price.usd(prompt, completion)


class Budget:
    """The cap `max_usd`: reserved at worst case before a submission, released when it settles by billed usage."""

    def __init__(self, cap: float | None, spent: float = 0.0) -> None:
        """`cap` in dollars (None: no cap); `spent` is what earlier attempts and processes of this run used up."""
        self.cap, self.spent, self._lock = cap, spent, threading.Lock()

    @property
    def left(self) -> float:
        """Dollars that may still be reserved."""
        return float("inf") if self.cap is None else self.cap - self.spent

    def reserve(self, usd: float) -> bool:
        """Take `usd` from what is left; False (and nothing taken) where it is not there."""
        with self._lock:
            if usd > self.left + 1e-12:
                return False
            self.spent += usd
            return True

    def settle(self, reserved: float, billed: float | None) -> None:
        """Replace a reservation by what was billed (None: unknown, the reservation stays)."""
        if billed is not None:
            with self._lock:
                self.spent += billed - reserved
