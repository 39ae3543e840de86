"""`python -m tests.queue_run FOLDER URL [--careless]`: the real queue works off the shards of a folder against a Fireworks test server.

A process of its own, so that it can be killed. Prints nothing; exits 0 once every shard is published. `--careless` creates without
looking first: the mutation that the kill storm must catch.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.base.digests import sha256_file
from pipeline.base.files import sweep_temporaries
from pipeline.layout import ShardPaths
from pipeline.providers.fireworks import FireworksProvider
from pipeline.providers.money import Budget
from pipeline.providers.protocol import Ids, Submission
from pipeline.providers.queue import Queue
from pipeline.providers.shard import Desk, Shard
from pipeline.records.answers import AnswerStore
from pipeline.records.events import Events
from pipeline.records.stop import StopToken

MODEL = "accounts/fireworks/models/gpt-oss-20b"
BRISK = {"look_seconds": 0.01, "retry_seconds": 20, "retry_attempts": 20, "retry_wait_seconds": 0.01}


class Careless(FireworksProvider):
    """Sees no job that an earlier process made."""

    def find(self, submission: Submission, ids: Ids) -> Ids | None:
        """None, always."""
        return None


def run(
    folder: Path,
    url: str,
    kind: type[FireworksProvider] = FireworksProvider,
    start_timeout: float = 3600.0,
    settings: Mapping[str, Any] | None = None,
    **options: Any,
) -> None:
    """Submit and collect every shard `rows/*.jsonl`; results go to `answers/<shard>/results.jsonl`."""
    provider = kind({**(settings or {}), "base_url": url, "account_id": "acme", "timeout_seconds": 5, "options": {**BRISK, **options}})
    desk = Desk(
        run_id="storm",
        provider=provider,
        provider_name="fireworks",
        store=AnswerStore(folder / "answers.db"),
        events=Events(folder / "events.jsonl"),
        budget=Budget(None),
        generation=0,
        max_attempts=6,
        notice=lambda _: None,
    )
    sweep_temporaries(folder)
    shards = []
    for path in sorted((folder / "rows").glob("*.jsonl")):
        count, digest = path.read_bytes().count(b"\n"), sha256_file(path)
        paths = ShardPaths(path, folder / "answers" / path.stem)
        shards.append(Shard(desk, paths, unit="u", key=path.stem, model=MODEL, sha256=digest, requests=count, price=None))
    queue = Queue(
        shards, StopToken(), slots=2, limits=provider.limits(), poll_seconds=0.01, start_timeout=start_timeout, progress=lambda *_: None
    )
    for name in queue.shards:
        queue.submit(name)
    for name in queue.shards:
        queue.wait(name)


if __name__ == "__main__":
    run(Path(sys.argv[1]), sys.argv[2], Careless if "--careless" in sys.argv else FireworksProvider)
