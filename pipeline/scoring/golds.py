"""A gold answer taken apart once: its plain words, numbers, dates and names, whatever answers it is held against."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from pipeline.scoring import dates
from pipeline.scoring.quantities import Quantity, clock, quantities
from pipeline.scoring.words import MONTHS, fold, listed, words

STOP = listed(
    "a an the of in on at to for by with and or from as is are was were be been it its this that these those his her their s ca c circa"
    " about around approximately roughly over nearly some into during"
)
TITLES = listed(
    "sir mr mrs ms doctor president king queen general captain justice judge prime minister lord lady prince princess pope saint jr sr"
    " reverend rev emperor empress professor colonel major sergeant chief congresswoman senator governor mbe obe"
)
GENERIC_WORDS = listed(
    "city county state country company act season episode series film movie book song river mountain ocean sea island region area party"
    " system process type group people time year team club university college school government house court army church war battle republic"
    " kingdom province district high north south east west northern southern eastern western southeastern southwestern northeastern"
    " northwestern new national international uk us"
)
QUALIFIERS = listed(
    "more than less least most up over old older young under only just nearly almost exact exactly total year period each per plu age"
)
CAPITALISED = re.compile(r"[^\W\d_]+")
_REGNAL = re.compile(r"[a-z] [IVX]+\b")
_NEW = re.compile(r"\bNew ([A-Z][a-z]{3,})")
_BEHIND_NAMES = listed("jr sr mbe obe")


@dataclass(frozen=True)
class Gold:
    """One gold. `name`: it looks like the proper name of a person; `first`, `middle` and `last` are its parts, else empty.
    `new` is what follows "New" in a name such as "New York"."""

    text: str
    all: tuple[str, ...]
    content: tuple[str, ...]
    glued: str
    dates: tuple[dates.Date, ...]
    numbers: frozenset[str]
    quantity: Quantity | None
    clock: frozenset[int]
    regnal: bool
    name: bool
    last: str
    middle: frozenset[str]
    first: str
    new: str


@functools.lru_cache(1 << 12)
def parsed(text: str) -> Gold:
    """What of the gold `text` does not depend on the answer."""
    every = words(text)
    content = tuple(w for w in every if w not in STOP) or every
    capitals = sum(w[0].isupper() for w in CAPITALISED.findall(text))
    numbers = frozenset(w for w in content if w[0].isdigit())
    amounts = quantities(every) if numbers else []
    name = len(content) >= 2 and capitals >= len(content) and not numbers and GENERIC_WORDS.isdisjoint(content)
    core = list(content)
    while len(core) > 1 and core[0] in TITLES:
        del core[0]
    while len(core) > 1 and core[-1] in _BEHIND_NAMES:
        del core[-1]
    return Gold(
        fold(text).lower().strip(" .\"'"),
        every,
        content,
        "".join(w for w in every if w not in ("the", "a", "an")),
        tuple(dates.dates(every)) if "," not in text or any(w in MONTHS for w in every) else (),
        numbers,
        amounts[0] if len(amounts) == 1 else None,
        clock(text) if numbers else frozenset(),
        bool(_REGNAL.search(text)),
        name,
        core[-1] if name and len(core) > 1 else "",
        frozenset(core[1:-1]) if name else frozenset(),
        core[0] if name and len(core) > 1 else "",
        words(found[1])[0] if (found := _NEW.search(text)) else "",
    )
