"""The scripts of `doit tabcompletion`, sourced by real shells."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.engine.options import LOADER_OPTIONS, RUN_OPTIONS
from tests.own_project import sh
from tests.project import Project, make

STUB = """_get_comp_words_by_ref() {
  cur=${COMP_WORDS[COMP_CWORD]}; prev=${COMP_WORDS[COMP_CWORD-1]}; words=("${COMP_WORDS[@]}"); cword=$COMP_CWORD
}
__ltrim_colon_completions() { :; }
_filedir() { COMPREPLY=(files "$@"); }
source ./c.bash
try() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _doit; echo "offered ${COMPREPLY[*]}"; }
"""
LINES = {
    "doit ru": "run",
    "doit help ta": "tabcompletion",
    "doit run --config c.yaml st": "stats",
    "doit run --config c.yaml aggregate:": "aggregate:run",
    "doit run --dr": "--dry_run",
    "doit list --stat": "--status",
    "doit run --from_step s": "submit score stats",
    "doit run --condition t": "treatment",
    "doit run --config c": "files",
    "doit run --experiments_dir e": "files -d",
    "doit run --max_usd 3": "",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with both scripts."""
    made = make(tmp_path_factory.mktemp("completion") / "project")
    for shell in ("bash", "zsh"):
        (made.folder / f"c.{shell}").write_text(made.doit("tabcompletion", "--shell", shell).out)
    return made


def test_bash_offers_commands_tasks_flags_and_what_they_take(project: Project) -> None:
    said = sh(project.folder, STUB + "\n".join(f"try {line}" for line in LINES))
    offered = [line.removeprefix("offered").strip() for line in said.splitlines() if line.startswith("offered")]
    assert dict(zip(LINES, offered, strict=True)) == LINES


def test_zsh_knows_every_flag_of_a_run_and_no_text_breaks_its_quotes(project: Project) -> None:
    """Each line of a list is one quoted word; where there is a zsh, it reads the script."""
    text = (project.folder / "c.zsh").read_text()
    for option in (*LOADER_OPTIONS, *RUN_OPTIONS):
        assert f"'--{option['long']}[" in text
    quoted = re.findall(r"^ +('.*)$", text, re.M)
    assert len(quoted) > 100 and all(len(shlex.split(line)) == 1 for line in quoted)
    assert "(prepare build submit" in text and ":value:_files" in text
    if shutil.which("zsh"):
        subprocess.run(["zsh", "-n", Path(project.folder, "c.zsh")], check=True, timeout=60)
