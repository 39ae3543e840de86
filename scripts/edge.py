"""The edge of every script: failures that we can explain become one line on stderr and their exit code."""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn, Protocol

from pipeline.base.errors import AbidingError, UsageError


class Parser(argparse.ArgumentParser):
    """argparse whose mistakes are one line too."""

    def error(self, message: str) -> NoReturn:
        """Raises UsageError."""
        raise UsageError(message, remedy=f"See {self.prog} --help.")


class Main(Protocol):
    """A script's `main`: arguments, or None for the command line's; returns the exit code."""

    def __call__(self, argv: Sequence[str] | None = None) -> int:
        """Run the script."""


def command(main: Callable[[Sequence[str] | None], int]) -> Main:
    """Wrap a script's `main(argv)`."""

    @functools.wraps(main)
    def wrapped(argv: Sequence[str] | None = None) -> int:
        try:
            return main(argv)
        except AbidingError as e:
            print(f"error: {e}", file=sys.stderr)
            return e.exit_code
        except BrokenPipeError:  # `python -m scripts.list_runs | head`
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except OSError as e:
            print(f"error: {e.filename or main.__module__}: {e.strerror or e}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130

    return wrapped
