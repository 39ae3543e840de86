"""matplotlib figures as inline SVG: same bytes every time, colours from the page's CSS variables, text that stays text.

Figures are drawn in placeholder colours; the SVG's colours are then replaced by `var(--name)`, so that dark mode and print follow the page.
"""

from __future__ import annotations

import io
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

INK, MUTED, LINE, CONTROL, TREATMENT, GOOD, BAD, SOFT, PAPER, MARGIN = (f"#0{i:x}0{i:x}f{i:x}" for i in range(1, 11))
_VARIABLES = {
    INK: "--ink", MUTED: "--muted", LINE: "--line", CONTROL: "--control", TREATMENT: "--treatment",
    GOOD: "--good", BAD: "--bad", SOFT: "--soft", PAPER: "--paper", MARGIN: "--margin",
}  # fmt: skip
WIDTH = 4.7
"""Of a figure, in inches: 338 SVG units, about a phone's width, so that labels keep their size there."""
SIZE = 10
"""Of all letters, in SVG units: about as many pixels on a phone."""

_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "abiding",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": SIZE,
    "axes.unicode_minus": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.labelsize": SIZE,
    "axes.titlesize": SIZE,
    "axes.linewidth": 0.8,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "text.color": INK,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": SIZE,
    "ytick.labelsize": SIZE,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": SIZE,
    "lines.solid_capstyle": "round",
    "path.simplify": False,
    "text.parse_math": False,  # a dollar in a dataset's name is a dollar
}
_lock = threading.Lock()
"""matplotlib's settings are global, and reports may be written in threads."""


@contextmanager
def _style() -> Iterator[None]:
    import matplotlib

    with _lock, matplotlib.rc_context(), warnings.catch_warnings():
        # Text stays text: the browser has the glyphs that matplotlib's own font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        matplotlib.rcdefaults()  # a user's matplotlibrc must not change the report's bytes
        matplotlib.rcParams.update(_SETTINGS)
        yield


def draw(name: str, title: str, description: str, height: float, paint: Callable[[Any, Any], None]) -> str:
    """An inline `<svg>` of one pair of axes. `paint(figure, axes)` fills it; `height` in inches.

    `name` prefixes the ids (unique in the page); `title` and `description` are what a screen reader says.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with _style():
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        FigureCanvasSVG(figure)
        paint(figure, figure.add_subplot())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _inline(buffer.getvalue(), name, title, description)


def _inline(svg: str, name: str, title: str, description: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*|<style.*?</style>\s*", "", svg, flags=re.DOTALL)
    # One page holds several figures: ids must differ between them.
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "var(--sans)", svg)
    view = re.search(r'viewBox="[^"]+"', svg)
    if view is None:
        raise ValueError("matplotlib wrote an SVG without a viewBox")
    head = f'<svg class="plot" {view.group()} role="img" aria-labelledby="{name}-title {name}-desc" xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    body = svg[svg.index(">") + 1 :].strip()
    labels = f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-desc">{escape(description)}</desc>'
    return head + labels + body
