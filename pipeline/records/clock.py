"""The one clock: what it says goes into states, manifests and events, never into results."""

from __future__ import annotations

import time
from datetime import datetime, timezone


def now_iso() -> str:
    """UTC now as `2026-01-31T12:00:00.123456Z`."""
    return iso(time.time())


def iso(seconds: float) -> str:
    """Seconds since 1970 as RFC 3339 in UTC with microseconds."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def seconds(text: str) -> float:
    """Seconds since 1970 of an RFC 3339 time. Raises ValueError."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
