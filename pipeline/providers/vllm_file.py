"""`vllm run-batch` on one's own GPUs: abiding writes the input file and prints the command, a person runs it, abiding reads the output.

vLLM truncates its output file on a new start and cannot resume: what is still owed therefore goes into a new file, never the old one.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from pipeline.base.errors import StepError
from pipeline.base.files import atomic_writer
from pipeline.base.rows import RequestRow, ResultRow
from pipeline.providers.checks import row_faults
from pipeline.providers.openai_compatible import NEUTRAL
from pipeline.providers.openai_lines import request_line, result_from_line
from pipeline.providers.protocol import Ids, JobState, JobStatus, Provider, Submission
from pipeline.providers.sdk import rows_of, unreadable_row


class VllmFileProvider(Provider):
    """Jobs that are files: `<key>.in.jsonl` to be run, `<key>.out.jsonl` to be read."""

    name = "vllm_file"

    def __init__(
        self,
        folder: str | Path | None = None,
        *,
        arguments: Sequence[str] = (),
        stale_seconds: float = 900.0,
        notice: Callable[[str], None] = print,
    ) -> None:
        """`folder` takes the files; by default they lie beside the requests. `arguments` are engine flags for the printed command.

        An unfinished output file that has not grown for `stale_seconds` is taken for a run that was killed.
        """
        self.folder = None if folder is None else Path(folder)
        self.arguments, self.stale_seconds, self.notice = [str(a) for a in arguments], stale_seconds, notice
        self._cancelled: set[str] = set()

    def check(self, rows: Iterator[RequestRow]) -> list[str]:
        """Faults for which vLLM would refuse the whole file."""
        return list(row_faults(rows))

    def find(self, submission: Submission, ids: Ids) -> Ids | None:
        """The job, where its input file or its output is there."""
        if self._input(submission).exists() or self._output(submission).exists():
            return {**ids, "job": submission.key}
        return None

    def create(self, submission: Submission, ids: Ids, record: Callable[[Ids], None]) -> Ids:
        """Write the input file and say what to run. Nothing runs, nothing is billed."""
        encoder = msgspec.json.Encoder()
        with atomic_writer(self._input(submission)) as f:
            for row in submission.rows():
                f.write(encoder.encode(request_line(row, self.wire_body(row.body, submission.model))) + b"\n")
        self.notice(f"Run, where your GPUs are ({submission.count} requests):\n  {self.command(submission)}")
        return {**ids, "job": submission.key}

    def wire_body(self, body: Mapping[str, Any], model: str) -> dict[str, Any]:
        """The request's settings, and vLLM's neutral value of every other one (none where the model's own defaults are meant)."""
        given = {name: value for name, value in body.items() if value is not None}
        return {"model": model, **(NEUTRAL["vllm"] if "temperature" in given else {}), **given}

    def command(self, submission: Submission) -> str:
        """The shell command that turns the input file into the output file."""
        files = ["-i", str(self._input(submission)), "-o", str(self._output(submission))]
        return shlex.join(["vllm", "run-batch", *files, "--model", submission.model, *self.arguments])

    def poll(self, ids: Ids, submission: Submission) -> JobStatus:
        """Count the rows in the output file. Incomplete and no longer growing: over, and the rest is owed."""
        output = self._output(submission)
        if submission.key in self._cancelled:
            return JobStatus(JobState.CANCELLED, total=submission.count)
        done = len({custom_id for custom_id, _, _ in self._lines(output)} & {row.custom_id for row in submission.rows()})
        if done == submission.count:
            return JobStatus(JobState.ENDED, done=done, total=submission.count)
        command = self.command(submission)
        if not done:
            return JobStatus(JobState.WAITING, done=0, total=submission.count, message=f"waiting for: {command}")
        quiet = time.time() - output.stat().st_mtime
        if quiet > self.stale_seconds:
            message = f"{output.name} has {done} of {submission.count} rows and has not grown for {quiet / 60:.0f} minutes"
            return JobStatus(JobState.EXPIRED, done=done, total=submission.count, message=message)
        return JobStatus(JobState.RUNNING, done=done, total=submission.count)

    def fetch(self, ids: Ids, submission: Submission) -> Iterator[ResultRow]:
        """The whole lines of the output file; a torn last one is as good as not written."""
        for custom_id, row, line in self._lines(self._output(submission)):
            yield unreadable_row(custom_id, line) if row is None else result_from_line(custom_id, row, line)

    def cancel(self, ids: Ids) -> None:
        """Wait for this job no longer. What a person started, a person stops."""
        self._cancelled.add(str(ids.get("job")))

    def provenance(self) -> Mapping[str, Any]:
        """The command's further arguments."""
        return {"arguments": self.arguments}

    def _input(self, submission: Submission) -> Path:
        return (self.folder or submission.rows_path.parent) / f"{submission.key}.in.jsonl"

    def _output(self, submission: Submission) -> Path:
        return (self.folder or submission.rows_path.parent) / f"{submission.key}.out.jsonl"

    @staticmethod
    def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any] | None, bytes]]:
        try:
            spool = open(path, "rb")  # noqa: SIM115 - rows_of closes it
        except FileNotFoundError:
            return
        except OSError as e:
            raise StepError(f"the output cannot be read: {e}", where=str(path), remedy="Mend its permissions, then run again.") from e
        for custom_id, row, line in rows_of(spool):
            if row is not None or line.endswith(b"\n"):
                yield custom_id, row, line
