"""build: turns items, prompts and decoding into shards of requests, and freezes the layout in `build_manifest.json`."""

from __future__ import annotations

import hashlib
import heapq
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from pipeline.base.digests import canonical_json, sha256_bytes
from pipeline.base.files import atomic_writer
from pipeline.base.rows import Item, Place, RequestRow, encode
from pipeline.base.schemas import write_document
from pipeline.experiment import TYPES, Experiment, Temp, Unit, answer_settings
from pipeline.layout import temp_slug
from pipeline.providers.money import token_bounds
from pipeline.steps import foresight
from pipeline.steps.context import Context, Run, ShardRef
from pipeline.steps.prepare import cluster_of, order_key

SETTINGS = (
    "provider",
    "model_aliases",
    "temps",
    "samples_per_item",
    "max_new_tokens",
    "top_p",
    "top_k",
    "stop",
    "extra_body",
    "task_instructions",
    "seed",
)
CODE: tuple[str, ...] = ()
SEEDED = ("local", "simulated", "openai_compatible", "vllm_file")  # providers that take a seed per request unless told otherwise
MAX_ROWS = {"openai": 50_000, "anthropic": 100_000, "simulated": 50_000, "fireworks": 50_000}
_json = msgspec.json.Encoder(order="deterministic")


def inputs(ctx: Context) -> list[Path]:
    """Items, the unit's system prompt, and the task instructions."""
    exp = ctx.run.experiment
    texts = [exp.config["task_instructions"][f"{kind}_book"] for kind in exp.instructions]
    if ctx.the_unit.arm.prompt_path:
        texts.append(ctx.the_unit.arm.prompt_path)
    return [*(ctx.run.item_file(kind) for kind in TYPES), *(exp.config.texts.get(t) or exp.config.resolve(t) for t in texts)]


def targets(ctx: Context) -> list[Path]:
    """The unit's shards."""
    return [ctx.run.shard_paths(shard).rows for shard in ctx.run.layout[ctx.the_unit.slug]]


def run(ctx: Context) -> dict[str, Any]:
    """Write the unit's shards and enter them in the manifest."""
    this, unit = ctx.run, ctx.the_unit
    foresight.check(this)
    shards = {}
    for temp in this.experiment.unit_temps[unit.slug]:
        refs = [s for s in this.layout[unit.slug] if s.temp == temp]
        rows = requests(this.experiment, unit, temp, this.items)
        for ref in refs:
            path = this.shard_paths(ref).rows
            expected = worst = cap = count = 0
            with atomic_writer(path) as f:
                for _ in range(ref.requests):
                    row = next(rows)
                    f.write(encode(row) + b"\n")
                    bounds = token_bounds(row.body)
                    expected, worst, cap, count = expected + bounds[0], worst + bounds[1], cap + bounds[2], count + 1
            shards[ref.key] = {
                "path": f"{unit.slug}/{ref.key}.jsonl",
                "temp": temp,
                "requests": count,
                "bytes": path.stat().st_size,
                "sha256": this.cache.sha256(path),
                "expected_prompt_tokens": expected,
                "worst_prompt_tokens": worst,
                "max_completion_tokens": cap,
            }
        assert next(rows, None) is None, "the layout and the requests disagree"
    enter(this, unit, {"arm": unit.arm.name, "model": unit.model.id, "shards": shards})
    return {"requests": sum(s["requests"] for s in shards.values()), "shards": len(shards)}


def enter(this: Run, unit: Unit, entry: dict[str, Any]) -> None:
    """Put a unit into the build manifest (its receipt follows when the step is done)."""
    with this.manifest_lock:
        document = this.built() or {
            "schema_version": 1,
            "request_hash": this.experiment.request_hash,
            "prepared": this.experiment.prepared_id,
            "layout": {"parts": parts_wanted(this), "lines_per_part": this.options.lines_per_part},
            "units": {},
        }
        old = document["units"].get(unit.slug, {})
        document["units"][unit.slug] = {**entry, "receipt": old.get("receipt", {"inputs_digest": "0" * 64, "artifacts": {}})}
        write_document(this.paths.build_manifest, document, "build_manifest")


def parts_wanted(this: Run) -> int:
    """Shards per unit and temperature that the options ask for, before provider limits."""
    return max(1, this.options.parts_per_dataset)


def layout_of(this: Run) -> dict[str, list[ShardRef]]:
    """Frozen where built; for the rest the same rule that `build` follows."""
    exp, built = this.experiment, this.built()
    units = built["units"] if built else {}
    parts, lines = (
        (built["layout"]["parts"], built["layout"]["lines_per_part"]) if built else (parts_wanted(this), this.options.lines_per_part)
    )
    layout: dict[str, list[ShardRef]] = {}
    count: int | None = None
    for slug in exp.units:
        if slug in units:
            layout[slug] = [ShardRef(slug, key, s["temp"], s["requests"], s["sha256"]) for key, s in units[slug]["shards"].items()]
            continue
        count = this.item_count() if count is None else count
        layout[slug] = []
        for temp in exp.unit_temps[slug]:
            sizes = split(count, exp.samples(temp), parts, lines, exp.config["provider"].get("max_rows") or MAX_ROWS.get(exp.provider))
            layout[slug] += [ShardRef(slug, f"{temp_slug(temp)}_p{i:02d}", temp, size) for i, size in enumerate(sizes)]
    return layout


def split(items: int, samples: int, parts: int, lines_per_part: int | None, max_rows: int | None) -> list[int]:
    """Requests per shard: as even as whole items allow, never more than the caps, never an empty shard."""
    total = items * samples
    for cap in (lines_per_part, max_rows):
        if cap is not None:
            parts = max(parts, -(-items // max(1, cap // samples)))
    parts = max(1, min(parts, items))
    bounds = [items * i // parts * samples for i in range(parts + 1)]
    assert bounds[-1] == total
    return [b - a for a, b in itertools.pairwise(bounds)]


def ordered_items(exp: Experiment, items: dict[str, list[Item]]) -> Iterator[tuple[str, Item]]:
    """Both types merged in the seeded random order of clusters, so that any prefix of shards is a fair sample."""
    seed = exp.config["seed"]

    def stream(kind: str) -> Iterator[tuple[str, str, Item]]:
        return ((order_key(seed, cluster_of(item)), kind, item) for item in items[kind])

    for _key, kind, item in heapq.merge(*map(stream, TYPES), key=lambda entry: entry[0]):
        yield kind, item


def requests(exp: Experiment, unit: Unit, temp: Temp, items: dict[str, list[Item]]) -> Iterator[RequestRow]:
    """The requests of a unit at a temperature: item by item, the replicates of an item side by side."""
    from pipeline.sources import templates

    compiled = {kind: templates.compile(text, exp.config["task_instructions"][f"{kind}_book"]) for kind, text in exp.instructions.items()}
    system = [{"role": "system", "content": unit.arm.prompt.strip()}] if unit.arm.prompt and unit.arm.prompt.strip() else []
    body = _body_maker(unit, temp)
    provider = exp.config["provider"]
    place_of_answer = canonical_json([answer_settings(provider), unit.model.identity])
    seeded = provider.get("send_seed", exp.provider in SEEDED)
    samples = exp.samples(temp)
    for kind, item in ordered_items(exp, items):
        messages = [*system, *templates.turns(compiled[kind], item)]
        plain = body(messages, kind)
        content = hashlib.sha256(place_of_answer + b"\x1f" + _json.encode(plain)).hexdigest()
        for sample in range(samples):
            answer_key = sha256_bytes(f"{content}\x1f{sample}".encode())
            custom_id = sha256_bytes(f"{answer_key}\x1f{unit.slug}\x1f{item.key}\x1f{kind}\x1f{temp}\x1f{sample}".encode())[:32]
            full = {**plain, "seed": int(answer_key[:8], 16) & 0x7FFFFFFF} if seeded else plain
            place = Place(dataset=item.dataset, item_id=item.id, type=kind, temp=temp, sample_index=sample)  # type: ignore[arg-type]
            yield RequestRow(custom_id=custom_id, answer_key=answer_key, place=place, body=full)


def _body_maker(unit: Unit, temp: Temp) -> Callable[[list[dict[str, Any]], str], dict[str, Any]]:
    decoding = unit.decoding
    fixed: dict[str, Any] = {}
    if temp != "default":
        fixed["temperature"] = temp
    if decoding.top_p is not None:
        fixed["top_p"] = decoding.top_p
    if decoding.top_k is not None:
        fixed["top_k"] = decoding.top_k
    if decoding.stop:
        fixed["stop"] = list(decoding.stop)
    fixed |= msgspec.json.decode(decoding.extra_body.encode())

    def body(messages: list[dict[str, Any]], kind: str) -> dict[str, Any]:
        return {"messages": messages, "max_tokens": decoding.max_tokens(kind), **fixed}

    return body


def frozen(this: Run) -> bool:
    """True where every unit of the experiment is in the manifest: names and sizes of all shards are settled."""
    built = this.built()
    return built is not None and set(this.experiment.units) <= set(built["units"])
