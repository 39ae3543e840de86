"""Fireworks' wire format: the recorded examples are read byte for byte, every other form with tolerance, bad rows before they are sent."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base.rows import Place, RequestRow, ResultRow, encode
from pipeline.providers import fireworks_wire as wire
from pipeline.providers.http import HttpFault
from pipeline.providers.protocol import JobState

RECORDED = Path(__file__).parent / "examples" / "fireworks"


def recorded(name):
    return (RECORDED / name).read_bytes()


def request_row(number=0, **body):
    body = {"messages": [{"role": "user", "content": f"q{number}"}], "max_tokens": 8, **body}
    place = Place(dataset="d", item_id=str(number), type="open", temp=0.0, sample_index=0)
    return RequestRow(custom_id=f"{number:032x}", answer_key="k", place=place, body=body)


def faults(*rows, max_rows=None, max_bytes=None):
    return wire.input_faults(iter(rows), max_rows, max_bytes)


# ----------------------------------------------------------------------------------------------------------------- rows


def test_the_recorded_success_row_is_read():
    row = wire.read_line(recorded("success_row.jsonl"))
    assert (row.custom_id, row.outcome, row.text, row.request_id) == ("r2", "answered", "4", "chatcmpl-7f3a")
    assert msgspec.to_builtins(row.usage) == {"prompt_tokens": 47, "completion_tokens": 2, "cached_tokens": 29}
    assert row.raw is None and row.error is None


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ({"custom_id": "r3", "error": {"code": "bad_request", "message": "too long"}}, "bad_request", "too long"),
        ({"custom_id": "r3", "response": None, "error": {"code": 13, "message": "internal"}}, "13", "internal"),
        ({"custom_id": "r3", "error": "it broke"}, "error", "it broke"),
        ({"custom_id": "r3", "response": {"error": {"message": "m", "type": "invalid_request_error"}}}, "invalid_request_error", "m"),
        ({"custom_id": "r3", "response": {"status_code": 400, "body": {"error": {"message": "m"}}}}, "http_400", "m"),
        ({"custom_id": "r3", "message": "odd"}, "error", "odd"),
        ({"custom_id": "r3", "code": 3, "message": "odd"}, "3", "odd"),
    ],
)
def test_error_rows_of_every_shape_are_failures_that_keep_the_raw_line(line, code, message):
    data = json.dumps(line).encode()
    row = wire.read_line(data + b"\n")
    assert (row.custom_id, row.outcome, row.error.code, row.error.message, row.raw) == ("r3", "failed", code, message, data.decode())


def test_openais_wrapper_is_read_too():
    body = json.loads(recorded("success_row.jsonl"))["response"]
    row = wire.read_line(json.dumps({"custom_id": "r1", "response": {"status_code": 200, "request_id": "q", "body": body}}).encode())
    assert (row.outcome, row.text) == ("answered", "4")


def test_truncation_refusal_filter_and_reasoning_are_told_apart():
    def read(message, finish_reason, **usage):
        response = {"id": "c", "choices": [{"message": message, "finish_reason": finish_reason}], "usage": usage}
        return wire.read_line(json.dumps({"custom_id": "r1", "response": response}).encode())

    assert read({"content": "half"}, "length").outcome == "truncated"
    assert read({"content": None, "refusal": "no"}, "stop").outcome == "refused"
    assert read({"content": ""}, "content_filter").outcome == "filtered"
    thought = read(
        {"content": "4", "reasoning_content": "2+2"}, "stop", completion_tokens=9, completion_tokens_details={"reasoning_tokens": 7}
    )
    assert (thought.outcome, thought.reasoning, thought.usage.reasoning_tokens) == ("answered", "2+2", 7)


@pytest.mark.parametrize(
    "line", [b"<html>", b"[]", b"null", b'{"response": {}}', b'{"custom_id": 7}', b'{"custom_id": "a b"}', b"{" * 100000]
)
def test_a_line_that_names_no_request_is_no_row(line):
    assert wire.read_line(line) is None


def test_a_torn_line_that_still_names_its_request_is_a_failure():
    row = wire.read_line(recorded("success_row.jsonl")[:200])
    assert (row.custom_id, row.outcome, row.error.code) == ("r2", "failed", "unreadable")


def test_a_spoilt_byte_does_not_lose_the_answer_but_is_shown():
    data = recorded("success_row.jsonl").replace(b'"content":"4"', b'"content":"\xff4"')
    row = wire.read_line(data)
    assert (row.outcome, row.text) == ("answered", "�4") and "\\xff4" in row.raw


def test_lines_without_a_request_are_left_out_and_logged(tmp_path, caplog):
    path = tmp_path / "x"
    path.write_bytes(b"oops\n\n" + recorded("success_row.jsonl"))
    assert [row.custom_id for row in wire.read_results(path, "BIJOutputSet.jsonl")] == ["r2"]
    assert "BIJOutputSet.jsonl:1" in caplog.text
    assert wire.unreadable_lines(path) == (1, 2)


@given(st.binary(max_size=80) | st.recursive(st.none() | st.integers() | st.text(), lambda x: st.dictionaries(
    st.sampled_from(["custom_id", "response", "error", "body", "status_code", "choices", "message", "request_id"]), x, max_size=4)).map(
        lambda value: json.dumps(value).encode()))  # fmt: skip
def test_no_line_breaks_the_reader(line):
    row = wire.read_line(line)
    assert row is None or msgspec.json.decode(encode(row), type=ResultRow).custom_id == row.custom_id


def test_the_input_file_has_custom_id_and_body_and_nothing_else(tmp_path):
    path = tmp_path / "in.jsonl"
    count, size = wire.write_input([request_row(0, temperature=0), request_row(1)], path)
    assert (count, size) == (2, path.stat().st_size)
    first = json.loads(path.read_bytes().splitlines()[0])
    assert first == {"custom_id": "0" * 32, "body": {"messages": [{"role": "user", "content": "q0"}], "max_tokens": 8, "temperature": 0}}


# ---------------------------------------------------------------------------------------------------------------- states


def job(**changes):
    return {**json.loads(recorded("job_reply.json")), **changes}


def status(made, ids=("a" * 32, "b" * 32)):
    return wire.job_status(made, 3, 1788093000.0, {"job": "j1"}, lambda: set(ids))


def test_the_recorded_job_is_waiting():
    seen = status(job())
    assert (seen.state, seen.done, seen.total, seen.message, seen.now) == (JobState.WAITING, None, 3, "", 1788093000.0)
    assert seen.created_at == pytest.approx(1788092923.123456, abs=1e-6)


@pytest.mark.parametrize("prefix", ["JOB_STATE_", ""])
@pytest.mark.parametrize(
    ("names", "state"),
    [
        ("UNSPECIFIED CREATING VALIDATING PENDING RE_QUEUEING CREATING_INPUT_DATASET IDLE PAUSED", JobState.WAITING),
        ("RUNNING WRITING_RESULTS CANCELLING DELETING DELETING_CLEANING_UP", JobState.RUNNING),
        ("COMPLETED EARLY_STOPPED DELETED ARCHIVED", JobState.ENDED),
        ("FAILED", JobState.FAILED),
        ("EXPIRED", JobState.EXPIRED),
        ("CANCELLED", JobState.CANCELLED),
    ],
)
def test_states_are_known_with_and_without_their_prefix(prefix, names, state):
    assert {wire.job_state({"state": prefix + name}) for name in names.split()} == {(state, "")}


def test_an_unknown_state_is_not_final_and_warns():
    waiting, running = status(job(state="JOB_STATE_NEW")), status(job(state="NEW", jobProgress={"percent": 3}))
    assert (waiting.state, running.state) == (JobState.WAITING, JobState.RUNNING)
    assert "unknown job state 'NEW'" in waiting.message and "unknown job state 'NEW'" in running.message
    assert wire.job_state({}) == (JobState.WAITING, "")


def test_progress_counts_are_read_as_numbers_and_as_protobuf_strings():
    assert status(job(state="RUNNING", jobProgress={"totalProcessedRequests": 2})).done == 2
    assert status(job(state="RUNNING", jobProgress={"totalProcessedRequests": "2", "totalInputRequests": 99})).total == 3


def test_a_failed_job_names_its_rows_and_says_why():
    seen = status(job(state="JOB_STATE_FAILED", status={"code": "INVALID_ARGUMENT", "message": f"line 7: row {'b' * 32}: invalid role"}))
    assert (seen.state, seen.bad_custom_ids, seen.retry_later) == (JobState.FAILED, ("b" * 32,), False)
    assert "invalid role" in seen.message
    assert status(job(state="FAILED", status=None)).message == "the job failed without a reason"


def test_a_quota_failure_may_be_sent_again_later():
    assert status(job(state="FAILED", status={"code": "RESOURCE_EXHAUSTED", "message": "no"})).retry_later
    assert status(job(state="FAILED", status={"code": "UNKNOWN", "message": "account quota reached"})).retry_later


def test_a_failed_job_with_answers_is_fetched_not_thrown_away():
    seen = status(job(state="FAILED", jobProgress={"successfullyProcessedRequests": 2}))
    assert seen.state is JobState.ENDED


def test_the_wait_is_told_from_the_start():
    seen = status(job(state="RUNNING", lifecycle={"runStartTime": "2026-08-30T12:30:00+02:00"}))
    assert seen.started_at == wire.seconds("2026-08-30T10:30:00Z")
    assert wire.seconds("yesterday") is None and wire.seconds(None) is None


@pytest.mark.parametrize(
    ("made", "owed"),
    [
        ({"state": "COMPLETED"}, True),
        ({"state": "EXPIRED"}, False),
        ({"state": "EXPIRED", "jobProgress": {"outputRows": "4"}}, True),
        ({"state": "CANCELLED", "jobProgress": {"outputRows": 0}}, False),
        ({"state": "DELETED", "jobProgress": {"outputRows": 4}}, False),
    ],
)
def test_an_empty_output_is_a_fault_where_rows_were_answered(made, owed):
    assert wire.owes_results(made) is owed


# --------------------------------------------------------------------------------------------------- before it is sent


def test_good_rows_have_no_faults():
    parts = {"messages": [{"role": "user", "content": [{"type": "text", "text": "q"}]}]}
    calls = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": None, "tool_calls": [{}]}]}
    assert (
        faults(
            request_row(0), request_row(1, temperature=0.7, top_p=1, n=1, stream=False), request_row(2, **parts), request_row(3, **calls)
        )
        == []
    )


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"messages": []}, "no messages"),
        ({"messages": "hello"}, "no messages"),
        ({"messages": ["hello"]}, "messages[0] is not an object"),
        ({"messages": [{"role": "wizard", "content": "q"}]}, "messages[0] has the role 'wizard'"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0] has no text"),
        ({"messages": [{"role": "user", "content": [{"text": "q"}]}]}, "content parts"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"max_tokens": True}, "max_tokens is True"),
        ({"temperature": 3}, "temperature is 3"),
        ({"top_p": "1"}, "top_p is '1'"),
        ({"n": 4}, "n is 4"),
        ({"stream": True}, "stream is set"),
        ({"model": "m"}, "model belongs to the job"),
        ({"x": {1, 2}, "y": object()}, "cannot be written as JSON"),
    ],
)
def test_a_row_that_would_fail_the_job_is_named(body, said):
    found = faults(request_row(0), request_row(1, **body))
    assert len(found) == 1 and found[0].startswith(f"{1:032x}: ") and said in found[0]


def test_ids_and_sizes_are_checked():
    assert "stands twice" in faults(request_row(1), request_row(1))[0]
    assert "not 1 to 64" in faults(RequestRow(custom_id="a b", answer_key="k", place=request_row().place, body=request_row().body))[0]
    assert "limit 1 (provider.max_rows)" in faults(request_row(0), request_row(1), max_rows=1)[0]
    assert "limit 50 (provider.max_bytes)" in faults(request_row(0), max_bytes=50)[0]


def test_the_size_counted_is_the_size_written(tmp_path):
    rows = [request_row(n, messages=[{"role": "user", "content": "é" * n}]) for n in range(5)]
    _count, size = wire.write_input(rows, tmp_path / "x")
    assert faults(*rows, max_bytes=size) == [] and len(faults(*rows, max_bytes=size - 1)) == 1


# ------------------------------------------------------------------------------------------------------ recorded errors


def test_recorded_refusals_are_not_taken_for_transient():
    for name, code in (("bad_key_403.json", 403), ("not_found_404.json", 404), ("example_count_400.json", 400)):
        fault = HttpFault("x", status=code, body=recorded(name).decode())
        assert not fault.transient and not fault.ambiguous
