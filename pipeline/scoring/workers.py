"""Scoring in several processes: each worker reads the whole file and scores every n-th block; the parent writes the blocks in order.

Workers are fresh interpreters in their own session. They hold none of the parent's files or locks, do not see its Ctrl-C, and end when
it ends: their next write meets a closed pipe.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from pipeline.base.errors import AbidingError, StepError
from pipeline.scoring.settings import ScoringSettings

_PACKAGE_ROOT = Path(__file__).resolve().parents[2]
_START = "from pipeline.scoring.workers import work; work()"
_LENGTH = 8


def score(
    predictions: Path, item_files: Mapping[str, Path], settings: ScoringSettings, processes: int, sinks: Sequence[IO[bytes]]
) -> dict[str, Any]:
    """Write the scored lines of each arm to its sink, in the order of `predictions`. Returns the counts. Raises what a worker raised."""
    path = os.pathsep.join(filter(None, (str(_PACKAGE_ROOT), os.environ.get("PYTHONPATH", ""))))
    environment = os.environ | {"PYTHONPATH": path}
    started: list[subprocess.Popen[bytes]] = []
    counts: Counter[str] = Counter()
    try:
        for share in range(processes):
            worker = subprocess.Popen(
                [sys.executable, "-c", _START], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, start_new_session=True
            )
            started.append(worker)
            assert worker.stdin  # a pipe, as asked for
            worker.stdin.write(pickle.dumps((predictions, dict(item_files), settings, share, processes)))
            worker.stdin.close()
        at_work = list(started)
        while at_work:  # blocks are dealt in turn, so that one that has none left has none after it either
            for worker in list(at_work):
                for sink in sinks:
                    kind, content = _receive(worker)
                    if kind == b"E":
                        at_work.remove(worker)
                        result = pickle.loads(content)
                        if isinstance(result, AbidingError):
                            raise result
                        counts.update(result)
                        break
                    sink.write(content)
    finally:
        for worker in started:
            worker.kill()
            worker.wait()
            if worker.stdout:
                worker.stdout.close()
    return dict(counts)


def _receive(worker: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    assert worker.stdout  # a pipe, as asked for
    head = worker.stdout.read(1 + _LENGTH)
    if len(head) == 1 + _LENGTH:
        content = worker.stdout.read(length := int.from_bytes(head[1:], "little"))
        if len(content) == length:
            return head[:1], content
    raise StepError(f"a scoring worker ended early (exit {worker.wait()})", remedy="Run again; its message is above.")


def _send(kind: bytes, content: bytes) -> None:
    sys.stdout.buffer.write(kind + len(content).to_bytes(_LENGTH, "little") + content)
    sys.stdout.buffer.flush()


def work() -> None:
    """What a worker does: its task comes on stdin; blocks, then counts or the error, go to stdout."""
    from pipeline.scoring.files import blocks
    from pipeline.scoring.items import ItemIndex
    from pipeline.scoring.score_rows import RowScorer

    try:
        predictions, item_files, settings, share, of = pickle.load(sys.stdin.buffer)
    except EOFError:  # the parent ended before it had a task for us
        os._exit(1)
    scorer = RowScorer(settings)
    try:
        indexes = {kind: ItemIndex(path) for kind, path in item_files.items()}
        for block in blocks(predictions, indexes, scorer, share, of):
            for lines in block:
                _send(b"B", lines)
        _send(b"E", pickle.dumps(scorer.counts))
    except BrokenPipeError:  # the parent is gone: nothing is left to do, and nobody to tell
        os._exit(1)
    except AbidingError as e:
        _send(b"E", pickle.dumps(e))
