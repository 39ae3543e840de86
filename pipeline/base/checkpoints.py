"""Named points at which a test may strike: the process announces where it stands and waits until it is let go on.

Costs one dictionary look-up when nobody listens. `ABIDING_CHECKPOINTS=<write fd>,<read fd>` names the pipe of a listener
(`scripts.smoke_orchestration`, `scripts.kill_storm`): each announcement is a line, the answer one byte.
"""

from __future__ import annotations

import os
import threading

VARIABLE = "ABIDING_CHECKPOINTS"
_lock = threading.Lock()


def announce(name: str) -> None:
    """Say that the process stands at checkpoint `name`; wait for the listener's go-ahead, where there is one."""
    pipe = os.environ.get(VARIABLE)
    if not pipe:
        return
    write_fd, read_fd = (int(fd) for fd in pipe.split(","))
    with _lock:
        try:
            os.write(write_fd, name.encode() + b"\n")
            os.read(read_fd, 1)
        except OSError:  # the listener is gone: nobody to wait for
            os.environ.pop(VARIABLE, None)
