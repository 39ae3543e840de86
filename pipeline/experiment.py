"""What an experiment consists of: arms, contrasts, units (what is generated), trials (what is analysed), and its identity.

A unit is arm x model x decoding: a control shared by many contrasts is one unit, so it is asked and paid once.
A trial is contrast x model x decoding.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pipeline.arms import Arm, Arms, Contrast
from pipeline.base.digests import canonical_json, digest, sha256_bytes
from pipeline.base.errors import ConfigError
from pipeline.config import Config, read_text
from pipeline.layout import temp_slug
from pipeline.local_model import find_model, model_digest

Temp = float | str
Condition = Literal["control", "treatment"]
TYPES = ("open", "closed")
OWN_FIELDS = {"messages", "model", "max_tokens", "temperature", "top_p", "top_k", "stop", "seed", "n", "stream"}
"""Fields of a request that are ours to set: passed through in extra_body they would quietly replace what the run records."""
ITEMS_VERSION = 1
"""Raised when the same sources and sizes would give other items: prepared folders never change under their name."""


@dataclass(frozen=True)
class Model:
    """A model by the provider's name, our short alias, and (local) the digest of its file."""

    id: str
    alias: str
    digest: str | None = None

    @property
    def identity(self) -> str:
        """What determines its answers, as far as we can name it."""
        return f"sha256:{self.digest}" if self.digest else self.id


@dataclass(frozen=True)
class Decoding:
    """How answers are drawn, temperature aside."""

    top_p: float | None
    top_k: int | None
    max_closed: int
    max_open: int
    stop: tuple[str, ...]
    extra_body: str
    """Canonical JSON of what is passed through to the provider."""

    @property
    def slug(self) -> str:
        """`tp1-tk50-mx64-64`, and a digest of stop and extra_body where there are any."""
        top_p = "d" if self.top_p is None else f"{self.top_p:g}".replace(".", "p")
        top_k = "0" if self.top_k is None else str(self.top_k)
        rest = f"-x{digest([self.stop, self.extra_body])[:6]}" if self.stop or self.extra_body != "{}" else ""
        return f"tp{top_p}-tk{top_k}-mx{self.max_closed}-{self.max_open}{rest}"

    def max_tokens(self, kind: str) -> int:
        """The cap on new tokens for an item of type `open` or `closed`."""
        return self.max_open if kind == "open" else self.max_closed


@dataclass(frozen=True)
class Unit:
    """Arm x model x decoding: what is generated."""

    arm: Arm
    model: Model
    decoding: Decoding

    @property
    def slug(self) -> str:
        """The unit's folder name."""
        return f"{self.arm.name}-{self.model.alias}-{self.decoding.slug}"


@dataclass(frozen=True)
class Trial:
    """Contrast x model x decoding: what is analysed."""

    contrast: Contrast
    control: Unit
    treatment: Unit
    temps: tuple[Temp, ...]
    id: str | None = None

    @property
    def slug(self) -> str:
        """The trial's folder name; the predecessor's form `<model>-<prompt set>-tp1-tk50-mx64-64`."""
        model = self.treatment.model.alias
        if self.control.model != self.treatment.model:
            model = f"{model}_vs_{self.control.model.alias}"
        return f"{model}-{self.contrast.name}-{self.treatment.decoding.slug}"

    def unit(self, condition: Condition) -> Unit:
        """The unit in that role."""
        return self.control if condition == "control" else self.treatment


class Experiment:
    """A config resolved into arms, contrasts, units and trials. Raises ConfigError where it does not hold together."""

    def __init__(self, config: Config, file_sha256: Callable[[Path], str]) -> None:
        """`file_sha256` gives the digest of a source file (cached by the caller)."""
        self.config = config
        self._file_sha256 = file_sha256
        self.provider: str = config["provider"]["name"]
        found = Arms(config)
        self.arms, self.contrasts = found.arms, found.contrasts
        self.instructions = {
            kind: read_text(config, config["task_instructions"][f"{kind}_book"], f"task_instructions.{kind}_book")
            for kind in TYPES
            if config["sources"].get(f"{kind}_book")
        }
        self.trials: dict[str, Trial] = {}
        for trial in self._trials():
            if (other := self.trials.get(trial.slug)) is not None and other != trial:
                raise ConfigError(
                    f"two different trials would share the folder {trial.slug}",
                    where=config.where("trials"),
                    remedy="Give models distinct model_aliases, or arms distinct names; temperatures of one comparison stand in one list.",
                )
            self.trials[trial.slug] = trial
        self._refuse_clashes()

    def _refuse_clashes(self) -> None:
        """Whatever differs must differ in its folder's name too."""
        units: dict[str, Unit] = {}
        for trial in self.trials.values():
            for unit in (trial.control, trial.treatment):
                if units.setdefault(unit.slug, unit) != unit:
                    raise ConfigError(
                        f"two different sets of requests would share the folder {unit.slug}",
                        where=self.config.where("arms"),
                        remedy="Give models distinct model_aliases, or arms distinct names.",
                    )
        for temps in self.unit_temps.values():
            if len({temp_slug(t) for t in temps}) < len(temps):
                raise ConfigError(
                    f"temperatures {', '.join(map(str, temps))} cannot be told apart in six digits",
                    where=self.config.where("temps"),
                    remedy="Round them.",
                )

    # --- models, decodings, trials -----------------------------------------------------------------------------------

    def _model(self, model_id: str) -> Model:
        config = self.config
        aliases = config["model_aliases"]
        model_id = {alias: full for full, alias in aliases.items()}.get(model_id, model_id)
        stem = model_id.rstrip("/").rpartition("/")[2].removesuffix(".gguf")
        alias = aliases.get(model_id) or "".join(c if c.isalnum() or c in "._-" else "_" for c in stem)
        if self.provider != "local":
            return Model(model_id, alias)
        path = find_model(model_id, config["provider"].get("model_path"), config.root)
        return Model(model_id, alias, model_digest(path))

    def _decoding(self, overrides: Mapping[str, Any]) -> Decoding:
        config = self.config
        extra = {**config["extra_body"], **overrides.get("extra_body", {})}
        for key in OWN_FIELDS & extra.keys():
            raise ConfigError(
                f"extra_body may not hold {key!r}",
                where=config.where("extra_body"),
                remedy="The config has its own place for it, or the item has.",
            )
        caps = {**config["max_new_tokens"], **overrides.get("max_new_tokens", {})}
        stop = overrides.get("stop", config["stop"]) or ()
        return Decoding(
            top_p=overrides.get("top_p", config["top_p"]),
            top_k=overrides.get("top_k", config["top_k"]),
            max_closed=caps.get("closed_book", 64),
            max_open=caps.get("open_book", 64),
            stop=(stop,) if isinstance(stop, str) else tuple(stop),
            extra_body=canonical_json(extra).decode(),
        )

    def _unit(self, arm_name: str, model_id: str, overrides: Mapping[str, Any]) -> Unit:
        arm = self.arms[arm_name]
        merged = {**overrides, **arm.overrides}
        return Unit(arm, self._model(arm.overrides.get("model_id", model_id)), self._decoding(merged))

    def _specs(self) -> Iterable[tuple[str | None, str, str | None, dict[str, Any], tuple[Temp, ...]]]:
        """(id, model, prompt set or None for all contrasts, decoding overrides, temps) of each family of trials."""
        config = self.config
        temps = _temps(config["temps"])
        if config.get("trials"):
            for spec in config["trials"]:
                overrides = {k: spec[k] for k in ("top_p", "top_k", "max_new_tokens") if k in spec}
                chosen = spec.get("prompt_set") or (config.get("default_prompt_set") if "arms" not in config.data else None)
                yield spec.get("id"), spec.get("model_id", config["models"][0]), chosen, overrides, _temps(spec.get("temps") or temps)
            return
        sweep = config.get("sweep", {})
        axes = {key: sweep[key] for key in ("top_p", "top_k", "max_new_tokens") if sweep.get(key)}
        for model in sweep.get("models") or config["models"]:
            for values in itertools.product(*axes.values()):
                yield None, model, None, dict(zip(axes, values, strict=True)), _temps(sweep.get("temps") or temps)

    def _trials(self) -> Iterable[Trial]:
        seen: dict[tuple[Unit, Unit, tuple[Temp, ...]], Trial] = {}
        for id_, model, chosen, overrides, temps in self._specs():
            for contrast in self.contrasts:
                if chosen is not None and contrast.name != chosen:
                    continue
                control = self._unit(contrast.control, model, overrides)
                treatment = self._unit(contrast.treatment, model, overrides)
                key = (control, treatment, temps)
                if key not in seen:  # arms that pin their model do not multiply with the sweep
                    seen[key] = Trial(contrast, control, treatment, temps, id_)
                    yield seen[key]

    @cached_property
    def units(self) -> dict[str, Unit]:
        """All units, in the order of their first trial."""
        return {u.slug: u for t in self.trials.values() for u in (t.control, t.treatment)}

    @cached_property
    def unit_temps(self) -> dict[str, tuple[Temp, ...]]:
        """The temperatures at which each unit is asked."""
        temps: dict[str, dict[Temp, None]] = {}
        for trial in self.trials.values():
            for unit in (trial.control, trial.treatment):
                temps.setdefault(unit.slug, {}).update(dict.fromkeys(trial.temps))
        return {slug: tuple(found) for slug, found in temps.items()}

    def samples(self, temp: Temp) -> int:
        """Replicates per item at this temperature (`samples_per_item`)."""
        spec = self.config["samples_per_item"]
        if isinstance(spec, int):
            return spec
        for key, count in spec.items():
            if key == str(temp) or (not isinstance(temp, str) and _is_number(key) and float(key) == temp):
                return int(count)
        return 1

    # --- identity ----------------------------------------------------------------------------------------------------

    @cached_property
    def sources(self) -> dict[str, list[dict[str, Any]]]:
        """The sources with the sha256 of each file: declared, else of its bytes."""
        from pipeline.sources import locate

        resolved: dict[str, list[dict[str, Any]]] = {}
        for kind in TYPES:
            resolved[kind] = []
            for i, source in enumerate(self.config["sources"].get(f"{kind}_book") or []):
                sha = source.get("sha256")
                if sha is None:
                    path = locate(source, self.config.root)
                    if not path.is_file():
                        raise ConfigError(
                            f"the file {source.get('path') or source.get('url')} does not exist",
                            where=self.config.where(f"sources.{kind}_book.{i}"),
                            remedy="Mend the path, or fetch it: python -m scripts.fetch_data",
                        )
                    sha = self._file_sha256(path)
                resolved[kind].append({**source, "sha256": sha})
        return resolved

    @cached_property
    def prepared_spec(self) -> dict[str, Any]:
        """What determines the prepared items: sources by content, sizes, the seed of their order."""
        sources = {kind: [{k: v for k, v in s.items() if k not in ("path", "url")} for s in found] for kind, found in self.sources.items()}
        sizes = {k: v for k, v in self.config["sizes"].items() if v is not None}
        return {
            "version": ITEMS_VERSION,
            "sources": sources,
            "sizes": sizes,
            "limit_items": self.config.get("limit_items"),
            "seed": self.config["seed"],
        }

    @cached_property
    def prepared_id(self) -> str:
        """8 hex: the name of the prepared folder."""
        return digest(self.prepared_spec)[:8]

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All that determines the requests, and so the answers."""
        provider = self.config["provider"]
        return {
            "provider": {**answer_settings(provider), **{k: provider[k] for k in ("account_id", "send_seed") if k in provider}},
            "units": {
                slug: {
                    "prompt_sha256": unit.arm.prompt_sha256,
                    "model": unit.model.identity,
                    "decoding": {
                        "top_p": unit.decoding.top_p,
                        "top_k": unit.decoding.top_k,
                        "stop": list(unit.decoding.stop),
                        "max_new_tokens": [unit.decoding.max_closed, unit.decoding.max_open],
                        "extra_body": unit.decoding.extra_body,
                    },
                    "temps": list(self.unit_temps[slug]),
                    "samples_per_item": [self.samples(t) for t in self.unit_temps[slug]],
                }
                for slug, unit in self.units.items()
            },
            "task_instructions": {kind: sha256_bytes(text.encode()) for kind, text in self.instructions.items()},
            "items": self.prepared_spec,
        }

    @cached_property
    def request_hash(self) -> str:
        """Digest of the identity: drift here would send requests again."""
        return digest(self.identity)

    @cached_property
    def run_id(self) -> str:
        """`run_id` of the config or command line, else `<config stem>-<8 hex of the identity>`."""
        return self.config.get("run_id") or f"{self.config.path.stem}-{self.request_hash[:8]}"

    @cached_property
    def config_hash(self) -> str:
        """Digest of the whole effective config, identity or not (paths and run_id aside)."""
        return digest({k: v for k, v in self.config.data.items() if k not in ("paths", "run_id", "max_usd")})

    @cached_property
    def primary(self) -> dict[str, Any]:
        """The primary analysis with every default filled in: what is locked before the first request."""
        given = self.config["primary"]
        first = next(iter(self.trials.values()))
        temperature = given.get("temperature", first.temps[0])
        names = [t.contrast.name for t in self.trials.values()]
        contrasts = given.get("contrasts") or list(dict.fromkeys(names))
        for name in contrasts:
            if name not in {c.name for c in self.contrasts}:
                raise ConfigError(
                    f"there is no contrast {name!r}",
                    where=self.config.where("primary.contrasts"),
                    remedy=f"Known: {', '.join(c.name for c in self.contrasts)}.",
                )
        looks = {"looks": sorted(given["looks"])} if given.get("looks") else {}
        return {
            "contrasts": contrasts,
            "metric": given.get("metric", "correct"),
            "type": given.get("type", "all"),
            "temperature": temperature,
            "alternative": given.get("alternative", "two-sided"),
            "margin": given.get("margin"),
            **looks,
        }

    def settings(self, keys: Iterable[str]) -> dict[str, Any]:
        """The slice of the config that a step reads: its settings are a dependency like its files."""
        return {key: self.config.get(key) for key in keys}


def answer_settings(provider: Mapping[str, Any]) -> dict[str, Any]:
    """What of the config's `provider` determines an answer: who is asked, and with which options of the job."""
    found = {k: provider[k] for k in ("name", "base_url", "accuracy", "failure_rate", "context_tokens") if k in provider}
    options = provider.get("options") or {}
    return found | {k: options[k] for k in ("job", "api_version", "server_kind") if k in options}


def _temps(given: Iterable[Temp]) -> tuple[Temp, ...]:
    """0, 0.0 and -0.0 are one temperature, asked once however often it stands there."""
    return tuple(dict.fromkeys(t if isinstance(t, str) else float(t) + 0.0 for t in given))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
