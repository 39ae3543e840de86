"""What every provider that speaks HTTP needs: one kind of fault, patience with it, the provider's clock, downloads, no leaked keys."""

from __future__ import annotations

import base64
import hashlib
import logging
import os
import random
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pipeline.base.errors import StepError
from pipeline.base.files import atomic_writer

log = logging.getLogger(__name__)
T = TypeVar("T")
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
HIDDEN = "***"
_MARKED_SECRET = re.compile(
    r"(?i)(\bbearer\s+|authorization[\"']?\s*[:=]\s*[\"']?(?:[a-z]+\s+)?|api[-_]?key[\"']?\s*[:=]\s*[\"']?|[?&][\w-]*(?:signature|credential|token|key|sig)=)[^\s&\"'<>,}]+"
)


class HttpFault(StepError):
    """A call without a usable answer. Its text never holds a key or a signed URL's query.

    `status` is the HTTP status, None where no answer came (time-out, reset, refused connection); `garbled` marks an answer with a good
    status that makes no sense (HTML, torn JSON); `retry_after` is what the server asked for, in seconds.
    """

    def __init__(
        self,
        fact: str,
        *,
        status: int | None = None,
        body: str = "",
        retry_after: float | None = None,
        garbled: bool = False,
        where: str | None = None,
    ) -> None:
        self.status, self.body, self.retry_after, self.garbled = status, redact(body), retry_after, garbled
        super().__init__(redact(fact), where=where)

    @property
    def transient(self) -> bool:
        """True where asking again may help."""
        return self.status is None or self.garbled or self.status in TRANSIENT

    @property
    def ambiguous(self) -> bool:
        """True where the server may have done what was asked although we cannot know: everything but a plain refusal."""
        return self.status is None or self.garbled or self.status == 408 or self.status >= 500


def fault_of(error: Exception, what: str) -> HttpFault:
    """An SDK's or HTTP client's error as a fault. Works by shape: `.response` (status_code, headers, text) or none.

    `what` names the call ("create batch inference job").
    """
    response = getattr(error, "response", None)
    if response is None:
        cause = error.__cause__ or error
        return HttpFault(f"{what}: no answer ({type(cause).__name__}: {cause})")
    try:
        body = str(response.text)
    except Exception as unreadable:  # noqa: BLE001 - a body torn on its way is still an answer with a status; each client raises its own kind
        body = f"(unreadable body: {type(unreadable).__name__})"
    status = int(response.status_code)
    said = redact(body)[:500]  # in this order: half a key is none that could be recognised
    return HttpFault(f"{what}: HTTP {status}: {said}", status=status, body=body, retry_after=retry_after(response.headers))


@dataclass(frozen=True)
class Patience:
    """How long and how often to ask again (seconds). Waits double from `initial` to `longest`, with jitter."""

    deadline: float = 120.0
    attempts: int = 10
    initial: float = 0.5
    longest: float = 20.0


def patiently(call: Callable[[], T], patience: Patience | None = None, also: Iterable[int] = ()) -> T:
    """`call()`, asked again after transient faults (and the statuses in `also`): exponential backoff with jitter (stamina).

    A Retry-After is obeyed where it ends before the deadline; where it does not, the fault is raised at once. Only for calls that may
    be repeated: never for a create. Raises the last HttpFault, and at once whatever else `call` raises.
    """
    import stamina  # here: a no-op run should not pay for it
    from stamina.instrumentation import set_on_retry_hooks

    set_on_retry_hooks([_log_retry])
    p = patience or Patience()
    end = time.monotonic() + p.deadline
    more = frozenset(also)

    def again(error: Exception) -> bool | float:
        if not isinstance(error, HttpFault) or not (error.transient or error.status in more):
            return False
        if error.retry_after is None:
            return True
        wait = error.retry_after + random.uniform(
            0, min(1.0, p.initial)
        )  # many clients told the same second should not come in the same one
        return wait if time.monotonic() + wait < end else False

    for attempt in stamina.retry_context(
        on=again, attempts=p.attempts, timeout=p.deadline, wait_initial=p.initial, wait_max=p.longest, wait_jitter=min(1.0, p.initial)
    ):
        with attempt:
            return call()
    raise AssertionError("unreachable: the last attempt returns or raises")


def _log_retry(details: Any) -> None:
    log.info("%s; asked again in %.1f s", details.caused_by, details.wait_for)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds a server asks to wait (`retry-after-ms`, `retry-after` in seconds or as an HTTP date), None where it does not."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            return max(0.0, float(value) * scale)
        except ValueError:
            at, now = _http_date(value), provider_clock(headers) or time.time()
            if at is not None:
                return max(0.0, at - now)
    return None


def provider_clock(headers: Mapping[str, str]) -> float | None:
    """The server's own time (Date header), in seconds since 1970."""
    return _http_date(headers.get("date"))


def _http_date(text: str | None) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp() if text else None
    except (TypeError, ValueError):
        return None


def redact(text: str) -> str:
    """`text` without keys: what follows `Bearer`, `api_key=` and the like, signed queries, and the values of the variables that hold keys
    (`*_API_KEY`, `*_TOKEN`, `*_SECRET`, and each header of `*_CUSTOM_HEADERS`)."""
    for name, value in os.environ.items():
        secrets = [value] if name.endswith(("_API_KEY", "_TOKEN", "_SECRET")) else []
        if name.endswith("_CUSTOM_HEADERS"):
            secrets = [line.partition(":")[2].strip() for line in value.splitlines()]
        for secret in secrets:
            if len(secret) >= 6:
                text = text.replace(secret, HIDDEN)
    return _MARKED_SECRET.sub(lambda m: m.group(1) + HIDDEN, text)


def bare_url(url: str) -> str:
    """The URL without user, query and fragment: fit for a message."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"


def same_origin(url: str, base: str) -> bool:
    """True where both URLs have the same scheme, host and port."""
    return _origin(url) == _origin(base)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)


def require_safe_url(url: str, what: str) -> None:
    """Raise StepError unless the URL is https, or http on this machine: answers and prompts do not travel in the clear."""
    parts = urlsplit(url)
    loopback = parts.hostname in ("127.0.0.1", "::1", "localhost")
    if parts.scheme != "https" and not (parts.scheme == "http" and loopback):
        raise StepError(f"{what} has the URL {bare_url(url)}, which is not https", remedy="Use an https URL (http only on this machine).")


def download(url: str, target: str | Path, *, what: str, headers: Mapping[str, str] | None = None, timeout: float = 60.0) -> str:
    """Stream a URL to the file `target`, which appears only when it is whole; returns its sha256 (64 hex).

    Whole is what the server announced: Content-Length, and the md5 of `x-goog-hash` or `content-md5` where given. Sends no header but
    `headers` (no key of ours goes to a signed URL), follows no redirect. Raises HttpFault; StepError for an unsafe URL.
    """
    httpx = _httpx()
    require_safe_url(url, what)
    sha, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    asked = {"accept-encoding": "identity", **(headers or {})}
    try:
        with httpx.stream("GET", url, headers=asked, timeout=timeout, follow_redirects=False) as response:
            if response.status_code != 200:
                response.read()
                raise fault_of(_Answered(response), f"{what} ({bare_url(url)})")
            with atomic_writer(target) as f:
                for block in response.iter_bytes():
                    sha.update(block)
                    md5.update(block)
                    size += len(block)
                    f.write(block)
                _require_whole(response.headers, size, md5.digest(), what)
    except (httpx.HTTPError, httpx.StreamError) as e:
        raise fault_of(e, f"{what} ({bare_url(url)})") from None  # the cause's text may hold the signed URL
    return sha.hexdigest()


def put_file(url: str, path: str | Path, *, what: str, headers: Mapping[str, str], timeout: float = 60.0) -> None:
    """PUT a file's bytes to a (signed) URL, streamed. Raises HttpFault; StepError for an unsafe URL."""
    httpx = _httpx()
    require_safe_url(url, what)
    try:
        with open(path, "rb") as f:
            response = httpx.put(url, content=f, headers={**headers, "content-length": str(os.fstat(f.fileno()).st_size)}, timeout=timeout)
    except httpx.HTTPError as e:
        raise fault_of(e, f"{what} ({bare_url(url)})") from None
    if not response.is_success:
        raise fault_of(_Answered(response), f"{what} ({bare_url(url)})")


def _httpx() -> Any:
    import httpx  # here: a no-op run should not pay for it

    for name in ("httpx", "httpcore"):  # they log whole URLs, and a signed URL is a key
        logging.getLogger(name).setLevel(logging.WARNING)
    return httpx


class _Answered(Exception):
    """Gives a response the shape of an error with one."""

    def __init__(self, response: Any) -> None:
        self.response = response


def _require_whole(headers: Mapping[str, str], size: int, md5: bytes, what: str) -> None:
    if headers.get("content-encoding", "identity") != "identity":
        return  # sizes and sums then speak of the stored form, not of what we hold
    announced = headers.get("content-length") or headers.get("x-goog-stored-content-length")
    if announced is not None and announced.isdigit() and int(announced) != size:
        raise HttpFault(f"{what}: {size} bytes came of {announced} announced", garbled=True, status=200)
    sums = {part.strip()[4:] for part in headers.get("x-goog-hash", "").split(",") if part.strip().startswith("md5=")}
    sums |= {headers["content-md5"]} if "content-md5" in headers else set()
    if sums and base64.b64encode(md5).decode() not in sums:
        raise HttpFault(f"{what}: the bytes that came do not have the md5 announced", garbled=True, status=200)
