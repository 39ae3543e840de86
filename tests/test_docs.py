"""Docs are tested: what they name exists, and what exists is named."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from pipeline.engine.options import LOADER_OPTIONS, RUN_OPTIONS
from pipeline.records.run_state import STEPS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
WORKFLOW = (ROOT / "EXPERIMENT_WORKFLOW.md").read_text("utf-8")
DOCS = {p.relative_to(ROOT).as_posix(): p.read_text("utf-8") for p in [ROOT / "README.md", ROOT / "EXPERIMENT_WORKFLOW.md", *ROOT.glob("docs/**/*.md")]}


@pytest.mark.parametrize("option", [o["long"] for o in (*LOADER_OPTIONS, *RUN_OPTIONS)])
def test_every_flag_is_documented(option: str) -> None:
    """Each flag of doit's commands that is ours stands in the workflow guide."""
    assert f"--{option}" in WORKFLOW


@pytest.mark.parametrize("step", STEPS)
def test_every_step_is_documented(step: str) -> None:
    """Each step has a row in the step table."""
    assert re.search(rf"^\| `{step}` \|", WORKFLOW, re.M)


@pytest.mark.parametrize("code", [0, 1, 2, 3, 4, 5, 130])
def test_every_exit_code_is_documented(code: int) -> None:
    """Each exit code has a row."""
    assert re.search(rf"^\| {code} \|", WORKFLOW, re.M)


def test_every_schema_is_documented() -> None:
    """Each schema stands in the table of docs/manifests.md."""
    table = DOCS["docs/manifests.md"]
    missing = [p.name for p in (ROOT / "schemas").glob("*.schema.json") if p.name.removesuffix(".schema.json") not in table]
    assert not missing


@pytest.mark.parametrize("name", sorted(DOCS))
def test_what_the_docs_name_exists(name: str) -> None:
    """Scripts, make targets and linked files exist."""
    text = DOCS[name]
    makefile = (ROOT / "Makefile").read_text("utf-8")
    missing = [s for s in re.findall(r"python -m (scripts\.\w+|benchmarks\.\w+)", text) if not (ROOT / (s.replace(".", "/") + ".py")).is_file()]
    missing += [t for t in re.findall(r"`make ([a-z-]+)`", text) if not re.search(rf"^{t}:", makefile, re.M)]
    folder = (ROOT / name).parent
    missing += [link for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text) if not (folder / link).exists()]
    assert not missing


def test_every_script_is_in_the_readme() -> None:
    """A script that a person runs is named in the README."""
    runnable = [p.stem for p in (ROOT / "scripts").glob("*.py") if "__main__" in p.read_text("utf-8")]
    internal = {"smoke_orchestration", "kill_storm", "demo_fireworks"}  # by their make targets
    assert [s for s in runnable if s not in internal and f"scripts.{s}" not in README] == []


def test_readme_flags_exist() -> None:
    """A flag of doit that the README or the guide uses is one."""
    known = {o["long"] for o in (*LOADER_OPTIONS, *RUN_OPTIONS)} | {"all", "status", "help", "dry-run", "deps", "version"}
    used = {f for line in (README + WORKFLOW).splitlines() if "doit " in line for f in re.findall(r"(?<![\w-])--([a-z_]+)", line.split("python -m")[0])}
    assert used <= known


def test_dependencies_have_upper_bounds() -> None:
    """Every dependency is pinned to a range."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert [d for d in project["dependencies"] if "<" not in d] == []
