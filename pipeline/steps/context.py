"""What a step gets: the run it belongs to, and the unit, shard or trial it is about."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.base.errors import ManifestError
from pipeline.base.files import not_a_file
from pipeline.base.rows import Item, read_rows
from pipeline.base.schemas import read_document
from pipeline.experiment import TYPES, Experiment, Temp, Trial, Unit
from pipeline.layout import RunPaths, ShardPaths, prepared_folder
from pipeline.providers.queue import Queue
from pipeline.records.digest_cache import DigestCache, Stamp, stamp_of
from pipeline.records.events import Events
from pipeline.records.repair import fault_of_build
from pipeline.records.run_state import RunState
from pipeline.records.stop import StopToken


@dataclass(frozen=True)
class ShardRef:
    """A shard as the layout knows it. `sha256` is None until it is built."""

    unit: str
    key: str
    temp: Temp
    requests: int
    sha256: str | None = None

    @property
    def name(self) -> str:
        """`<unit>/t0_p00`."""
        return f"{self.unit}/{self.key}"


@dataclass(frozen=True)
class Options:
    """What the command line chose besides the config."""

    parts_per_dataset: int = 1
    lines_per_part: int | None = None
    max_concurrent_jobs: int | None = None
    no_wait: bool = False
    force: bool = False
    fresh: bool = False
    retry_failed: bool = False


@dataclass
class Run:
    """One run: experiment, paths and the services that its steps share."""

    root: Path
    experiment: Experiment
    paths: RunPaths
    cache: DigestCache
    options: Options = field(default_factory=Options)
    stop: StopToken = field(default_factory=StopToken)
    notice: Callable[[str], None] = lambda _text: None
    progress: Callable[[str, str], None] = lambda _event, _name: None
    readonly: bool = False
    state: RunState | None = None
    trials_selected: frozenset[str] | None = None
    """Slugs of the trials chosen with --trial; None: all."""
    _built: tuple[Stamp, dict[str, Any]] | None = None
    _shard_paths: dict[str, ShardPaths] = field(default_factory=dict)
    manifest_lock: threading.RLock = field(default_factory=threading.RLock)

    @cached_property
    def events(self) -> Events:
        """The run's event log."""
        with self.manifest_lock:
            found: Events = self.__dict__.setdefault("events", Events(self.paths.events))
            return found

    @property
    def events_written(self) -> bool:
        """Whether anything happened that was worth an event."""
        return "events" in self.__dict__

    def selected(self, trial: Trial) -> bool:
        """Whether a trial was chosen."""
        return self.trials_selected is None or trial.slug in self.trials_selected

    @property
    def prepared(self) -> Path:
        """The folder of this run's items."""
        return prepared_folder(self.root, self.experiment.prepared_id)

    def item_file(self, kind: str) -> Path:
        """`open_book.jsonl` or `closed_book.jsonl` of the prepared items."""
        return self.prepared / f"{kind}_book.jsonl"

    @cached_property
    def items(self) -> dict[str, list[Item]]:
        """The items by type, as `prepare` writes them: from the prepared files where they are, else from the sources."""
        from pipeline.steps import prepare

        return prepare.items_of(self)

    def stream_items(self, kind: str) -> Iterator[tuple[str, Item]]:
        """(type, item) of the items of a type, or of `all`; from the prepared files, where they are, without holding them."""
        for type_ in TYPES if kind == "all" else (kind,):
            path = self.item_file(type_)
            yield from ((type_, item) for item in (read_rows(path, Item) if path.exists() else self.items[type_]))

    def item_count(self) -> int:
        """How many items are asked, of both types."""
        try:
            counts = read_document(self.prepared / "prepared_manifest.json", "prepared_manifest")["counts"]
        except (FileNotFoundError, ManifestError):
            return sum(map(len, self.items.values()))
        return sum(int(counts[kind]["items"]) for kind in ("open", "closed"))

    def built(self) -> dict[str, Any] | None:
        """The build manifest, or None where there is none that fits this experiment's requests."""
        try:
            with not_a_file(self.paths.build_manifest):
                stamp = stamp_of(self.paths.build_manifest)
            if self._built is None or self._built[0] != stamp:  # read once as long as nobody touches it
                self._built = (stamp, read_document(self.paths.build_manifest, "build_manifest"))
        except (FileNotFoundError, ManifestError):
            return None
        document = self._built[1]
        if document["prepared"] != self.experiment.prepared_id or fault_of_build(document):
            return None
        return document if document["request_hash"] == self.experiment.request_hash else None

    @cached_property
    def layout(self) -> dict[str, list[ShardRef]]:
        """The shards of every unit: frozen by the build manifest where it knows the unit, else as `build` will make them."""
        from pipeline.steps import build

        return build.layout_of(self)

    def relayout(self) -> None:
        """Forget what was derived before `prepare` and `build` ran."""
        for name in ("items", "layout"):
            self.__dict__.pop(name, None)

    def shard_paths(self, shard: ShardRef) -> ShardPaths:
        """The files of a shard."""
        found = self._shard_paths.get(shard.name)
        if found is None:
            found = self._shard_paths[shard.name] = self.paths.shard(shard.unit, shard.key)
        return found

    def trial_shards(self, trial: Trial) -> list[tuple[str, ShardRef]]:
        """(condition, shard) of a trial: control first, by temperature, in shard order: the order of predictions.csv."""
        return [
            (condition, shard)
            for condition in ("control", "treatment")
            for temp in trial.temps
            for shard in self.layout[trial.unit(condition).slug]
            if shard.temp == temp
        ]

    @cached_property
    def queue(self) -> Queue:
        """The queue with this run's provider, made when it is first needed."""
        from pipeline.steps.composition import make_queue

        with self.manifest_lock:  # two threads that ask at once must not get two queues, each with slots and money of its own
            if "queue" not in self.__dict__:
                self.__dict__["queue"] = make_queue(self)
            made: Queue = self.__dict__["queue"]
            return made

    def close(self) -> None:
        """Let go of provider, stores and logs; keep what was learned about files."""
        if "queue" in self.__dict__:
            self.queue.close()
        if "events" in self.__dict__:
            self.events.close()
        if not self.readonly:
            self.cache.save()


@dataclass(frozen=True)
class Context:
    """A step's subject."""

    run: Run
    unit: Unit | None = None
    shard: ShardRef | None = None
    trial: Trial | None = None

    @property
    def the_unit(self) -> Unit:
        """The unit, for steps that are about one."""
        assert self.unit is not None
        return self.unit

    @property
    def the_shard(self) -> ShardRef:
        """The shard, for steps that are about one."""
        assert self.shard is not None
        return self.shard

    @property
    def the_trial(self) -> Trial:
        """The trial, for steps that are about one."""
        assert self.trial is not None
        return self.trial
