"""The edge of every script: mistakes in one line and exit 2, help, a pipe that closes, a Python without the package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scripts.edge import Parser, command

REPO = Path(__file__).resolve().parents[1]
COMMANDS = [p.stem for p in (REPO / "scripts").glob("*.py") if "if __name__ ==" in p.read_text()]
SCRIPTS = sorted({*COMMANDS} - {"demo_fireworks"})  # which hands its words to doit run


def call(*words: str, **kwargs: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], cwd=REPO, capture_output=True, text=True, timeout=60, **kwargs)  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_wrong_option_is_one_line_and_exit_2(name: str) -> None:
    done = call("-m", f"scripts.{name}", "--no_such_option")
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and f"scripts.{name}" in done.stderr, done.stderr


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_tells_what_the_script_is_for(name: str) -> None:
    done = call("-m", f"scripts.{name}", "--help")
    assert done.returncode == 0 and f"python -m scripts.{name}" in done.stdout and not done.stderr


def test_a_python_without_the_package_is_told_what_to_do(tmp_path: Path) -> None:
    for name in ("scripts/__init__.py", "scripts/list_runs.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((REPO / name).read_bytes())
    done = subprocess.run([sys.executable, "-S", "-m", "scripts.list_runs"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "make setup" in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_what_a_script_cannot_write_is_told_with_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    @command
    def main(argv: object = None) -> int:
        raise PermissionError(13, "Permission denied", "experiments/x")

    assert main() == 1
    assert capsys.readouterr().err == "error: experiments/x: Permission denied\n"


def test_a_closed_pipe_is_no_failure() -> None:
    program = "import sys\nfrom scripts.edge import command\n@command\ndef main(argv=None):\n    raise BrokenPipeError\nsys.exit(main())"
    assert call("-c", program).returncode == 0


def test_the_parser_names_its_own_help() -> None:
    @command
    def main(argv: object = None) -> int:
        Parser(prog="python -m scripts.x").parse_args(["--wrong"])
        return 0

    assert main() == 2
