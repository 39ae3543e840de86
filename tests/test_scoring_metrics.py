"""The built-in metrics by example, and the source files that the score step depends on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.base.errors import ConfigError
from pipeline.base.rows import Item, ResultRow
from pipeline.scoring import builtin
from pipeline.scoring.metrics import source_files
from pipeline.scoring.settings import Metric, ScoringSettings

ROW = ResultRow(custom_id="c", outcome="answered")


def item(*answers: str, **fields: Any) -> Item:
    return Item(dataset=fields.pop("dataset", "mine"), id="1", question="What?", answers=list(answers), **fields)


def test_exact_match_and_f1_follow_the_dataset() -> None:
    """The kind comes from the dataset's name, or from the option."""
    assert builtin.exact_match(item("x y", dataset="triviaqa"), "x-y", ROW) == 1
    assert builtin.exact_match(item("x y"), "x-y", ROW) == 0
    assert builtin.exact_match(item("x y"), "x-y", ROW, kind="triviaqa") == 1
    assert builtin.f1(item("red dog"), "the dog", ROW) == pytest.approx(2 / 3)


def test_correct() -> None:
    """As the core column; not defined without golds."""
    assert builtin.correct(item("Paris"), "It is Paris.", ROW) is True
    assert builtin.correct(item(), "It is Paris.", ROW) is None


def test_contains() -> None:
    """At word boundaries after normalisation, or as plain text."""
    assert builtin.contains(item("cat"), "The cat!", ROW) and not builtin.contains(item("cat"), "concatenate", ROW)
    assert builtin.contains(item("cat"), "conCATenate", ROW, words=False)
    assert not builtin.contains(item("cat"), "conCATenate", ROW, words=False, ignore_case=False)
    assert builtin.contains(item("cat"), "a DOG", ROW, texts=["dog"])


def test_regex() -> None:
    """Found anywhere, or matching the whole answer."""
    assert builtin.regex(item(), "Answer: YES", ROW, pattern=r"answer: (yes|no)")
    assert not builtin.regex(item(), "Answer: YES", ROW, pattern="yes", whole=True)
    assert not builtin.regex(item(), "Answer: YES", ROW, pattern="yes", ignore_case=False)


@pytest.mark.parametrize(
    ("gold", "answer", "options", "value"),
    [
        ("42", "It is 41, no, 42.", {}, True),
        ("42", "It is 41, no, 42.", {"which": "first"}, False),
        ("42", "42 or 43", {"which": "any"}, True),
        ("0.3", "0.1", {"tolerance": 0.2}, True),
        ("0.3", "0.1", {"tolerance": 0.19}, False),
        ("1,000", "about 1010", {"relative_tolerance": 0.01}, True),
        ("-5", "−5 degrees", {}, True),
        ("1e3", "1000", {}, True),
        ("5", "none", {}, False),
        ("five", "5", {}, None),
    ],
)
def test_numeric(gold: str, answer: str, options: dict[str, Any], value: bool | None) -> None:
    """The last number of the answer against the gold, within tolerance; thousands, signs and exponents read."""
    assert builtin.numeric(item(gold), answer, ROW, **options) is value


@pytest.mark.parametrize(
    ("gold", "answer", "value"),
    [
        ("B", "B", True),
        ("B", "(b)", True),
        ("B", "B) because it is so", True),
        ("B", "The answer is **B**.", True),
        ("B", "I think A. No, answer: B", True),
        ("green", "It must be green", True),
        ("green", "red or green", False),
        ("A", "green", False),
        ("B", "A green one", True),
        ("B", "", False),
    ],
)
def test_multiple_choice(gold: str, answer: str, value: bool) -> None:
    """A marked letter, a letter at the start, or the one option named; two options are no pick."""
    assert builtin.multiple_choice(item(gold, meta={"choices": ["red", "green", "blue"]}), answer, ROW) is value


def test_json_metrics() -> None:
    """Strict JSON, fenced or bare; conformance to a schema; a schema that is none is a config error."""
    assert builtin.json_valid(item(), '{"a": 1}', ROW) and builtin.json_valid(item(), '```json\n{"a": 1}\n```', ROW)
    assert not builtin.json_valid(item(), '```json\n{"a": 1}\n```', ROW, allow_fence=False)
    assert not builtin.json_valid(item(), '{"a": NaN}', ROW) and not builtin.json_valid(item(), "{} {}", ROW)
    assert not builtin.json_valid(item(), "[" * 100_000, ROW)
    schema = {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}
    assert builtin.json_schema(item(), '{"a": 1}', ROW, schema=schema)
    assert not builtin.json_schema(item(), '{"a": "1"}', ROW, schema=schema) and not builtin.json_schema(item(), "a", ROW, schema=schema)
    with pytest.raises(ConfigError, match="not a JSON Schema"):
        builtin.json_schema(item(), "1", ROW, schema={"type": "thing"})


def test_length() -> None:
    """In words, characters, lines or sentences."""
    text = "One two. Three!\n\nFour"
    assert [builtin.length(item(), text, ROW, unit=unit) for unit in ("words", "characters", "lines", "sentences")] == [4, 21, 2, 3]


def test_source_files_follow_own_imports(tmp_path: Path) -> None:
    """An own metric's module, its package and what they import from the project are listed, unimported; so are our own scorers."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/__init__.py").write_text("")
    (tmp_path / "lib/helper.py").write_text("from . import deep\nimport json\n")
    (tmp_path / "lib/deep.py").write_text("raise SystemExit('imported')\n")
    (tmp_path / "mine.py").write_text("from lib.helper import x\n")
    (tmp_path / "other.py").write_text("")
    files = source_files([Metric("m", "mine:f")], tmp_path)
    assert [f.relative_to(tmp_path).as_posix() for f in files if f.is_relative_to(tmp_path)] == [
        "mine.py", "lib/__init__.py", "lib/helper.py", "lib/deep.py",
    ]  # fmt: skip
    assert Path(builtin.__file__) in files
    with pytest.raises(ConfigError, match="no module 'absent'"):
        source_files([Metric("m", "absent:f")], tmp_path)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"unsupported": {"strategy": "magic"}}, "unsupported.strategy: 'magic' is no strategy"),
        ({"unsupported": {"threshold": 2}}, "unsupported.threshold: expected a number from 0 to 1"),
        ({"unsupported": {"min_token_overlap": True}}, "unsupported.min_token_overlap"),
        ({"kinds": {"d": "squad"}}, "kinds.d: 'squad' is no kind"),
        ({"abstention": {"patterns": "x"}}, "abstention.patterns: expected a list"),
        ({"metrics": ["length", "length"]}, r"metrics\[1\].name: the column 'length' is taken"),
        ({"unknown": 1}, "unknown key 'unknown'"),
    ],
)
def test_settings_name_what_is_wrong(config: dict[str, Any], told: str) -> None:
    """Each wrong setting is one sentence with its key path."""
    with pytest.raises(ConfigError, match=told):
        ScoringSettings.from_config(config)


def test_default_patterns_can_be_added_to() -> None:
    """`default` in the list stands for the built-in patterns."""
    patterns = ScoringSettings.from_config({"abstention": {"patterns": ["default", "pass"]}}).patterns
    assert patterns[-1] == "pass" and len(patterns) > 5
