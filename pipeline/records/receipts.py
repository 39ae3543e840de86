"""Receipts: what a finished action was made from and what it left. They are the truth; doit's database is a cache of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.base.digests import digest
from pipeline.records.digest_cache import DigestCache

Receipt = dict[str, Any]


def relative(path: Path, root: Path) -> str:
    """A path as receipts write it: relative to the root, so that a moved project keeps its receipts."""
    return str(path).removeprefix(f"{root}{os.sep}")


def inputs_digest(inputs: Iterable[Path], settings: Mapping[str, Any], code: str, cache: DigestCache) -> str:
    """Digest of the bytes of all input files, the settings that the step reads, and its code. Raises FileNotFoundError.

    By content and order, not by name: a renamed folder changes nothing.
    """
    return digest([[cache.sha256(path) for path in inputs], dict(settings), code])


def make_receipt(digest_of_inputs: str, targets: Iterable[Path], root: Path, cache: DigestCache) -> Receipt:
    """The receipt of an action that has just made `targets`."""
    artifacts = {path.name: {"path": relative(path, root), "size": path.stat().st_size, "sha256": cache.sha256(path)} for path in targets}
    return {"inputs_digest": digest_of_inputs, "artifacts": artifacts}


def why_not(receipt: Mapping[str, Any] | None, digest_of_inputs: str, targets: Iterable[Path], cache: DigestCache) -> str | None:
    """Why a receipt does not hold, in words; None where it does."""
    if receipt is None or not receipt.get("inputs_digest"):
        return "never done"
    if receipt["inputs_digest"] != digest_of_inputs:
        return "its inputs or settings changed"
    for path in targets:
        artifact = receipt["artifacts"].get(path.name)
        if artifact is None:
            return f"no receipt for {path.name}"
        if not path.is_file():
            return f"{path.name} is missing"
        if not cache.matches(path, artifact["size"], artifact["sha256"]):
            return f"{path.name} is damaged"
    return None
