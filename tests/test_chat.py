"""Chat completions as result rows: every outcome is told apart, and nothing a server writes can break the reading."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base.rows import ResultRow, encode
from pipeline.providers.chat import failed_row, mean_logprob, result_from_chat, usage_from

LIVE = json.loads(
    '{"id":"chatcmpl-1","object":"chat.completion","created":1788062136,"model":"accounts/fireworks/models/m","choices":[{"index":0,'
    '"message":{"role":"assistant","content":"4"},"finish_reason":"stop"}],"usage":{"prompt_tokens":47,"total_tokens":49,'
    '"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":29}}}'
)


def completion(content="x", finish_reason="stop", **message):
    return {
        "id": "c",
        "model": "m",
        "choices": [{"message": {"role": "assistant", "content": content, **message}, "finish_reason": finish_reason}],
    }


def test_a_recorded_completion_is_read_whole():
    row = result_from_chat("r2", LIVE)
    assert (row.outcome, row.text, row.finish_reason, row.request_id, row.model) == (
        "answered",
        "4",
        "stop",
        "chatcmpl-1",
        "accounts/fireworks/models/m",
    )
    assert (row.usage.prompt_tokens, row.usage.completion_tokens, row.usage.cached_tokens, row.usage.reasoning_tokens) == (47, 2, 29, 0)
    assert row.error is None and row.raw is None


@pytest.mark.parametrize(
    ("made", "outcome", "text"),
    [
        (completion("half an ans", "length"), "truncated", "half an ans"),
        (completion(None, "content_filter"), "filtered", ""),
        (completion(None, "stop", refusal="I cannot."), "refused", "I cannot."),
        (completion(None, "content_filter", refusal="I cannot."), "filtered", "I cannot."),
        (completion("said", "error"), "failed", "said"),
        (completion("plain", None), "answered", "plain"),
        (completion([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), "answered", "ab"),
        (completion(None, "tool_calls", tool_calls=[{"id": "t"}]), "answered", ""),
        ({"id": "c", "choices": []}, "failed", ""),
        ({"error": {"code": "content_filter", "message": "no"}}, "filtered", ""),
        ({"error": "boom"}, "failed", ""),
    ],
)
def test_each_outcome_is_distinct(made, outcome, text):
    row = result_from_chat("r1", made)
    assert (row.outcome, row.text) == (outcome, text)
    assert (row.error is not None) == (outcome == "failed" or "error" in made)


def test_the_callers_request_id_goes_before_the_completions_own():
    assert result_from_chat("r", completion(), "req-9").request_id == "req-9"
    assert result_from_chat("r", completion()).request_id == "c"


def test_reasoning_is_kept_apart_from_the_answer():
    made = completion("4", "stop", reasoning_content="2+2") | {
        "usage": {"completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 7}}
    }
    row = result_from_chat("r", made)
    assert (row.text, row.reasoning, row.usage.completion_tokens, row.usage.reasoning_tokens) == ("4", "2+2", 9, 7)
    assert result_from_chat("r", completion("4", reasoning="why")).reasoning == "why"


def test_confidence_is_the_mean_log_probability():
    assert mean_logprob({"content": [{"logprob": -0.5}, {"logprob": -1.5}, {"logprob": None}]}) == -1.0
    assert mean_logprob({"token_logprobs": [-2.0, None, -4.0]}) == -3.0
    assert mean_logprob({"content": []}) is None and mean_logprob(None) is None


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        ({"code": "bad", "message": "m"}, "bad", "m"),
        ({"error": {"message": "m", "type": "t", "param": None, "code": 400}}, "400", "m"),
        ({"type": "t"}, "t", '{"type": "t"}'),
        ("plain words", "fallback", "plain words"),
        (None, "fallback", "no reason given"),
    ],
)
def test_errors_of_every_shape_have_a_code_and_a_message(error, code, message):
    failure = failed_row("r", error, default_code="fallback").error
    assert (failure.code, failure.message) == (code, message)


def test_counts_that_are_no_counts_are_zero():
    usage = usage_from(
        {
            "prompt_tokens": None,
            "completion_tokens": "7",
            "prompt_tokens_details": [],
            "completion_tokens_details": {"reasoning_tokens": -1},
        }
    )
    assert msgspec.to_builtins(usage) == {}


def test_a_lone_surrogate_does_not_make_the_row_unwritable():
    row = result_from_chat("r", json.loads('{"choices":[{"message":{"content":"a\\ud800b"},"finish_reason":"stop"}]}'))
    assert row.text == "a�b"
    assert msgspec.json.decode(encode(row), type=ResultRow).text == "a�b"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["message", "content", "usage", "logprobs", "error", "code", "tool_calls", "prompt_tokens", "finish_reason", "text"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(
    st.dictionaries(st.sampled_from(["id", "model", "usage", "error"]), json_values),
    st.none()
    | st.lists(st.fixed_dictionaries({"message": json_values, "finish_reason": json_values, "logprobs": json_values}), max_size=2)
    | json_values,
)
def test_whatever_a_server_writes_becomes_a_row_that_can_be_stored(top, choices):
    row = result_from_chat("r1", {**top, "choices": choices})
    assert msgspec.json.decode(encode(row), type=ResultRow).custom_id == "r1"
