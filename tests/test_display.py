"""What a run shows while it works: counts, pace and money; a region on a terminal, plain lines elsewhere, nothing with --quiet."""

from __future__ import annotations

import io
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from desk import answer, office, request
from project import REPO, Project, make
from rich.console import Console

from pipeline.base.rows import Failure
from pipeline.engine import display as display_module
from pipeline.engine.display import Display
from pipeline.engine.plan_table import shortened
from pipeline.engine.progress import Count, Pace, ShardCount, count, plain_line
from pipeline.engine.region import Region
from pipeline.providers.protocol import JobState, JobStatus
from pipeline.providers.queue import Queue
from pipeline.records.run_state import STEPS
from pipeline.records.stop import StopToken


def region_of(queue: Queue | None, width: int, height: int = 30, phase: str = "poll", reason: str | None = None) -> list[str]:
    """The lines of the region for a queue at work in `phase`."""
    run: Any = SimpleNamespace(stop=StopToken())
    run.__dict__.update({"queue": queue} if queue else {})
    run.stop.reason = reason
    shown = Display(run, STEPS, quiet=False)
    shown.expect({phase: 2})
    shown.phases[phase].begun = time.monotonic()
    out = io.StringIO()
    Console(file=out, width=width, height=height, force_terminal=True, no_color=True).print(Region(shown))
    return re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue()).splitlines()


# --- counting ----------------------------------------------------------------------------------------------------------


def test_answers_are_counted_over_shards_wherever_they_are(tmp_path: Path) -> None:
    """Sent, waiting, running with its count, published; money as reserved, then as billed."""
    place = office(tmp_path, cap=1.0)
    queue = place.queue(a=3, b=[request(3), request(4)])
    assert [(s.word, s.done, s.requests) for s in count(queue).shards] == [("to send", 0, 3), ("to send", 0, 2)]
    queue.submit("a/t0_p00")
    now = count(queue)
    assert [s.word for s in now.shards] == ["waiting", "to send"]
    assert now.spent == 0 and now.reserved and now.cap == 1.0
    queue.status["a/t0_p00"] = JobStatus(JobState.RUNNING, done=2)
    assert [(s.word, s.done) for s in count(queue).shards] == [("running", 2), ("to send", 0)]
    queue.wait("a/t0_p00")
    now = count(queue)
    assert (now.shards[0].word, now.done, now.requests, now.in_flight) == ("done", 3, 5, 0)
    assert now.spent and not now.reserved
    assert now.money() == f"${now.spent:.4f} spent, cap $1.0000"
    queue.close()


def test_a_follow_up_counts_on_from_what_is_there(tmp_path: Path) -> None:
    """Its job holds only what is still owed; the state of the job before it says nothing of it."""
    place = office(tmp_path)
    lost = Failure(code="server_error", message="oops")
    place.provider.rows_of = lambda job, rows: [answer(r) for r in rows[1:]] + [answer(rows[0], outcome="failed", text=None, error=lost)]
    queue = place.queue(a=4)
    queue.submit("a/t0_p00")
    shard = queue.shards["a/t0_p00"]
    while shard.in_flight:
        queue._look_at_all()
    queue._settle_or_resend(shard)
    assert queue.status["a/t0_p00"].state.final
    assert [(s.word, s.done) for s in count(queue).shards] == [("waiting", 3)]
    queue.close()


def test_a_model_without_a_price_shows_no_money(tmp_path: Path) -> None:
    queue = office(tmp_path, price=None).queue(a=1)
    assert count(queue).money() is None
    queue.close()


def counted(done: int, of: int, reused: int = 0) -> Count:
    return Count((ShardCount("u/t0_p00", done, of, "running"),), reused, None, None, None)


def test_the_pace_begins_with_the_first_answer_and_leaves_out_what_was_reused() -> None:
    now = [0.0]
    pace = Pace(lambda: now[0])
    assert pace.say(counted(50, 100, reused=50)) == ""
    now[0] = 60.0  # the model was loaded
    assert pace.say(counted(51, 100, reused=50)) == ""
    now[0] = 120.0
    assert pace.say(counted(61, 100, reused=50)) == "10 a minute, about 4 min left"
    assert plain_line(counted(61, 100, reused=50), pace) == "answers 61/100, 1 shard in flight, 10 a minute, about 4 min left"
    assert pace.say(counted(100, 100, reused=50)) == ""


@pytest.mark.parametrize(("rate", "left", "said"), [(20, 40, "20 a second, about 40 s left"), (1, 7200, "60 a minute, about 2.0 h left")])
def test_units_fit_the_size(rate: int, left: int, said: str) -> None:
    now = [0.0]
    pace = Pace(lambda: now[0])
    for seconds in range(3):
        now[0] = float(seconds)
        shown = pace.say(counted(rate * seconds, rate * (2 + left)))
    now[0] = 3.0
    shown = pace.say(counted(rate * 3, rate * (3 + left)))
    assert shown == said


# --- the region --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_region_shows_answers_shards_money_and_what_is_to_come_and_fits(tmp_path: Path, width: int) -> None:
    place = office(tmp_path, cap=2.0)
    queue = place.queue(**{"operational_only-smollm2-135m-instruct-tp1-tk0-mx32-32": 3, "b": 3})
    queue.submit(next(iter(queue.shards)))
    lines = region_of(queue, width)
    queue.close()
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert lines[0].startswith("poll ") and "0/6 answers" in lines[0]
    assert re.search(r"operat.*/t0_p00 .*0/3 waiting", text) and re.search(r"b/t0_p00 .*0/3 to send", text)
    assert "$0.0000 spent, $" in text
    assert "then parse, score" in text


def test_of_many_shards_those_at_work_are_shown_and_the_others_counted(tmp_path: Path) -> None:
    place = office(tmp_path)
    queue = place.queue(**{f"u{n}": 2 for n in range(20)})
    queue.submit("u7/t0_p00")
    lines = region_of(queue, 80, height=12)
    queue.close()
    assert "u7/t0_p00" in lines[1]
    assert "  and 16 more: 16 to send" in lines
    assert len(lines) <= 12


def test_the_region_says_that_it_stops() -> None:
    assert region_of(None, 80, reason="SIGINT")[-1] == "SIGINT: finishing what is in hand, then stopping (once more: at once)"
    assert region_of(None, 80, reason="STOP_REQUESTED")[-1] == "STOP_REQUESTED: finishing what is in hand, then stopping"


def test_a_long_name_loses_its_middle() -> None:
    assert shortened("control-smollm2-135m-tp1-tk0/t0_p00", 20) == "control-smol…/t0_p00"
    for width in range(2, 40):
        short = shortened("control-smollm2-135m-tp1-tk0/t0_p00", width)
        assert len(short) <= width
        if width >= 10:
            assert short.startswith("c") and short.endswith("/t0_p00")


# --- on a terminal -----------------------------------------------------------------------------------------------------


def on_terminal(project: Project, *words: str, interrupt: bool = False, **env: str) -> tuple[int, str]:
    """`doit run` with a terminal of 80 columns; with `interrupt`, Ctrl-C once polling has begun. Exit code and all that it wrote."""
    primary, replica = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS")}
    environment |= {"PYTHONPATH": str(REPO), "TERM": "xterm", "COLUMNS": "80", **env}
    child = subprocess.Popen(
        [sys.executable, "-m", "doit", "run", "--config", "c.yaml", *words],
        cwd=project.folder, env=environment, stdin=replica, stdout=replica, stderr=replica, start_new_session=True,
    )  # fmt: skip
    os.close(replica)
    seen = b""
    while True:
        try:
            part = os.read(primary, 65536)
        except OSError:  # Linux says so when the last holder of the other end is gone
            break
        if not part:
            break
        seen += part
        if interrupt and b"answers" in seen:
            child.send_signal(signal.SIGINT)
            interrupt = False
    os.close(primary)
    return child.wait(timeout=60), seen.decode()


HIDDEN, SHOWN = "\x1b[?25l", "\x1b[?25h"
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-9]|9[0-7])[;m]")


def test_on_a_terminal_it_draws_and_leaves_the_terminal_as_it_was(tmp_path: Path) -> None:
    """Phases stay as lines, the region goes; the cursor is shown right after the library hid it; a run that is done draws nothing."""
    project = make(tmp_path)
    code, seen = on_terminal(project, "-n", "2")
    assert code == 0
    for step in STEPS:
        assert re.search(rf"{step} +\d+ tasks? done", seen), step
    assert "then " in seen and "answers" in seen
    for at in (m.end() for m in re.finditer(re.escape(HIDDEN), seen)):
        assert seen[at:].startswith(SHOWN)
    assert COLOUR.search(seen)
    last = seen[seen.rindex("archive ") :]
    assert "  then " not in last and "No verdict" in last
    code, seen = on_terminal(project)
    assert code == 0 and "everything is up to date" in seen and HIDDEN not in seen


def test_no_color_and_a_dumb_terminal_and_quiet(tmp_path: Path) -> None:
    """NO_COLOR: drawn without colours. TERM=dumb: plain lines. --quiet: the verdict alone."""
    project = make(tmp_path)
    code, seen = on_terminal(project, NO_COLOR="1")
    assert code == 0 and "  then build" in seen and not COLOUR.search(seen)
    code, seen = on_terminal(project, "--fresh", TERM="dumb")
    assert code == 0 and "poll     2 tasks done" in seen and "\x1b" not in seen
    code, seen = on_terminal(project, "--fresh", "--quiet", TERM="dumb")
    assert code == 0 and " done," not in seen and seen.startswith("No verdict")


def test_ctrl_c_leaves_a_line_that_resumes(tmp_path: Path) -> None:
    """Exit 3; the region is gone, the last line resumes, and that line works."""
    project = make(tmp_path)
    project.configure(provider={"name": "simulated", "polls_per_job": 100000, "poll_seconds": 0.05})
    code, seen = on_terminal(project, interrupt=True)
    assert code == 3
    lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).strip() for line in seen.splitlines()]
    assert lines[-2].startswith("stopped (SIGINT)")
    assert lines[-1] == f"resume: doit run --run_id {project.the_run.name.removeprefix('run_')} --resume"
    assert seen.count(HIDDEN) == seen.count(HIDDEN + SHOWN) > 0
    project.configure()
    project.run(*lines[-1].split()[3:])


def test_on_a_pipe_a_plain_line_comes_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(display_module, "PLAIN_SECONDS", 0.0)
    project = make(tmp_path)
    done = project.run()
    assert re.search(r"^answers 0/12, \d shards? in flight, \$0\.0000 spent$", done.err, re.M)
    assert "\x1b" not in done.text
    assert "answers" not in make(tmp_path / "quiet").run("--quiet").err


def test_a_report_without_a_browser_is_named_for_opening_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--open` opens the report, or says that it could not."""
    import webbrowser

    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda uri: bool(opened.append(uri)))
    done = make(tmp_path).run("--open")
    assert opened and opened[0].startswith("file://") and opened[0].endswith("/reports/report.html")
    assert "there is no browser here" in done.err
