"""Documents that are read by the thousand, as types: tested equal to their schemas, and many times as fast to check."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

Text = Annotated[str, msgspec.Meta(min_length=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]
One = Annotated[int, msgspec.Meta(ge=1)]
Hash = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")]
Id8 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{8}$(?!\n)")]
Time = Annotated[str, msgspec.Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$(?!\n)")]
Money = Annotated[float, msgspec.Meta(ge=0)] | None
Span = Annotated[list[Count], msgspec.Meta(min_length=2, max_length=2)]
Temp = Annotated[float, msgspec.Meta(ge=0)] | Literal["default"]


class Closed(msgspec.Struct, forbid_unknown_fields=True):
    """Every field is required, no other is allowed."""


class Artifact(Closed):
    """A file with its size and digest."""

    path: Text
    size: Count
    sha256: Hash


class Receipt(Closed):
    """What a step was made from and what it made."""

    inputs_digest: Hash
    artifacts: dict[str, Artifact]


class ShardFacts(Closed):
    """The shard that a submission is about."""

    unit: Text
    key: Text
    sha256: Hash
    requests: Count


class Attempt(Closed):
    """One job of a shard."""

    number: Count
    key: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9-]{1,60}$(?!\n)")]
    state: Literal["intent", "submitted", "settled", "rejected"]
    rows: list[Span] | None
    requests: Count
    ids: dict[str, Any]
    intent_at: Time
    submitted_at: Time | None
    settled_at: Time | None
    reserved_usd: Money
    billed_usd: Money
    prompt_tokens: Count
    completion_tokens: Count
    cached_tokens: Count
    answered: Count
    failed: Count
    missing: Count
    duplicates: Count
    foreign: Count
    outcome: str | None
    message: str


class Reused(Closed):
    """Answers taken from the store."""

    requests: Count
    oldest: Time | None
    newest: Time | None


class Submission(Closed):
    """`submission.json`."""

    schema_version: Literal[1]
    state: Literal["intent", "submitted", "owing", "published"]
    shard: ShardFacts
    generation: Count
    provider: Text
    attempts: list[Attempt]
    reused: Reused
    tries: dict[str, One]
    failed: dict[str, str]
    results: Artifact | None


class ShardEntry(Closed):
    """A shard in the build manifest."""

    path: Text
    temp: Temp
    requests: Count
    bytes: Count
    sha256: Hash
    expected_prompt_tokens: Count
    worst_prompt_tokens: Count
    max_completion_tokens: Count


class UnitEntry(Closed):
    """A unit in the build manifest."""

    arm: Text
    model: Text
    receipt: Receipt
    shards: dict[str, ShardEntry]


class Layout(Closed):
    """How units were cut into shards."""

    parts: One
    lines_per_part: One | None


class BuildManifest(Closed):
    """`build_manifest.json`."""

    schema_version: Literal[1]
    request_hash: Hash
    prepared: Id8
    layout: Layout
    units: dict[str, UnitEntry]


SHAPES: dict[str, type] = {"submission": Submission, "build_manifest": BuildManifest}
"""Schema name -> type."""
