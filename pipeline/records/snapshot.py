"""A run's snapshot of what determines its requests: `effective_config.yaml` and `inputs/`. An old run finishes from it alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pipeline.base.digests import sha256_bytes, sha256_file
from pipeline.base.errors import AbidingError, ManifestError
from pipeline.base.files import put_aside, write_atomic
from pipeline.base.schemas import validate
from pipeline.config import Config, Overrides, complete, read_yaml
from pipeline.config import load as load_config
from pipeline.experiment import Experiment
from pipeline.layout import RunPaths
from pipeline.records.receipts import relative
from pipeline.records.run_state import RunState

ANALYSIS_KEYS = ("title", "stats", "primary", "metrics", "unsupported", "abstention", "dataset_kinds", "subgroups", "pricing", "archive")
"""What may change without asking anything again: taken from the config file as it is now, the rest from the snapshot."""


def text_name(text_path: str, root: Path) -> str:
    """Where a prompt or instruction lies below `inputs/`: its own path, or a digest of it for one outside the project."""
    path = Path(text_path)
    if path.is_absolute() or ".." in path.parts:
        return f"external/{sha256_bytes(text_path.encode())[:8]}_{path.name}"
    return path.as_posix()


def texts_of(exp: Experiment) -> dict[str, str]:
    """path -> text of every prompt and instruction in use."""
    texts = {arm.prompt_path: arm.prompt or "" for arm in exp.arms.values() if arm.prompt_path}
    return {**texts, **{exp.config["task_instructions"][f"{kind}_book"]: text for kind, text in exp.instructions.items()}}


def config_text(exp: Experiment, paths: RunPaths) -> str:
    """What `effective_config.yaml` holds once the run is opened with this experiment."""
    data = {**exp.config.data, "run_id": paths.run_id, "sources": {f"{kind}_book": found for kind, found in exp.sources.items() if found}}
    data["paths"] = {"experiments_dir": exp.config["paths"]["experiments_dir"]}
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


def save(exp: Experiment, paths: RunPaths, root: Path) -> list[Path]:
    """Write the snapshot, each file only where its bytes differ. Prompts first, the config last: it makes the snapshot whole.

    What asks for other requests, or cannot be read, is not overwritten: it goes aside, and its new names are returned.
    """
    asides: list[Path] = []
    config = paths.effective_config
    fits = not config.exists() or _fits(exp, paths, root)
    for text_path, text in texts_of(exp).items():
        path = paths.inputs / text_name(text_path, root)
        if path.is_file() and path.read_bytes() != text.encode():
            asides.append(put_aside(path, "superseded"))
        _write(path, text)
    text = config_text(exp, paths)
    if not fits and (config.is_dir() or config.read_bytes() != text.encode()):
        asides.append(put_aside(config))
    _write(config, text)
    return asides


def _fits(exp: Experiment, paths: RunPaths, root: Path) -> bool:
    """Whether the config on disk asks for the same requests as `exp`."""
    try:
        old = load(paths, root, Overrides(run_id=paths.run_id))
        return old is not None and Experiment(old, sha256_file).request_hash == exp.request_hash
    except AbidingError:
        return False


def origin(paths: RunPaths, root: Path) -> Path | None:
    """The config file that a run's state says it was made from, where both can be read."""
    try:
        path = root / str(RunState.load(paths.state)["config_path"])
    except (FileNotFoundError, ManifestError):
        return None
    return path if path.is_file() else None


def _write(path: Path, text: str) -> None:
    if not path.is_file() or path.read_bytes() != text.encode():
        write_atomic(path, text)


def load(paths: RunPaths, root: Path, overrides: Overrides) -> Config | None:
    """The config of an existing run, from its snapshot; its analysis from the config file as it is now, where that still loads.

    None where there is no such run. Raises ConfigError where the snapshot is damaged.
    """
    if not paths.effective_config.exists():
        return None
    raw, lines = read_yaml(paths.effective_config)
    raw["paths"] = {"experiments_dir": relative(paths.experiments, root)}  # where it was found is where it is
    validate(raw, "eval_config", paths.effective_config)
    path = paths.effective_config
    try:
        path = root / RunState.load(paths.state)["config_path"]
        raw |= _analysis_now(path, root)
    except (FileNotFoundError, ManifestError):
        pass  # no state, or a corrupt one, which the run itself will tell of: the snapshot alone serves
    config = complete(raw, path, root, overrides, lines)
    texts = {
        text_path: paths.inputs / text_name(text_path, root)
        for text_path in _text_paths(config.data)
        if (paths.inputs / text_name(text_path, root)).is_file()
    }
    return Config(config.path, config.root, config.data, config.warnings, config.lines, texts)


def _analysis_now(path: Path, root: Path) -> dict[str, Any]:
    try:
        now = load_config(path, root)
    except AbidingError:  # the config is gone or broken since: the run still finishes as it was
        return {}
    return {key: now.data[key] for key in ANALYSIS_KEYS if key in now.data}


def _text_paths(data: Mapping[str, Any]) -> list[str]:
    found = [arm["prompt"] for arm in data.get("arms", {}).values() if arm.get("prompt")]
    found += [pair[role] for pair in data.get("prompt_sets", {}).values() for role in ("control", "treatment")]
    return [*found, *data["task_instructions"].values()]
