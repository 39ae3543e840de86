"""Other runs of the same experiments folder: which of them is unfinished, what it has, how to finish it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.base.errors import ManifestError
from pipeline.layout import RunPaths
from pipeline.records.run_state import RunState
from pipeline.records.submission import SubmissionRecord


@dataclass(frozen=True)
class Unfinished:
    """A run that has begun to ask and has not come to its report."""

    run_id: str
    answers: int
    in_flight: int
    billed_usd: float

    @property
    def line(self) -> str:
        """What to know of it, in one line."""
        flying = f", {self.in_flight} requests in flight" if self.in_flight else ""
        has = f"{self.answers} answers, ${self.billed_usd:.4f} billed{flying}"
        return f"run {self.run_id} is unfinished: {has}; finish it from its own snapshot: doit run --run_id {self.run_id} --resume"


def unfinished(experiments: Path, config_path: str, but: str) -> list[Unfinished]:
    """Unfinished runs of the same config file, except run `but`. Reads only; what is unreadable is left out."""
    found = []
    for folder in sorted(experiments.glob("run_*")) if experiments.is_dir() else []:
        try:
            state = RunState.load(folder / "run_state.json")
        except (FileNotFoundError, ManifestError):
            continue
        if (
            state["run_id"] == but
            or state["config_path"] != config_path
            or state.status("report") == "completed"
            or state.status("submit") == "not_started"
        ):
            continue
        answers = flying = 0
        billed = 0.0
        paths = RunPaths(experiments, state["run_id"])
        for path in folder.glob("answers/*/*/submission.json"):
            try:
                record = SubmissionRecord.load(paths.shard(path.parents[1].name, path.parent.name))
            except (FileNotFoundError, ManifestError):
                continue
            answers += record.answered
            billed += record.billed_usd
            flying += record.open_attempt["requests"] if record.open_attempt else 0
        found.append(Unfinished(state["run_id"], answers, flying, billed))
    return found
