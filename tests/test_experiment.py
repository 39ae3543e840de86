"""Arms, contrasts, units, trials and identity: what is asked once, what is analysed, and what makes a run another run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.base.digests import sha256_file
from pipeline.base.errors import ConfigError
from pipeline.config import Overrides, load
from pipeline.experiment import Experiment
from tests.project import CONFIG, make


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make(tmp_path / "p").folder


def experiment(root: Path, overrides: Overrides | None = None, **changes: Any) -> Experiment:
    data = {k: v for k, v in {**CONFIG, **changes}.items() if v is not None}
    (root / "c.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    return Experiment(load(root / "c.yaml", root, overrides), sha256_file)


def arms(*names: str) -> dict[str, Any]:
    return {name: {"prompt": f"prompts/{name}.txt"} for name in names}


def sets(*names: str) -> dict[str, Any]:
    return {name: {"control": "prompts/control.txt", "treatment": f"prompts/{name}.txt"} for name in names}


def arms_of(exp: Experiment) -> list[str]:
    return [u.arm.name for u in exp.units.values()]


def test_one_control_with_three_treatments_is_one_unit(root: Path) -> None:
    exp = experiment(root, arms=arms("control", "terse", "polite", "open"))
    assert len(exp.trials) == 3 and arms_of(exp) == ["control", "terse", "polite", "open"]


def test_prompt_sets_are_sugar_for_the_same_units(root: Path) -> None:
    exp = experiment(root, arms=None, prompt_sets=sets("terse", "polite"), sweep={"prompt_sets": ["terse", "polite"]})
    same = experiment(root, arms=arms("control", "terse", "polite"))
    assert list(exp.units) == list(same.units) and list(exp.trials) == list(same.trials)
    assert exp.request_hash == same.request_hash


def test_only_the_default_prompt_set_is_asked_unless_others_are_named(root: Path) -> None:
    chosen = {"arms": None, "prompt_sets": sets("terse", "polite"), "default_prompt_set": "polite"}
    assert arms_of(experiment(root, **chosen)) == ["control", "polite"]
    assert arms_of(experiment(root, Overrides(prompt_sets=("terse", "polite")), **chosen)) == ["control", "terse", "polite"]
    assert arms_of(experiment(root, arms=None, prompt_sets=sets("terse", "polite"))) == ["control", "terse"]


def test_all_pairs_and_listed_contrasts(root: Path) -> None:
    exp = experiment(root, arms=arms("control", "terse", "polite"), contrasts="all_pairs")
    assert [(c.name, c.control, c.treatment) for c in exp.contrasts] == [
        ("terse_vs_control", "control", "terse"),
        ("polite_vs_control", "control", "polite"),
        ("polite_vs_terse", "terse", "polite"),
    ]
    exp = experiment(
        root, arms=arms("control", "terse", "polite"), contrasts=[["polite", "terse"], ["terse", "control"], ["polite", "terse"]]
    )
    assert [(c.control, c.treatment) for c in exp.contrasts] == [("polite", "terse"), ("control", "terse")]


def test_an_a_a_test_has_two_arms_of_one_text(root: Path) -> None:
    exp = experiment(root, arms=None, prompt_sets={"aa": {"control": "prompts/control.txt", "treatment": "prompts/control.txt"}})
    assert arms_of(exp) == ["control", "aa.treatment"]
    control, treatment = exp.arms.values()
    assert control.prompt == treatment.prompt


def test_an_arm_may_pin_its_model_and_does_not_multiply_with_a_sweep(root: Path) -> None:
    exp = experiment(
        root,
        model_id=None,
        models=["small", "big"],
        arms={"control": {"prompt": None, "model_id": "small"}, "large": {"prompt": None, "model_id": "big"}},
    )
    assert list(exp.trials) == ["big_vs_small-large-tp1-tk0-mx64-64"]
    assert [u.model.id for u in exp.units.values()] == ["small", "big"]


def test_a_sweep_multiplies_models_and_decodings(root: Path) -> None:
    exp = experiment(root, model_id=None, sweep={"models": ["a", "b"], "top_p": [1.0, 0.5], "top_k": [None, 40]})
    assert len(exp.trials) == 8 and len(exp.units) == 16
    assert "b-terse-tp0p5-tk40-mx64-64" in exp.trials


def test_trials_choose_model_set_decoding_and_temperatures(root: Path) -> None:
    exp = experiment(
        root,
        arms=None,
        prompt_sets=sets("terse", "polite"),
        model_aliases={"vendor/big": "big"},
        trials=[{"id": "x", "prompt_set": "terse", "temps": [0, 1]}, {"prompt_set": "polite", "model_id": "big", "top_k": 5}],
    )
    assert {t.id: (t.treatment.model.id, t.temps) for t in exp.trials.values()} == {"x": ("m", (0.0, 1.0)), None: ("vendor/big", (0.0,))}


def test_the_same_comparison_at_other_temperatures_is_not_dropped_in_silence(root: Path) -> None:
    """Two entries of `trials` that differ in temps alone would share one folder: refused, with what to do."""
    with pytest.raises(
        ConfigError, match=r"two different trials would share the folder m-terse.*temperatures of one comparison stand in one list"
    ):
        experiment(root, trials=[{"id": "cold", "temps": [0.0]}, {"id": "warm", "temps": [0.7]}])


def test_models_that_would_share_a_folder_are_refused(root: Path) -> None:
    with pytest.raises(ConfigError, match="would share the folder m-terse"):
        experiment(root, model_id=None, models=["one/m", "two/m"])
    assert len(experiment(root, model_id=None, models=["one/m", "two/m"], model_aliases={"two/m": "m2"}).trials) == 2


def test_units_that_would_share_a_folder_are_refused(root: Path) -> None:
    """Arm `a-b` of model `c` and arm `a` of model `b-c`: both would be asked into `a-b-c-...`."""
    clash = {"control": {"prompt": None}, "a-b": {"prompt": "prompts/terse.txt", "model_id": "c"}, "a": {"prompt": None, "model_id": "b-c"}}
    with pytest.raises(ConfigError, match="two different sets of requests would share the folder a-b-c-tp1"):
        experiment(root, arms=clash)


def test_temperatures_that_cannot_be_told_apart_are_refused(root: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be told apart"):
        experiment(root, temps=[0.7, 0.70000001])


def test_a_prompt_file_of_any_name_gets_a_folder_name_of_its_own(root: Path) -> None:
    (root / "prompts" / "My prompt (v2)!.txt").write_text("x")
    (root / "prompts" / "My prompt (v2)?.txt").write_text("y")
    chosen = {n: {"control": "prompts/control.txt", "treatment": f"prompts/My prompt (v2){c}.txt"} for n, c in (("one", "!"), ("two", "?"))}
    exp = experiment(root, arms=None, prompt_sets=chosen, sweep={"prompt_sets": ["one", "two"]})
    assert arms_of(exp) == ["control", "My_prompt__v2__", "two.treatment"]


# --- identity ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "same",
    [
        {"temps": [0]},
        {"temps": [0.0, 0, -0.0]},
        {"stats": {"bootstrap_samples": 9}},
        {"title": "t"},
        {"primary": {"metric": "f1"}},
        {"max_usd": 1},
    ],
)
def test_what_does_not_change_the_answers_does_not_make_another_run(root: Path, same: dict[str, Any]) -> None:
    assert experiment(root, **same).run_id == experiment(root).run_id
    assert [t.temps for t in experiment(root, **same).trials.values()] == [(0.0,)]


@pytest.mark.parametrize(
    "other",
    [
        {"temps": [0.1]},
        {"temps": ["default"]},
        {"model_id": "n"},
        {"top_p": 0.9},
        {"top_k": 1},
        {"stop": ["x"]},
        {"max_new_tokens": {"closed_book": 63}},
        {"samples_per_item": 2},
        {"extra_body": {"reasoning_effort": "low"}},
        {"limit_items": 2},
        {"seed": 1},
        {"provider": {"name": "simulated", "accuracy": {"terse": 0.9}}},
    ],
)
def test_what_changes_the_answers_makes_another_run(root: Path, other: dict[str, Any]) -> None:
    assert experiment(root, **other).run_id != experiment(root).run_id


@pytest.mark.parametrize("name", ["prompts/terse.txt", "prompts/closed.txt", "closed.jsonl"])
def test_edited_inputs_make_another_run(root: Path, name: str) -> None:
    before = experiment(root).run_id
    (root / name).write_text((root / name).read_text().replace("e", "é", 1))
    assert experiment(root).run_id != before


def test_a_dry_run_is_never_the_paid_run(root: Path) -> None:
    paid = experiment(root, provider={"name": "fireworks", "account_id": "a"})
    dry = experiment(root, Overrides(dry_run=True), provider={"name": "fireworks", "account_id": "a"})
    assert dry.provider == "simulated" and dry.run_id != paid.run_id


def test_a_declared_digest_stands_for_the_file(root: Path) -> None:
    """A run whose source file is gone keeps its identity."""
    sha = sha256_file(root / "closed.jsonl")
    declared = {"closed_book": [{"kind": "jsonl", "path": "closed.jsonl", "sha256": sha}], "open_book": CONFIG["sources"]["open_book"]}
    before = experiment(root).run_id
    (root / "closed.jsonl").unlink()
    assert experiment(root, sources=declared).run_id == before


@pytest.mark.parametrize("key", ["messages", "temperature", "n"])
def test_extra_body_may_not_replace_what_the_run_records(tmp_path: Path, key: str) -> None:
    """A field that the config or the item sets cannot be overridden unseen."""
    project = make(tmp_path)
    config = yaml.safe_load((project.folder / "c.yaml").read_text("utf-8"))
    (project.folder / "c.yaml").write_text(yaml.safe_dump({**config, "extra_body": {key: 1}}), "utf-8")
    done = project.doit("run")
    assert done.code == 2
    assert f"extra_body may not hold '{key}'" in done.err
