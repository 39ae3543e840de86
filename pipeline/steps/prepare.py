"""prepare: turns the sources into one immutable set of items in a seeded order, `data/prepared/<8 hex>/`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from pipeline.base.digests import sha256_bytes
from pipeline.base.errors import ConfigError, ManifestError
from pipeline.base.files import atomic_writer, put_aside, sweep_dead
from pipeline.base.rows import Item, encode, read_rows
from pipeline.base.schemas import read_document, write_document
from pipeline.experiment import TYPES
from pipeline.records.repair import fault_of_prepared
from pipeline.sources.sample import draw
from pipeline.steps.context import Context, Run

SETTINGS = ("sources", "sizes", "limit_items", "seed")
CODE: tuple[str, ...] = ()
KIND_SIZES = {"squad_v2": "squad_v2_max_items", "nq_open": "nq_open_max_items", "triviaqa": "triviaqa_max_items"}


def inputs(ctx: Context) -> list[Path]:
    """The source files; of a prepared folder that is intact, those that are still there."""
    from pipeline.sources import locate

    found = [locate(source, ctx.run.root) for kind in TYPES for source in ctx.run.experiment.sources[kind]]
    found = list(dict.fromkeys(found))
    if all(p.exists() for p in found) or not intact(ctx.run):
        return found
    return [p for p in found if p.exists()]  # what was prepared from the others stays: an old run is finished without them


def targets(ctx: Context) -> list[Path]:
    """Items of both types, and the manifest, which comes last."""
    return [*(ctx.run.item_file(kind) for kind in TYPES), ctx.run.prepared / "prepared_manifest.json"]


def run(ctx: Context) -> dict[str, Any]:
    """Write the items. An intact prepared folder of the same name is left as it is: it holds the same bytes."""
    this = ctx.run
    manifest = this.prepared / "prepared_manifest.json"
    if manifest.exists():
        if intact(this):
            return {"items": this.item_count(), "shared": True}
        aside = put_aside(manifest)
        this.notice(
            f"the prepared items did not fit their manifest, which lies beside as {aside.name}; they are made again from the sources"
        )
    items = select(this)
    sweep_dead(this.prepared)
    files, counts = {}, {}
    for kind in TYPES:
        path = this.item_file(kind)
        with atomic_writer(path) as f:
            f.writelines(encode(item) + b"\n" for item in items[kind])
        files[path.name] = {"path": path.name, "size": path.stat().st_size, "sha256": this.cache.sha256(path)}
        counts[kind] = {
            "items": len(items[kind]),
            "clusters": len({cluster_of(item) for item in items[kind]}),
            "unanswerable": sum(item.is_unanswerable for item in items[kind]),
            "datasets": dict(sorted(Counter(item.dataset for item in items[kind]).items())),
        }
    document = {
        "schema_version": 1,
        "id": this.experiment.prepared_id,
        "spec": this.experiment.prepared_spec,
        "counts": counts,
        "files": files,
    }
    write_document(manifest, document, "prepared_manifest")
    this.__dict__["items"] = items
    return {"items": sum(map(len, items.values())), "shared": False}


def intact(this: Run) -> bool:
    """True where the prepared files are those of their manifest."""
    try:
        document = read_document(this.prepared / "prepared_manifest.json", "prepared_manifest")
    except (FileNotFoundError, ManifestError):  # a damaged manifest is made again from the sources, like any other damage here
        return False
    if fault_of_prepared(document) or document["id"] != this.experiment.prepared_id:
        return False
    return all(this.cache.matches(this.prepared / name, art["size"], art["sha256"]) for name, art in document["files"].items())


def cluster_of(item: Item) -> str:
    """The item's cluster: its own word, else its passage, else itself."""
    if item.cluster is not None:
        return item.cluster
    return sha256_bytes(item.context.encode())[:16] if item.context else item.key


def order_key(seed: int, cluster: str) -> str:
    """Where a cluster stands in the seeded random order."""
    return sha256_bytes(f"{seed}\x1f{cluster}".encode())


def items_of(this: Run) -> dict[str, list[Item]]:
    """The prepared items where they are intact, else what `prepare` would write (nothing is written)."""
    if (this.prepared / "prepared_manifest.json").exists() and intact(this):
        return {kind: list(read_rows(this.item_file(kind), Item)) for kind in TYPES}
    return select(this)


def select(this: Run) -> dict[str, list[Item]]:
    """Read all sources and draw, of each, as many items as it may hold, at random by the seed: a larger limit extends a smaller one.

    Raises ConfigError naming file:line for a bad row or an id that stands twice.
    """
    from pipeline.sources import read

    exp = this.experiment
    sizes, limit, seed = exp.config["sizes"], exp.config.get("limit_items"), exp.config["seed"]
    chosen: dict[str, list[Item]] = {}
    places: dict[str, str] = {}
    for kind in TYPES:
        kept: list[Item] = []
        for source in exp.sources[kind]:
            found: list[Item] = []
            for item, place in read({k: v for k, v in source.items() if k != "max_items"}, this.root, kind):  # type: ignore[arg-type]
                if item.key in places:
                    raise ConfigError(
                        f"id {item.id!r} of dataset {item.dataset!r} stands already at {places[item.key]}",
                        where=place,
                        remedy="Give every item an id of its own.",
                    )
                places[item.key] = place
                found.append(item)
            caps = [source.get("max_items"), sizes.get(KIND_SIZES.get(source["kind"], "")), limit]
            kept += _drawn(found, seed, [c for c in caps if c is not None])
        chosen[kind] = _drawn(kept, seed, [c for c in [sizes.get(f"{kind}_book_max_items")] if c is not None])
    if not any(chosen.values()):
        raise ConfigError("the sources hold no items", where=exp.config.where("sources"), remedy="Name files that hold some.")
    return chosen


def _drawn(items: list[Item], seed: int, caps: list[int]) -> list[Item]:
    """A random draw of items (not of whole clusters, of which a small one would hold too few), in the seeded order of clusters."""
    kept = draw(items, min(caps), seed) if caps else items
    return sorted(kept, key=lambda item: order_key(seed, cluster_of(item)))  # stable: file order within a cluster
