"""Fireworks' calls, one method each, through the official SDK with its retries off. Every failure is an HttpFault.

The SDK would repeat a create up to three times after a time-out, a 409 or a 5xx; whether to ask again is decided above, not here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipeline.base.errors import ConfigError
from pipeline.providers.http import HttpFault, fault_of, provider_clock, put_file, redact, require_safe_url

Body = dict[str, Any]
EXPIRED_URL = (400, 401, 403, 404, 410)
"""What storage answers to a signed URL that has expired: a new one is asked for."""


class FireworksApi:
    """A client of one account. Keys and defaults come from the SDK's own variables (FIREWORKS_API_KEY, _BASE_URL, _CUSTOM_HEADERS)."""

    def __init__(self, base_url: str | None, timeout: float) -> None:
        """Raises ConfigError where the SDK or the key is missing, or the base URL cannot be right."""
        try:
            import fireworks
        except ImportError as e:
            raise ConfigError(
                "the provider fireworks needs its SDK", where="provider.name", remedy="pip install 'abiding[fireworks]'"
            ) from e
        if not os.environ.get("FIREWORKS_API_KEY"):
            raise ConfigError("FIREWORKS_API_KEY is not set", where="provider.name", remedy="Set it in the environment or in .env.")
        base_url = base_url or os.environ.get("FIREWORKS_BASE_URL") or None
        if base_url:
            require_safe_url(base_url, "Fireworks")
            if urlsplit(base_url).path.strip("/"):
                raise ConfigError(
                    f"the base URL of Fireworks' batch API has no path, but {base_url} has one",
                    where="provider.base_url or FIREWORKS_BASE_URL",
                    remedy="Leave out /inference/v1 and the like.",
                )
        self.base_url = base_url or "https://api.fireworks.ai"
        self.version: str = fireworks.__version__
        self._timeout = timeout
        self._errors = fireworks.APIError
        self._sdk: Any = fireworks.Fireworks(base_url=base_url, timeout=timeout, max_retries=0)

    def close(self) -> None:
        """Release the connections."""
        self._sdk.close()

    # datasets

    def dataset(self, account: str, dataset: str) -> Body | None:
        """The dataset's record, None where there is none."""
        return self._look("look at the dataset", lambda: self._sdk.datasets.with_raw_response.get(dataset, account_id=account))[0]

    def create_dataset(self, account: str, dataset: str, count: int) -> None:
        """Create an empty dataset; `exampleCount` is required and not checked."""
        shape = {"userUploaded": {}, "exampleCount": str(count)}
        raw = self._sdk.datasets.with_raw_response
        self._ask("create the dataset", lambda: raw.create(account_id=account, dataset_id=dataset, dataset=shape))

    def upload(self, account: str, dataset: str, path: Path) -> None:
        """Send the file in one multipart request (up to 150 MB)."""
        with open(path, "rb") as f:
            raw = self._sdk.datasets.with_raw_response
            self._ask("upload the dataset", lambda: raw.upload(dataset, account_id=account, file=(f"{dataset}.jsonl", f)))

    def upload_large(self, account: str, dataset: str, path: Path) -> None:
        """Send the file to a signed URL, then have it validated."""
        name, size, raw = f"{dataset}.jsonl", str(path.stat().st_size), self._sdk.datasets.with_raw_response
        headers = {"content-type": "application/octet-stream", "x-goog-content-length-range": f"{size},{size}"}
        for last in (False, True):
            asked = self._ask(
                "ask where to upload", lambda: raw.get_upload_endpoint(dataset, account_id=account, filename_to_size={name: size})
            )
            url = _signed_urls(asked[0]).get(name)
            if url is None:
                raise HttpFault("ask where to upload: the answer names no URL for the file", status=200, garbled=True)
            try:
                put_file(url, path, what="upload the dataset", headers=headers, timeout=self._timeout)
                break
            except HttpFault as fault:
                if last or fault.status not in EXPIRED_URL:
                    raise
        self._ask("have the upload validated", lambda: raw.validate_upload(dataset, account_id=account, body={}))

    def download_urls(self, account: str, dataset: str) -> dict[str, str] | None:
        """`{file: signed URL}` of a dataset, None where there is no such dataset. The URLs live for about ten minutes."""
        raw = self._sdk.datasets.with_raw_response
        answer = self._look("ask where to download", lambda: raw.get_download_endpoint(dataset, account_id=account))[0]
        return None if answer is None else _signed_urls(answer)

    # jobs

    def job(self, account: str, job: str) -> tuple[Body | None, float | None]:
        """(the job's record or None, the provider's clock)."""
        raw = self._sdk.batch_inference_jobs.with_raw_response
        return self._look("look at the job", lambda: raw.get(job, account_id=account))

    def create_job(self, account: str, job: str, fields: Mapping[str, Any]) -> Body:
        """Create the job, once; `fields` are the wire's own (camelCase), so that newer ones than the SDK's pass too."""
        raw = self._sdk.batch_inference_jobs.with_raw_response
        return self._ask("create the job", lambda: raw.create(account_id=account, batch_inference_job_id=job, extra_body=dict(fields)))[0]

    def cancel_job(self, account: str, job: str) -> None:
        """Ask to cancel. Neither the documentation nor the SDK has this call; other clients use it (oumi)."""
        path = f"/v1/accounts/{account}/batchInferenceJobs/{job}:cancel"
        self._ask("cancel the job", lambda: self._sdk.post(path, cast_to=object, body={}), answered=False)

    def delete_job(self, account: str, job: str) -> None:
        """Delete the job; whether its partial output stays is not documented."""
        self._ask("delete the job", lambda: self._sdk.batch_inference_jobs.with_raw_response.delete(job, account_id=account))

    # one call

    def _look(self, what: str, call: Callable[[], Any]) -> tuple[Body | None, float | None]:
        try:
            return self._ask(what, call)
        except HttpFault as fault:
            if fault.status == 404 and _is_object(fault.body):
                return None, None
            if fault.status == 404:  # a proxy's or another server's page does not mean that the job is gone
                raise HttpFault(f"{what}: 404, but not from the API: {fault.body[:100]!r}", status=404, garbled=True) from None
            raise

    def _ask(self, what: str, call: Callable[[], Any], answered: bool = True) -> tuple[Body, float | None]:
        what = f"Fireworks: {what}"
        try:
            response = call()
        except self._errors as e:
            raise fault_of(e, what) from None
        if not answered:
            return {}, None
        text = response.http_response.text
        if not _is_object(text):
            raise HttpFault(
                f"{what}: not a JSON object: {redact(text)[:100]!r}", status=response.http_response.status_code, body=text, garbled=True
            )
        return json.loads(text), provider_clock(response.headers)


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _signed_urls(answer: Body) -> dict[str, str]:
    urls = answer.get("filenameToSignedUrls")
    return {str(k): str(v) for k, v in urls.items()} if isinstance(urls, dict) else {}
