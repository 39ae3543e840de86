"""What the adapters over vendors' SDKs share: patient looks, one-shot creates, whole downloads.

The SDKs of OpenAI and Anthropic are of one make: same error classes, same raw responses. Their own retries are switched off, because
they cover POST too and know no deadline; looks and downloads are repeated by `patiently` instead, creates never.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from itertools import accumulate
from typing import IO, Any, TypeVar
from urllib.parse import urlsplit

from pipeline.base.digests import sha256_bytes
from pipeline.base.errors import AbidingError, ConfigError, StepError
from pipeline.base.rows import Failure, ResultRow
from pipeline.base.schemas import parse_json
from pipeline.providers.chat import error_parts
from pipeline.providers.http import HttpFault, Patience, fault_of, patiently, provider_clock, redact, require_safe_url
from pipeline.providers.protocol import Ambiguous, Barred, NoRoomNow, Rejected

T = TypeVar("T")
SPOOL_BYTES = 1 << 25
"""Downloads up to this many bytes stay in memory."""
OUT_OF_MONEY = frozenset({"insufficient_quota", "billing_error", "billing_hard_limit_reached"})
_SAYS_NO_MONEY = re.compile(r"credit balance|spend(ing)? limit|usage limit", re.IGNORECASE)
"""Anthropic's 400 `invalid_request_error` also covers a spend limit that was reached."""
_CUSTOM_ID = re.compile(rb'"custom_id"\s*:\s*"([A-Za-z0-9_-]{1,64})"')


class Gone(StepError):
    """The provider does not know what was asked for (404)."""


class Remote:
    """One vendor's API through its SDK. `module` is the SDK's, `client` its client with retries off."""

    def __init__(self, module: Any, client: Any, patience: Patience) -> None:
        self.module, self.client, self.patience = module, client, patience
        require_safe_url(str(client.base_url), "provider.base_url")
        self.host = urlsplit(str(client.base_url)).netloc
        # The transport below the SDK is httpx or its successor; a stream that breaks half-way raises its errors unwrapped.
        transports = [vars(module._base_client)[name] for name in ("httpx", "httpx2") if name in vars(module._base_client)]
        self._errors: tuple[type[Exception], ...] = (module.APIError, *(transport.HTTPError for transport in transports))

    def look(self, what: str, call: Callable[[], Any], over: tuple[int, ...] = ()) -> tuple[dict[str, Any], float | None]:
        """The JSON object of a safe call, and the server's clock (seconds since 1970). Retries within the deadline.

        `call` returns the SDK's raw response. A status in `over` says that there is nothing to do: an empty object.
        Raises Gone on 404, Barred for a bad key and the like, StepError when faults persist.
        """
        try:
            return patiently(lambda: self._object(what, call), self.patience)
        except HttpFault as fault:
            if fault.status in over:
                return {}, None
            raise _verdict(what, fault) from None

    def entries(
        self, what: str, page: Callable[..., Any], oldest: float, made_at: Callable[[dict[str, Any]], float | None], cursor: str
    ) -> Iterator[dict[str, Any]]:
        """The entries of a list, newest first, until a whole page is older than `oldest` (seconds since 1970).

        `page` is the SDK's call, `made_at` reads the age of an entry, `cursor` is the name under which a page names its predecessor's end.
        """
        after: dict[str, str] = {}
        while True:
            listed, _ = self.look(what, lambda after=after: page(limit=100, **after))  # type: ignore[misc]
            entries = [entry for entry in listed.get("data") or [] if isinstance(entry, dict)]
            yield from entries
            ages = [at for entry in entries if (at := made_at(entry)) is not None]
            if not entries or not listed.get("has_more") or (ages and max(ages) < oldest):
                return
            after = {cursor: str(entries[-1].get("id"))}

    def create(self, what: str, call: Callable[[], Any], *, rows_inline: bool = False) -> dict[str, Any]:
        """The JSON object of a call that makes something billable: tried once. `rows_inline`: it holds the rows, one may be at fault.

        Raises Rejected, Barred or NoRoomNow where the provider surely made nothing, Ambiguous in every other case.
        """
        try:
            made, _ = self._object(what, call)
        except HttpFault as fault:
            if fault.ambiguous or fault.status == 409:
                raise Ambiguous(said(what, fault)) from None
            if fault.status == 429 and code_of(fault) not in OUT_OF_MONEY:
                raise NoRoomNow(said(what, fault), retry_after=fault.retry_after) from None
            raise _verdict(what, fault, create=True, splittable=rows_inline and fault.status in (400, 422)) from None
        if not isinstance(made.get("id"), str):
            raise Ambiguous(f"{what}: the reply names no id")
        return made

    def download(self, what: str, stream: Callable[[], AbstractContextManager[Any]], least_rows: int = 0) -> IO[bytes]:
        """A results file, whole, in a temporary file set to its start. The caller closes it.

        A file that looks damaged (torn or unreadable lines, fewer than `least_rows` lines) is fetched again, and taken as it is only
        when the same bytes come twice: then the damage is the file's, not the wire's. A file without one readable row never is.
        """
        seen: list[str] = []

        def once() -> IO[bytes]:
            spool = tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES)  # noqa: SIM115 - handed to the caller
            try:
                with stream() as response:
                    for block in response.iter_bytes():
                        spool.write(block)
            except self._errors as e:
                raise fault_of(e, what) from None
            spool.seek(0)
            kinds = [_row(line) is not None for line in spool if line.strip()]
            spool.seek(0)
            if sum(kinds) < max(len(kinds), least_rows):
                mark = sha256_bytes(spool.read())
                spool.seek(0)
                if mark not in seen or not any(kinds):
                    seen.append(mark)
                    fact = f"{what}: {sum(kinds)} readable rows in {len(kinds)} lines; {least_rows} announced"
                    raise HttpFault(fact, status=200, garbled=True)
            return spool

        try:
            return patiently(once, self.patience)
        except HttpFault as fault:
            raise _verdict(what, fault) from None

    def _object(self, what: str, call: Callable[[], Any]) -> tuple[dict[str, Any], float | None]:
        try:
            response = call().http_response
            data, headers = response.read(), response.headers
        except self._errors as e:
            raise fault_of(e, what) from None
        try:
            value = parse_json(data)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            start = redact(data[:2000].decode("utf-8", "replace"))[:60]
            raise HttpFault(f"{what}: the reply is no JSON object but {start!r}", status=response.status_code, garbled=True)
        return value, provider_clock(headers)


def seen_in_time(look: Callable[[], T | None], sent_at: float, delays: Iterable[float]) -> T | None:
    """What `look` finds. Lists lag: where it finds nothing, again at each of `delays` (seconds apart) after a create sent at `sent_at`."""
    found = look()
    for due in accumulate(delays):
        if found is None and (wait := sent_at + due - time.time()) > 0:
            time.sleep(min(wait, due))
            found = look()
    return found


def sdk(name: str) -> Any:
    """The vendor's SDK, imported only now. Raises ConfigError naming the extra where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ConfigError(f"provider {name} needs the package {name}", remedy=f"pip install 'abiding[{name}]'") from None


def require_env(*names: str) -> str:
    """The value of the first of these environment variables that is set. Raises ConfigError naming them."""
    for name in names:
        if value := os.environ.get(name):
            return value
    raise ConfigError("no API key", where=" or ".join(f"${name}" for name in names), remedy=f"export {names[0]}=... or put it into .env.")


def code_of(fault: HttpFault) -> str:
    """The provider's own word for the fault, "" where it gave none."""
    return _parts(fault)[0]


def said(what: str, fault: HttpFault) -> str:
    """The fault in one line: the provider's code and message where its answer has them."""
    code, message = _parts(fault)
    return f"{what}: HTTP {fault.status} {code}: {message}" if code else fault.fact


def rows_of(spool: IO[bytes]) -> Iterator[tuple[str, dict[str, Any] | None, bytes]]:
    """(custom_id, row, line) of each line of a results file; row None where only the custom_id could be read. Closes the file.

    Bytes that are not UTF-8 become U+FFFD. Lines without a custom_id are left out: the requests they answer show as missing.
    """
    with spool:
        for line in spool:
            row = _row(line) or _row(line.decode("utf-8", "replace").encode("utf-8"))
            if row is not None:
                yield row["custom_id"], row, line
            elif found := _CUSTOM_ID.search(line):
                yield found.group(1).decode("ascii"), None, line


def unreadable_row(custom_id: str, line: bytes) -> ResultRow:
    """The result of a line that names its request and cannot be read further."""
    error = Failure(code="unreadable_row", message="The line cannot be read.")
    return ResultRow(custom_id=custom_id, outcome="failed", error=error, raw=text_of(line))


def text_of(line: bytes) -> str:
    """A raw line as text fit for a ResultRow."""
    return line.decode("utf-8", "replace").strip()


def _verdict(what: str, fault: HttpFault, create: bool = False, splittable: bool = False) -> AbidingError:
    """The error that says what a refusal means for the run."""
    status, fact = fault.status, said(what, fault)
    if status in (401, 403):
        return Barred(fact, remedy="Check the API key and what it may do.")
    if status == 402 or code_of(fault) in OUT_OF_MONEY or (status == 400 and _SAYS_NO_MONEY.search(fact)):
        return Barred(fact, remedy="Add credit to the account, then run again.")
    if status == 413:
        return Rejected(fact, remedy="Lower lines_per_part or provider.max_bytes.")
    if create:
        return Rejected(fact, splittable=splittable)
    if status == 404:
        return Gone(fact)
    return StepError(fact, remedy="Nothing is lost: run again later.")


def _parts(fault: HttpFault) -> tuple[str, str]:
    try:
        return error_parts(json.loads(fault.body), "")
    except ValueError:
        return "", ""


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line.decode("utf-8"))
    except ValueError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get("custom_id"), str) else None
