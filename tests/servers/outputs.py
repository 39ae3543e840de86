"""What test servers of batch APIs do to result files: any order, and rows twice, missing, foreign or spoiled where a fault says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.base.digests import uniform

FOREIGN = "foreign-row-of-another-batch"


def shuffled(lines: Sequence[tuple[str, bytes]], seed: int, what: str) -> list[tuple[str, bytes]]:
    """The (custom_id, line) pairs in an order that is not the input's, the same every time."""
    return sorted(lines, key=lambda pair: uniform("order", str(seed), what, pair[0]))


def spoiled(lines: Sequence[tuple[str, bytes]], plan: Mapping[str, Any]) -> list[tuple[str, bytes]]:
    """The pairs after the faults `missing`, `duplicated`, `foreign`, `invalid_utf8` and `torn_row` (numbers of rows) of `plan`."""
    result = list(lines)[int(plan.get("missing", 0)) :]
    originals = list(result)
    for number in range(min(len(result), int(plan.get("invalid_utf8", 0)))):
        custom_id, line = result[-1 - number]
        head, quote, tail = max(line.partition(b'"text": "'), line.partition(b'"content": "'), key=lambda cut: len(cut[1] + cut[2]))
        result[-1 - number] = (custom_id, head + quote + b"\xff\xfe" + tail)
    for number in range(min(len(result), int(plan.get("torn_row", 0)))):
        custom_id, line = result[number]
        result[number] = (custom_id, line[: line.find(custom_id.encode()) + len(custom_id) + 12])
    result += result[-int(plan["duplicated"]) :] if plan.get("duplicated") else []
    for number, (custom_id, line) in enumerate(originals[: int(plan.get("foreign", 0))]):
        result.append((FOREIGN, line.replace(custom_id.encode(), f"{FOREIGN}-{number}".encode())))
    return result
