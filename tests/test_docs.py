"""The documentation is true: commands, flags, steps, schemas, exit codes and links in it exist, and what exists stands in it."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from pipeline.base import errors
from pipeline.engine.options import LOADER_OPTIONS, RUN_OPTIONS
from pipeline.records.run_state import STEPS

REPO = Path(__file__).resolve().parents[1]
PAGES = sorted([*REPO.glob("*.md"), *(REPO / "docs").rglob("*.md")])
WORKFLOW = (REPO / "EXPERIMENT_WORKFLOW.md").read_text("utf-8")
README = (REPO / "README.md").read_text("utf-8")
TEXTS = {path.relative_to(REPO).as_posix(): path.read_text("utf-8") for path in PAGES}
DOIT_FLAGS = {"all", "status", "verify", "process"}
"""Options of doit's own commands that the pages name."""


def options_of(script: str) -> set[str]:
    """The long options of a script, as its help lists them."""
    import contextlib
    import io

    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit):
        importlib.import_module(f"scripts.{script}").main(["--help"])
    words = set(re.findall(r"--([a-z_]+)", out.getvalue()))
    if script == "answers":  # its verbs have options of their own
        for verb in ("show", "verify", "export", "prune", "rebuild"):
            with contextlib.redirect_stdout(out), pytest.raises(SystemExit):
                importlib.import_module("scripts.answers").main([verb, "--help"])
        words = set(re.findall(r"--([a-z_]+)", out.getvalue()))
    return words


def commands(text: str) -> list[str]:
    """Everything set as code: spans, and the lines of blocks (without what a # explains)."""
    blocks = re.findall(r"^```(?:sh|bash|console)?\n(.*?)^```", text, re.S | re.M)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M))
    return [line.split(" #")[0].strip() for block in blocks for line in block.splitlines()] + spans


def tabled(text: str, heading: str) -> list[str]:
    """The first cells of the table below a heading."""
    section = text.split(heading, 1)[1].split("\n## ", 1)[0]
    return [line.split("|")[1].strip() for line in re.sub(r"\\\|", "/", section).splitlines() if line.startswith("| ")][2:]


@pytest.mark.parametrize("page", TEXTS)
def test_every_script_that_is_named_exists_with_its_options(page: str) -> None:
    for line in commands(TEXTS[page]):
        for script, rest in re.findall(r"python -m scripts\.(\w+)(.*)", line):
            assert (REPO / "scripts" / f"{script}.py").is_file(), f"{page}: {line}"
            given = set(re.findall(r"--([a-z_]+)", rest.split("&&")[0]))
            if given and script != "demo_fireworks":
                assert given <= options_of(script), f"{page}: {line}"


@pytest.mark.parametrize("page", TEXTS)
def test_every_benchmark_that_is_named_exists(page: str) -> None:
    for name in re.findall(r"python -m benchmarks\.(\w+)", TEXTS[page]):
        assert (REPO / "benchmarks" / f"{name}.py").is_file(), f"{page}: {name}"


@pytest.mark.parametrize("page", TEXTS)
def test_every_flag_of_a_doit_command_exists(page: str) -> None:
    known = {o["long"] for o in (*LOADER_OPTIONS, *RUN_OPTIONS)} | DOIT_FLAGS | {"help", "version", "shell"}
    for line in commands(TEXTS[page]):
        if line.startswith("doit "):
            assert set(re.findall(r"--([a-z_]+)", line)) <= known, f"{page}: {line}"


@pytest.mark.parametrize("page", TEXTS)
def test_every_make_target_that_is_named_exists(page: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (REPO / "Makefile").read_text(), re.M))
    for line in commands(TEXTS[page]):
        for target in re.findall(r"^make ([a-z-]+)", line):
            assert target in targets, f"{page}: {line}"


@pytest.mark.parametrize("page", TEXTS)
def test_every_link_leads_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", TEXTS[page]):
        if not target.startswith(("http:", "https:", "mailto:")):
            assert ((REPO / page).parent / target).exists(), f"{page}: {target}"


def test_every_option_of_a_run_is_documented() -> None:
    named = set(re.findall(r"--([a-z_]+)", WORKFLOW.split("## Flags")[1].split("## Exit codes")[0]))
    assert {o["long"] for o in (*LOADER_OPTIONS, *RUN_OPTIONS)} <= named
    assert named <= {o["long"] for o in (*LOADER_OPTIONS, *RUN_OPTIONS)} | DOIT_FLAGS


def test_the_step_table_lists_the_steps_in_their_order() -> None:
    assert [cell.strip("`") for cell in tabled(WORKFLOW, "## Steps")] == list(STEPS)


def test_the_exit_codes_are_those_of_the_errors() -> None:
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.AbidingError)]
    assert {int(cell) for cell in tabled(WORKFLOW, "## Exit codes")} == {0, 130, *(c.exit_code for c in classes)}


def test_every_schema_has_its_line_and_every_line_its_schema() -> None:
    named = set(re.findall(r"^\| `schemas/([\w.]+)\.schema\.json`", TEXTS["docs/manifests.md"], re.M))
    assert named == {p.name.removesuffix(".schema.json") for p in (REPO / "schemas").glob("*.schema.json")}


def test_every_script_stands_in_the_readme() -> None:
    runnable = {p.stem for p in (REPO / "scripts").glob("*.py") if "if __name__ ==" in p.read_text("utf-8")}
    behind_make = {line.split("scripts.")[1].split()[0] for line in (REPO / "Makefile").read_text().splitlines() if "-m scripts." in line}
    assert runnable - behind_make <= set(re.findall(r"python -m scripts\.(\w+)", README))


def test_every_make_target_stands_in_the_readme() -> None:
    explained = set(re.findall(r"^([a-z-]+):.*##", (REPO / "Makefile").read_text(), re.M)) - {"help", "setup", "clean"}
    assert explained <= set(re.findall(r"`?make ([a-z-]+)", README))


def test_every_page_is_reached_from_the_readme_or_the_workflow_guide() -> None:
    linked = {(Path(page).parent / target).as_posix() for page, text in TEXTS.items() for target in re.findall(r"\]\(([^)#\s]+\.md)", text)}
    assert {page for page in TEXTS if page.startswith("docs/")} <= {Path(t).as_posix() for t in linked}


def test_dependencies_have_upper_bounds() -> None:
    project = tomllib.loads((REPO / "pyproject.toml").read_text("utf-8"))["project"]
    assert [d for d in project["dependencies"] if "<" not in d] == []
