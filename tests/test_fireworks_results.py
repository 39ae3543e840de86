"""Fireworks' result files: doubled, foreign, missing, torn, expired, or fetched by firectl."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("fireworks", reason="the extra `fireworks` is not installed")

from pipeline.base.errors import StepError
from pipeline.providers.http import download
from pipeline.providers.protocol import JobState
from tests.fireworks_desk import CALLS, KEY, RECORDED, bill, end_of, fault, provider, results, rows, send, served, submission, use_key


@pytest.fixture(autouse=True)
def key(monkeypatch):
    use_key(monkeypatch)


@pytest.fixture
def server(tmp_path):
    yield from served(tmp_path)


def test_a_download_cut_between_two_lines_is_fetched_again(server, tmp_path, monkeypatch):
    """Without a length nothing shows that it was cut; the job's own count does. Taken for missing, rows would be paid for again."""
    made, sub = provider(server.url()), submission(tmp_path)
    ids = send(made, sub)
    end_of(made, ids, sub)
    whole, cuts = download, []

    def cut(url, target, **more):
        digest = whole(url, target, **more)
        if "jsonl" in url and len(cuts) < 1:
            lines = target.read_bytes().splitlines(keepends=True)
            target.write_bytes(b"".join(lines[:3]))
            cuts.append(len(lines))
        return digest

    monkeypatch.setattr("pipeline.providers.fireworks.download", cut)
    assert len(list(made.fetch(ids, sub))) == 8 and cuts == [8]
    server.state.do("UPDATE datasets SET content=substr(content, 1, instr(content, char(10))) WHERE id LIKE '%-out'")
    assert len(list(made.fetch(ids, sub))) == 1  # the same twice: so it is



def test_rows_twice_foreign_or_missing_are_handed_over_as_they_are(server, tmp_path):
    for kind in ("duplicate_rows", "foreign_rows", "missing_rows"):
        fault(server, kind)
    found = results(provider(server.url()), submission(tmp_path))
    assert sorted(map(len, found.values()), reverse=True)[0] == 2
    assert "f0" * 16 in found and len(set(found) - {"f0" * 16}) == 7
    assert set(found) - {"f0" * 16} == set(bill(server))


def test_rows_of_the_error_file_are_failures_with_their_raw_line(server, tmp_path):
    fault(server, "error_rows", count=2)
    found = [group[0] for group in results(provider(server.url()), submission(tmp_path)).values()]
    failed = [row for row in found if row.outcome == "failed"]
    assert len(found) == 8 and len(failed) == 2 and len(bill(server)) == 6
    assert {row.error.code for row in failed} == {"internal"} and all(row.custom_id in row.raw for row in failed)


@pytest.mark.parametrize(("kind", "outcome"), [("refusals", "refused"), ("filtered", "filtered")])
def test_refusals_and_filters_are_outcomes_of_their_own(server, tmp_path, kind, outcome):
    fault(server, kind)
    found = results(provider(server.url()), submission(tmp_path))
    assert {group[0].outcome for group in found.values()} == {outcome}


def test_answers_cut_at_the_limit_are_truncated(server, tmp_path):
    found = results(provider(server.url()), submission(tmp_path, rows(max_tokens=1)))
    ends = {(group[0].finish_reason, group[0].outcome) for group in found.values()}
    assert ends == {("length", "truncated"), ("stop", "answered")}


def test_expired_download_urls_are_asked_for_again(server, tmp_path):
    fault(server, "expired_url", "GET", times=2)
    assert len(results(provider(server.url()), submission(tmp_path))) == 8
    asked = server.state.rows("SELECT 1 FROM log WHERE path LIKE '%:getDownloadEndpoint'")
    assert len(asked) == 3


def test_an_unreadable_line_is_downloaded_again_and_then_left_out(server, tmp_path, caplog):
    fault(server, "bad_line", "jsonl")
    assert len(results(provider(server.url()), submission(tmp_path))) == 8 and "left out" not in caplog.text
    fault(server, "bad_line", "jsonl", times=2)
    assert len(results(provider(server.url()), submission(tmp_path))) == 8 and "left out" in caplog.text


def test_an_output_that_never_becomes_readable_is_an_error_not_an_empty_result(server, tmp_path):
    fault(server, "html", CALLS["download"], times=-1)
    made, sub = provider(server.url(), retry_attempts=3), submission(tmp_path)
    ids = send(made, sub)
    end_of(made, ids, sub)
    with pytest.raises(StepError, match=f"firectl dataset download {ids['output_dataset']}"):
        list(made.fetch(ids, sub))


@pytest.mark.parametrize("change", ["DELETE FROM datasets WHERE id LIKE '%-out'", "UPDATE datasets SET content=x'' WHERE id LIKE '%-out'"])
def test_an_answered_job_without_rows_is_an_error_because_sending_again_would_pay_again(server, tmp_path, change):
    made, sub = provider(server.url(), retry_attempts=2), submission(tmp_path)
    ids = send(made, sub)
    end_of(made, ids, sub)
    server.state.do(change)
    with pytest.raises(StepError, match="firectl"):
        list(made.fetch(ids, sub))


def test_one_look_is_not_enough_to_call_answers_absent(server, tmp_path):
    """An expired job whose progress is unknown may have been billed: its output is looked for twice."""
    fault(server, "stuck")
    made, sub = provider(server.url()), submission(tmp_path)
    ids = send(made, sub)
    server.state.do("UPDATE jobs SET state='EXPIRED'")
    assert end_of(made, ids, sub).state is JobState.EXPIRED
    assert list(made.fetch(ids, sub)) == []
    assert len(server.state.rows("SELECT 1 FROM log WHERE path LIKE '%:getDownloadEndpoint'")) == 2


def test_signed_urls_in_the_clear_are_refused(server, tmp_path, monkeypatch):
    made, sub = provider(server.url(), retry_attempts=2), submission(tmp_path)
    ids = send(made, sub)
    end_of(made, ids, sub)
    monkeypatch.setattr(made._api, "download_urls", lambda *_: {"x.jsonl": "http://storage.example/x?X-Goog-Signature=beef"})
    with pytest.raises(StepError, match="not https") as caught:
        list(made.fetch(ids, sub))
    assert "beef" not in str(caught.value)


def fake_firectl(folder, monkeypatch, order):
    """A firectl that knows one order of words, and writes the files where the real one does."""
    folder.mkdir()
    row = (RECORDED / "success_row.jsonl").read_text()
    script = folder / "firectl"
    script.write_text(
        f'#!/bin/sh\n[ "$1 $2" = "{order}" ] || {{ echo "unknown command" >&2; exit 1; }}\n'
        f'echo "$@" >> {folder}/calls\n/bin/mkdir -p "$5/dataset/$3"\n/bin/cat > "$5/dataset/$3/BIJOutputSet.jsonl" <<EOF\n{row}EOF\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return folder / "calls"


@pytest.mark.parametrize("order", ["dataset download", "download dataset"])
def test_firectl_steps_in_where_it_is_installed(server, tmp_path, monkeypatch, order):
    calls = fake_firectl(tmp_path / "bin", monkeypatch, order)
    fault(server, "status", CALLS["ask where to download"], status=500, times=-1)
    made, sub = provider(server.url(), retry_attempts=2), submission(tmp_path)
    ids = send(made, sub)
    end_of(made, ids, sub)
    assert [row.custom_id for row in made.fetch(ids, sub)] == ["r2"]
    assert KEY not in calls.read_text() and "api-key" not in calls.read_text()


def test_what_a_person_downloaded_with_the_printed_command_is_read(server, tmp_path, monkeypatch):
    fault(server, "status", CALLS["ask where to download"], status=500, times=-1)
    made, sub = provider(server.url(), retry_attempts=2), submission(tmp_path)
    ids = send(made, sub)
    end_of(made, ids, sub)
    with pytest.raises(StepError) as caught:
        list(made.fetch(ids, sub))
    folder = Path(re.search(r"--output-dir (\S+)", str(caught.value)).group(1))
    target = folder / "dataset" / ids["output_dataset"]
    target.mkdir(parents=True)
    (target / "BIJOutputSet.jsonl").write_bytes((RECORDED / "success_row.jsonl").read_bytes())
    (target / "error-data").write_bytes(b'{"custom_id":"r3","error":{"code":"x","message":"y"}}\n')
    read = [("r2", "answered"), ("r3", "failed")]
    assert [(row.custom_id, row.outcome) for row in made.fetch(ids, sub)] == read
    fault(server, "status", CALLS["look at job"], status=403, times=-1)  # even where Fireworks cannot be asked at all
    assert [(row.custom_id, row.outcome) for row in made.fetch(ids, sub)] == read
