"""Arms (named system prompts) and contrasts (two arms compared), as a config names them. `prompt_sets` is sugar for both."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.base.digests import sha256_bytes
from pipeline.base.errors import ConfigError
from pipeline.config import Config, read_text


@dataclass(frozen=True)
class Arm:
    """A named system prompt, with what it overrides of the request."""

    name: str
    prompt_path: str | None
    prompt: str | None
    overrides: Mapping[str, Any] = field(hash=False)

    @property
    def prompt_sha256(self) -> str:
        """sha256 of the prompt's bytes (of nothing where the arm has no system prompt)."""
        return sha256_bytes((self.prompt or "").encode())


@dataclass(frozen=True)
class Contrast:
    """Two arms compared: treatment - control."""

    name: str
    control: str
    treatment: str


class Arms:
    """The arms and contrasts of a config. Raises ConfigError where they do not hold together."""

    def __init__(self, config: Config) -> None:
        """Reads the prompt files."""
        self.config = config
        self.arms: dict[str, Arm] = {}
        self.contrasts: list[Contrast] = []
        self._read_arms()

    def _read_arms(self) -> None:
        config = self.config
        if "arms" in config.data:
            for name, spec in config["arms"].items():
                path = spec.get("prompt")
                prompt = None if path is None else read_text(config, path, f"arms.{name}.prompt")
                self.arms[name] = Arm(name, path, prompt, {k: v for k, v in spec.items() if k != "prompt"})
            self.contrasts = self._contrasts_of_arms()
        if "prompt_sets" in config.data and (self._chosen_sets() or not self.arms):
            self._read_prompt_sets()
        for contrast in self.contrasts:
            if contrast.control == contrast.treatment:
                raise ConfigError(
                    f"contrast {contrast.name!r} compares arm {contrast.control!r} with itself",
                    where=config.where("contrasts"),
                    remedy="Name two arms.",
                )

    def _chosen_sets(self) -> list[str]:
        config = self.config
        from_trials = [t["prompt_set"] for t in config.get("trials", []) if "prompt_set" in t]
        chosen = list(config.get("sweep", {}).get("prompt_sets", [])) or from_trials
        if not chosen and "arms" not in config.data:
            chosen = [config.get("default_prompt_set") or next(iter(config["prompt_sets"]))]
        return list(dict.fromkeys(chosen))

    def _read_prompt_sets(self) -> None:
        # Sugar: one arm per distinct prompt text, so that a control named by several sets is one arm.
        by_text: dict[str, str] = {arm.prompt or "": name for name, arm in self.arms.items() if not arm.overrides}
        for set_name in self._chosen_sets():
            roles = {}
            for role in ("control", "treatment"):
                path = self.config["prompt_sets"][set_name][role]
                prompt = read_text(self.config, path, f"prompt_sets.{set_name}.{role}")
                if prompt not in by_text:
                    name = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in Path(path).stem)
                    if name in self.arms:
                        name = f"{set_name}.{role}"
                    while name in self.arms:
                        name += "_"
                    self.arms[name] = Arm(name, path, prompt, {})
                    by_text[prompt] = name
                roles[role] = by_text[prompt]
            if roles["control"] == roles["treatment"]:  # an A/A test: the same text, asked as two arms
                twin = self.arms[roles["control"]]
                name = f"{set_name}.treatment"
                self.arms[name] = Arm(name, self.config["prompt_sets"][set_name]["treatment"], twin.prompt, {})
                roles["treatment"] = name
            self.contrasts.append(Contrast(set_name, roles["control"], roles["treatment"]))

    def _contrasts_of_arms(self) -> list[Contrast]:
        config, names = self.config, list(self.arms)
        spec = config.get("contrasts", "all_vs_control")
        if spec == "all_pairs":
            pairs = list(itertools.combinations(names, 2))
        elif spec == "all_vs_control":
            control = "control" if "control" in names else names[0]
            pairs = [(control, name) for name in names if name != control]
        else:
            # [control, treatment], the order of a prompt set; an arm named "control" is the control wherever it stands.
            pairs = [(b, a) if b == "control" else (a, b) for a, b in spec]
        for i, pair in enumerate(pairs):
            for name in pair:
                if name not in self.arms:
                    raise ConfigError(
                        f"there is no arm {name!r}", where=config.where(f"contrasts.{i}"), remedy=f"Known arms: {', '.join(names)}."
                    )
        if not pairs:
            raise ConfigError("nothing to compare: there is one arm only", where=config.where("arms"), remedy="Add a second arm.")
        plain = spec == "all_vs_control"
        return [
            Contrast(treatment if plain else f"{treatment}_vs_{control}", control, treatment) for control, treatment in dict.fromkeys(pairs)
        ]
