"""User turns: strict and sandboxed templates, fast, with errors that name item and column; the rule for messages."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.errors import ConfigError
from pipeline.base.rows import Item, read_rows
from pipeline.sources.templates import compile, render, turns, variables

CONFIG = Path(__file__).parents[1] / "config"


def item(**more: Any) -> Item:
    return Item(**{"dataset": "d", "id": "7", "question": "Why?", "answers": ["x"], **more})


def rendered(text: str, **more: Any) -> str:
    return render(compile(text, "task.txt"), item(**more))


def test_fields_and_meta_are_variables() -> None:
    """All fields and the keys of meta by name; markup is left as it is."""
    text = "{{ dataset }}/{{ id }}: {{ question }} {{ context }} {{ cluster }} {{ year }} {{ meta['odd name'] }} {{ answers | join(',') }}"
    got = rendered(text, context="<P> & Q", cluster="c", meta={"year": 1999, "odd name": "!"}, answers=["a", "b"])
    assert got == "d/7: Why? <P> & Q c 1999 ! a,b"


def test_a_field_wins_over_meta() -> None:
    """A meta key named like a field does not hide the field, even where the field has no value."""
    assert rendered("{{ question }}", meta={"question": "other"}) == "Why?"
    assert "context" not in variables(item(meta={"context": "smuggled"}))


def test_an_undefined_variable_names_item_and_column() -> None:
    """Strict: nothing is rendered as empty."""
    with pytest.raises(ConfigError, match=r"task.txt: .*item 'd\|7': it uses 'topic', .*The item has: answers, .*year") as e:
        rendered("{{ question }} {{ topic }}", meta={"year": 1})
    assert e.value.exit_code == 2


def test_a_closed_book_item_has_no_context() -> None:
    """A passage that is not there is an error, not the word None; a template may ask whether it is there."""
    with pytest.raises(ConfigError, match="it uses 'context'"):
        rendered("{{ context }}")
    assert rendered("{% if context is defined %}{{ context }}{% endif %}{{ question }}") == "Why?"


def test_a_syntax_error_names_file_and_line() -> None:
    """Found when the template is compiled, before any item is read."""
    with pytest.raises(ConfigError, match=r"task.txt:2: not a valid template"):
        compile("fine\n{{ question", "task.txt")
    with pytest.raises(ConfigError, match=r"task.txt:1: .*No filter named 'upcase'"):
        compile("{{ question | upcase }}", "task.txt")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{ question.__class__.__mro__ }}", "SecurityError|unsafe|UndefinedError"),
        ("{{ answers.append('y') }}", "SecurityError"),
        ("{% include 'other' %}", "no loader"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{{ question + 1 }}", "TypeError"),
        ("{{ range(10000000) | list }}", "OverflowError"),
    ],
)
def test_templates_that_do_what_they_must_not_are_told_as_config_errors(text: str, said: str) -> None:
    """Sandboxed: no inner attributes, no changes to the item, no other files; every failure names the item."""
    with pytest.raises(ConfigError, match=said) as e:
        rendered(text)
    assert "d|7" in str(e.value)


def test_the_names_a_template_uses_are_known_when_it_is_compiled() -> None:
    """So that a whole file can be checked before the first item."""
    assert compile("{{ question }} {% for a in answers %}{{ a }}{% endfor %}", "t").names == {"question", "answers"}


def test_plain_substitution_renders_fifty_thousand_a_second() -> None:
    """The bundled open-book instruction over the sample: the best of up to fifty runs by processor time, because of neighbours."""
    template = compile((CONFIG / "task_instructions" / "open_book.txt").read_text("utf-8"), "open_book.txt")
    items = list(read_rows(CONFIG / "sample" / "open_book.jsonl", Item)) * 10
    speed = 0.0
    for _ in range(50):
        start = time.process_time()
        for one in items:
            render(template, one)
        speed = max(speed, len(items) / (time.process_time() - start))
        if speed >= 50_000:
            break
    assert speed >= 50_000


def test_reading_sources_and_templates_does_not_import_jinja2_or_other_heavy_modules() -> None:
    """A run with nothing to do must not pay for it."""
    heavy = {"jinja2", "jsonschema", "numpy", "csv"}
    code = f"import sys, pipeline.sources, pipeline.sources.templates; print({heavy} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "set()"


# --- messages ----------------------------------------------------------------------------------------------------------

SHOT = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]
TEMPLATE = compile("Q: {{ question }}", "task.txt")


def test_without_messages_the_rendered_template_is_the_user_turn() -> None:
    """The usual case."""
    assert turns(TEMPLATE, item()) == [{"role": "user", "content": "Q: Why?"}]


def test_few_shot_messages_come_before_the_rendered_turn() -> None:
    """Messages that do not end with the user's are examples: the question follows them. The item's own list is not changed."""
    few = item(messages=list(SHOT))
    assert turns(TEMPLATE, few) == [*SHOT, {"role": "user", "content": "Q: Why?"}]
    assert few.messages == SHOT


def test_messages_that_end_with_the_user_are_used_as_they_are() -> None:
    """Then nothing is rendered, not even a template that would fail."""
    own = [*SHOT, {"role": "user", "content": "{{ question }}"}]
    assert turns(compile("{{ nowhere }}", "t"), item(messages=own)) == own
    assert turns(None, item(messages=own)) == own


def test_an_item_that_asks_nothing_is_refused() -> None:
    """No template and no user turn of its own."""
    with pytest.raises(ConfigError, match="neither a template nor messages"):
        turns(None, item(messages=SHOT))


def test_a_template_that_would_ask_every_item_the_same_is_refused() -> None:
    """`{question}` with single braces is plain text: the question would never be asked, and one answer would serve for all."""
    with pytest.raises(ConfigError, match=r"task.txt: the template uses no variable.*\{\{ question \}\}"):
        turns(compile("Q: {question}", "task.txt"), item())
