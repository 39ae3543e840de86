"""Stopping softly: signals and stop requests become one token that the work asks between its atomic actions."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from pipeline.base.errors import Stopped

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SECOND_SIGNAL_EXIT = 130
LOOK_SECONDS = 0.1  # how often a sleeper asks whether it should stop
ONCE_MORE = "once more: at once"


def say_on_stderr(text: str) -> None:
    """A line from a signal handler. A closed pipe or a stderr without a descriptor must not raise into what the signal interrupted."""
    with suppress(OSError, ValueError, AttributeError):  # not fd 2: llama.cpp may have been given that one
        os.write(sys.stderr.fileno(), f"\n{text}\n".encode())


class StopToken:
    """Asked for a stop or not, and why. Thread-safe: any worker may ask, the main thread receives the signals."""

    def __init__(self, request: Path | None = None) -> None:
        """`request` is the run's STOP_REQUESTED file; None where none is looked for."""
        # Plain attributes, no threading.Event: its lock is not reentrant, and a signal that strikes while the main thread holds it
        # would leave the handler, and so the process, waiting for itself.
        self._request, self._stopped = request, False
        self.reason: str | None = None

    def clear_old_request(self) -> None:
        """Delete a stop request made before this process took the lock: only later ones count."""
        if self._request is not None:
            self._request.unlink(missing_ok=True)

    def stop(self, reason: str) -> None:
        """Ask for a stop."""
        if not self._stopped:
            self.reason = reason
            self._stopped = True

    def requested(self) -> bool:
        """True once a signal or a STOP_REQUESTED file has asked for a stop."""
        if not self._stopped and self._request is not None and self._request.exists():
            self.stop("STOP_REQUESTED")
        return self._stopped

    def check(self) -> None:
        """Raise Stopped where a stop was asked for. Called between atomic actions, never inside one."""
        if self.requested():
            raise Stopped(f"stopped ({self.reason})")

    def sleep(self, seconds: float) -> None:
        """Wait, but no longer than until a stop is asked for (seen within a tenth of a second)."""
        end = time.monotonic() + seconds
        while not self.requested() and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, LOOK_SECONDS))

    @contextmanager
    def signals(self, tell: Callable[[str], None] = say_on_stderr) -> Iterator[None]:
        """Inside the block SIGINT and SIGTERM ask for a stop, and a second one ends the process at once (exit 130).

        `tell` says so; it is called inside the handler, so it must neither wait for a lock nor raise.
        Old handlers are restored on leaving. A no-op outside the main thread, where Python allows no handlers.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handler(number: int, _frame: FrameType | None) -> None:
            if self._stopped and self.reason != "STOP_REQUESTED":
                say_on_stderr("")  # the shell's prompt begins a line of its own
                os._exit(SECOND_SIGNAL_EXIT)
            name = signal.Signals(number).name
            self.reason, self._stopped = name, True
            tell(f"{name}: finishing what is in hand, then stopping ({ONCE_MORE})")

        old: dict[signal.Signals, Any] = {s: signal.signal(s, handler) for s in SIGNALS}
        try:
            yield
        finally:
            for s, previous in old.items():
                signal.signal(s, previous)
