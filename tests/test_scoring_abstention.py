"""Abstentions: the whole answer declines, in any spelling; a part of it does not count."""

from __future__ import annotations

import pytest

from pipeline.base.errors import ConfigError
from pipeline.scoring.abstention import DEFAULT_PATTERNS, compiled

abstains = compiled(DEFAULT_PATTERNS)


@pytest.mark.parametrize(
    "answer",
    [
        "I don't know",
        "I don’t know.",
        "I dont know",
        "I do not know the answer.",
        "I don't know who wrote it.",
        "unknown",
        "N/A",
        "No answer.",
        "I'm not sure.",
        "I’m not sure",
        "Not enough information",
        "The passage does not say.",
        "The passage doesn’t mention who won the match.",
        "I'm sorry, but I don't know.",
        "Sorry, I cannot answer that question.",
        "It is not stated in the passage.",
        "unanswerable",
        "I don't know. The text does not say.",
        "",
        "  ",
        "...",
        "cannot be determined",
        "**I don't know**",
        '"I don\'t know"',
        "The question cannot be answered based on the passage.",
        "I couldn't find the answer in the passage.",
        "I can't say",
        "Not mentioned",
        "Based on the passage, it is not possible to determine the answer.",
        "There is no information about this in the context.",
    ],
)
def test_declining_answers(answer: str) -> None:
    """Ways to say "I don't know", with straight, curly or no apostrophes, with markup and in two sentences."""
    assert abstains(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "Tomb of the Unknown Soldier",
        "I don't know who, but Paris",
        "Paris",
        "The Unknown",
        "Nobody knows",
        "I don't know, maybe Paris",
        "I don't know but I think Paris",
        "No",
        "Not in Kansas",
        "the answer is not Paris",
        "The text does not say, but it was Louis XIV",
        "None of the above",
        "no one",
        "I'm not sure, but it might be 1990.",
        "It was not known as Paris",
        "Paris. I don't know more.",
        "Not Applicable Films",
        "I don't know. Paris",
    ],
)
def test_answers_that_only_sound_like_it(answer: str) -> None:
    """A pattern inside an answer does not make it an abstention."""
    assert not abstains(answer)


@pytest.mark.parametrize("pattern", ["i don't know", "i don’t know", "I dont know", "i do not know"])
@pytest.mark.parametrize("answer", ["I don't know!", "I don’t know"])
def test_own_patterns_are_reachable_in_any_spelling(pattern: str, answer: str) -> None:
    """A configured pattern meets the answer whichever apostrophe either is written with."""
    assert compiled([pattern])(answer)


def test_own_patterns_replace_the_built_in_ones() -> None:
    """Only what is configured counts, and it must match the whole answer."""
    test = compiled([r"pass|no comment( today)?"])
    assert test("Pass.") and test("No comment today") and not test("I don't know") and not test("Mountain pass")


def test_long_answers_are_answers() -> None:
    """A text of many sentences says something, and is not searched at length."""
    assert not abstains("I don't know. " * 200)


def test_broken_pattern_is_named() -> None:
    """A pattern that is no regular expression is a config error at its key."""
    with pytest.raises(ConfigError, match=r"abstention\.patterns\[1\].*\(x"):
        compiled(["fine", "(x"])
