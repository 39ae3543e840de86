"""The bundled prompts are what their names say, and differ from one another only in that."""

from __future__ import annotations

import re
from pathlib import Path

import jinja2
import jinja2.meta
import pytest

CONFIG = Path(__file__).parents[1] / "config"
TREATMENTS = [
    "default",
    "operational_only",
    "structure_without_content",
    "philosophy_without_instructions",
    "length_matched_random",
    "length_matched_best_practices",
]
ABSTAIN = "I don't know"


def prompt(name: str) -> str:
    return (CONFIG / "prompts" / f"{name}.txt").read_text("utf-8")


def words(name: str) -> int:
    return len(prompt(name).split())


def skeleton(text: str) -> list[str]:
    """Each line's kind: heading, numbered point, bullet, blank or text."""
    kinds = [("#", "heading"), ("- ", "bullet")]

    def kind(line: str) -> str:
        if not line:
            return "blank"
        if re.match(r"\d+\. ", line):
            return "point"
        return next((name for mark, name in kinds if line.startswith(mark)), "text")

    return [kind(line) for line in text.splitlines()]


def test_the_folder_holds_the_control_and_the_treatments_only() -> None:
    """What is described here is what lies there."""
    assert sorted(p.stem for p in (CONFIG / "prompts").glob("*.txt")) == sorted(["control", *TREATMENTS])


@pytest.mark.parametrize("name", ["control", *TREATMENTS])
def test_prompts_are_clean_text(name: str) -> None:
    """ASCII, one final newline, no white space at the end of a line: nothing invisible differs between the arms."""
    text = prompt(name)
    assert text.isascii()
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    assert all(line == line.rstrip() for line in text.splitlines())


@pytest.mark.parametrize("name", TREATMENTS)
def test_every_treatment_begins_with_the_control(name: str) -> None:
    """A treatment is the control and something more, so that a contrast measures what was added."""
    assert prompt(name).startswith(prompt("control"))
    assert words(name) > 3 * words("control")


@pytest.mark.parametrize("name", ["length_matched_random", "length_matched_best_practices", "structure_without_content"])
def test_length_controls_are_as_long_as_the_full_treatment(name: str) -> None:
    """Within ten per cent of the words of `default`."""
    assert abs(words(name) - words("default")) <= 0.10 * words("default")


@pytest.mark.parametrize("name", ["default", "operational_only"])
def test_operational_prompts_instruct_to_abstain_and_to_stay_with_the_passage(name: str) -> None:
    """The instructions under study are there: answer when sure, abstain in fixed words, only from the passage, no guesses."""
    text = prompt(name)
    assert ABSTAIN in text
    assert "Answer only when you are sure." in text
    assert "answer only from the passage" in text
    assert "Never guess" in text


@pytest.mark.parametrize("name", sorted({"control", *TREATMENTS} - {"default", "operational_only"}))
def test_other_prompts_do_not_mention_abstention_or_the_passage(name: str) -> None:
    """Nothing of the instructions under study leaks into the arms that are to be without them."""
    text = prompt(name).casefold()
    assert not re.search(r"don't know|not sure|unsure|abstain|guess|passage|do not know|from memory", text)


def test_structure_without_content_has_the_structure_of_default() -> None:
    """Line by line the same kinds: headings, numbered points, bullets, text."""
    full, empty = skeleton(prompt("default")), skeleton(prompt("structure_without_content"))
    assert empty == full
    assert {"heading", "point", "bullet"} <= set(full)


@pytest.mark.parametrize("name", ["philosophy_without_instructions", "length_matched_random", "operational_only"])
def test_prompts_without_structure_have_none(name: str) -> None:
    """No heading, no list."""
    assert set(skeleton(prompt(name))) <= {"text", "blank"}


def test_philosophy_gives_no_order() -> None:
    """After the control's own sentence no sentence begins with an imperative and nobody is addressed as `you`."""
    text = prompt("philosophy_without_instructions").removeprefix(prompt("control"))
    assert not re.search(r"\b(you|your|must|should|please|always|never)\b", text, re.IGNORECASE)
    imperatives = ["answer", "reply", "say", "do", "read", "write", "use", "give", "keep", "avoid", "ask", "be", "remember", "consider"]
    starts = [sentence.split()[0].casefold() for sentence in re.split(r"(?<=[.!?])\s+", text.strip())]
    assert not set(starts) & set(imperatives)


def test_random_filler_answers_no_sample_question() -> None:
    """The unrelated text of `length_matched_random` has nothing to do with the task: no form of answer or question in it."""
    text = prompt("length_matched_random").removeprefix(prompt("control")).casefold()
    assert not re.search(r"\b(answer|question|reply|assistant|user|you)\b", text)


@pytest.mark.parametrize(("name", "variables"), [("closed_book", {"question"}), ("open_book", {"context", "question"})])
def test_task_instructions_use_the_item_and_permit_abstention(name: str, variables: set[str]) -> None:
    """The user turn shows question (and passage), asks for a short answer and allows not to know, in every arm alike."""
    text = (CONFIG / "task_instructions" / f"{name}.txt").read_text("utf-8")
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)
    assert jinja2.meta.find_undeclared_variables(environment.parse(text)) == variables
    assert "short answer" in text
    assert ABSTAIN in text
