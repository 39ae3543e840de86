"""The verdict rules, word for word: the first that applies wins."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from pipeline.statistics.verdict import WORDS, Evidence, Plan, Verdict, Wording, decide, meets

W = Wording("concise", "plain", "correct", sample="500 items")


def evidence(low, high, margin=None, inner=None, **more):
    """An interval and, unless given, an inner one a sixth narrower at each end."""
    sixth = (high - low) / 6
    inner_low, inner_high = inner or (low + sixth, high - sixth)
    return Evidence((low + high) / 2, low, high, inner_low, inner_high, margin, **more)


@pytest.mark.parametrize(
    ("low", "high", "margin", "inner", "word", "rule", "qualifier"),
    [
        (0.01, 0.05, None, None, "better", 2, None),
        (0.01, 0.05, 0.03, None, "better", 2, None),
        (0.01, 0.02, 0.03, None, "better", 2, "less_than_matters"),
        (0.04, 0.09, 0.03, None, "better", 2, "more_than_margin"),
        (-0.05, -0.01, None, None, "worse", 3, None),
        (-0.05, -0.01, 0.03, None, "worse", 3, None),
        (-0.02, -0.01, 0.03, None, "worse", 3, "less_than_matters"),
        (-0.02, 0.02, 0.03, None, "equivalent", 4, None),
        (-0.032, 0.032, 0.03, (-0.027, 0.027), "equivalent", 4, None),
        (-0.02, 0.05, 0.03, None, "not_inferior", 5, None),
        (-0.05, 0.02, 0.03, None, "undecided", 6, None),
        (-0.05, 0.05, 0.03, None, "undecided", 6, None),
        (-0.02, 0.02, None, None, "undecided", 6, None),
        (0.0, 0.02, None, None, "undecided", 6, None),
        (-0.03, 0.05, 0.03, None, "undecided", 6, None),
    ],
)
def test_rules_two_to_six(low, high, margin, inner, word, rule, qualifier):
    v = decide(evidence(low, high, margin, inner), W)
    assert (v.verdict, v.rule, v.qualifier, v.reason) == (word, rule, qualifier, None)


def test_with_alternative_greater_it_is_never_worse():
    assert decide(evidence(-0.05, -0.01, alternative="greater"), W).verdict == "undecided"
    assert decide(evidence(-0.02, -0.01, 0.03, alternative="greater"), W).verdict == "equivalent"
    ends = [x / 100 for x in range(-6, 7, 2)]
    for low, high in itertools.combinations(ends, 2):
        for margin in (None, 0.01, 0.03, 0.1):
            assert decide(evidence(low, high, margin, alternative="greater"), W).verdict != "worse"


def test_without_a_margin_only_rules_one_two_three_and_six():
    ends = [x / 100 for x in range(-6, 7)]
    found = {decide(evidence(low, high), W).rule for low, high in itertools.combinations(ends, 2)}
    assert found == {2, 3, 6}


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (evidence(0.01, 0.05, informative=4), "only 4 informative clusters"),
        (evidence(0.01, 0.05, informative=0), "no informative cluster (whose items differ between the arms), where"),
        (evidence(0.01, 0.05, informative=5, every_cluster=True), "only 5 clusters, where at least 10 are needed"),
        (evidence(0.01, 0.05, unplanned_look="a look at 5,000 items was not planned"), "a look at 5,000 items was not planned"),
        (evidence(0.01, 0.05, worst_low=-0.01, worst_high=0.1), "missing answers could reverse it"),
        (evidence(-0.05, -0.01, worst_low=-0.1, worst_high=0.01), "missing answers could reverse it"),
        (evidence(-0.02, 0.02, 0.03, worst_low=-0.02, worst_high=0.04), "missing answers could reverse it"),
        (evidence(-0.02, 0.02, 0.03, worst_low=-0.04, worst_high=0.02), "missing answers could reverse it"),
        (evidence(-0.02, 0.05, 0.03, worst_low=-0.03, worst_high=0.06), "missing answers could reverse it"),
    ],
)
def test_rule_one_comes_first_and_gives_its_reason(made, words):
    v = decide(made, W)
    assert (v.verdict, v.rule) == ("no_verdict", 1)
    assert v.reason and words in v.reason and v.reason in v.sentence


def test_bounds_that_leave_the_claim_standing_do_not_stop_it():
    assert decide(evidence(0.01, 0.05, worst_low=0.0, worst_high=0.1), W).verdict == "better"
    assert decide(evidence(-0.05, -0.01, worst_low=-0.2, worst_high=-0.001), W).verdict == "worse"
    assert decide(evidence(-0.02, 0.02, 0.03, worst_low=-0.029, worst_high=0.029), W).verdict == "equivalent"
    assert decide(evidence(-0.05, 0.05, 0.03, worst_low=-0.9, worst_high=0.9), W).verdict == "undecided"


def test_no_interval_decides_nothing():
    v = decide(Evidence(0.0, None, None, None, None, 0.05), W)
    assert v.verdict == "undecided" and v.sentence == "Undecided whether concise differs from plain on correct."


def sentence(made: Evidence, wording: Wording = W) -> str:
    return decide(made, wording).sentence


def test_sentences_are_plain():
    assert sentence(evidence(0.01, 0.05)) == "concise is better than plain on correct by 3 points (95% interval 1.0 to 5.0; 500 items)."
    assert "(95% interval 1.0 to 2.0; 500 items), but by less than matters (margin 3 points)." in sentence(evidence(0.01, 0.02, 0.03))
    assert sentence(evidence(0.04, 0.09, 0.01)).endswith(", by more than the margin of 1 point.")
    assert sentence(evidence(-0.05, -0.01)).startswith("concise is worse than plain on correct by 3 points")
    assert sentence(evidence(-0.02, 0.02, 0.03)).startswith(
        "concise and plain are equivalent on correct: they differ by less than the margin of 3 points"
    )
    assert sentence(evidence(-0.02, 0.05, 0.03)).startswith(
        "concise is not inferior to plain on correct: at worst it is less than the margin of 3 points below"
    )
    in_units = Wording("b", "a", "length", points=False)
    assert sentence(evidence(10.0, 21.0), in_units) == "b is better than a on length by 15.5 (95% interval 10.0 to 21.0)."


def test_sentences_say_the_level_that_their_interval_has():
    """Equivalence is read from the 90% interval; with alternative `greater` the ends are one-sided 95% bounds."""
    equivalent = replace(evidence(-0.02, 0.02, 0.03), inner_low=-0.011, inner_high=0.0)
    assert sentence(equivalent).endswith("the margin of 3 points (90% interval −1.1 to 0.0; 500 items).")
    one_sided = replace(evidence(-0.05, -0.01, 0.03), alternative="greater")
    assert sentence(one_sided).endswith("is better than plain on correct: −3 points (one-sided 95% bounds −5.0 to −1.0; 500 items).")


def test_undecided_says_what_it_takes():
    made = evidence(-0.05, 0.05, 0.03, plan=Plan(0.03, 1200, 4.5))
    assert sentence(made).endswith("; 1,200 more items, about 4.50 dollars, for 80% power at 3 points.")
    assert sentence(replace(made, plan=Plan(0.03, 1200))).endswith("; 1,200 more items for 80% power at 3 points.")
    assert sentence(replace(made, plan=Plan(0.03, 0))).endswith("; there were items enough for 80% power at 3 points.")


@pytest.mark.parametrize(
    ("verdict", "met"),
    [
        ("better", {"better", "not_inferior"}),
        ("equivalent", {"equivalent", "not_inferior"}),
        ("not_inferior", {"not_inferior"}),
        ("worse", {"worse"}),
        ("undecided", {"undecided"}),
        ("no_verdict", {"no_verdict"}),
    ],
)
def test_what_each_verdict_meets(verdict, met):
    assert {w for w in WORDS if meets(verdict, w)} == met


def test_a_difference_that_matters_less_than_the_margin_is_equivalent_too():
    assert meets({"verdict": "better", "qualifier": "less_than_matters"}, "equivalent")
    assert meets({"verdict": "worse", "qualifier": "less_than_matters"}, "not_inferior")
    assert not meets({"verdict": "worse", "qualifier": "less_than_matters"}, "better")
    assert not meets({"verdict": "worse", "qualifier": None}, "not_inferior")


def test_an_unknown_word_is_refused():
    with pytest.raises(ValueError, match="'best'"):
        meets("better", "best")


def test_a_verdict_is_plain_data():
    assert decide(evidence(0.01, 0.05), W) == Verdict("better", 2, sentence(evidence(0.01, 0.05)), None, None)
