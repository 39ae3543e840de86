"""upgrade_manifests: turns trial manifests of the predecessor into version 2, each with its original beside as a backup."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.base.errors import ManifestError
from pipeline.records.upgrade_files import NAME, upgrade_file

OURS = (b'"schema_version": 2', b'"timestamps"', b'"inputs_digest"')
"""What stands in every manifest of ours: a file that has them all is not even parsed here."""


def inputs(experiments: Path) -> list[Path]:
    """The manifests below the experiments folder that do not look like version 2."""
    found = sorted(experiments.glob(f"run_*/*/results/{NAME}"))
    return [path for path in found if path.is_file() and not all(mark in path.read_bytes() for mark in OURS)]


def run(experiments: Path) -> dict[str, Any]:
    """Upgrade them. Raises ManifestError where one is of a newer version."""
    outcomes = [upgrade_file(path) for path in inputs(experiments)]
    refused = [o for o in outcomes if o.action == "refused"]
    if refused:
        raise ManifestError(refused[0].reason, where=str(refused[0].path))
    return {"upgraded": [str(o.path) for o in outcomes if o.action != "current"]}
