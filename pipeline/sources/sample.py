"""A fair sample of items that depends on their ids alone, so that a larger sample contains the smaller one."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator

from pipeline.base.digests import uniform
from pipeline.base.rows import Item


def rank(item: Item) -> float:
    """The item's place in the draw: a number in [0, 1) that depends on dataset and id alone."""
    return uniform("max_items", item.dataset, item.id)


def sample(rows: Iterable[tuple[Item, str]], size: int) -> Iterator[tuple[Item, str]]:
    """`size` of the rows, those with the lowest `rank`, in the order given; all of them where there are no more.

    Simple random sampling of items, not the first ones: a file's order is rarely random (SQuAD's is by article). Raising `size` keeps
    every item that was drawn before, and with it its answer. All rows are read, and so checked, before the first is given.
    """
    numbered = ((rank(row[0]), position, row) for position, row in enumerate(rows))
    drawn = heapq.nsmallest(size, numbered, key=lambda entry: entry[:2])
    for _rank, _position, row in sorted(drawn, key=lambda entry: entry[1]):
        yield row
