"""Settings of the Fireworks provider, what a refusal says, and where the key goes."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("fireworks", reason="the extra `fireworks` is not installed")

from pipeline.base.errors import ConfigError, StepError
from pipeline.providers.fireworks import FireworksProvider
from pipeline.providers.protocol import Ambiguous, Barred, Rejected
from tests.fireworks_desk import (
    BRISK,
    CALLS,
    KEY,
    fault,
    posts,
    provider,
    results,
    send,
    served,
    submission,
    use_key,
)


@pytest.fixture(autouse=True)
def key(monkeypatch):
    use_key(monkeypatch)


@pytest.fixture
def server(tmp_path):
    yield from served(tmp_path)


def test_the_sdks_own_variables_work_and_the_config_overrides_them(server, tmp_path, monkeypatch):
    monkeypatch.setenv("FIREWORKS_BASE_URL", server.url())
    monkeypatch.setenv("FIREWORKS_ACCOUNT_ID", "from-env")
    made = FireworksProvider({"options": BRISK})
    assert send(made, submission(tmp_path))["account"] == "from-env" and posts(server) == 1
    monkeypatch.setenv("FIREWORKS_BASE_URL", "http://127.0.0.1:9")
    assert send(provider(server.url()), submission(tmp_path))["account"] == "acme"


def test_what_is_missing_or_wrong_in_the_settings_is_said_at_once(monkeypatch):
    good = {"base_url": "http://127.0.0.1:9", "account_id": "a"}
    for settings, said in [
        ({}, "provider.account_id"),
        ({**good, "options": {"speed": 1}}, "unknown: speed"),
        ({**good, "options": {"job": {"inferenceParameters": {}}}}, "inferenceParameters"),
        ({**good, "options": {"roles": "developer"}}, "provider.options.roles: is not a list"),
        ({**good, "options": {"retry_seconds": "long"}}, "provider.options.retry_seconds: is 'long'"),
        ({**good, "options": {"output_dataset": "mine"}}, "chosen nor allocated"),
        ({**good, "base_url": "https://api.fireworks.ai/inference/v1"}, "no path"),
    ]:
        with pytest.raises(ConfigError, match=re.escape(said)):
            FireworksProvider(settings)
    with pytest.raises(StepError, match="not https"):
        FireworksProvider({**good, "base_url": "http://fireworks.example"})
    monkeypatch.delenv("FIREWORKS_API_KEY")
    with pytest.raises(ConfigError, match="FIREWORKS_API_KEY is not set"):
        FireworksProvider(good)


def test_limits_are_the_documented_ones_unless_the_config_says_otherwise():
    base = {"base_url": "http://127.0.0.1:9", "account_id": "a"}
    assert FireworksProvider(base).limits().max_bytes == 500_000_000
    own = FireworksProvider({**base, "max_rows": 7, "max_bytes": 9, "max_concurrent_jobs": 2, "max_enqueued_tokens": 5}).limits()
    assert (own.max_rows, own.max_bytes, own.max_concurrent_jobs, own.max_enqueued_tokens) == (7, 9, 2, 5)


@pytest.mark.parametrize(
    ("status", "said"), [(401, "FIREWORKS_API_KEY"), (402, "payment"), (404, "model's name"), (412, "suspended"), (413, "max_bytes")]
)
def test_a_refusal_says_what_to_do(server, tmp_path, status, said):
    fault(server, "status", CALLS["create job"], status=status, body={"code": 3, "message": "no", "details": []})
    with pytest.raises(Rejected if status in (404, 413) else Barred, match=said) as caught:
        send(provider(server.url()), submission(tmp_path))
    assert getattr(caught.value, "splittable", False) is (status == 413)


def test_a_bad_key_is_a_plain_error(server, tmp_path, monkeypatch):
    monkeypatch.setenv("FIREWORKS_API_KEY", "bad")
    with pytest.raises(StepError, match="Check FIREWORKS_API_KEY"):
        send(provider(server.url()), submission(tmp_path))


def test_an_unknown_model_is_refused_for_good(server, tmp_path):
    with pytest.raises(Rejected, match="not found"):
        send(provider(server.url()), replace(submission(tmp_path), model="gpt-oss-20b"))


def test_the_key_shows_nowhere(server, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    said = []
    for number, (name, on) in enumerate(CALLS.items()):
        fault(server, "status", on, status=400, body={"error": {"message": f"bad token {KEY} at {name}, Bearer {KEY}"}}, times=20)
        made, sub = provider(server.url(), retry_attempts=2), submission(tmp_path, key=f"ab-{number:020x}-g0-a0")
        try:
            results(made, sub)
        except (StepError, Ambiguous) as e:
            said += [str(e), repr(e), repr(e.__cause__), repr(e.__context__)]
        server.state.do("DELETE FROM faults")
        said += [repr(made.__dict__), json.dumps(dict(made.provenance()))]
    results(provider(server.url(), upload_bytes=10), submission(tmp_path, key="ab-ffffffffffffffffffff-g0-a0"))
    assert len(said) > 14 and KEY not in "".join(said) + caplog.text
    signatures = [row["token"] for row in server.state.rows("SELECT token FROM signed")]
    assert len(signatures) >= 3 and not any(signature in caplog.text for signature in signatures)
    assert not any(KEY in p.read_text() for p in (tmp_path / "answers").rglob("*") if p.is_file())


def test_provenance_names_sdk_and_endpoint(server):
    import fireworks

    facts = provider(server.url()).provenance()
    assert facts["sdk"] == f"fireworks-ai {fireworks.__version__}" and facts["base_url"] == server.url()


def test_importing_the_package_does_not_import_the_sdk():
    import subprocess
    import sys

    code = (
        "import sys, pipeline.providers.fireworks as f; assert not {'fireworks', 'httpx', 'stamina'} & set(sys.modules), sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])
