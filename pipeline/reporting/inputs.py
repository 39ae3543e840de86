"""What a trial's report is made from: paths to the documents and tables of earlier steps, and what was planned."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.base.errors import ManifestError
from pipeline.base.schemas import parse_json

Document = dict[str, Any]


@dataclass(frozen=True)
class TrialReportInputs:
    """Everything that `write_trial_report` reads. Strings here are printed: no absolute path, host, time or run_id among them."""

    title: str
    contrast: Mapping[str, str]
    """name, control, treatment."""
    model: str
    provider: str
    decoding: Mapping[str, Any]
    prompts: Mapping[str, Mapping[str, Any]]
    """condition -> path (or None), text, sha256."""
    significance: Path
    costs: Path
    scores: Path
    predictions: Path
    item_files: Mapping[str, Path | None]
    """type (`open`, `closed`) -> prepared items."""
    planned: Mapping[str, Any]
    """The primary analysis as locked before the first request."""
    out_dir: Path
    changes: list[str] = field(default_factory=list)
    """What differs from the lock, one sentence each; empty where nothing does."""
    trust: Mapping[str, Any] | None = None
    """How far the metric can be trusted: {columns: [...], rows: [[...]] or [{column: cell}], notes: [...]}; None: our own
    validation of a built-in metric is shown, where there is one (trust.py)."""
    raw_files: Sequence[tuple[str, int]] | None = None
    """The results files, relative to the run, with their numbers of lines, in the order of `predictions`: line by line the raw answers of
    its rows. None: the explorer names the unit only."""


def load(path: Path) -> Document:
    """A JSON document that an earlier step wrote and validated. Raises ManifestError where it is not readable."""
    try:
        document = parse_json(Path(path).read_bytes())
    except (OSError, ValueError) as e:
        raise ManifestError(f"not readable as JSON: {e}", where=str(path), remedy="Run the step that writes it again.") from e
    if not isinstance(document, dict):
        raise ManifestError(
            f"expected an object, found {json.dumps(document)[:60]}", where=str(path), remedy="Run the step that writes it again."
        )
    return document
