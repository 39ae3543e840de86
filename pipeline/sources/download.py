"""One file over HTTP(S): resumed where it broke off, verified, and in its place only when it is whole."""

from __future__ import annotations

import http.client
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from pipeline.base.digests import sha256_file
from pipeline.base.errors import StepError, UsageError
from pipeline.base.files import fsync_dir, write_atomic

BLOCK = 1 << 20
TIMEOUT_SECONDS = 30.0
Progress = Callable[[int, int | None], None]
"""Called with the bytes there are and the bytes there will be (None where the server does not say)."""


def download(url: str, target: Path, sha256: str | None = None, progress: Progress | None = None) -> bool:
    """Bring the bytes of `url` to `target`. Returns False where they were there already.

    What arrives is kept in `.<name>.part` beside the target, so that the next call asks only for the rest; a server that cannot or will
    not resume is asked for all of it. `target` appears at once and whole, after its length and (where declared) its sha256 were checked.

    Raises StepError (exit 1) for a network or server failure, a broken connection, a wrong sha256, or a different file at `target`;
    UsageError for a URL that is not HTTP(S).
    """
    if not re.match(r"https?://", url):
        raise UsageError("only http and https URLs are fetched", where=url, remedy="Name a local file with `path`.")
    if target.exists():
        if sha256 and (found := sha256_file(target)) != sha256:
            raise StepError(f"the file has the sha256 {found}, not {sha256}", where=str(target), remedy="Move it away and fetch again.")
        return False
    part, mark = target.with_name(f".{target.name}.part"), target.with_name(f".{target.name}.part.version")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        _receive(url, part, mark, sha256, progress)
    except urllib.error.HTTPError as e:
        e.close()
        raise StepError(f"the server answers {e.code} {e.reason}", where=url, remedy=_by_hand(target, sha256)) from None
    except (OSError, http.client.HTTPException) as e:  # no route, no name, refused, timed out, reset, cut off
        reason = getattr(e, "reason", None) or e
        raise StepError(f"no connection, or it broke: {reason}", where=url, remedy=f"Run it again. {_by_hand(target, sha256)}") from None
    if sha256 and (found := sha256_file(part)) != sha256:
        part.unlink()
        mark.unlink(missing_ok=True)
        raise StepError(f"what came has the sha256 {found}, not {sha256}; it was thrown away", where=url, remedy=_by_hand(target, sha256))
    part.replace(target)
    mark.unlink(missing_ok=True)
    fsync_dir(target.parent)
    return True


def _by_hand(target: Path, sha256: str | None) -> str:
    digest = f" (sha256 {sha256})" if sha256 else ""
    return f"Without network: fetch it on another machine and put it at {target}{digest}; the bundled sample in config/sample needs none."


def _receive(url: str, part: Path, mark: Path, sha256: str | None, progress: Progress | None) -> None:
    """Make `part` whole. `mark` holds the version (ETag) of which it is a part."""
    there = part.stat().st_size if part.exists() else 0
    version = mark.read_text("utf-8") if mark.exists() else None
    request = urllib.request.Request(url, headers={"User-Agent": "abiding", "Accept-Encoding": "identity"})
    if there and (version or sha256):  # without either, a rest could be glued to the beginning of another version
        request.add_header("Range", f"bytes={there}-")
        if version:
            request.add_header("If-Range", version)
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as e:
        if e.code != 416:
            raise
        e.close()  # nothing after `there`: either all of it came before, which the sha256 tells, or the file is another
        if sha256 and sha256_file(part) == sha256:
            return
        part.unlink()
        _receive(url, part, mark, sha256, progress)
        return
    with response:
        resumed = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {there}-")
        if response.status == 206 and not resumed:
            raise http.client.HTTPException("the server sent another part than the one asked for")
        _note_version(mark, response.headers.get("ETag"))
        start = there if resumed else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        # Not through the atomic writer: what has arrived must outlive a broken connection.
        with open(part, "ab" if resumed else "wb") as f:
            while block := response.read(BLOCK):
                f.write(block)
                start += len(block)
                if progress:
                    progress(start, total)
            f.flush()
            os.fsync(f.fileno())
    if total is not None and start != total:
        raise http.client.HTTPException(f"{start} of {total} bytes came")


def _note_version(mark: Path, etag: str | None) -> None:
    if etag and not etag.startswith("W/"):  # a weak one does not promise equal bytes
        write_atomic(mark, etag)
    else:
        mark.unlink(missing_ok=True)
