"""The stop token under real signals, from stop requests, and in threads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pipeline.base.errors import Stopped
from pipeline.records.stop import SECOND_SIGNAL_EXIT, StopToken

WORKER = """
import sys, time
from pathlib import Path
from pipeline.base.errors import Stopped
from pipeline.records.stop import StopToken
token = StopToken(Path(sys.argv[1]))
with token.signals():
    print("ready", flush=True)
    if sys.argv[2] == "deaf":
        end = time.monotonic() + 120
        while time.monotonic() < end:
            time.sleep(0.05)
    try:
        token.sleep(120)
        token.check()
    except Stopped as e:
        print(e, flush=True)
        sys.exit(3)
"""


def child(request: Path, manner: str = "listens", **kwargs: object) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", WORKER, str(request), manner], stdout=subprocess.PIPE, text=True, **kwargs)  # type: ignore[call-overload]
    assert process.stdout.readline() == "ready\n"
    return process  # type: ignore[no-any-return]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_stops_softly_and_is_named(tmp_path: Path, number: signal.Signals) -> None:
    process = child(tmp_path / "STOP", stderr=subprocess.PIPE)
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 3
    assert out == f"stopped ({number.name}).\n" or out == f"stopped ({number.name})\n"
    assert "once more: at once" in err


def test_second_signal_ends_the_process_at_once(tmp_path: Path) -> None:
    process = child(tmp_path / "STOP", "deaf", stderr=subprocess.PIPE)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    while "once more" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == SECOND_SIGNAL_EXIT


def test_stop_request_file_is_seen_while_sleeping(tmp_path: Path) -> None:
    process = child(tmp_path / "STOP")
    (tmp_path / "STOP").touch()
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 3
    assert "STOP_REQUESTED" in out


def test_signal_after_a_stop_request_is_still_the_first_signal(tmp_path: Path) -> None:
    """Who finds the run stopping slowly on a stop request and presses Ctrl-C once loses nothing."""
    token = StopToken(tmp_path / "STOP")
    (tmp_path / "STOP").touch()
    assert token.requested()
    with token.signals():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
    assert token.reason == "SIGINT"


def test_signal_with_a_closed_stderr_does_not_raise_into_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """`doit run 2>&1 | head`: the pipe is gone; the signal must not turn into an exception in the middle of an atomic action."""
    reader, writer = os.pipe()
    os.close(reader)
    monkeypatch.setattr(sys, "stderr", os.fdopen(writer, "w"))
    token = StopToken()
    with token.signals():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
    assert token.requested()
    monkeypatch.setattr(sys, "stderr", None)
    token = StopToken()
    with token.signals():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
    assert token.requested()


def test_a_storm_of_sleeps_and_signals_never_hangs(tmp_path: Path) -> None:
    """The handler takes no lock: a signal that strikes inside `sleep` or `stop` cannot deadlock with it."""
    for _ in range(300):
        token = StopToken()
        with token.signals():
            timer = threading.Timer(0.0, os.kill, (os.getpid(), signal.SIGTERM))
            timer.start()
            token.sleep(120)
            timer.join()
        assert token.requested()


def test_handlers_are_restored() -> None:
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(ZeroDivisionError), StopToken().signals():
        assert signal.getsignal(signal.SIGINT) is not before[0]
        raise ZeroDivisionError
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before


def test_outside_the_main_thread_no_handler_is_set_and_a_stop_is_still_seen() -> None:
    before, token, seen = signal.getsignal(signal.SIGINT), StopToken(), []

    def work() -> None:
        with token.signals():
            seen.append(signal.getsignal(signal.SIGINT))
            token.sleep(120)
            seen.append(token.requested())

    worker = threading.Thread(target=work)
    worker.start()
    token.stop("asked by the main thread")
    worker.join(60)
    assert seen == [before, True]


def test_old_request_is_cleared_and_only_later_ones_count(tmp_path: Path) -> None:
    request = tmp_path / "STOP"
    request.touch()
    token = StopToken(request)
    token.clear_old_request()
    token.check()
    request.touch()
    with pytest.raises(Stopped, match="STOP_REQUESTED") as raised:
        token.check()
    assert raised.value.exit_code == 3
