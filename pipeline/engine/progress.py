"""How far the answers are: counted over all shards, with rate, time left and money; said in a plain line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.providers.protocol import JobState
from pipeline.providers.queue import Queue
from pipeline.providers.shard import Shard

PLAIN_SECONDS = 30.0
"""Between two plain lines."""


@dataclass(frozen=True)
class ShardCount:
    """How far one shard is, and in a word where it is: done, running, waiting, sending or to send."""

    name: str
    done: int
    requests: int
    word: str


@dataclass(frozen=True)
class Count:
    """How far all shards are. Dollars are None where the models have no price or cost nothing."""

    shards: tuple[ShardCount, ...]
    reused: int
    spent: float | None
    reserved: float | None
    cap: float | None

    @property
    def done(self) -> int:
        """Answers that are there."""
        return sum(s.done for s in self.shards)

    @property
    def requests(self) -> int:
        """Answers that are wanted."""
        return sum(s.requests for s in self.shards)

    @property
    def in_flight(self) -> int:
        """Shards with a job, or about to have one."""
        return sum(s.word in ("running", "waiting", "sending") for s in self.shards)

    def money(self) -> str | None:
        """`$0.0012 spent, $0.0100 reserved, cap $2.0000`."""
        if self.spent is None:
            return None
        parts = [f"${self.spent:.4f} spent"]
        if self.reserved:
            parts.append(f"${self.reserved:.4f} reserved")
        if self.cap is not None:
            parts.append(f"cap ${self.cap:.4f}")
        return ", ".join(parts)


def count(queue: Queue) -> Count:
    """Count. Only reads what is in memory, so that any thread may ask while others work."""
    shards = queue.shards.values()
    priced = any(s.price is not None and (s.price.input or s.price.output) for s in shards)
    budget = next((s.desk.budget for s in shards), None)
    billed = reserved = 0.0
    for shard in shards:
        for attempt in list(shard.record["attempts"]):
            held = attempt["reserved_usd"] or 0.0
            if attempt["state"] == "settled":
                billed += held if attempt["billed_usd"] is None else attempt["billed_usd"]
            else:
                reserved += held
    capped = budget is not None and budget.cap is not None
    if budget is not None and capped:
        billed = max(0.0, budget.spent - reserved)  # of earlier generations too
    return Count(
        shards=tuple(_count(s, queue) for s in shards),
        reused=sum(s.record["reused"]["requests"] for s in shards),
        spent=billed if priced else None,
        reserved=reserved if priced and capped else None,
        cap=budget.cap if budget is not None and priced else None,
    )


def _count(shard: Shard, queue: Queue) -> ShardCount:
    attempt = shard.record.open_attempt
    if shard.published:
        return ShardCount(shard.name, shard.requests, shard.requests, "done")
    if attempt is None:
        return ShardCount(shard.name, min(shard.record["reused"]["requests"], shard.requests), shard.requests, "to send")
    status = queue.status.get(shard.name)
    before = shard.requests - attempt["requests"]  # a follow-up asks only what is still owed
    if attempt["state"] == "intent" or status is None or status.state.final:  # a final state is that of the attempt before
        return ShardCount(shard.name, before, shard.requests, "sending" if attempt["state"] == "intent" else "waiting")
    done = min(before + (status.done or 0), shard.requests)
    return ShardCount(shard.name, done, shard.requests, "waiting" if status.state is JobState.WAITING else "running")


class Pace:
    """Rate and time left, by what this process has seen since its first answer: a model takes its time to load, a job to start.

    Answers from the answer store come at once and are no measure.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._before: int | None = None
        self._first: tuple[float, int] | None = None

    def say(self, now: Count) -> str:
        """`41 a minute, about 2 min left`; empty while nothing can be said."""
        fresh, at = now.done - now.reused, self._clock()
        if self._before is None:
            self._before = fresh
        if self._first is None:
            if fresh <= self._before:
                return ""
            self._first = (at, fresh)
        begun, before = self._first
        if fresh <= before or at <= begun or now.done >= now.requests:
            return ""
        rate = (fresh - before) / (at - begun)
        left = (now.requests - now.done) / rate
        return f"{_rate(rate)}, about {_duration(left)} left"


def _rate(per_second: float) -> str:
    return f"{per_second:.0f} a second" if per_second >= 10 else f"{per_second * 60:.0f} a minute"


def _duration(seconds: float) -> str:
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.{1 if unit == 'h' else 0}f} {unit}"
    return f"{seconds:.0f} s"


def plain_line(now: Count, pace: Pace) -> str:
    """`answers 34/180, 2 shards in flight, 17 a minute, about 9 min left, $0.0012 spent, cap $2.0000`."""
    flying = f"{now.in_flight} shard{'s' if now.in_flight != 1 else ''} in flight"
    return ", ".join(filter(None, [f"answers {now.done}/{now.requests}", flying, pace.say(now), now.money()]))
