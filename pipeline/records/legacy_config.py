"""The config of a predecessor's run, put together from its manifests, its items and the project's prompts: what is not known says so."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.base.digests import digest, sha256_bytes
from pipeline.base.errors import UsageError
from pipeline.layout import RunPaths
from pipeline.records.legacy import LegacyTrial, Request

SLUG = re.compile(r"^(?P<alias>.+)-tp(?P<top_p>[\dp]+|d)-tk(?P<top_k>\d+)-mx(?P<closed>\d+)-(?P<open>\d+)$")
FOLDER = "legacy"
"""Below the run's `inputs/`: prompts of which no file with the recorded sha256 is at hand."""
ITEM_FILES = {"closed_book": "closed_book.jsonl", "open_book": "open_book.jsonl"}


def item_sources(paths: RunPaths, root: Path, given: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The predecessor's prepared items: in `prepared/` of the run or of experiments, in `data/prepared/`, else the sources `given`.

    Raises UsageError saying where to put them.
    """
    for folder in (paths.folder / "prepared", paths.experiments / "prepared", root / "data" / "prepared"):
        found = {
            book: [{"kind": "jsonl", "path": path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)}]
            for book, name in ITEM_FILES.items()
            if (path := folder / name).is_file() and path.stat().st_size
        }
        if found:
            return found
    if given:
        return given
    raise UsageError(
        f"the items of the predecessor's run {paths.run_id} are not here",
        where=str(paths.folder / "prepared"),
        remedy="Copy its prepared/open_book.jsonl and closed_book.jsonl there (or to data/prepared), "
        "or name a config that has them as sources: --config C",
    )


def config_of(
    paths: RunPaths,
    root: Path,
    trials: Sequence[LegacyTrial],
    asked: Mapping[str, Sequence[Request]],
    control_answers: Mapping[str, str],
    base: Mapping[str, Any] | None,
) -> tuple[dict[str, Any], dict[str, str]]:
    """(config, texts by path below `inputs/`).

    `asked` and `control_answers` (a digest) are by trial slug; `base` is a config given beside.
    """
    base = base or {}
    controls: dict[str | None, set[str]] = {}
    for trial in trials:
        if found := control_answers.get(trial.folder.name):
            controls.setdefault(control_sha(trial), set()).add(found)
    prompts = _Prompts(root, controls)
    specs: list[dict[str, Any]] = []
    sets: dict[str, dict[str, str]] = {}
    samples: dict[str, int] = {}
    aliases: dict[str, str] = {}
    for trial in trials:
        spec = spec_of(trial, asked[trial.folder.name])
        name = spec["prompt_set"]
        aliases[spec["model_id"]] = spec.pop("alias")
        if name not in sets:
            sets[name] = {c: prompts.path(trial, name, c, control_answers.get(trial.folder.name, "")) for c in ("control", "treatment")}
        specs.append(spec)
        for request in asked[trial.folder.name]:
            key = str(request.place.temp)
            samples[key] = max(samples.get(key, 1), request.place.sample_index + 1)
    kept = {
        k: base[k]
        for k in ("title", "stats", "primary", "metrics", "unsupported", "abstention", "dataset_kinds", "subgroups")
        if base.get(k)
    }
    instructions = {book: (base.get("task_instructions") or {}).get(book) or f"config/task_instructions/{book}.txt" for book in ITEM_FILES}
    for book, path in instructions.items():
        if not (root / path).is_file():
            instructions[book] = f"{FOLDER}/{book}_instructions.txt"
            prompts.texts[instructions[book]] = "(How the predecessor put its questions is not known.)\n"
    models = list(dict.fromkeys(spec["model_id"] for spec in specs))
    return {
        "run_id": paths.run_id,
        "title": f"{paths.run_id}, a run of the predecessor",
        "provider": {"name": provider_of(models[0])},
        "model_id": models[0],
        "models": models,
        "model_aliases": aliases,
        "temps": sorted({t for spec in specs for t in spec["temps"]}),
        "samples_per_item": samples,
        "sources": item_sources(paths, root, base.get("sources")),
        "task_instructions": instructions,
        "prompt_sets": sets,
        "pricing": {**(base.get("pricing") or {}), "allow_unpriced": True},  # what it cost was paid long ago
        "trials": specs,
        "paths": {
            "experiments_dir": paths.experiments.relative_to(root).as_posix()
            if paths.experiments.is_relative_to(root)
            else str(paths.experiments)
        },
        **kept,
    }, prompts.texts


def spec_of(trial: LegacyTrial, asked: Sequence[Request]) -> dict[str, Any]:
    """Model, prompt set and decoding of a trial, by its manifest and, where that is silent, its folder's name. Raises UsageError."""
    said, slug = trial.manifest["trial"], SLUG.match(trial.folder.name)
    if slug is None:
        raise UsageError(
            "the folder's name is not <model>-<prompt set>-tp..-tk..-mx..",
            where=str(trial.folder),
            remedy="Give the trial's folder back its name.",
        )
    known = said.get("prompt_set")
    name = known if isinstance(known, str) and slug["alias"].endswith(f"-{known}") else slug["alias"].rpartition("-")[2]
    alias = slug["alias"].removesuffix(f"-{name}")
    model = said.get("model_id")
    temps = sorted({float(r.place.temp) for r in asked})
    if not temps:
        raise UsageError(
            "there are no answers",
            where=str(trial.results),
            remedy="Copy the part folders with their results.jsonl back, or move the trial's folder away.",
        )
    return {
        "model_id": model if isinstance(model, str) and model else alias,
        "alias": alias,
        "prompt_set": name,
        "temps": temps,
        "top_p": None if slug["top_p"] == "d" else float(slug["top_p"].replace("p", ".")),
        "top_k": int(slug["top_k"]) or None,
        "max_new_tokens": {"closed_book": int(slug["closed"]), "open_book": int(slug["open"])},
    }


def control_sha(trial: LegacyTrial) -> str | None:
    """The recorded sha256 of a trial's control prompt."""
    found: str | None = (trial.manifest["prompts"].get("control") or {}).get("sha256")
    return found


def provider_of(model: str) -> str:
    """The provider, going by the model's name. An adopted run is never asked anew, so this is a label."""
    if model.startswith("accounts/"):
        return "fireworks"
    if model.startswith("claude"):
        return "anthropic"
    return "openai" if re.match(r"^(gpt-\d|o\d)", model) else "openai_compatible"


class _Prompts:
    """Where each prompt's text is: in the project, going by its sha256; else a page that says that it is not known."""

    def __init__(self, root: Path, asked: Mapping[str | None, set[str]]) -> None:
        self._asked = asked
        """Digests of the answers to each control prompt: more than one where it was asked anew."""
        self.texts: dict[str, str] = {}
        self._by_sha: dict[str, str] = {}
        self._first: dict[str, str] = {}
        self._controls: dict[str, str] = {}
        for path in sorted((root / "config" / "prompts").glob("*.txt")):
            data = path.read_bytes()
            for form in (data, data.strip()):
                self._by_sha.setdefault(sha256_bytes(form), path.relative_to(root).as_posix())

    def path(self, trial: LegacyTrial, set_name: str, condition: str, answers: str) -> str:
        """The path that the config names. Trials with the same control prompt share it, unless their answers differ: then two arms."""
        sha = (trial.manifest["prompts"].get(condition) or {}).get("sha256")
        known = self._by_sha.get(sha or "")
        identity = digest([sha or [set_name, condition], trial.manifest["trial"].get("model_id")])
        again = condition == "control" and answers != "" and self._first.setdefault(identity, answers) != answers
        if condition == "control" and not answers and len(self._asked.get(sha, ())) > 1:
            raise UsageError(
                "it has no control answers of its own, and this control was asked more than once",
                where=str(trial.results),
                remedy="Copy the part folders of the control that it shared there.",
            )
        if known and not again:
            return known
        label = f"sha256 {sha}" if sha else "no digest of it is recorded either"
        again_note = f" Asked anew for {set_name}." if again else ""
        name = f"{FOLDER}/{self._stem(set_name, condition, sha, again)}.txt"
        self.texts[name] = f"(The text of this prompt is not known: the predecessor kept only a digest, {label}.{again_note})\n"
        return name

    def _stem(self, set_name: str, condition: str, sha: str | None, again: bool) -> str:
        """The arm's name: `control`, or the prompt set's; longer where that is taken by another prompt."""
        if condition == "treatment":
            return set_name if set_name != "control" else "control.treatment"
        if again or not sha:
            return f"{set_name}.control"
        first = self._controls.setdefault("control", sha)
        return "control" if first == sha else f"control_{sha[:8]}"
