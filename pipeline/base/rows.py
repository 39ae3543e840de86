"""Row formats: items, requests and results, one JSON object a line, decoded by type (msgspec).

The decoders are tested equal to `schemas/{item,request_row,result_row}.schema.json`: a row is refused by both or by neither.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from pipeline.base.errors import ManifestError
from pipeline.base.files import not_a_file

Text = Annotated[str, msgspec.Meta(min_length=1)]
CustomId = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$(?!\n)")]
Count = Annotated[int, msgspec.Meta(ge=0)]
Outcome = Literal["answered", "truncated", "refused", "filtered", "failed"]


class Item(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """One question. Open-book items have a `context`; an unanswerable one has no answers."""

    dataset: Text
    id: Text
    question: Text
    answers: list[str]
    context: str | None = None
    is_unanswerable: bool = False
    messages: list[dict[str, Any]] | None = None
    meta: dict[str, Any] = {}
    cluster: str | None = None

    @property
    def key(self) -> str:
        """`<dataset>|<id>`: unique within a run."""
        return f"{self.dataset}|{self.id}"


class Place(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Where a request stands in its experiment: enough to join its answer to its item."""

    dataset: Text
    item_id: Text
    type: Literal["open", "closed"]
    temp: float | Literal["default"]
    sample_index: Count


class RequestRow(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One request of a shard. `body` is the OpenAI-style chat body without `model`; providers translate it.

    `answer_key` is the digest of all that determines the answer (provider, endpoint, model, body, replicate).
    """

    custom_id: CustomId
    answer_key: Text
    place: Place
    body: dict[str, Any]


class Usage(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Tokens as the provider billed them. `prompt_tokens` includes the cached, `completion_tokens` the reasoning ones."""

    prompt_tokens: Count = 0
    completion_tokens: Count = 0
    cached_tokens: Count = 0
    reasoning_tokens: Count = 0


class Failure(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Why a request has no answer: the provider's code and message, or ours (`missing`, `gave_up`)."""

    code: str
    message: str


class ResultRow(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """One answer, or the reason why there is none. `finish_reason` is the provider's own word."""

    custom_id: CustomId
    outcome: Outcome
    text: str = ""
    finish_reason: str | None = None
    request_id: str | None = None
    model: str | None = None
    usage: Usage = msgspec.field(default_factory=Usage)
    confidence: float | None = None
    """Mean log-probability of the answer's tokens, where the provider gives it."""
    tool_calls: list[Any] | None = None
    reasoning: str | None = None
    error: Failure | None = None
    raw: str | None = None
    """The raw line of a row that was not understood."""


Row = TypeVar("Row", Item, RequestRow, ResultRow)
_encoder = msgspec.json.Encoder()


def encode(row: Item | RequestRow | ResultRow) -> bytes:
    """One line of JSONL, without its newline.

    Half a surrogate pair (an emoji that a server cut in two) cannot be said in UTF-8: it becomes U+FFFD.
    """
    try:
        return _encoder.encode(row)
    except UnicodeEncodeError:
        return _encoder.encode(_well_formed(msgspec.to_builtins(row)))


def _well_formed(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_well_formed(k): _well_formed(v) for k, v in value.items()}
    return [_well_formed(v) for v in value] if isinstance(value, list) else value


def readable_rows(path: str | Path, kind: type[Row]) -> Iterator[Row]:
    """Those lines of a damaged JSONL file that are whole rows of `kind`; the others are passed over."""
    decoder = msgspec.json.Decoder(kind)
    with not_a_file(path), open(path, "rb") as f:
        for line in f:
            try:
                yield decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue


def read_rows(path: str | Path, kind: type[Row]) -> Iterator[Row]:
    """Stream the rows of a JSONL file. Raises ManifestError naming file:line for a row that is not a `kind`, or what is no file."""
    decoder = msgspec.json.Decoder(kind)
    with not_a_file(path), open(path, "rb") as f:
        for number, line in enumerate(f, 1):
            try:
                yield decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
                raise ManifestError(f"not a valid {kind.__name__}: {e}", where=f"{path}:{number}") from e
