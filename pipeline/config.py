"""The config: read, checked against its schema, completed with defaults and the command line's choices.

A mistake is told with file, line, key path, reason and remedy (ConfigError, exit 2); nothing is guessed.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pipeline.base import schemas
from pipeline.base.errors import ConfigError

DEFAULTS: dict[str, Any] = {
    "seed": 0,
    "temps": [0.0],
    "samples_per_item": 1,
    "max_new_tokens": {"closed_book": 64, "open_book": 64},
    "top_p": 1.0,
    "top_k": None,
    "stop": None,
    "extra_body": {},
    "sizes": {},
    "task_instructions": {
        "closed_book": "config/task_instructions/closed_book.txt",
        "open_book": "config/task_instructions/open_book.txt",
    },
    "stats": {
        "bootstrap_samples": 5000,
        "permutation_samples": 5000,
        "random_seed": 1337,
        "enable_permutation": True,
        "enable_fdr": True,
        "tost_alpha": 0.05,
    },
    "unsupported": {"strategy": "overlap", "min_token_overlap": 0.5, "threshold": 1.0},
    "primary": {},
    "pricing": {},
    "archive": {},
}
SAMPLE_SOURCES = {
    "closed_book": [{"kind": "jsonl", "path": "config/sample/closed_book.jsonl"}],
    "open_book": [{"kind": "jsonl", "path": "config/sample/open_book.jsonl"}],
}
MAX_DEPTH, MAX_VALUES = 50, 100_000
UNUSED_PATHS = ("raw_dir", "prepared_dir", "batch_inputs_dir", "results_dir", "reports_dir", "run_manifest")


@dataclass(frozen=True)
class Overrides:
    """What the command line changes of a config; None leaves it as it is."""

    dry_run: bool = False
    prompt_sets: tuple[str, ...] | None = None
    models: tuple[str, ...] | None = None
    temps: tuple[float | str, ...] | None = None
    limit_items: int | None = None
    max_usd: float | None = None
    experiments_dir: str | None = None
    run_id: str | None = None


@dataclass(frozen=True)
class Config:
    """A checked and completed config. `data` is plain YAML-able data with every default filled in."""

    path: Path
    root: Path
    data: dict[str, Any]
    warnings: tuple[str, ...] = ()
    lines: Mapping[str, int] = field(default_factory=dict)
    texts: Mapping[str, Path] = field(default_factory=dict)
    """Where to read a prompt or instruction instead of its own path: a run's snapshot of it."""

    def __getitem__(self, key: str) -> Any:
        return self.data[key]

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a top-level key, or `default`."""
        return self.data.get(key, default)

    def where(self, key_path: str) -> str:
        """`file:line (key path)` for error messages; the nearest parent's line where the key is a default."""
        probe = key_path
        while probe and probe not in self.lines:
            probe = probe.rpartition(".")[0]
        line = f":{self.lines[probe]}" if probe in self.lines else ""
        return f"{self.path}{line} ({key_path})"

    def resolve(self, text: str) -> Path:
        """A path of the config: relative ones are relative to the folder of `dodo.py`."""
        path = Path(text)
        return path if path.is_absolute() else self.root / path


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Safe YAML that refuses a key that stands twice."""


def _mapping(loader: Any, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    seen: dict[Any, int] = {}
    for key_node, _value in node.value:
        key = loader.construct_object(key_node, deep=True)
        if isinstance(key, (list, dict)):
            raise yaml.constructor.ConstructorError(None, None, "a key must be a plain word", key_node.start_mark)
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"key {key!r} stands twice (first in line {seen[key]})", key_node.start_mark
            )
        seen[key] = key_node.start_mark.line + 1
    return {str(k): v for k, v in yaml.SafeLoader.construct_mapping(loader, node, deep=True).items()}


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def _lines(node: Any, prefix: str, into: dict[str, int]) -> dict[str, int]:
    if isinstance(node, yaml.MappingNode):
        for key_node, value in node.value:
            at = f"{prefix}.{key_node.value}" if prefix else str(key_node.value)
            into[at] = key_node.start_mark.line + 1
            _lines(value, at, into)
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            into[f"{prefix}.{i}"] = value.start_mark.line + 1
            _lines(value, f"{prefix}.{i}", into)
    return into


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """The mapping in a YAML file and the line of each key path. Raises ConfigError."""
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(
            "there is no such config", where=str(path), remedy="Name one with --config, or make one: python -m scripts.init"
        ) from None
    except UnicodeDecodeError as e:
        line = e.object.count(b"\n", 0, e.start) + 1
        raise ConfigError(f"not UTF-8: byte 0x{e.object[e.start]:02x}", where=f"{path}:{line}", remedy="Save it as UTF-8.") from None
    except OSError as e:
        raise ConfigError(f"not readable: {e.strerror}", where=str(path), remedy="A config is a YAML file in UTF-8.") from None
    try:
        _check_depth(text)
        data = yaml.load(text, Loader=_Loader)
        _check_size(data)
        node = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as e:
        mark = getattr(e, "problem_mark", None)
        problem = str(getattr(e, "problem", None) or e).splitlines()[0]
        tab = "cannot start any token" in problem and mark is not None and "\t" in "".join(text.splitlines()[mark.line : mark.line + 1])
        raise ConfigError(
            f"not valid YAML: {'a tab where it cannot stand' if tab else problem}",
            where=f"{path}:{mark.line + 1}" if mark else str(path),
            remedy="Indent with spaces." if tab else "Mend that line.",
        ) from None
    except (ValueError, OverflowError) as e:
        raise ConfigError(f"a value cannot be read: {str(e)[:120]}", where=str(path), remedy="Mend it.") from None
    except RecursionError:
        raise ConfigError("nested too deeply", where=str(path), remedy="A config is a few levels deep.") from None
    if not isinstance(data, dict):
        raise ConfigError("a config is a mapping of keys to values", where=str(path), remedy="See config/eval_config.yaml.")
    return data, _lines(node, "", {})


def _check_size(data: Any) -> None:
    """Raise ValueError where aliases, each holding the one before it twice, unfold into more values than a person writes."""
    todo, count = [data], 0
    while todo:
        value = todo.pop()
        count += 1
        if count > MAX_VALUES:
            raise ValueError(f"more than {MAX_VALUES} values, aliases unfolded")
        todo += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _check_depth(text: str) -> None:
    """Raise ValueError for nesting that would overrun the C loader's stack."""
    depth = 0
    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise ValueError(f"nested more than {MAX_DEPTH} levels deep")


def _leaves(value: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """Every plain value with its key path."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if pairs is None:
        yield at, value
        return
    for key, inner in pairs:
        yield from _leaves(inner, f"{at}.{key}" if at else str(key))


@functools.cache
def _nearest(name: str, known: tuple[str, ...]) -> str:
    import difflib

    close = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {close[0]!r}? " if close else ""


def _check(data: dict[str, Any], path: Path, lines: Mapping[str, int]) -> None:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    for at, value in _leaves(data):
        if not isinstance(value, (str, int, float, bool, type(None))) or value in (math.inf, -math.inf) or value != value:
            line = f":{lines[at]}" if at in lines else ""
            raise ConfigError(
                f"{value} is no text and no finite number", where=f"{path}{line} ({at})", remedy="Put it in quotes, or mend it."
            )
    error = best_match(Draft202012Validator(schemas.schema("eval_config")).iter_errors(data))
    if error is None:
        return
    at = ".".join(str(p) for p in error.absolute_path)
    if error.validator == "additionalProperties" and isinstance(error.instance, dict):
        known = tuple(error.schema.get("properties", {}))
        unknown = next(k for k in error.instance if k not in known)
        key = f"{at}.{unknown}" if at else unknown
        line = f":{lines[key]}" if key in lines else ""
        raise ConfigError(
            f"unknown key {unknown!r}", where=f"{path}{line} ({key})", remedy=f"{_nearest(unknown, known)}Known here: {', '.join(known)}."
        )
    probe = at
    while probe and probe not in lines:
        probe = probe.rpartition(".")[0]
    line = f":{lines[probe]}" if probe in lines else ""
    if error.validator in ("anyOf", "oneOf") and error.context:  # "is not valid under any of the given schemas" helps nobody
        error.message = ", and ".join(dict.fromkeys(inner.message for inner in error.context))
    message = error.message if len(error.message) < 240 else error.message[:240] + " ..."
    words = tuple(w for w in error.validator_value if isinstance(w, str)) if error.validator == "enum" else ()
    nearest = _nearest(error.instance, words) if words and isinstance(error.instance, str) else ""
    raise ConfigError(message, where=f"{path}{line} ({at or 'top level'})", remedy=f"{nearest}See schemas/eval_config.schema.json.")


def load(path: Path, root: Path, overrides: Overrides | None = None) -> Config:
    """Read, check and complete a config. Raises ConfigError (exit 2)."""
    raw, lines = read_yaml(path)
    _check(raw, path, lines)
    return complete(raw, path, root, overrides or Overrides(), lines)


def complete(raw: dict[str, Any], path: Path, root: Path, overrides: Overrides, lines: Mapping[str, int]) -> Config:
    """Fill in defaults and apply the command line's choices to a config that passed its schema."""
    warnings: list[str] = []
    data = copy.deepcopy(raw)
    for key, value in DEFAULTS.items():
        if isinstance(value, dict) and key != "extra_body":
            data[key] = {**copy.deepcopy(value), **data.get(key, {})}
        else:
            data.setdefault(key, copy.deepcopy(value))
    paths = data.get("paths", {})
    warnings += [
        f"paths.{name} is not used: every file has its place below the experiments folder and data/prepared"
        for name in UNUSED_PATHS
        if paths.get(name)
    ]
    data["paths"] = {"experiments_dir": overrides.experiments_dir or paths.get("experiments_dir") or "experiments"}
    if "sources" not in data:
        data["sources"] = copy.deepcopy(SAMPLE_SOURCES)
        warnings.append("no `sources`: the bundled sample in config/sample is asked")
    if not any(data["sources"].values()):
        raise ConfigError(
            "no items: both sources are empty",
            where=f"{path} (sources)",
            remedy="Name at least one file under sources.open_book or sources.closed_book.",
        )
    _models(data, path, overrides)
    _provider(data, overrides, warnings)
    if overrides.temps:
        data["temps"] = list(overrides.temps)
        data.get("sweep", {}).pop("temps", None)
    if overrides.limit_items is not None:
        data["limit_items"] = overrides.limit_items
    if overrides.max_usd is not None:
        data["max_usd"] = overrides.max_usd
    if overrides.run_id is not None:
        data["run_id"] = overrides.run_id
    if overrides.prompt_sets:
        data.setdefault("sweep", {})["prompt_sets"] = list(overrides.prompt_sets)
    config = Config(path, root, data, tuple(warnings), lines)
    _prompt_sets(config)
    return config


def _models(data: dict[str, Any], path: Path, overrides: Overrides) -> None:
    if overrides.models:
        data["models"] = list(overrides.models)
        data.get("sweep", {}).pop("models", None)
    elif "models" not in data:
        if "model_id" not in data and not data.get("sweep", {}).get("models"):
            raise ConfigError("no model", where=f"{path} (model_id)", remedy="Name one: model_id: ...")
        data["models"] = [data["model_id"]] if "model_id" in data else list(data["sweep"]["models"])
    aliases = data.setdefault("model_aliases", {})
    # An alias may be used in place of the id, as the predecessor's configs do in `models` and `trials`.
    back = {alias: model for model, alias in aliases.items()}
    data["models"] = [back.get(m, m) for m in data["models"]]


def _provider(data: dict[str, Any], overrides: Overrides, warnings: list[str]) -> None:
    provider = dict(data.get("provider") or {})
    if not provider:
        batch = str(data["models"][0]).startswith("accounts/")
        provider["name"] = "fireworks" if batch else "local"
        warnings.append(f"no `provider`: {provider['name']} is taken, going by the model's name")
    if overrides.dry_run:
        provider = {
            "name": "simulated",
            **{k: v for k, v in provider.items() if k in ("accuracy", "failure_rate", "polls_per_job", "max_attempts")},
        }
    data["provider"] = provider


def _prompt_sets(config: Config) -> None:
    known = config.data.get("prompt_sets", {})
    named = list(config.data.get("sweep", {}).get("prompt_sets", []))
    named += [t["prompt_set"] for t in config.data.get("trials", []) if "prompt_set" in t]
    if config.data.get("default_prompt_set"):
        named.append(config.data["default_prompt_set"])
    for name in named:
        if name not in known:
            raise ConfigError(
                f"there is no prompt set {name!r}", where=config.where("prompt_sets"), remedy=f"Known: {', '.join(known) or 'none'}."
            )
    if not known and "arms" not in config.data:
        raise ConfigError(
            "no prompts: neither `arms` nor `prompt_sets`",
            where=str(config.path),
            remedy="Name two system prompts under arms, or a control and a treatment under prompt_sets.",
        )


def read_text(config: Config, text_path: str, key_path: str) -> str:
    """The text of a prompt or instruction file named in the config. Raises ConfigError naming the key."""
    path = config.texts.get(text_path) or config.resolve(text_path)
    try:
        return path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(
            f"the file {text_path} does not exist",
            where=config.where(key_path),
            remedy="Write it, or mend the path (it is relative to the folder of dodo.py).",
        ) from None
    except (OSError, UnicodeDecodeError) as e:
        fact = f"{text_path} is not readable as UTF-8 text: {getattr(e, 'strerror', None) or e}"
        raise ConfigError(fact, where=config.where(key_path), remedy="Save it as UTF-8.") from None
