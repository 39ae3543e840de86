"""Every path that abiding reads or writes, in one place. All relative to the folder of `dodo.py`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pipeline.base.errors import UsageError


def find_root(start: Path | None = None) -> Path:
    """The folder of `dodo.py`: the current folder or the nearest one above. Raises UsageError."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "dodo.py").is_file():
            return folder
    raise UsageError("there is no dodo.py here or above", where=str(here), remedy="Change into the project's folder first.")


def temp_slug(temp: float | str) -> str:
    """`t0`, `t0p7`, `tdefault`: the temperature as `%g`, its point written `p`."""
    return "t" + (temp if isinstance(temp, str) else f"{temp:g}".replace(".", "p").replace("-", "m").replace("+", ""))


@dataclass(frozen=True)
class ShardPaths:
    """The files of one shard. There may be thousands, and a rerun that has nothing to do names them all: each path is made once."""

    rows: Path
    folder: Path

    @cached_property
    def submission(self) -> Path:
        """What was promised and sent: `submission.json`."""
        return self.folder / "submission.json"

    @property
    def submission_twin(self) -> Path:
        """The same once more, beside the requests: `batch_inputs/<unit>/t0_p00.submission.json`, for the day when the other is lost."""
        return self.rows.with_name(f"{self.rows.stem}.submission.json")

    @cached_property
    def results(self) -> Path:
        """The answers, one row per request: `results.jsonl`."""
        return self.folder / "results.jsonl"

    @property
    def collected(self) -> Path:
        """Rows accepted so far, while some are still owed (removed once results.jsonl is published)."""
        return self.folder / "collected.jsonl"

    def attempt(self, number: int) -> Path:
        """The rows of a follow-up attempt that holds only a part of the shard (removed once published)."""
        return self.folder / f"attempt_{number:02d}" / "rows.jsonl"


@dataclass(frozen=True)
class TrialPaths:
    """The files of one trial."""

    folder: Path

    @property
    def results(self) -> Path:
        """The folder of result files."""
        return self.folder / "results"

    @property
    def reports(self) -> Path:
        """The folder of reports."""
        return self.folder / "reports"

    @property
    def manifest(self) -> Path:
        """`trial_manifest.json` (v2)."""
        return self.results / "trial_manifest.json"

    @property
    def predictions(self) -> Path:
        """`predictions.csv`: one row per request."""
        return self.results / "predictions.csv"

    @property
    def scores(self) -> Path:
        """`per_item_scores.csv`: one row per item, condition and temperature."""
        return self.results / "per_item_scores.csv"

    @property
    def significance(self) -> Path:
        """`significance.json`: effects, intervals, tests, verdict."""
        return self.results / "significance.json"

    @property
    def costs(self) -> Path:
        """`costs.json`: tokens and dollars of the answers used."""
        return self.results / "costs.json"

    @property
    def provenance(self) -> Path:
        """`provenance.json`: the way there (times, job ids, attempts, money)."""
        return self.results / "provenance.json"

    @property
    def report_md(self) -> Path:
        """`report.md`."""
        return self.reports / "report.md"

    @property
    def report_html(self) -> Path:
        """`report.html`."""
        return self.reports / "report.html"

    @property
    def provenance_html(self) -> Path:
        """`provenance.html`."""
        return self.reports / "provenance.html"


@dataclass(frozen=True)
class RunPaths:
    """The files of one run: `experiments/run_<RUN_ID>/`."""

    experiments: Path
    run_id: str

    @property
    def folder(self) -> Path:
        """The run's own folder."""
        return self.experiments / f"run_{self.run_id}"

    @property
    def state(self) -> Path:
        """`run_state.json`."""
        return self.folder / "run_state.json"

    @property
    def effective_config(self) -> Path:
        """`effective_config.yaml`: the config as this run understood it."""
        return self.folder / "effective_config.yaml"

    @property
    def inputs(self) -> Path:
        """Snapshot of prompts and task instructions."""
        return self.folder / "inputs"

    @property
    def events(self) -> Path:
        """`events.jsonl`: what happened, in order."""
        return self.folder / "events.jsonl"

    @property
    def lock(self) -> Path:
        """`.run.lock`: held by the process that works on this run."""
        return self.folder / ".run.lock"

    @property
    def doit_db(self) -> Path:
        """`.doit.db`: doit's cache of what is up to date."""
        return self.folder / ".doit.db"

    @property
    def stop_request(self) -> Path:
        """`STOP_REQUESTED`: there only while a stop is asked for."""
        return self.folder / "STOP_REQUESTED"

    @property
    def batch_inputs(self) -> Path:
        """The folder of shards."""
        return self.folder / "batch_inputs"

    @property
    def build_manifest(self) -> Path:
        """`build_manifest.json`: freezes the layout."""
        return self.batch_inputs / "build_manifest.json"

    @property
    def aggregate_md(self) -> Path:
        """`aggregate_report.md`: all trials side by side."""
        return self.folder / "aggregate_report.md"

    @property
    def aggregate_html(self) -> Path:
        """`report.html` of the run."""
        return self.folder / "report.html"

    @property
    def table_csv(self) -> Path:
        """`results.csv`: one row per request of the whole run, with all that is known of it."""
        return self.folder / "results.csv"

    @property
    def table_parquet(self) -> Path:
        """`results.parquet`: the same rows, typed."""
        return self.folder / "results.parquet"

    @property
    def archive_manifest(self) -> Path:
        """`archive_manifest.json`: every file with its checksum."""
        return self.folder / "archive_manifest.json"

    @property
    def answers_db(self) -> Path:
        """`answers.db`: the answer store, shared by all runs of this experiments folder."""
        return self.experiments / "answers.db"

    @property
    def simulated_remote(self) -> Path:
        """`simulated_remote.db`: the dry run's remote side."""
        return self.experiments / "simulated_remote.db"

    @property
    def registry(self) -> Path:
        """`registry.jsonl`: the pre-registrations of all runs, kept outside the run's folder too."""
        return self.experiments / "registry.jsonl"

    @property
    def digest_cache(self) -> Path:
        """`.digests.json`: sha256 of files by stamp, so that an untouched file is not hashed twice."""
        return self.experiments / ".digests.json"

    def shard(self, unit: str, key: str) -> ShardPaths:
        """The files of shard `key` (`t0_p00`) of a unit."""
        return ShardPaths(self.batch_inputs / unit / f"{key}.jsonl", self.folder / "answers" / unit / key)

    def trial(self, slug: str) -> TrialPaths:
        """The files of a trial."""
        return TrialPaths(self.folder / slug)


def prepared_folder(root: Path, digest8: str) -> Path:
    """`data/prepared/<8 hex>`: immutable, shared by runs."""
    return root / "data" / "prepared" / digest8
