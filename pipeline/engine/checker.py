"""How doit sees whether a file changed: by our digest cache, so that a touched or restored file is hashed once, not for ever."""

from __future__ import annotations

from typing import Any

from doit.dependency import FileChangedChecker

from pipeline.records.digest_cache import DigestCache


class DigestChecker(FileChangedChecker):  # type: ignore[misc]
    """A file's state is its sha256; the cache knows it by stamp."""

    cache: DigestCache
    """Set for the process when its run is opened."""

    def check_modified(self, file_path: str, file_stat: Any, state: Any) -> bool:
        """True where the bytes differ from those of the saved state."""
        return bool(self.cache.sha256(file_path) != state)

    def get_state(self, dep: str, current_state: Any) -> str | None:
        """The state to save; None where it is the saved one."""
        state = self.cache.sha256(dep)
        return None if state == current_state else state
