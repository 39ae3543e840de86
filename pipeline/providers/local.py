"""`local`: a GGUF model through llama.cpp (`xllamacpp`), in this process, on one slot, without a prompt cache.

One slot and no cache make the answers reproducible on machines of one kind (several slots or a warm cache change the last bits
of the logits, and so the texts). The model is called on a worker thread, so that signals are heard in the middle of a call.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from pipeline.base.errors import StepError
from pipeline.base.rows import RequestRow, ResultRow
from pipeline.providers.chat import failed_row, result_from_chat
from pipeline.providers.live import LiveProvider


class LocalProvider(LiveProvider):
    """Answers requests with a model file on this machine."""

    name = "local"

    def __init__(self, settings: Mapping[str, Any], model_paths: Mapping[str, Path], log: Path) -> None:
        """`model_paths` maps model ids to GGUF files; `log` takes what llama.cpp writes to stderr."""
        super().__init__(workers=1)
        self._threads = int(settings.get("threads", min(4, os.cpu_count() or 1)))
        self._context = int(settings.get("context_tokens", 4096))
        self._paths, self._log = dict(model_paths), log
        self._server: Any = None
        self._loaded: str | None = None
        self._loading = threading.Lock()

    def _model(self, model: str) -> Any:
        with self._loading:
            if self._loaded != model:
                self._server = None  # one model in memory at a time
                self._server, self._loaded = self._load(self._paths[model]), model
            return self._server

    def _load(self, path: Path) -> Any:
        try:
            import xllamacpp
        except ImportError as e:
            raise StepError(
                "the local provider needs xllamacpp", remedy="Install it: pip install 'abiding[local]' (make setup does)."
            ) from e
        _divert_stderr(self._log)
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx, params.n_parallel = self._context, 1
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = self._threads
        params.cache_prompt, params.cache_ram_mib, params.n_ctx_checkpoints = False, 0, 0
        try:
            return xllamacpp.Server(params)
        except RuntimeError as e:
            raise StepError(
                f"llama.cpp could not load {path.name}: {e}", where=str(self._log), remedy="The log tells more; is it a whole GGUF file?"
            ) from e

    def answer(self, row: RequestRow, model: str) -> ResultRow:
        """One call of the model. What does not fit the context is a failed row with llama.cpp's reason."""
        reply = self._model(model).handle_chat_completions({**row.body, "cache_prompt": False})
        if "error" in reply:
            return failed_row(row.custom_id, reply["error"])
        # The reply's own id is random and its model a path of this machine: neither belongs into a result.
        return msgspec.structs.replace(result_from_chat(row.custom_id, reply), request_id=None, model=model)

    def close(self) -> None:
        """Finish the call in hand and free the model."""
        super().close()
        self._server = self._loaded = None

    def provenance(self) -> Mapping[str, Any]:
        """Build and settings that determine the answers."""
        from importlib import metadata

        return {
            "xllamacpp": metadata.version("xllamacpp"),
            "threads": self._threads,
            "context_tokens": self._context,
            "slots": 1,
            "cache_prompt": False,
        }


def keep_stderr() -> None:
    """Give Python's stderr a file descriptor of its own, before anything captures it: number 2 will be llama.cpp's."""
    try:
        if sys.stderr is not None and sys.stderr.fileno() == 2:
            sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8", errors="backslashreplace")
    except (OSError, ValueError):  # closed, or not a file (a test's capture): leave it alone
        return


def _divert_stderr(log: Path) -> None:
    """llama.cpp writes its log to file descriptor 2, with no switch to stop it: give it a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)  # a log is no result: it need not be atomic
    os.dup2(target, 2)
    os.close(target)
