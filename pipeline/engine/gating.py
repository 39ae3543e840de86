"""Gates: what a selection of steps needs must be there before anything starts."""

from __future__ import annotations

from pipeline.base.errors import UsageError
from pipeline.engine.assess import assess
from pipeline.engine.session import Session
from pipeline.records.run_state import STEPS


def check_inputs(session: Session) -> None:
    """Raise UsageError naming the first missing input and the step that makes it, before any action runs."""
    if session.steps == STEPS:
        return  # whoever runs everything lacks nothing: sources and prompts were read with the config
    blocked = [a for a in assess(session) if a.verdict == "blocked"]
    if not blocked:
        return
    first = blocked[0]
    step = first.reason.rpartition("; step ")[2].removesuffix(" makes it")
    remedy = f"Begin earlier: doit run --from_step {step}" if step != first.reason else "Mend the path in the config."
    more = f" ({len(blocked) - 1} more tasks lack inputs)" if len(blocked) > 1 else ""
    raise UsageError(f"step {first.step} cannot start: {first.reason}{more}", where=first.task, remedy=remedy)
