"""User turns: Jinja2 templates over an item, strict (a name without a value is an error) and sandboxed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pipeline.base.errors import ConfigError
from pipeline.base.rows import Item


@dataclass(frozen=True)
class Template:
    """A compiled template. `names` are the variables it may ask for; `where` is its file, for messages."""

    where: str
    names: frozenset[str]
    _render: Callable[[dict[str, Any]], str] = field(repr=False)


@functools.cache
def _environment() -> Any:
    from jinja2 import StrictUndefined  # here: a run with nothing to do should not pay for it
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    return ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)


def compile(text: str, where: str) -> Template:
    """Compile a template's text. Raises ConfigError naming `where` and line for a syntax error."""
    from jinja2 import TemplateSyntaxError
    from jinja2.meta import find_undeclared_variables

    environment = _environment()
    try:
        names = frozenset(find_undeclared_variables(environment.parse(text)))
        return Template(where, names, environment.from_string(text).render)
    except TemplateSyntaxError as e:
        remedy = "Variables stand in double braces, as in {{ question }}; see docs/data.md."
        raise ConfigError(f"not a valid template: {e.message}", where=f"{where}:{e.lineno}", remedy=remedy) from None


def variables(item: Item) -> dict[str, Any]:
    """What a template may use: the item's fields that have a value, and the keys of `meta`, where a field of the item wins."""
    values = dict(item.meta)
    values["dataset"], values["id"], values["question"] = item.dataset, item.id, item.question
    values["answers"], values["is_unanswerable"], values["meta"] = item.answers, item.is_unanswerable, item.meta
    # A field without a value is undefined, so that a closed-book item never asks about a passage called "None".
    for name in ("context", "cluster", "messages"):
        values.pop(name, None)
        if (value := getattr(item, name)) is not None:
            values[name] = value
    return values


def render(template: Template, item: Item) -> str:
    """The user turn for `item`. Raises ConfigError naming item and column where the template asks for what the item does not have."""
    values = variables(item)
    try:
        return template._render(values)
    except RecursionError:
        fact = "it recurs without end"
    except Exception as e:  # noqa: BLE001 - the template is the user's program: whatever it raises is told as a mistake in it
        missing = sorted(template.names - values.keys())
        if missing and type(e).__name__ == "UndefinedError":
            fact = f"it uses {missing[0]!r}, which the item does not have"
        else:
            fact = f"{type(e).__name__}: {e}"
    raise ConfigError(
        f"the template cannot be rendered for item {item.key!r}: {fact}",
        where=template.where,
        remedy=f"The item has: {', '.join(sorted(values))}.",
    )


def turns(template: Template | None, item: Item) -> list[dict[str, Any]]:
    """The messages after the system prompt: the item's own `messages`, then the rendered template as the user turn.

    Messages whose last role is `user` already ask: they are used as they are, and nothing is rendered. Without messages the rendered
    template is all. `template` None renders nothing. Raises ConfigError where no user turn comes of it.
    """
    own = list(item.messages or [])
    if own and own[-1].get("role") == "user":
        return own
    if template is None:
        fact = f"item {item.key!r} has neither a template nor messages that end with the user's"
        raise ConfigError(fact, remedy="Name a task instruction.")
    if not own and not template.names:
        remedy = "Variables stand in double braces, as in {{ question }}; see docs/data.md."
        raise ConfigError("the template uses no variable: every item would be asked the same", where=template.where, remedy=remedy)
    return [*own, {"role": "user", "content": render(template, item)}]
