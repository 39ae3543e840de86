"""What the requests of each shard would become (done, reused, polled, repaired, sent) and what that may cost. Writes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from pipeline.base.errors import ManifestError
from pipeline.base.rows import RequestRow, ResultRow, read_rows
from pipeline.engine.session import Session
from pipeline.providers.money import Price, price_of, token_bounds
from pipeline.records.answers import AnswerStore
from pipeline.records.submission import SubmissionRecord, numbers
from pipeline.steps import build
from pipeline.steps.context import ShardRef

COMPLETION_SHARE = 0.5  # expected share of max_new_tokens that an answer uses: a guess, and labelled as one


@dataclass
class Forecast:
    """Counts of requests, tokens and dollars of one shard, or of several added up."""

    requests: int = 0
    done: int = 0
    reuse: int = 0
    poll: int = 0
    repair: int = 0
    send: int = 0
    expected_prompt_tokens: int = 0
    worst_prompt_tokens: int = 0
    expected_completion_tokens: int = 0
    worst_completion_tokens: int = 0
    expected_usd: float | None = 0.0
    worst_usd: float | None = 0.0
    oldest_reused: str | None = None

    def add(self, other: Forecast) -> None:
        """Add another's counts; an unknown price makes the sum unknown."""
        for name, value in asdict(other).items():
            mine = getattr(self, name)
            if name == "oldest_reused":
                setattr(self, name, min(filter(None, (mine, value)), default=None))
            else:
                setattr(self, name, None if mine is None or value is None else mine + value)

    def _price(self, row: RequestRow, price: Price | None) -> None:
        expected, worst, cap = token_bounds(row.body)
        likely = int(cap * COMPLETION_SHARE)
        self.send += 1
        self.expected_prompt_tokens += expected
        self.worst_prompt_tokens += worst
        self.expected_completion_tokens += likely
        self.worst_completion_tokens += cap
        if price is None:
            self.expected_usd = self.worst_usd = None
        elif self.expected_usd is not None and self.worst_usd is not None:
            self.expected_usd += price.usd(expected, likely)
            self.worst_usd += price.usd(worst, cap)


def forecasts(session: Session) -> dict[str, Forecast]:
    """By shard name. Raises ConfigError where a model has no price."""
    run, exp = session.run, session.experiment
    store = AnswerStore(run.paths.answers_db, readonly=True)
    generation = (run.state["generation"] if run.state else _generation(session)) + (1 if run.options.fresh else 0)
    counted: set[str] = set()  # the same content in another shard of this run is sent once
    try:
        found = {}
        for ref in session.shards:
            model = exp.units[ref.unit].model.id
            price = price_of(model, exp.config["provider"], exp.config["pricing"], use_batch=exp.config.get("use_batch_api", True))
            found[ref.name] = _forecast(session, ref, store, generation, price, counted)
        return found
    finally:
        store.close()


def _generation(session: Session) -> int:
    from pipeline.records.run_state import RunState

    try:
        return int(RunState.load(session.run.paths.state)["generation"])
    except (FileNotFoundError, ManifestError):
        return 0


def _rows(session: Session, ref: ShardRef) -> Iterable[RequestRow]:
    """The shard's requests: from its file where it is built, else as `build` would make them."""
    path = session.run.shard_paths(ref).rows
    if ref.sha256 is not None and path.exists():
        return read_rows(path, RequestRow)
    exp = session.experiment
    rows = list(build.requests(exp, exp.units[ref.unit], ref.temp, session.run.items))
    before = 0
    for other in session.run.layout[ref.unit]:
        if other.key == ref.key:
            break
        before += other.requests if other.temp == ref.temp else 0
    return rows[before : before + ref.requests]


def _forecast(session: Session, ref: ShardRef, store: AnswerStore, generation: int, price: Price | None, counted: set[str]) -> Forecast:
    run, paths = session.run, session.run.shard_paths(ref)
    f = Forecast(requests=ref.requests)
    record: SubmissionRecord | None
    try:
        record = SubmissionRecord.either(paths)
        if record["shard"]["sha256"] != ref.sha256 or record["generation"] != generation:
            record = None
    except (FileNotFoundError, ManifestError):
        record = None
    if record is not None and record["state"] == "published" and not (run.options.retry_failed and record["failed"]):
        results = record["results"]
        if run.cache.matches(paths.results, results["size"], results["sha256"]):
            f.done = ref.requests
        else:
            f.repair = ref.requests
        return f
    rows = list(_rows(session, ref))
    kept: set[str] = set()
    if paths.collected.is_file() and record is not None:
        kept = {row.custom_id for row in read_rows(paths.collected, ResultRow)} if _whole(paths.collected.read_bytes()) else set()
    flying: set[int] = set()
    if record is not None and record.open_attempt is not None:
        flying = set(numbers(record.open_attempt["rows"], ref.requests))
    given_up = {} if run.options.retry_failed or record is None else record["failed"]
    stored = store.known((row.answer_key for row in rows), generation)
    for i, row in enumerate(rows):
        if row.custom_id in kept or row.custom_id in given_up:
            f.done += 1
        elif i in flying:
            f.poll += 1
        elif row.answer_key in stored or row.answer_key in counted:
            f.reuse += 1
        else:
            f._price(row, price)
        counted.add(row.answer_key)
    if f.reuse and stored:
        f.oldest_reused = store.oldest(stored, generation)
    return f


def _whole(data: bytes) -> bool:
    return not data or data.endswith(b"\n")
