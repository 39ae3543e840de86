"""Fireworks batch inference. The ids of dataset, job and output are ours, made from the submission's key: the same rows always ask for
the same job, so a job that an earlier, killed process made is found by one GET, and Fireworks itself refuses a second one.

`continuedFromJobName` is not used: what is still owed after an expired or partly failed job is sent as a new dataset that holds only
that. Which state a parent must be in is not documented, and a dataset of our own leaves nothing to guess about who pays for what.
"""

from __future__ import annotations

import itertools
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.base.errors import ConfigError, StepError
from pipeline.base.files import TEMP_MARK
from pipeline.base.rows import RequestRow, ResultRow
from pipeline.providers import firectl
from pipeline.providers import fireworks_wire as wire
from pipeline.providers.fireworks_api import EXPIRED_URL, Body, FireworksApi
from pipeline.providers.http import HttpFault, Patience, bare_url, download, patiently
from pipeline.providers.protocol import Ambiguous, Barred, Ids, JobState, JobStatus, Limits, NoRoomNow, Provider, Rejected, Submission

log = logging.getLogger(__name__)

MAX_BYTES = 500_000_000
"""The smallest of the documented limits of an input dataset (500 MB, 1 GB, 80 GiB over time): `provider.max_bytes` raises it."""
UPLOAD_BYTES = 150_000_000
"""What `:upload` takes in one request; larger files go to a signed URL."""
NUMBERS = {"upload_bytes", "ready_seconds", "look_seconds", "retry_seconds", "retry_attempts", "retry_wait_seconds"}
OPTIONS = NUMBERS | {"job", "output_dataset", "roles"}
OURS = {"model", "inputDatasetId", "outputDatasetId", "continuedFromJobName", "inferenceParameters", "displayName"}
BARRED = {
    401: "Check FIREWORKS_API_KEY.",
    402: "Check the account's payment method.",
    403: "Check FIREWORKS_API_KEY and the account id.",
    412: "The account may be suspended: see the Fireworks console.",
}
ANEW = "Use --fresh to send these requests under new ids."
REFUSED = {
    404: "Check the model's name (accounts/fireworks/models/...) and the account id.",
    413: "Lower provider.max_bytes, so that the shard is split.",
}


class FireworksProvider(Provider):
    """Batch inference jobs of one Fireworks account."""

    name = "fireworks"
    look_again_after = (0.0, 1.0, 4.0)

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """`settings` is the config's `provider`: base_url, account_id, timeout_seconds, limits, `options` (docs/providers/fireworks.md).

        The key comes from FIREWORKS_API_KEY alone. Raises ConfigError.
        """
        self._settings, options = settings, dict(settings.get("options") or {})
        self._account: str = settings.get("account_id") or os.environ.get("FIREWORKS_ACCOUNT_ID") or ""
        if not self._account:
            raise ConfigError("no Fireworks account id", where="provider.account_id", remedy="Set it there or in FIREWORKS_ACCOUNT_ID.")
        self._job_fields = dict(options.get("job") or {})
        _check_options(options, self._job_fields)
        self._options = options
        self._uploaded: set[tuple[str, str]] = set()
        self._roles = wire.ROLES | set(options.get("roles", ()))
        self._patience = Patience(
            float(options.get("retry_seconds", 120)), int(options.get("retry_attempts", 10)), float(options.get("retry_wait_seconds", 0.5))
        )
        self._api = FireworksApi(settings.get("base_url"), float(settings.get("timeout_seconds", 60)))

    def limits(self) -> Limits:
        """From the settings; by default 500 MB a job and no other limit (Fireworks documents none of rows, jobs or tokens)."""
        s = self._settings
        return Limits(s.get("max_rows"), s.get("max_bytes", MAX_BYTES), s.get("max_concurrent_jobs"), s.get("max_enqueued_tokens"))

    def check(self, rows: Iterator[RequestRow]) -> list[str]:
        """Faults that would fail the job: roles, content, sampling ranges, ids, sizes."""
        limits = self.limits()
        return wire.input_faults(rows, limits.max_rows, limits.max_bytes, self._roles)

    # ------------------------------------------------------------------------------------------------------ submitting

    def find(self, submission: Submission, ids: Ids) -> Ids | None:
        """The job under this submission's id. Raises Rejected where that id holds other work, StepError where looking fails."""
        wanted = self._ids(submission, ids)
        job, _now = self._look(wanted)
        if job is None:
            return None
        self._require_ours(job, wanted, submission.model)
        return _learned(wanted, job)

    def create(self, submission: Submission, ids: Ids, record: Callable[[Ids], None]) -> Ids:
        """Dataset, upload, job. Everything before the job may be repeated freely: only a job costs money."""
        ids = self._ids(submission, ids)
        record(ids)
        try:
            self._provide_dataset(submission, ids)
        except HttpFault as fault:
            raise _refusal(fault) if not fault.ambiguous else Ambiguous(f"{fault.fact} (no job was asked for)") from fault
        fields = {"model": submission.model, "inputDatasetId": _full(ids, "input_dataset"), "displayName": submission.key}
        chosen = self._options.get("output_dataset", "chosen") == "chosen"
        for output in ([{"outputDatasetId": _full(ids, "output_dataset")}] if chosen else []) + [{}]:
            try:
                job = self._api.create_job(ids["account"], ids["job"], {**fields, **output, **self._job_fields})
            except HttpFault as fault:
                of_output = bool(output) and not fault.ambiguous and "output" in fault.body.lower()
                gone = (of_output or _exists(fault)) and self.find(submission, ids) is None
                if gone and self._output_there(ids):
                    return ids  # the job's record is gone, its answers are there, and were paid for
                if gone and of_output:
                    log.warning("Fireworks did not take the output dataset's id (%s); it will choose one", fault.fact)
                    continue
                if fault.ambiguous or _exists(fault):
                    raise Ambiguous(fault.fact, remedy="The next look tells whether the job exists.") from fault
                raise _refusal(fault) from fault
            return _learned(ids, job)
        raise AssertionError("unreachable: the last form either returns or raises")

    def _ids(self, submission: Submission, ids: Ids) -> Ids:
        key = submission.key
        return {"account": self._account, "job": key, "input_dataset": f"{key}-in", "output_dataset": f"{key}-out", **ids}

    def _require_ours(self, job: Body, ids: Ids, wanted: str) -> None:
        model, dataset = wire.short(job.get("model")), wire.short(job.get("inputDatasetId"))
        precision = job.get("precision") or self._job_fields.get("precision")
        other_precision = precision != self._job_fields.get("precision", precision)
        if (model and model != wire.short(wanted)) or (dataset and dataset != ids["input_dataset"]) or other_precision:
            raise Rejected(
                f"the Fireworks job {ids['job']} holds other work (model {model}, input dataset {dataset}, precision {precision})",
                remedy=ANEW,
            )

    def _provide_dataset(self, submission: Submission, ids: Ids) -> None:
        """Make the input dataset exist and be READY. One that is still UPLOADING is uploaded again: its bytes are the same."""
        account, dataset = ids["account"], ids["input_dataset"]
        there = patiently(lambda: self._dataset_there(account, dataset, submission.count), self._patience)
        if str(there.get("exampleCount") or submission.count) != str(submission.count):
            raise Rejected(
                f"the Fireworks dataset {dataset} holds other rows ({there['exampleCount']}, not {submission.count})", remedy=ANEW
            )
        if _state(there) != "READY":
            if (account, dataset) not in self._uploaded:  # a slow validation is not begun anew by us
                self._upload(submission, account, dataset)
            self._await_ready(account, dataset)

    def _upload(self, submission: Submission, account: str, dataset: str) -> None:
        path = _temporary(submission.rows_path, "input.jsonl")
        try:
            _count, size = wire.write_input(submission.rows(), path)
            upload = self._api.upload if size <= int(self._options.get("upload_bytes", UPLOAD_BYTES)) else self._api.upload_large
            patiently(lambda: upload(account, dataset, path), self._patience)
        finally:
            path.unlink(missing_ok=True)
        self._uploaded.add((account, dataset))

    def _dataset_there(self, account: str, dataset: str, count: int) -> Body:
        found = self._api.dataset(account, dataset)
        if found is None:
            try:
                self._api.create_dataset(account, dataset, count)
            except HttpFault as fault:
                if not _exists(fault):
                    raise
            found = self._api.dataset(account, dataset)
        return found or {}

    def _await_ready(self, account: str, dataset: str) -> None:
        wait, end = float(self._options.get("look_seconds", 1.0)), time.monotonic() + float(self._options.get("ready_seconds", 300))
        while _state(found := patiently(lambda: self._api.dataset(account, dataset), self._patience)) != "READY":
            if problem := wire.dataset_problem(found or {}):
                raise Rejected(f"Fireworks does not accept the dataset {dataset}: {problem}", splittable=True)
            if time.monotonic() >= end:
                raise NoRoomNow(f"Fireworks has not made the dataset {dataset} ready yet", retry_after=30)
            time.sleep(wait)
            wait = min(wait * 1.5, 15.0)

    # --------------------------------------------------------------------------------------------------------- polling

    def poll(self, ids: Ids, submission: Submission) -> JobStatus:
        """Look at the job. Where its record is gone, its output dataset, if there, still ends the job."""
        ids = self._ids(submission, ids)
        job, now = self._look(ids)
        if job is None:
            time.sleep(min(1.0, float(self._options.get("look_seconds", 1.0))))  # one 404 is not enough to call paid work lost
            job, now = self._look(ids)
        if job is None:
            if self._output_there(ids):
                return JobStatus(JobState.ENDED, total=submission.count, message="the job's record is gone, its output dataset is there")
            return JobStatus(JobState.LOST, total=submission.count, message=f"Fireworks knows no job {ids['job']}")
        ids = _learned(ids, job)
        status = wire.job_status(job, submission.count, now, ids, lambda: {row.custom_id for row in submission.rows()})
        if wire.is_removed(job) and not self._output_there(ids):
            status = replace(status, state=JobState.LOST)
        return status

    def _look(self, ids: Ids) -> tuple[Body | None, float | None]:
        try:
            return patiently(lambda: self._api.job(ids["account"], ids["job"]), self._patience)
        except HttpFault as fault:
            raise StepError(fault.fact, remedy=BARRED.get(fault.status or 0, "Run again later: nothing is lost.")) from fault

    def _output_there(self, ids: Ids) -> bool:
        return patiently(lambda: self._api.dataset(ids["account"], ids["output_dataset"]), self._patience) is not None

    def cancel(self, ids: Ids) -> None:
        """Ask for the end of the job; a job that runs and cannot be cancelled is left to finish, because deleting it may lose paid rows."""
        account, name = ids.get("account", self._account), ids["job"]
        job, _now = self._look({**ids, "account": account})
        if job is None or wire.job_state(job)[0].final:
            return
        try:
            self._api.cancel_job(account, name)
        except HttpFault as fault:
            if fault.transient and not fault.garbled:
                raise
            if wire.job_state(job) == (JobState.WAITING, "") and not wire.has_answers(job):
                patiently(lambda: self._api.delete_job(account, name), self._patience)
            else:
                log.warning("Fireworks cannot cancel the running job %s (%s); it is left to finish", name, fault.fact)

    # -------------------------------------------------------------------------------------------------------- fetching

    def fetch(self, ids: Ids, submission: Submission) -> Iterator[ResultRow]:
        """The rows of both files of the output dataset. Raises StepError where there should be rows and none can be had."""
        ids = self._ids(submission, ids)
        got: dict[str, Path] = {}
        try:
            try:
                self._download(ids, submission.rows_path, got)
                files = got
            except StepError as e:
                files = self._by_firectl(ids, submission.rows_path.with_name(f"firectl-{ids['output_dataset']}"), e)
            for name, path in files.items():
                yield from wire.read_results(path, name)
        finally:
            for path in got.values():
                path.unlink(missing_ok=True)

    def _download(self, ids: Ids, beside: Path, got: dict[str, Path]) -> None:
        """Download every file of the output dataset into `got`, asking for new signed URLs on each attempt."""
        job, _now = self._look(ids)
        ids, owed = _learned(ids, job or {}), job is not None and wire.owes_results(job)
        sums: dict[str, str] = {}
        looks = itertools.count()
        announced, lines, short = wire.announced_rows(job or {}), dict[str, int](), set[int]()

        def attempt() -> None:
            urls = self._api.download_urls(ids["account"], ids["output_dataset"])
            if not urls and (owed or next(looks) == 0):  # one look is not enough to call paid answers absent
                raise HttpFault(f"Fireworks: the output dataset {ids['output_dataset']} has no files", status=404)
            for number, (name, url) in enumerate(sorted((urls or {}).items())):
                if name not in got:
                    path = _temporary(beside, f"output{number}")
                    lines[name] = self._download_one(name, url, path, sums)
                    got[name] = path
            if (found := sum(lines.values())) < announced and found not in short:
                short.add(found)  # cut between two lines on the way? What comes a second time is really so
                for path in got.values():
                    path.unlink()
                got.clear()
                raise HttpFault(f"download: {found} rows came of {announced} announced", status=200, garbled=True)

        patiently(attempt, self._patience, also=EXPIRED_URL)
        if owed and not any(path.stat().st_size for path in got.values()):
            raise StepError(f"the job {ids['job']} says that it has answers, but its output dataset is empty")

    def _download_one(self, name: str, url: str, path: Path, sums: dict[str, str]) -> int:
        """Download one file; returns its number of lines."""
        timeout = float(self._settings.get("timeout_seconds", 60))
        digest = download(url, path, what=f"download {name}", timeout=timeout)
        bad, lines = wire.unreadable_lines(path)
        main_file = name.endswith(".jsonl")
        if bad and (digest != sums.get(name) or (main_file and bad == lines)):
            # Spoilt on the way, or really so? The same bytes twice are really so, and are then read as far as they can be.
            sums[name] = digest
            path.unlink()
            raise HttpFault(f"download {name}: {bad} of {lines} lines are not JSON", status=200, garbled=True)
        return lines

    def _by_firectl(self, ids: Ids, folder: Path, reason: StepError) -> dict[str, Path]:
        if not folder.exists():
            partial = folder.with_name(f"{folder.name}.partial")
            if firectl.download_with_firectl(ids["account"], ids["output_dataset"], partial):
                partial.rename(folder)
            shutil.rmtree(partial, ignore_errors=True)
        files = firectl.downloaded(folder) if folder.exists() else {}
        if not files:
            command = firectl.printed(firectl.firectl_command(ids["account"], ids["output_dataset"], folder))
            raise StepError(
                f"{reason.fact}", where=reason.where, remedy=f"Try again later, or run: {command} ; and then run again."
            ) from reason
        log.warning("results of job %s read from %s, which firectl wrote (%s)", ids["job"], folder.name, reason.fact)
        return files

    def close(self) -> None:
        """Release the connections."""
        self._api.close()

    def provenance(self) -> Mapping[str, Any]:
        """SDK version, endpoint and the job's further fields."""
        return {"sdk": f"fireworks-ai {self._api.version}", "base_url": bare_url(self._api.base_url), "job": self._job_fields}


def _check_options(options: Mapping[str, Any], job_fields: Mapping[str, Any]) -> None:
    if unknown := sorted(set(options) - OPTIONS):
        raise ConfigError(
            f"unknown: {', '.join(unknown)}", where="provider.options", remedy=f"Fireworks knows {', '.join(sorted(OPTIONS))}."
        )
    for name in sorted(NUMBERS & set(options)):
        if isinstance(options[name], bool) or not isinstance(options[name], (int, float)) or options[name] <= 0:
            raise ConfigError(f"is {options[name]!r}, not a number above 0", where=f"provider.options.{name}")
    if not isinstance(options.get("roles", []), list):
        raise ConfigError("is not a list", where="provider.options.roles")
    if taken := sorted(OURS & set(job_fields)):
        raise ConfigError(
            f"{', '.join(taken)} cannot be set here", where="provider.options.job", remedy="Ids are abiding's; sampling stands in each row."
        )
    if options.get("output_dataset", "chosen") not in ("chosen", "allocated"):
        raise ConfigError("is neither chosen nor allocated", where="provider.options.output_dataset")


def _full(ids: Ids, name: str) -> str:
    return f"accounts/{ids['account']}/datasets/{ids[name]}"


def _learned(ids: Ids, job: Body) -> Ids:
    """`ids` with what the job's record says of itself."""
    learned = {"job": wire.short(job.get("name")), "output_dataset": wire.short(job.get("outputDatasetId"))}
    return {**ids, **{k: v for k, v in learned.items() if v}}


def _state(dataset: Body | None) -> str:
    return str((dataset or {}).get("state") or "")


def _temporary(beside: Path, name: str) -> Path:
    return beside.with_name(f".{beside.stem}.{name}{TEMP_MARK}{os.getpid()}")


def _exists(fault: HttpFault) -> bool:
    """409, or 400 that says so: the duplicate's exact answer is not documented."""
    body = fault.body.lower()
    return fault.status == 409 or (fault.status == 400 and ("already exists" in body or "already_exists" in body))


def _refusal(fault: HttpFault) -> Rejected | Barred | NoRoomNow:
    if fault.status == 429:
        return NoRoomNow(fault.fact, retry_after=fault.retry_after)
    if fault.status in BARRED:
        return Barred(fault.fact, remedy=BARRED[fault.status])
    return Rejected(fault.fact, remedy=REFUSED.get(fault.status or 0), splittable=fault.status == 413)
