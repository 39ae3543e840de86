"""A small project in a temporary folder, and `doit` on it: in this process, or as a real child."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

REPO = Path(__file__).resolve().parents[1]
QUICK = {"bootstrap_samples": 100, "permutation_samples": 100, "random_seed": 1}
CONFIG: dict[str, Any] = {
    "provider": {"name": "simulated", "polls_per_job": 2},
    "model_id": "m",
    "temps": [0.0],
    "sources": {"closed_book": [{"kind": "jsonl", "path": "closed.jsonl"}], "open_book": [{"kind": "jsonl", "path": "open.jsonl"}]},
    "task_instructions": {"closed_book": "prompts/closed.txt", "open_book": "prompts/open.txt"},
    "arms": {"control": {"prompt": "prompts/control.txt"}, "terse": {"prompt": "prompts/terse.txt"}},
    "stats": QUICK,
}
RESULTS = ("predictions.csv", "per_item_scores.csv", "significance.json", "costs.json", "report.md", "report.html", "aggregate_report.md")


@dataclass
class Done:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Both streams."""
        return self.out + self.err


class Project:
    """A folder with `dodo.py`, a config `c.yaml`, prompts and items of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    # --- doit ----------------------------------------------------------------------------------------------------------

    def doit(self, *words: str, config: str | None = "c.yaml") -> Done:
        """Run doit in this process; with `config` None without --config."""
        from doit.doit_cmd import DoitMain

        out, err, here = io.StringIO(), io.StringIO(), Path.cwd()
        os.chdir(self.folder)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = DoitMain().run([*words, *(("--config", config) if config else ())])
        except SystemExit as e:
            code = e.code  # type: ignore[assignment]
        finally:
            os.chdir(here)
        return Done(int(code or 0), out.getvalue(), err.getvalue())

    def run(self, *words: str, config: str | None = "c.yaml", code: int = 0) -> Done:
        """`doit run`, which must end with `code`."""
        done = self.doit("run", *words, config=config)
        assert done.code == code, (done.code, done.text)
        assert "Traceback" not in done.text
        return done

    def child(self, *words: str, env: dict[str, str] | None = None, **kwargs: Any) -> subprocess.Popen[str]:
        """Start `doit` as a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "doit", *words, "--config", "c.yaml"],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(REPO), **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **kwargs,
        )

    # --- the config ----------------------------------------------------------------------------------------------------

    def configure(self, **changes: Any) -> None:
        """Write c.yaml: the usual one with these top-level keys changed (None removes one)."""
        data = {**CONFIG, **changes}
        (self.folder / "c.yaml").write_text(yaml.safe_dump({k: v for k, v in data.items() if v is not None}, sort_keys=False))

    # --- what is there ---------------------------------------------------------------------------------------------------

    @property
    def runs(self) -> list[Path]:
        """The folders of its runs."""
        return sorted((self.folder / "experiments").glob("run_*"))

    @property
    def the_run(self) -> Path:
        """The only run."""
        (found,) = self.runs
        return found

    def bill(self) -> Counter[str]:
        """How often each request was billed."""
        path = self.folder / "experiments" / "simulated_remote.db"
        if not path.exists():
            return Counter()
        with contextlib.closing(sqlite3.connect(path)) as db:
            return Counter(c for (c,) in db.execute("select custom_id from bill"))

    def state(self) -> dict[str, Any]:
        """run_state.json of the only run."""
        return json.loads((self.the_run / "run_state.json").read_text())  # type: ignore[no-any-return]

    def phases(self) -> dict[str, str]:
        """Phase -> status."""
        return {step: phase["status"] for step, phase in self.state()["phases"].items()}

    def began(self) -> list[str]:
        """The steps that did work, as the event log has them, one entry a sub-task."""
        path = self.the_run / "events.jsonl"
        events = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [e["step"] for e in events if e["event"] == "begin"]

    def results(self, experiments: str = "experiments") -> dict[str, bytes]:
        """The bytes of every result file, by path below the experiments folder."""
        top = self.folder / experiments
        return {str(p.relative_to(top)): p.read_bytes() for p in sorted(top.rglob("*")) if p.name in RESULTS}

    def letters(self, *words: str) -> dict[str, str]:
        """`doit list --all --status`: task -> R, U or E."""
        done = self.doit("list", "--all", "--status", *words)
        assert done.code == 0, done.text
        return {line.split()[1]: line.split()[0] for line in done.out.splitlines() if line.strip()}

    def copy(self, folder: Path) -> Project:
        """The project with all its runs, in another place."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        return Project(folder)


def make(folder: Path, items: int = 3) -> Project:
    """A project of so many items of each type."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("dodo.py", "pyproject.toml"):
        shutil.copy(REPO / name, folder / name)
    (folder / "prompts").mkdir()
    texts = {
        "control": "You answer.",
        "terse": "Answer briefly.",
        "polite": "Please answer.",
        "closed": "Q: {{ question }}\nA:",
        "open": "{{ context }}\nQ: {{ question }}\nA:",
    }
    for name, text in texts.items():
        (folder / "prompts" / f"{name}.txt").write_text(text)
    closed = [{"dataset": "facts", "id": f"c{n}", "question": f"What is {n}?", "answers": [f"number {n}"]} for n in range(items)]
    opened = [
        {"dataset": "passages", "id": f"o{n}", "question": f"Which is {n}?", "answers": [f"item {n}"], "context": f"This is item {n}."}
        for n in range(items)
    ]
    for name, rows in (("closed", closed), ("open", opened)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    project = Project(folder)
    project.configure()
    return project


def trial_of(project: Project) -> Path:
    """The folder of its only trial."""
    (found,) = project.the_run.glob("m-terse-*")
    return found


def rerun(project: Project, *words: str, code: int = 0) -> Counter[str]:
    """The steps that worked in one more run, which must not have billed anything."""
    before, bill = len(project.began()), project.bill()
    project.run(*words, code=code)
    assert project.bill() == bill
    return Counter(project.began()[before:])
