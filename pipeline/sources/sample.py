"""A fair sample of items that depends on seed and ids alone, so that a larger sample contains the smaller one."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator

from pipeline.base.digests import uniform
from pipeline.base.rows import Item


def rank(item: Item, seed: int = 0) -> float:
    """The item's place in the draw: a number in [0, 1) that depends on seed, dataset and id alone."""
    return uniform("sample", str(seed), item.dataset, item.id)


def draw(items: Iterable[Item], size: int, seed: int = 0) -> list[Item]:
    """`size` of the items, those with the lowest `rank`, in the order given; all of them where there are no more.

    Simple random sampling of items: not the first ones of a file, whose order is rarely random (SQuAD's is by article), and not whole
    clusters, of which a small sample would hold too few for any inference (500 questions are two of SQuAD's 35 articles). Raising `size`
    keeps every item that was drawn before, and with it its answer.
    """
    listed = list(items)
    ranks = [rank(item, seed) for item in listed]
    drawn = heapq.nsmallest(size, range(len(listed)), key=ranks.__getitem__)
    return [listed[position] for position in sorted(drawn)]


def sample(rows: Iterable[tuple[Item, str]], size: int, seed: int = 0) -> Iterator[tuple[Item, str]]:
    """`draw` for items with their places. All rows are read, and so checked, before the first is given."""
    listed = list(rows)
    drawn = {item.key for item in draw((item for item, _place in listed), size, seed)}
    yield from (row for row in listed if row[0].key in drawn)
