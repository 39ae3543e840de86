"""Fetch the official data sets, or the URLs that a config names: verified, resumable, into data/raw."""

from __future__ import annotations

import argparse
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.base.digests import sha256_file
from pipeline.base.errors import StepError, UsageError
from pipeline.base.files import atomic_writer
from pipeline.sources.cache import cache_names, cached, url_name
from pipeline.sources.download import BLOCK, download
from scripts.edge import Parser, command


@dataclass(frozen=True)
class Dataset:
    """A file to fetch. `sha256` None where none is known; `members` are taken out of an archive as `<prefix>-<name>`."""

    url: str
    sha256: str | None = None
    licence: str = ""
    members: tuple[str, ...] = ()
    prefix: str = ""


OFFICIAL: Mapping[str, Dataset] = {
    "squad_v2": Dataset(
        "https://rajpurkar.github.io/SQuAD-explorer/dataset/dev-v2.0.json",
        "80a5225e94905956a6446d296ca1093975c4d3b3260f1d6c8f68bc2ab77182d8",
        "CC BY-SA 4.0",
    ),
    "nq_open": Dataset(
        "https://raw.githubusercontent.com/google-research-datasets/natural-questions/master/nq_open/NQ-open.dev.jsonl",
        "f15567f38099f3615f5b8a685c0aef449c11ad90d3da3735e8d1b98115b40616",
        "CC BY-SA 3.0",
    ),
    "triviaqa": Dataset(
        "https://nlp.cs.washington.edu/triviaqa/data/triviaqa-rc.tar.gz",
        None,
        "Apache 2.0",
        ("qa/wikipedia-dev.json", "qa/web-dev.json"),
        "triviaqa",
    ),
}
SMALL = ("squad_v2", "nq_open")


def parser() -> argparse.ArgumentParser:
    """The command line of this script."""
    p = Parser(prog="python -m scripts.fetch_data", description=__doc__)
    p.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(OFFICIAL)} (default: {' and '.join(SMALL)}; triviaqa is 2.5 GB)")
    p.add_argument("--dest", type=Path, default=Path("data/raw"), help="folder to fetch into (default: data/raw)")
    p.add_argument("--config", type=Path, help="fetch the URLs under `sources` of this config instead")
    p.add_argument("--list", action="store_true", help="say what there is, fetch nothing")
    return p


def chosen(args: argparse.Namespace) -> Iterator[tuple[Dataset, Path]]:
    """What to fetch and where to put it. Raises UsageError for an unknown name, ConfigError for a config that cannot be read."""
    if args.config:
        from pipeline.config import read_yaml

        sources = read_yaml(args.config)[0].get("sources") or {}
        for source in (one for listed in sources.values() for one in listed if one.get("url")):
            url, sha256 = str(source["url"]), source.get("sha256")
            there = cached(url, sha256, args.dest)
            yield Dataset(url, sha256), there if there.is_file() else args.dest / cache_names(url, sha256)[0]
        return
    for name in args.names or SMALL:
        if name not in OFFICIAL:
            raise UsageError(f"there is no data set {name!r}", remedy=f"Known: {', '.join(OFFICIAL)}.")
        yield OFFICIAL[name], args.dest / url_name(OFFICIAL[name].url)


def fetch(dataset: Dataset, target: Path) -> Iterator[tuple[Path, bool]]:
    """Fetch one data set; yields each file it gives and whether it is new. Raises StepError (exit 1)."""
    results = [target.with_name(f"{dataset.prefix}-{Path(member).name}") for member in dataset.members]
    if results and all(path.exists() for path in results):
        yield from ((path, False) for path in results)
        return
    new = download(dataset.url, target, dataset.sha256, _Meter(target.name))
    if not results:
        yield target, new
        return
    for member, path in zip(dataset.members, results, strict=True):
        extract(target, member, path)
        yield path, True


def extract(archive: Path, member: str, path: Path) -> None:
    """Take one file out of a tar archive. Raises StepError where it is not in it or the archive is damaged."""
    try:
        with tarfile.open(archive) as tar:
            source = tar.extractfile(member)
            if source is None:
                raise StepError(f"{member} is no file", where=str(archive), remedy="Delete the archive and fetch it again.")
            with atomic_writer(path) as f:
                while block := source.read(BLOCK):
                    f.write(block)
    except (tarfile.TarError, KeyError, EOFError, OSError) as e:
        raise StepError(f"{member} cannot be taken out: {e}", where=str(archive), remedy="Delete the archive and fetch it again.") from None


class _Meter:
    """A line a few seconds on stderr, so that a long fetch is seen to live."""

    def __init__(self, name: str) -> None:
        self.name, self.last = name, time.monotonic()

    def __call__(self, there: int, total: int | None) -> None:
        if time.monotonic() - self.last >= 3:
            self.last = time.monotonic()
            print(f"{self.name}: {there / 1e6:.0f} MB" + (f" of {total / 1e6:.0f}" if total else ""), file=sys.stderr, flush=True)


def _one(dataset: Dataset, target: Path) -> int:
    """Fetch and tell; the exit code. A failure is told at once, because the other data sets may still come."""
    try:
        for path, new in fetch(dataset, target):
            print(f"{path}: {'fetched' if new else 'there already'}, sha256 {sha256_file(path)}")
    except StepError as e:
        print(f"error: {e}", file=sys.stderr)
        return e.exit_code
    return 0


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run; returns the exit code: 0, 1 where something could not be fetched, 2 for wrong usage (one line on stderr each)."""
    args = parser().parse_args(argv)
    if args.list:
        for name, dataset in OFFICIAL.items():
            print(f"{name}: {dataset.url} ({dataset.licence}; sha256 {dataset.sha256 or 'not known'})")
        return 0
    try:
        return max([_one(dataset, target) for dataset, target in list(chosen(args))], default=0)
    except KeyboardInterrupt:
        print("interrupted; run it again, it goes on where it stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
