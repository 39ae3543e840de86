"""A run as data frames, for notebooks: what `pipeline.load` returns. Reads only, and only what is asked for."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.base import frames
from pipeline.base.errors import UsageError
from pipeline.base.rows import Item, read_rows
from pipeline.base.schemas import read_document
from pipeline.config import read_yaml
from pipeline.experiment import TYPES
from pipeline.layout import RunPaths, find_root, prepared_folder
from pipeline.steps.tidy import kinds_of

NESTED = ("mcnemar", "permutation", "bootstrap_t", "equivalence", "effect_sizes")
"""Parts of an effect's row that have facts of their own, or are not there."""


def find_run(run: str | Path, experiments: str | Path | None = None) -> Path:
    """The folder of a run named by its path, its id or the beginning of its id. Raises UsageError naming the runs that there are."""
    path = Path(run)
    if (path / "effective_config.yaml").is_file():
        return path.resolve()
    folder = (Path(experiments) if experiments is not None else find_root() / "experiments").resolve()
    named = sorted(folder.glob("run_*/effective_config.yaml")) if folder.is_dir() else []
    ids = [file.parent.name.removeprefix("run_") for file in named]
    wanted = path.name.removeprefix("run_")
    found = [known for known in ids if known == wanted] or [known for known in ids if wanted and known.startswith(wanted)]
    if len(found) == 1:
        return folder / f"run_{found[0]}"
    shown = ", ".join((found or ids)[:8]) or "none"
    fact = f"several runs begin with {wanted!r}" if found else f"there is no run {str(run)!r}"
    raise UsageError(fact, where=str(folder), remedy=f"Runs: {shown}. python -m scripts.list_runs says more.")


class LoadedRun:
    """One run. Frames are of polars, else of pandas; each is read when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        """`folder` is `experiments/run_<RUN_ID>`."""
        self.folder = folder
        self.run_id = folder.name.removeprefix("run_")
        self._paths = RunPaths(folder.parent, self.run_id)

    def __repr__(self) -> str:
        return f"<run {self.run_id}: {len(self.trials)} trials>"

    @cached_property
    def config(self) -> dict[str, Any]:
        """The config as the run understood it, every default filled in."""
        return read_yaml(self._paths.effective_config)[0]

    @cached_property
    def trials(self) -> dict[str, dict[str, Any]]:
        """Trial -> its significance.json (verdict, rows, family, subgroups ...)."""
        files = sorted(self.folder.glob("*/results/significance.json"))
        return {path.parents[1].name: read_document(path, "significance") for path in files}

    @cached_property
    def requests(self) -> Any:
        """One row per request: arm, model, item, metadata (`meta_*`), question, answer, outcome, scores, tokens."""
        path = self._paths.table_csv
        if not path.is_file():
            raise UsageError("is not there yet", where=str(path), remedy=f"Finish the run: doit run --run_id {self.run_id} --resume")
        with open(path, encoding="utf-8", newline="") as f:
            header = next(csv.reader(f))
        return frames.read_csv(path, kinds_of(header))

    @cached_property
    def effects(self) -> Any:
        """One row per effect: every row of every trial's significance.json; nested facts as `mcnemar.exact_p` and so on."""
        return frames.from_rows([row for document in self.trials.values() for row in _effects(document)])

    @cached_property
    def subgroups(self) -> Any:
        """One row per trial, declared factor and group, with the interaction test's p-value."""
        return frames.from_rows([row for document in self.trials.values() for row in _groups(document)])

    @cached_property
    def items(self) -> Any:
        """One row per item as it was asked; its metadata as `meta_*`."""
        built = read_document(self._paths.build_manifest, "build_manifest")
        folder = prepared_folder(find_root(self.folder), built["prepared"])
        return frames.from_rows([_item(kind, item) for kind in TYPES for item in read_rows(folder / f"{kind}_book.jsonl", Item)])


def _names(document: Mapping[str, Any]) -> dict[str, Any]:
    contrast = document["contrast"]
    head = {"trial": document["trial"], "contrast": contrast["name"], "control": contrast["control"], "treatment": contrast["treatment"]}
    return {**head, "model": document["model"]}


def _effects(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for row in document["rows"]:
        yield {**_names(document), **_flat({**row, "temp": str(row["temp"]), "warnings": "; ".join(row["warnings"])})}


def _groups(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for part in document["subgroups"]:
        for group in part["groups"]:
            yield {**_names(document), "factor": part["factor"], "metric": part["metric"], **group, "interaction_p": part["p_value"]}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}.")
        elif not isinstance(value, list) and not (value is None and name in NESTED):
            found[f"{prefix}{name}"] = value
    return found


def _item(kind: str, item: Item) -> dict[str, Any]:
    known = {name: getattr(item, name) for name in ("dataset", "id", "question", "answers", "context", "is_unanswerable", "cluster")}
    return {"item": item.key, "type": kind, **known, **{f"meta_{name}": value for name, value in item.meta.items()}}
