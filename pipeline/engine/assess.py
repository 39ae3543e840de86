"""What would run, and why: the one assessment behind `doit list --status` and `doit run --plan_only`, so that they agree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pipeline.engine.action import Action
from pipeline.engine.session import Session
from pipeline.records import snapshot
from pipeline.records.receipts import relative
from pipeline.records.run_state import STEPS, WITHIN

ORDER = tuple(name for step in STEPS for name in (step, *(inner for inner, outer in WITHIN.items() if outer == step)))


@dataclass
class Assessment:
    """One sub-task: `run`, `done`, `blocked` or `not selected`, with the reason in words."""

    step: str
    subject: str
    verdict: str
    reason: str
    action: Action = field(repr=False)

    @property
    def task(self) -> str:
        """doit's name of it."""
        return f"{self.step}:{self.subject}"


def assess(session: Session) -> list[Assessment]:
    """Every sub-task in order. A task whose upstream will run is to run; one whose input nobody makes is blocked. Writes nothing."""
    found: list[Assessment] = []
    will_change = _written_on_opening(session)
    for step in ORDER:
        selected = session.chosen(step)
        for subject, ctx in session.subjects(step):
            action = Action(session, step, ctx)
            if not selected:
                found.append(Assessment(step, subject, "not selected", "not among the chosen steps", action))
                continue
            entry = Assessment(step, subject, *_verdict(session, action, will_change), action)
            found.append(entry)
            if entry.verdict == "run":
                will_change.update((relative(t, session.root), f"{entry.task} runs before it") for t in action.targets)
    return found


def _written_on_opening(session: Session) -> dict[str, str]:
    """What no step makes but opening the run writes anew, and why: the archive holds the config as well."""
    paths = session.run.paths
    if not paths.effective_config.is_file():
        return {}
    same = paths.effective_config.read_bytes() == snapshot.config_text(session.experiment, paths).encode()
    return {} if same else {relative(paths.effective_config, session.root): "the config changed since"}


def _verdict(session: Session, action: Action, will_change: dict[str, str]) -> tuple[str, str]:
    inputs = [relative(p, session.root) for p in action.inputs]
    upstream = next((will_change[name] for name in inputs if name in will_change), None)
    missing = [name for name in inputs if name not in will_change and not (session.root / name).is_file()]
    if missing:
        who = maker(session, missing[0])
        return "blocked", f"{missing[0]} is missing" + (f"; {who} makes it" if who else "")
    if upstream is not None:
        return "run", upstream
    why = action.why_not_done()
    return ("done", "receipt holds") if why is None else ("run", why)


def maker(session: Session, name: str) -> str | None:
    """The step that makes the file `name` (relative to the root); None for a file of the user's."""
    for step in ORDER:
        for _subject, ctx in session.subjects(step):
            if any(relative(t, session.root) == name for t in Action(session, step, ctx).targets):
                return f"step {step}"
    return None


def by_step(found: list[Assessment]) -> Iterator[tuple[str, list[Assessment]]]:
    """Grouped by phase, in order; the aggregate and the tidy table belong to report."""
    for step in STEPS:
        yield step, [a for a in found if WITHIN.get(a.step, a.step) == step]
