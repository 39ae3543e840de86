"""The one queue: submit and poll are two phases of it. When slots, tokens or money run out, submit looks at jobs in flight and
collects finished ones until it can go on."""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Iterable

from pipeline.base.checkpoints import announce
from pipeline.base.errors import StepError, Stopped
from pipeline.base.rows import encode
from pipeline.providers.claims import Claim, look_behind
from pipeline.providers.money import token_bounds, worst_usd
from pipeline.providers.protocol import Ambiguous, JobState, JobStatus, Limits, NoRoomNow
from pipeline.providers.shard import Shard
from pipeline.records.stop import StopToken

AMBIGUOUS_TRIES = 5
LOOK_AT_OTHERS = 0.2  # seconds between looks at what another run has under way
SAFETY = 0.9  # of a byte limit: wire rows differ from ours by a few words each
NO_ROOM_PATIENCE = 120  # renewed tries, each after a wait, before we ask the person to come back later
LONGEST_WAIT = 3600.0  # seconds; a provider that asks for more patience stops the run, resumable


class Queue:
    """All shards that this process works on. Thread-safe."""

    def __init__(
        self,
        shards: Iterable[Shard],
        stop: StopToken,
        *,
        slots: int | None,
        limits: Limits,
        poll_seconds: float,
        start_timeout: float,
        progress: Callable[[str, Shard], None],
        no_wait: bool = False,
    ) -> None:
        """`slots`: jobs in flight at once; `start_timeout`: seconds by the provider's clock until a job that never started is given up."""
        self.shards = {shard.name: shard for shard in shards}
        self._stop, self._slots, self._limits = stop, slots, limits
        self._poll_seconds, self._start_timeout, self._progress = poll_seconds, start_timeout, progress
        self._no_wait = no_wait
        self._lock = threading.RLock()
        self._jitter = random.Random(0)
        self.status: dict[str, JobStatus] = {}
        for shard in self.shards.values():
            for attempt in shard.record["attempts"]:
                if name := attempt["ids"].get("job"):
                    shard.desk.known_jobs.add(name)

    # --- phase submit ----------------------------------------------------------------------------------------------

    def submit(self, name: str) -> None:
        """Get shard `name` under way: reuse what is known, send what is owed. Returns once its job exists or nothing is owed.

        Raises Stopped (stop asked for, money cap reached), StepError (refused for good).
        """
        shard = self.shards[name]
        while True:
            self._stop.check()
            with self._lock:
                if shard.published or (shard.in_flight and not self._promised(shard)):
                    return
                if self._promised(shard) or self._promise(shard):
                    self._launch(shard)
                    if shard.in_flight:
                        return
                    continue
                if not shard.owed():
                    self._publish(shard)
                    return
                if shard.claimed_by and not shard.sendable():  # all that is owed is under way elsewhere: poll waits for it
                    return
                self._launch_promised()
                self._look_at_all()
                if self._no_wait and not self._promise(shard):
                    raise Stopped(f"{shard.name} is not sent yet: no slot is free (--no_wait)", remedy="Run again later.")
            self._wait()

    @staticmethod
    def _promised(shard: Shard) -> bool:
        attempt = shard.record.open_attempt
        return attempt is not None and attempt["state"] == "intent"

    def _promise(self, shard: Shard) -> bool:
        """Promise as much of the shard as slots, tokens and money allow. False where that is nothing at present."""
        flying = [s for s in self.shards.values() if s.in_flight]
        if self._slots is not None and len(flying) >= self._slots:
            return False
        if shard.patience:
            self._stop.sleep(min(600.0, shard.patience * max(0.05, self._poll_seconds)))
            self._stop.check()
        chosen = shard.sendable()
        if not chosen:
            return False
        chosen = self._within_limits(shard, chosen, flying)
        chosen = self._affordable(shard, chosen, bool(flying))
        if not chosen:
            return False
        shard.promise(chosen)
        return True

    def _within_limits(self, shard: Shard, chosen: list[int], flying: list[Shard]) -> list[int]:
        """As much of `chosen` as one job may hold, and as the account may have enqueued beside what is in flight."""
        limits = self._limits
        if limits.max_rows is not None:
            chosen = chosen[: limits.max_rows]
        if limits.max_bytes is not None and shard.paths.rows.stat().st_size > limits.max_bytes * SAFETY:
            chosen = _prefix(chosen, lambda i: len(encode(shard.rows[i])) + 1, limits.max_bytes * SAFETY)
        if limits.max_enqueued_tokens is not None and chosen:
            room = limits.max_enqueued_tokens - sum(self._expected(s) for s in flying)
            fitting = _prefix(chosen, lambda i: token_bounds(shard.rows[i].body)[0], room)
            if not fitting and not flying:
                raise StepError(
                    f"one request of {shard.name} alone exceeds {limits.max_enqueued_tokens} tokens",
                    where="provider.max_enqueued_tokens",
                    remedy="Raise it.",
                )
            chosen = fitting
        return chosen

    def _affordable(self, shard: Shard, chosen: list[int], flying: bool) -> list[int]:
        budget = shard.desk.budget
        if budget.cap is None or shard.price is None:
            return chosen
        cost = {i: worst_usd(shard.rows[i], shard.price) for i in chosen}
        if budget.reserve(sum(cost.values())):
            return chosen
        if flying:  # something will settle below its worst case: wait for it rather than send crumbs
            return []
        fitting = _prefix(chosen, cost.__getitem__, budget.left)
        if not fitting:
            need, next_cost = budget.spent + sum(map(self._owed_usd, self.shards.values())), cost[chosen[0]]
            need = math.ceil(need * 1e6) / 1e6
            stopped = Stopped(
                f"the money cap is reached: ${budget.spent:.6f} of ${budget.cap:.6f} is spent, the next request may cost ${next_cost:.6f}",
                where="max_usd", remedy=f"To be sure of finishing it needs ${need:.6f} in all: raise --max_usd and run again.",
            )  # fmt: skip
            stopped.resume_with = ("--max_usd", f"{need:.6f}")
            raise stopped
        budget.reserve(sum(cost[i] for i in fitting))
        return fitting

    @staticmethod
    def _owed_usd(shard: Shard) -> float:
        """What the rest of a shard may cost at most."""
        return 0.0 if shard.published or shard.in_flight else sum(worst_usd(shard.rows[i], shard.price) for i in shard.owed())

    @staticmethod
    def _expected(shard: Shard) -> int:
        attempt = shard.record.open_attempt
        return sum(token_bounds(row.body)[0] for row in shard.rows) * (attempt["requests"] if attempt else 0) // max(1, shard.requests)

    def _launch_promised(self) -> None:
        """What a killed process promised holds a slot and money, and is in nobody's hands: get it its job."""
        for shard in self.shards.values():
            if self._promised(shard):
                self._launch(shard)

    def _launch(self, shard: Shard) -> None:
        ambiguous = refused = 0
        while True:
            self._stop.check()
            try:
                shard.launch()
            except Ambiguous as e:
                ambiguous += 1
                shard.desk.events.add("ambiguous", shard=shard.name, message=str(e))
                if ambiguous >= AMBIGUOUS_TRIES:
                    raise Stopped(
                        f"{shard.name}: whether its job exists could not be learned ({e})", remedy="Run again: it looks before it creates."
                    ) from e
                self._stop.sleep(min(60.0, max(0.05, self._poll_seconds)) * 2**ambiguous * (0.5 + self._jitter.random()))
            except NoRoomNow as e:
                refused += 1
                shard.desk.events.add("no_room", shard=shard.name, message=str(e))
                wait = e.retry_after if e.retry_after is not None else max(0.05, self._poll_seconds)
                if refused >= NO_ROOM_PATIENCE or wait > LONGEST_WAIT:
                    asked = f"; it asks to wait {wait:.0f} s" if wait > LONGEST_WAIT else ""
                    raise Stopped(
                        f"{shard.name}: the provider takes no more work at present ({e}){asked}", remedy="Run again later."
                    ) from e
                self._pass_the_time(wait, shard)
            else:
                self._progress("submitted", shard)
                return

    def _pass_the_time(self, seconds: float, but: Shard) -> None:
        """Look at what is in flight, meanwhile and at least once."""
        end = time.monotonic() + seconds
        while not self._stop.requested():
            self._look_at_all(but=but)
            if (left := end - time.monotonic()) <= 0:
                return
            self._stop.sleep(min(left, max(0.05, self._poll_seconds)))

    # --- phase poll ------------------------------------------------------------------------------------------------

    def wait(self, name: str) -> None:
        """Return once shard `name` is published, collecting others on the way and sending follow-ups for what is still owed.

        Raises Stopped, StepError.
        """
        shard = self.shards[name]
        while True:
            self._stop.check()
            with self._lock:
                if shard.published:
                    return
                if not shard.in_flight:
                    self._settle_or_resend(shard)
                    if shard.published:
                        return
                announce("poll:round")
                self._launch_promised()
                self._look_at_all()
                if shard.published:
                    return
            self._wait()

    def look_once(self) -> None:
        """One look at everything in flight, for `--no_wait`."""
        with self._lock:
            self._look_at_all()
            for shard in self.shards.values():
                if not shard.published and not shard.in_flight and not shard.owed():
                    self._publish(shard)

    def _settle_or_resend(self, shard: Shard) -> None:
        """Nothing is in flight: publish where nothing is owed, else promise and launch a follow-up for exactly what is owed."""
        if self._promise(shard):
            self._launch(shard)
        elif not shard.owed():
            self._publish(shard)
        elif shard.claimed_by and not shard.sendable():
            self._await_claims(shard)

    def _await_claims(self, shard: Shard) -> None:
        """Somebody else claims these requests. Wait where they are under way; take over a claim behind which no job stands."""
        experiments = shard.paths.folder.parents[3]
        for owner in shard.claimed_by:
            run_id, _, name = owner.partition("/")
            if run_id == shard.desk.run_id:  # another shard of this run, which this very queue collects
                other = self.shards.get(name)
                if other is None or not other.in_flight:
                    shard.desk.store.release(owner)
                continue
            claim = look_behind(owner, experiments, shard.desk, shard.model)
            if claim is Claim.ALIVE:
                self._stop.sleep(LOOK_AT_OTHERS)
            if claim is not Claim.SENT:
                continue
            raise Stopped(
                f"{shard.name}: run {run_id} has sent some of these requests and is not running",
                remedy=f"Finish it first: doit run --run_id {run_id} --resume (or pay again knowingly: --fresh)",
            )

    def _publish(self, shard: Shard) -> None:
        if shard.publish():
            self._progress("published", shard)

    def _look_at_all(self, but: Shard | None = None) -> None:
        """One look at every job in flight. Shards that end are published, or owe a follow-up."""
        for shard in self.shards.values():
            if shard is but or shard.published or not shard.in_flight:
                continue
            if self._stop.requested():
                return
            if self._promised(shard):
                continue
            status = shard.look()
            if status is None:
                continue
            self.status[shard.name] = status
            if status.state is JobState.WAITING and self._waited_too_long(status):
                shard.desk.notice(
                    f"{shard.name}: its job has not started for {self._start_timeout / 3600:.0f} h; it is cancelled and sent anew"
                )
                shard.cancel()
            if not shard.in_flight and not shard.owed():
                self._publish(shard)
            self._progress("looked", shard)

    def _waited_too_long(self, status: JobStatus) -> bool:
        # By the provider's clock at a fresh look: a laptop that slept has not waited.
        return status.now is not None and status.created_at is not None and status.now - status.created_at > self._start_timeout

    def provenance(self) -> dict[str, object]:
        """Name, versions and settings of the provider, for provenance.json."""
        desk = next((shard.desk for shard in self.shards.values()), None)
        return {"name": desk.provider_name, **desk.provider.provenance()} if desk else {}

    def close(self) -> None:
        """Let the provider finish what is in hand (a live one: the requests in flight), then let go of it and of the store."""
        for desk in {id(shard.desk): shard.desk for shard in self.shards.values()}.values():
            desk.provider.close()
            desk.store.close()

    def _wait(self) -> None:
        if self._poll_seconds:
            self._stop.sleep(self._poll_seconds * (0.9 + 0.2 * self._jitter.random()))


def _prefix(chosen: list[int], cost: Callable[[int], float], room: float) -> list[int]:
    """The longest beginning of `chosen` whose summed cost fits `room`."""
    total, count = 0.0, 0
    for i in chosen:
        total += cost(i)
        if total > room + 1e-12:
            break
        count += 1
    return chosen[:count]
