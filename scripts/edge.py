"""The edge of every script: failures that we can explain become one line on stderr and their exit code."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Protocol

from pipeline.base.errors import AbidingError


class Main(Protocol):
    """A script's `main`: arguments, or None for the command line's; returns the exit code."""

    def __call__(self, argv: list[str] | None = None) -> int:
        """Run the script."""


def command(main: Callable[[list[str] | None], int]) -> Main:
    """Wrap a script's `main(argv)`."""

    @functools.wraps(main)
    def wrapped(argv: list[str] | None = None) -> int:
        try:
            return main(argv)
        except AbidingError as e:
            print(f"error: {e}", file=sys.stderr)
            return e.exit_code
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130

    return wrapped
