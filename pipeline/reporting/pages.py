"""Pages from templates: HTML autoescaped and self-contained, Markdown escaped for tables, data that cannot leave its script element."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
from pathlib import Path
from typing import Any

_ROOM = Path(__file__).parent
_MARKDOWN = re.compile(r"([\\`*\[\]<>|~]|(?<![^\W_])_|_(?![^\W_])|^#)")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069]")


def markdown_text(value: object) -> str:
    """`value` on one line, with all that Markdown or HTML would act on made literal; control and bidi override characters dropped."""
    return _MARKDOWN.sub(r"\\\1", _CONTROL.sub("", " ".join(str(value).split())))


def json_for_script(value: Any) -> str:
    """Compact JSON that may stand inside `<script>`: no `<`, `>` or `&`, no line separators, nothing an HTML parser would act on."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    # Lone surrogates cannot be written as UTF-8; JSON can say them.
    return re.sub("[\ud800-\udfff]", lambda m: f"\\u{ord(m.group()):04x}", text)


@functools.cache
def asset(name: str) -> str:
    """A file of `assets/` (style sheet, script), as text."""
    return (_ROOM / "assets" / name).read_text("utf-8")


def script_hash(script: str) -> str:
    """The Content-Security-Policy source that allows exactly this inline script."""
    return "'sha256-" + base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii") + "'"


@functools.cache
def _environment(html: bool) -> Any:
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_ROOM / "templates"),
        autoescape=html,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["md"] = markdown_text
    return made


def html_page(template: str, *, script: str | None = None, data: Any = None, **context: Any) -> str:
    """A self-contained page. `script` names an asset to inline; `data` is embedded as JSON for it.

    The policy in the page's head allows that one script and no network at all, so that text that slipped through the escaping stays text.
    """
    from markupsafe import Markup

    code = asset(script) if script else None
    allowed = script_hash(code) if code else "'none'"
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src {allowed}; base-uri 'none'; form-action 'none'"
    embedded = None if data is None else Markup(json_for_script(data))
    page: str = (
        _environment(True)
        .get_template(template)
        .render(css=Markup(asset("report.css")), script=Markup(code) if code else None, policy=policy, data=embedded, **context)
    )
    return page.encode("utf-8", "replace").decode("utf-8")


def markdown_page(template: str, **context: Any) -> str:
    """A Markdown page; values go through the `md` filter where they are not our own words."""
    page: str = _environment(False).get_template(template).render(**context)
    return re.sub(r"\n{3,}", "\n\n", page).strip() + "\n"


def inline_svg(svg: str) -> Any:
    """An SVG of ours, safe to stand in a page as it is: matplotlib escapes the text in it."""
    from markupsafe import Markup

    return Markup(svg)
