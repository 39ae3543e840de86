"""Scores a classification: the first label that the answer names is its choice."""

LABELS = ("positive", "negative", "neutral")


def label(item, answer, row):
    """`label`: is the choice the gold one? `label_clean`: is the answer nothing but a label? `label_named`: does it name one at all?"""
    words = [word.strip(".,:;!?*\"'").lower() for word in answer.split()]
    named = [word for word in words if word in LABELS]
    return {
        "label": float(bool(named) and named[0] == item.answers[0]),
        "clean": float(len(words) == 1 and bool(named)),
        "named": float(bool(named)),
    }
