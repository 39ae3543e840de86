"""Where the kill storm strikes: a plan drawn from a seed and from what one uninterrupted run announced, evenly over phases and places."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.records.run_state import STEPS, WITHIN
from scripts.strikes import MOMENT, START

PHASES = ("open", *STEPS)
INSIDE = ("write", "doit-db", "remote", "store")
"""Checkpoints inside the atomic writer, the commit of doit's database, and the transactions of the remote and of the answer store."""
MANNERS = ("inside", MOMENT, "inside", "checkpoint")
MOST_IN_A_RUN = 7


def phase_after(announced: Iterable[str], current: str = "open") -> str:
    """The phase in which the process stands after these announcements."""
    for name in announced:
        step = name.removeprefix("pre-").removeprefix("post-")
        step = WITHIN.get(step, step)
        if name.startswith("pre-") and step in STEPS:
            current = step
    return current


@dataclass(frozen=True)
class Strike:
    """The `nth` announcement of `name` inside `phase`; for a moment, `delay` seconds after the nth announcement of any name."""

    phase: str
    name: str
    nth: int
    delay: float = 0.0

    @property
    def order(self) -> int:
        """Phases come in this order."""
        return PHASES.index(self.phase)


class Aim:
    """Told every announcement of a child in order, says when its strike is due."""

    def __init__(self, strike: Strike) -> None:
        self.strike, self._now, self._seen = strike, "open", 0

    def __call__(self, name: str, _count: int) -> bool:
        """Whether the announcement `name` is the one."""
        self._now = phase_after([name], self._now)
        if self._now != self.strike.phase or self.strike.name not in (name, MOMENT):
            return False
        self._seen += 1
        return self._seen == self.strike.nth


class Map:
    """What one uninterrupted run announced, phase by phase, and how long it took to the next announcement."""

    def __init__(self, announced: Sequence[str], at: Sequence[float]) -> None:
        """`at` are the seconds at which each was made."""
        self.names: dict[str, Counter[str]] = {phase: Counter() for phase in PHASES}
        self.gaps: dict[str, list[float]] = {phase: [] for phase in PHASES}
        now = "open"
        for name, here, after in zip(announced, at, [*at[1:], *at[-1:]], strict=True):
            now = phase_after([name], now)
            if name != START:
                self.names[now][name] += 1
            self.gaps[now].append(after - here)

    def draw(self, phase: str, manner: str, planned: Counter[str], rng: random.Random) -> Strike:
        """A strike of that manner; `inside` takes the place that was planned least so far."""
        names = self.names[phase]
        if manner == MOMENT:
            nth = rng.randrange(len(self.gaps[phase]))
            return Strike(phase, MOMENT, nth + 1, rng.uniform(0, self.gaps[phase][nth]))
        inside = [name for name in INSIDE if names[name]]
        name = min(inside, key=lambda n: (planned[n], rng.random())) if manner == "inside" else rng.choice(sorted(names))
        return Strike(phase, name, rng.randint(1, names[name]))


def plan(found: Map, kills: int, seed: int) -> list[list[Strike]]:
    """At least `kills` strikes, as many in every phase as in any other (give or take one), dealt to runs, there in the order of phases.

    A phase that is struck twice in a run is struck while it recovers, near its beginning: what was done is not announced again.
    """
    rng = random.Random(seed)
    planned: Counter[str] = Counter()
    strikes = []
    for n in range(max(kills, len(PHASES))):
        strike = found.draw(PHASES[n % len(PHASES)], MANNERS[n // len(PHASES) % len(MANNERS)], planned, rng)
        planned[strike.name] += 1
        strikes.append(strike)
    rng.shuffle(strikes)
    runs = []
    while strikes:
        size = rng.randint(1, MOST_IN_A_RUN)
        dealt, strikes = sorted(strikes[:size], key=lambda s: s.order), strikes[size:]
        runs.append([
            Strike(s.phase, s.name, rng.randint(1, min(2, s.nth)), s.delay) if i and dealt[i - 1].phase == s.phase else s
            for i, s in enumerate(dealt)
        ])  # fmt: skip
    return runs
