"""`python -m tests.provider_run NAME FOLDER URL [--careless]`: the real queue works off a folder's shards against a test server.

A process of its own, so that it can be killed. Exits 0 once every shard is published. `--careless` creates without looking first: the
mutation that a kill storm must catch.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pipeline.base.digests import sha256_file
from pipeline.base.files import sweep_temporaries
from pipeline.layout import ShardPaths
from pipeline.providers.anthropic_batch import AnthropicBatchProvider
from pipeline.providers.http import Patience
from pipeline.providers.money import Budget
from pipeline.providers.openai_batch import OpenAIBatchProvider
from pipeline.providers.openai_compatible import OpenAICompatibleProvider
from pipeline.providers.protocol import Provider
from pipeline.providers.queue import Queue
from pipeline.providers.shard import Desk, Shard
from pipeline.records.answers import AnswerStore
from pipeline.records.events import Events
from pipeline.records.stop import StopToken

PATIENCE = Patience(deadline=20, attempts=20, initial=0.01, longest=0.1)
LOOKS = (0.02, 0.05, 0.1)


def make(name: str, url: str) -> Provider:
    """The provider, quick enough for a test."""
    if name == "openai":
        return OpenAIBatchProvider(f"{url}/v1", timeout_seconds=5, patience=PATIENCE, look_again_after=LOOKS)
    if name == "anthropic":
        return AnthropicBatchProvider(url, timeout_seconds=5, patience=PATIENCE, look_again_after=LOOKS)
    return OpenAICompatibleProvider(url, workers=3, slice_seconds=0.05, first_delay=0.01, max_tries=20)


def run(name: str, folder: Path, url: str, careless: bool = False) -> None:
    """Submit and collect every shard `rows/*.jsonl`; results go to `answers/<shard>/results.jsonl`."""
    provider = make(name, url)
    if careless:
        provider.find = lambda submission, ids: None  # type: ignore[method-assign]
    store, events = AnswerStore(folder / "answers.db"), Events(folder / "events.jsonl")
    desk = Desk("storm", provider, name, store, events, Budget(None), generation=0, max_attempts=6, notice=lambda _: None)
    sweep_temporaries(folder)
    shards = []
    for path in sorted((folder / "rows").glob("*.jsonl")):
        count, digest = path.read_bytes().count(b"\n"), sha256_file(path)
        paths = ShardPaths(path, folder / "answers" / path.stem)
        shards.append(Shard(desk, paths, unit="u", key=path.stem, model="m", sha256=digest, requests=count, price=None))
    queue = Queue(shards, StopToken(), slots=2, limits=provider.limits(), poll_seconds=0.01, start_timeout=3600.0, progress=lambda *_: None)
    for shard in queue.shards:
        queue.submit(shard)
    for shard in queue.shards:
        queue.wait(shard)
    queue.close()


if __name__ == "__main__":
    run(sys.argv[1], Path(sys.argv[2]), sys.argv[3], "--careless" in sys.argv)
