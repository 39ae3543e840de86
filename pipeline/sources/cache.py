"""Where a fetched file lies: a name that follows from its URL or sha256, so that fetching and reading agree without talking."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from pipeline.base.digests import sha256_bytes


def url_name(url: str) -> str:
    """The last part of a URL's path (`dev-v2.0.json`), or `download` where it has none."""
    return PurePosixPath(unquote(urlsplit(url).path)).name or "download"


def cache_names(url: str, sha256: str | None) -> tuple[str, ...]:
    """The names under which the bytes of `url` may lie, the one to write first.

    With a declared sha256 that is the name, and a file of the URL's own name serves too, because its bytes are verified. Without one the
    name holds a digest of the URL, so that two URLs that end alike are never taken for each other.
    """
    if sha256:
        return (sha256, url_name(url))
    return (f"{sha256_bytes(url.encode())[:8]}-{url_name(url)}",)


def cached(url: str, sha256: str | None, folder: Path) -> Path:
    """The file in `folder` that holds the bytes of `url`: the first that exists, else the one that a fetch would write."""
    candidates = [folder / name for name in cache_names(url, sha256)]
    return next((path for path in candidates if path.is_file()), candidates[0])
