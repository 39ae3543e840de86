"""Configs: what loads, what is refused, and how a refusal reads: file, line, key path, reason, remedy, exit 2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.base.errors import AbidingError, ConfigError
from pipeline.config import Overrides, load
from pipeline.experiment import Experiment
from tests.project import CONFIG, REPO, make

LEGACY = """
model_id: accounts/fireworks/models/gpt-oss-20b
model_aliases: {accounts/fireworks/models/gpt-oss-20b: gpt20, accounts/fireworks/models/gpt-oss-120b: gpt120}
models: [gpt20]
temps: [0.0, 0.7]
samples_per_item: {"0.0": 1, "0.7": 3}
max_new_tokens: {closed_book: 64, open_book: 128}
top_p: 1.0
top_k: 50
stop: ["\\n\\n"]
use_batch_api: true
sizes: {closed_book_max_items: 4, open_book_max_items: 4, triviaqa_max_items: 2, nq_open_max_items: null, squad_v2_max_items: 2}
paths:
  raw_dir: data/raw
  prepared_dir: data/prepared
  batch_inputs_dir: data/batch_inputs
  results_dir: results
  reports_dir: reports
  run_manifest: results/run_manifest.json
  experiments_dir: experiments
pricing: {input_per_million: 0.15, output_per_million: 0.6, batch_discount: 0.5}
stats:
  bootstrap_samples: 200
  permutation_samples: 200
  random_seed: 1337
  enable_permutation: true
  enable_fdr: true
  risk_thresholds: [0.1, 0.2]
  tost_alpha: 0.05
  tost_margins: {em: 0.01, f1: 0.01}
unsupported: {strategy: baseline, threshold: 0.5, min_token_overlap: 0.6}
prompt_sets:
  operational_only: {control: prompts/control.txt, treatment: prompts/terse.txt}
  polite: {control: prompts/control.txt, treatment: prompts/polite.txt}
default_prompt_set: operational_only
trials:
  - {id: first, model_id: gpt20, prompt_set: operational_only, top_p: 0.9, top_k: 40, max_new_tokens: {closed_book: 32}}
  - {id: second, model_id: accounts/fireworks/models/gpt-oss-120b, prompt_set: polite, temps: [0.0]}
sweep:
  models: [gpt20]
  prompt_sets: [operational_only, polite]
  temps: [0.0]
  top_p: [1.0]
  top_k: [50]
  max_new_tokens: [{closed_book: 64, open_book: 64}]
task_instructions: {closed_book: prompts/closed.txt, open_book: prompts/open.txt}
sources: {closed_book: [{kind: jsonl, path: closed.jsonl}], open_book: [{kind: jsonl, path: open.jsonl}]}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make(tmp_path / "p").folder


def written(root: Path, text: str) -> Path:
    path = root / "c.yaml"
    path.write_text(text)
    return path


def refused(root: Path, text: str) -> str:
    with pytest.raises(ConfigError) as raised:
        config = load(written(root, text), root)
        Experiment(config, lambda path: "0" * 64)
    assert raised.value.exit_code == 2
    return str(raised.value)


def changed(**changes: Any) -> str:
    return yaml.safe_dump({**CONFIG, **changes}, sort_keys=False)


# --- what loads ------------------------------------------------------------------------------------------------------


def test_the_predecessors_whole_vocabulary_loads(root: Path) -> None:
    config = load(written(root, LEGACY), root)
    assert len([w for w in config.warnings if w.startswith("paths.")]) == 6, "all but experiments_dir warn"
    assert any("provider" in w for w in config.warnings)
    experiment = Experiment(config, lambda path: "0" * 64)
    assert experiment.provider == "fireworks"
    assert {slug.rpartition("-x")[0]: t.id for slug, t in experiment.trials.items()} == {
        "gpt20-operational_only-tp0p9-tk40-mx32-128": "first",
        "gpt120-polite-tp1-tk50-mx64-128": "second",
    }
    assert [t.temps for t in experiment.trials.values()] == [(0.0, 0.7), (0.0,)]
    assert (experiment.samples(0.0), experiment.samples(0.7)) == (1, 3)


def test_the_default_config_loads_without_a_warning() -> None:
    config = load(REPO / "config" / "eval_config.yaml", REPO)
    assert not config.warnings and config["provider"] == {"name": "local"}


def test_options_win_over_the_config(root: Path) -> None:
    chosen = Overrides(dry_run=True, temps=(0.5,), limit_items=2, max_usd=3.0, run_id="x", models=("other",), experiments_dir="e")
    config = load(
        written(root, changed(provider={"name": "openai", "account_id": "a"}, sweep={"models": ["z"], "temps": [1.0]})), root, chosen
    )
    assert config["provider"] == {"name": "simulated"}
    assert (config["temps"], config["limit_items"], config["max_usd"], config["run_id"]) == ([0.5], 2, 3.0, "x")
    experiment = Experiment(config, lambda path: "0" * 64)
    assert [(u.model.id, experiment.unit_temps[s]) for s, u in experiment.units.items()] == [("other", (0.5,))] * 2


def test_a_byte_order_mark_is_no_reason_to_refuse(root: Path) -> None:
    written(root, "\ufeff" + changed())
    load(root / "c.yaml", root)


# --- what is refused -------------------------------------------------------------------------------------------------


def test_unknown_key_is_named_with_its_line_and_the_nearest_known_one(root: Path) -> None:
    said = refused(root, "model_id: m\ntemp: [0]\n")
    assert "c.yaml:2 (temp): unknown key 'temp'. Did you mean 'temps'?" in said


def test_unknown_nested_key_has_its_path(root: Path) -> None:
    said = refused(root, "model_id: m\nstats:\n  bootstrap_samples: 10\n  bootstrap_sample: 10\n")
    assert "c.yaml:4 (stats.bootstrap_sample)" in said and "'bootstrap_samples'" in said


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("temps: hot", "temps"),
        ("temps: [-1]", "temps.0"),
        ("temps: []", "temps"),
        ("temps: [.nan]", "temps.0"),
        ("temps: [0, .inf]", "temps.1"),
        ("top_p: 2", "top_p"),
        ("top_p: .nan", "top_p"),
        ("max_usd: -1", "max_usd"),
        ("samples_per_item: {'0.0': 0}", "samples_per_item"),
        ("limit_items: 0", "limit_items"),
        ("limit_items: many", "limit_items"),
        ("provider: {name: oracle}", "provider.name"),
        ("provider: simulated", "provider"),
        ("extra_body: {until: 2026-01-01}", "extra_body.until"),
        ("run_id: ../escape", "run_id"),
        ("run_id: ''", "run_id"),
        ("model_aliases: {m: a/b}", "model_aliases.m"),
        ("prompt_sets: {../x: {control: prompts/control.txt, treatment: prompts/terse.txt}}", "prompt_sets"),
        ("sources: {closed_book: [{kind: jsonl}]}", "sources.closed_book.0"),
        ("stats: {bootstrap_samples: 1.5}", "stats.bootstrap_samples"),
    ],
)
def test_wrong_values_are_named_by_line_and_key_path(root: Path, line: str, path: str) -> None:
    key = line.partition(":")[0]
    rest = yaml.safe_dump({k: v for k, v in CONFIG.items() if k != key}, sort_keys=False)
    said = refused(root, line + "\n" + rest)
    assert f"c.yaml:1 ({path}" in said, said


def test_wrong_words_and_bytes_are_told_as_a_person_meets_them(root: Path) -> None:
    """A tab, another encoding, a word that is nearly one, a value that fits none of several kinds."""
    assert "c.yaml:2: not valid YAML: a tab where it cannot stand. Indent with spaces." in refused(root, "provider:\n\tname: local\n")
    (root / "c.yaml").write_bytes("title: a\nmodel_id: K\u00f6ln\n".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"c\.yaml:2: not UTF-8: byte 0xf6\. Save it as UTF-8"):
        load(root / "c.yaml", root)
    assert "Did you mean 'local'?" in refused(root, changed(provider={"name": "lokal"}))
    assert "(temps.0): 'hot' is not of type 'number', and 'default' was expected" in refused(root, changed(temps=["hot"]))


def test_a_key_that_stands_twice_is_refused_with_both_lines(root: Path) -> None:
    said = refused(root, "model_id: a\ntemps: [0]\nmodel_id: b\n")
    assert "c.yaml:3" in said and "'model_id' stands twice (first in line 1)" in said
    assert "c.yaml:4" in refused(root, "model_id: a\nstats:\n  random_seed: 1\n  random_seed: 2\n")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"arms": {"control": {"prompt": "prompts/nowhere.txt"}, "b": {"prompt": None}}},
            "(arms.control.prompt): the file prompts/nowhere.txt does not exist",
        ),
        (
            {"task_instructions": {"closed_book": "gone.txt", "open_book": "prompts/open.txt"}},
            "(task_instructions.closed_book): the file gone.txt",
        ),
        (
            {"sources": {"closed_book": [{"kind": "jsonl", "path": "gone.jsonl"}]}},
            "(sources.closed_book.0): the file gone.jsonl does not exist",
        ),
        ({"arms": {"only": {"prompt": None}}}, "there is one arm only"),
        ({"contrasts": [["control", "nobody"]]}, "there is no arm 'nobody'. Known arms: control, terse"),
        ({"contrasts": [["terse", "terse"]]}, "compares arm 'terse' with itself"),
        ({"primary": {"contrasts": ["nothing"]}}, "there is no contrast 'nothing'. Known: terse"),
        (
            {
                "arms": None,
                "prompt_sets": {"a": {"control": "prompts/control.txt", "treatment": "prompts/terse.txt"}},
                "default_prompt_set": "b",
            },
            "there is no prompt set 'b'",
        ),
        ({"arms": None}, "neither `arms` nor `prompt_sets`"),
        ({"model_id": None}, "no model"),
        ({"sources": {}}, "both sources are empty"),
    ],
)
def test_what_does_not_hold_together_is_refused(root: Path, changes: dict[str, Any], said: str) -> None:
    data = {k: v for k, v in {**CONFIG, **changes}.items() if v is not None}
    with pytest.raises(ConfigError) as raised:
        experiment = Experiment(load(written(root, yaml.safe_dump(data, sort_keys=False)), root), lambda path: "0" * 64)
        _ = experiment.sources, experiment.primary
    assert said in str(raised.value) and "c.yaml" in str(raised.value)


def test_no_file_no_mapping_no_yaml_no_utf8(root: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such config"):
        load(root / "none.yaml", root)
    assert "a config is a mapping" in refused(root, "- a\n- b\n")
    assert "a config is a mapping" in refused(root, "")
    assert "c.yaml:2" in refused(root, "a: 1\n b: [\n")
    (root / "c.yaml").write_bytes(b"model_id: \xff\xfe\n")
    with pytest.raises(ConfigError, match="UTF-8"):
        load(root / "c.yaml", root)
    assert "nest" in refused(root, "a: " + "[" * 3000 + "]" * 3000)


PLAIN = st.none() | st.booleans() | st.integers(-3, 70000) | st.floats() | st.text(max_size=6)
VALUES = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3), max_leaves=6
)
KEYS = sorted(__import__("json").loads((REPO / "schemas" / "eval_config.schema.json").read_text())["properties"])


@given(st.sampled_from(KEYS), VALUES)
@settings(max_examples=80, deadline=None)
def test_whatever_stands_under_a_key_is_taken_or_refused_in_words(tmp_path_factory: pytest.TempPathFactory, key: str, value: Any) -> None:
    """No value of any key ends in a traceback: an AbidingError, or an experiment with an identity."""
    root = tmp_path_factory.getbasetemp() / "fuzzed"
    if not root.exists():
        make(root)
    try:
        experiment = Experiment(load(written(root, changed(**{key: value})), root), lambda path: "0" * 64)
        _ = experiment.request_hash, experiment.config_hash, experiment.primary, experiment.unit_temps
    except AbidingError as e:
        assert str(e)
