"""Each command that the pages print is run, in their order, in a project of its own; those that cannot be are named with a reason.

In the pages a block marked `sh` holds commands, one a line; a block without a mark holds no commands. In running text a command with
arguments is run too; a bare name (`python -m scripts.power`) is asked for its help.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import itertools
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.own_project import ROOT, make_project, sh

FIRST = ("README.md", "EXPERIMENT_WORKFLOW.md", "CONTRIBUTING.md")
PAGES = [*FIRST, *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))]
STARTS = r"(?:[A-Z_]+=\S+ )*(?:doit|python|make|pip|curl|export|cp|vllm|\.) +[^ ]"
NOT_RUN = {
    r"make [a-z-]+$": "sets up a .venv from the package registry; each is one line of the Makefile, whose commands are run here",
    r"\. \.venv/bin/activate$": "there is no .venv in the test's project",
    r"pip install 'abiding\[\w+\]'$": "needs the package registry; that the extra exists is tested",
    r"export [A-Z]+_API_KEY=\.\.\.$": "a key",
    r"curl .*http://127\.0\.0\.1:\d+/_admin/": "talks to the server of the line before; tests/test_test_servers.py does",
    r"python -m tests\.servers\.\w+ .*&$": "a server that stays; that it takes these options is tested",
    r"python -m scripts\.demo_fireworks$": "a server and 270 requests; tests/test_demo_fireworks.py does",
    r"cp -r OLD/": "needs a run of the predecessor; tests/test_legacy.py has one",
    r"vllm run-batch": "needs vLLM and a GPU",
    r"python -m scripts\.fetch_data( --config CONFIG| triviaqa)?$": "needs the network; tests/test_fetch_data.py has a server",
    r"python -m scripts\.fuzz_records --mutations 10000": "takes hours; tests/test_fuzz_records.py damages fewer",
    r"python -m benchmarks(\.\w+)?( --\w+ \w+)*$": "minutes to hours; that the file exists is tested",
    r"curl (-H|BASE_URL)": "talks to a provider",
}
EXIT = {r"doit run --config my\.yaml --no_wait$": 3}
"""Exit codes other than 0 that the page announces."""


@dataclass(frozen=True)
class Command:
    """A command as printed, and where."""

    page: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line} {self.text[:60]}"

    @property
    def reason(self) -> str | None:
        """Why it is not run."""
        return next((why for pattern, why in NOT_RUN.items() if re.match(pattern, self.text)), None)


def commands(page: str) -> list[Command]:
    """The page's commands in order, each once: lines of `sh` blocks (joined at a backslash, without remarks) and spans in running text."""
    found: dict[str, Command] = {}
    language: str | None = None
    joined = ""
    for number, line in enumerate((ROOT / page).read_text("utf-8").splitlines(), 1):
        if line.lstrip().startswith("```"):
            language = None if language is not None else line.strip("` ")
        elif language == "sh":
            joined += line.rstrip("\\").strip() + " "
            if not line.endswith("\\"):
                text = re.sub(r"\s+#\s.*", "", joined).strip()
                found.setdefault(text, Command(page, number, text))
                joined = ""
        elif language is None:
            for span in re.findall(r"`([^`]+)`", line):
                if re.match(STARTS, span):
                    found.setdefault(span, Command(page, number, span))
    return list(found.values())


ALL = [command for page in PAGES for command in commands(page)]
RUN = [command for command in ALL if command.reason is None]


class Project:
    """The project in which the pages are followed."""

    def __init__(self, folder: Path) -> None:
        self.folder = make_project(folder)
        config = yaml.safe_load((folder / "config/eval_config.yaml").read_text("utf-8"))
        config["provider"] = {"name": "simulated"}
        config["sizes"] = {"closed_book_max_items": 6, "open_book_max_items": 6}
        config["stats"] |= {"bootstrap_samples": 50, "permutation_samples": 50}
        (folder / "config/eval_config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        (folder / "my.yaml").write_text(yaml.safe_dump(config | {"provider": {"name": "vllm_file"}}, sort_keys=False))
        (folder / "my_prompt.txt").write_text("Think, then answer with a word.\n")
        (folder / "my_questions.csv").write_text("question,answers\n" + "".join(f"What is {n} + {n}?,{2 * n}\n" for n in range(4)))
        (folder / "reviews.csv").write_text("nr,text,label,genre\n" + "".join(f"{n},Film {n},good,{'ab'[n % 2]}\n" for n in range(4)))
        reviews = folder / "examples/reviews.csv"
        reviews.write_text("".join(reviews.read_text("utf-8").splitlines(keepends=True)[:9]))
        (folder / ".zfunc").mkdir()
        self.doit("run")
        self.doit("run", "--prompt_sets", "default")
        first, second = sorted((folder / "experiments").glob("run_*"), key=lambda p: (p / "run_state.json").stat().st_mtime)
        (scores,) = first.glob("*/results/per_item_scores.csv")
        (folder / "per_item_scores.csv").write_bytes(scores.read_bytes())
        self.words = {name: first.name.removeprefix("run_") for name in ("A", "R", "RUN", "RUN_ID", "OLD")}
        self.words |= {"B": second.name.removeprefix("run_"), "PATH": "experiments", "PATH...": "experiments"}
        self.trial = scores.parents[1].name

    def run(self, text: str) -> tuple[int, str]:
        """Run a command as printed, with a run, a path or a trial of this project where the page has a stand-in for one."""
        if re.search(r"[>|&]", text.replace("<trial>", "")):
            home = {"HOME": str(self.folder)}
            with_home = " ".join(f"{k}={shlex.quote(v)}" for k, v in home.items())
            return 0, sh(self.folder, f"export {with_home}; {text}")
        words = [self.words.get(word, word).replace("<trial>", self.trial) for word in shlex.split(text)]
        while re.match(r"[A-Z_]+=", words[0]):
            words.pop(0)
        if words[:2] == ["python", "-m"]:
            return self.script(words[2], words[3:] or ["--help"])
        assert words[0] == "doit", text
        return self.doit(*words[1:])

    def doit(self, *words: str) -> tuple[int, str]:
        """doit in this process; a provider that costs or needs a model is asked with --dry_run."""
        from doit.doit_cmd import DoitMain

        given = dict(itertools.pairwise(words)).get("--config")
        provider = yaml.safe_load((self.folder / given).read_text("utf-8"))["provider"]["name"] if given else "simulated"
        if words[0] == "run" and provider != "simulated" and not {"--dry_run", "--plan_only", "--no_wait"} & set(words):
            words = (*words, "--dry_run")
        return self._call(lambda: DoitMain().run(list(words)))

    def script(self, module: str, words: list[str]) -> tuple[int, str]:
        """A script in this process."""
        return self._call(lambda: importlib.import_module(module).main(words))

    def _call(self, function: object) -> tuple[int, str]:
        said, here = io.StringIO(), Path.cwd()
        os.chdir(self.folder)
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                code = function()  # type: ignore[operator]
        except SystemExit as e:
            code = e.code
        finally:
            os.chdir(here)
        return int(code or 0), said.getvalue()


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> dict[Command, tuple[int, str]]:
    """Every command that is run, with its exit code and what it said. The pages build on one another, so all are followed at once."""
    project = Project(tmp_path_factory.mktemp("docs") / "project")
    found = {}
    for command in RUN:
        found[command] = project.run(command.text)
        if command.text.startswith(("doit clean", "doit forget")):
            project.doit("run")
    return found


@pytest.mark.parametrize("command", RUN, ids=map(str, RUN))
def test_it_runs(command: Command, followed: dict[Command, tuple[int, str]]) -> None:
    """With the exit code that the page announces, and without a traceback."""
    code, said = followed[command]
    wanted = next((number for pattern, number in EXIT.items() if re.match(pattern, command.text)), 0)
    assert code == wanted, said
    assert "Traceback" not in said


def test_the_pages_print_many_commands_and_each_exemption_is_needed() -> None:
    assert len(RUN) >= 50
    for pattern in (*NOT_RUN, *EXIT):
        assert any(re.match(pattern, command.text) for command in ALL), f"no page prints {pattern}"


@pytest.mark.parametrize("page", PAGES)
def test_commands_stand_in_blocks_marked_sh(page: str) -> None:
    """So that none is overlooked."""
    for language, block in re.findall(r"^ *```(\w*)\n(.*?)^ *```$", (ROOT / page).read_text("utf-8"), re.S | re.M):
        if language == "sh":
            assert all(re.match(STARTS, line) for line in re.sub(r"\\\n", "", block).splitlines()), block
        else:
            assert not re.search(rf"^{STARTS}", block, re.M), block


@pytest.mark.parametrize("command", [c for c in ALL if "tests.servers" in c.text], ids=str)
def test_a_server_that_is_named_takes_its_options(command: Command) -> None:
    call = [sys.executable, *re.findall(r"-m tests\.servers\.\w+", command.text)[0].split(), "--help"]
    said = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout
    assert set(re.findall(r"--[a-z-]+", command.text)) <= set(re.findall(r"--[a-z-]+", said))


@pytest.mark.parametrize("command", [c for c in ALL if c.text.startswith("pip install")], ids=str)
def test_an_extra_that_is_named_exists(command: Command) -> None:
    extra = re.findall(r"\[(\w+)\]", command.text)[0]
    section = (ROOT / "pyproject.toml").read_text("utf-8").split("[project.optional-dependencies]")[1].split("\n[")[0]
    assert re.search(rf"^{extra} = ", section, re.M)
