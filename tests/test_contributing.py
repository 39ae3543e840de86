"""CONTRIBUTING.md followed to the letter: its blocks applied to a copy of the project, what they add used by real commands."""

from __future__ import annotations

import ast
import csv
import json
import re
from pathlib import Path

import pytest
import yaml

from tests.own_project import ROOT, make_project, sh

TEXT = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
SECTIONS = {title: body for title, _count, body in re.findall(r"^## (A [a-z ]+): (\d+) lines\n(.*?)(?=^## )", TEXT, re.M | re.S)}
PROMISED = {title: int(count) for title, count in re.findall(r"^## (A [a-z ]+): (\d+) lines$", TEXT, re.M)}
BLOCK = re.compile(r"^(?:`([\w./]+)`(, new)?[^\n]*:\n\n)?```(\w+)\n(.*?)^```$", re.M | re.S)
BOT = """import json, sys
body = json.load(sys.stdin)
assert "o1" not in body["messages"][-1]["content"], "no o1"
print("yes" if "A" in body["messages"][0]["content"] else "yes, it is")
"""


def blocks(section: str) -> list[tuple[str, bool, str, str]]:
    """(file, new?, language, text) of a section's blocks; a diff without a file name belongs to the file before it."""
    found, last = [], ""
    for file, new, language, text in BLOCK.findall(SECTIONS[section]):
        last = file or last
        found.append((last, bool(new), language, text))
    return found


def apply(project: Path, section: str) -> dict[str, object]:
    """Apply a section's blocks; returns the keys of its yaml block."""
    config: dict[str, object] = {}
    for file, new, language, text in blocks(section):
        path = project / file
        if language == "yaml":
            config |= yaml.safe_load(text)
        elif language == "python":
            assert new and not path.exists(), file
            path.write_text(text)
        else:
            lines = text.splitlines()
            old = "\n".join(line[1:] for line in lines if not line.startswith("+"))
            changed = "\n".join(line[1:] for line in lines if not line.startswith("-"))
            source = path.read_text()
            assert source.count(old) == (2 if "boolq" in text and file.endswith(".json") else 1), (file, old)
            path.write_text(source.replace(old, changed))
    return config


def code_lines(section: str) -> int:
    """Added lines that are neither blank, nor imports, nor docstrings, nor brackets alone."""
    count = 0
    for _file, _new, language, text in blocks(section):
        if language == "python":
            skipped: set[int] = set()
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, (ast.Import, ast.ImportFrom)):
                    skipped.update(range(node.lineno, (node.end_lineno or 0) + 1))
                if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
                    first = node.body[0]
                    skipped.update(range(first.lineno, (first.end_lineno or 0) + 1))
            lines = [line for n, line in enumerate(text.splitlines(), 1) if n not in skipped]
        elif language == "diff":
            lines = [line[1:] for line in text.splitlines() if line.startswith("+") and '"""' not in line]
            lines = [line for line in lines if not re.match(r"\s*(from|import) ", line)]
        else:
            continue
        count += sum(bool(re.search(r"\w", line)) for line in lines)
    return count


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the whole project with all four examples applied, and a config that uses the first three."""
    folder = make_project(tmp_path_factory.mktemp("contributing") / "project", "pipeline", "schemas", "scripts")
    config: dict[str, object] = {}
    for section in SECTIONS:
        config |= apply(folder, section)
    data = folder / "data/raw/boolq-dev.jsonl"
    data.parent.mkdir(parents=True)
    rows = [{"question": f"is o{n} there", "title": f"T{n}", "answer": n % 3 != 0, "passage": f"Passage {n}."} for n in range(6)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "bot.py").write_text(BOT)
    (folder / "config/prompts/a.txt").write_text("A")
    (folder / "config/prompts/b.txt").write_text("B")
    arms = {"control": {"prompt": "config/prompts/a.txt"}, "other": {"prompt": "config/prompts/b.txt"}}
    stats = {"bootstrap_samples": 50, "permutation_samples": 50}
    config |= {"model_id": "bot", "arms": arms, "stats": stats, "primary": {"metric": "begins", "type": "open"}}
    (folder / "config/mine.yaml").write_text(yaml.safe_dump(config))
    return folder


@pytest.fixture(scope="module")
def run(project: Path) -> Path:
    """The folder of a run of it, asked of the command."""
    sh(project, "doit run --config config/mine.yaml", own_package=True)
    (found,) = (project / "experiments").glob("run_mine-*")
    return found


def test_there_are_four_examples() -> None:
    """A metric, a data source, a provider, a step."""
    assert list(SECTIONS) == ["A metric", "A data source", "A provider", "A step"] == list(PROMISED)


@pytest.mark.parametrize("section", ["A metric", "A data source", "A provider", "A step"])
def test_the_headings_tell_the_truth_about_lines(section: str) -> None:
    """The count of the heading is that of the blocks."""
    assert code_lines(section) == PROMISED[section]


def test_the_source_and_the_provider_answer(run: Path) -> None:
    """Six items of the new kind in both arms, asked of the command; where it failed, a failed row says what it said."""
    with open(run / "results.csv", encoding="utf-8", newline="") as f:
        rows = list(csv.DictReader(f))
    assert len(rows) == 12 and {r["dataset"] for r in rows} == {"boolq"} and {r["meta_title"] for r in rows} == {f"T{n}" for n in range(6)}
    failed = [r for r in rows if r["outcome"] == "failed"]
    assert {r["meta_title"] for r in failed} == {"T1"} and all("no o1" in r["error"] for r in failed)
    assert {r["answer"] for r in rows if r["arm"] == "other" and r["outcome"] == "answered"} == {"yes, it is"}


def test_the_metric_scores(run: Path) -> None:
    """`begins` is 1 where the gold is yes, whatever follows; 0 where it is no, or the request failed."""
    with open(run / "results.csv", encoding="utf-8", newline="") as f:
        for r in csv.DictReader(f):
            assert float(r["begins"]) == (r["golds"] == '["yes"]' and r["outcome"] == "answered")


def test_the_step_runs_is_listed_and_is_up_to_date(project: Path, run: Path) -> None:
    """Its file is there, the plan knows it, a second run does nothing, a lost file comes back."""
    path = run / "longest_answers.txt"
    written = path.read_text()
    assert len(written.splitlines()) == 10 and written.startswith("other ")
    assert re.search(r"^U longest:run", sh(project, "doit list --all --status --config config/mine.yaml", own_package=True), re.M)
    assert "everything is up to date" in sh(project, "doit run --config config/mine.yaml", own_package=True)
    path.unlink()
    sh(project, "doit run --config config/mine.yaml", own_package=True)
    assert path.read_text() == written


def test_lint_and_types_accept_the_examples(project: Path) -> None:
    """`ruff` and `mypy --strict` have nothing to say of the new files."""
    new = " ".join(file for section in SECTIONS for file, is_new, *_rest in blocks(section) if is_new)
    assert new.count(".py") == 3
    sh(project, f"ruff check {new} pipeline/scoring/builtin.py pipeline/sources dodo.py", own_package=True)
    sh(project, f"mypy {new} pipeline/scoring/builtin.py", own_package=True)
