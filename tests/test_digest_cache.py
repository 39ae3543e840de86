"""The digest cache: an untouched file is not read again, a changed one always is."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.base.digests import canonical_json, digest, sha256_bytes, sha256_file, uniform
from pipeline.records import digest_cache
from pipeline.records.digest_cache import DigestCache

DEEP = '{"a":' * 100_000 + "1" + "}" * 100_000


def repr_start(text: str) -> str:
    """A name for a case, however long."""
    return repr(text[:12])


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were read."""
    found: list[str] = []

    def watched(path: str | Path) -> str:
        found.append(Path(path).name)
        return sha256_file(path)

    monkeypatch.setattr(digest_cache, "sha256_file", watched)
    return found


def test_an_untouched_file_is_read_once_in_many_processes(tmp_path: Path, reads: list[str]) -> None:
    (tmp_path / "a").write_text("x")
    for _ in range(3):
        cache = DigestCache(tmp_path / "c.json", tmp_path)
        assert cache.sha256(tmp_path / "a") == sha256_bytes(b"x")
        cache.save()
    assert reads == ["a"]


@pytest.mark.parametrize("change", ["bytes", "same size, old mtime", "replaced", "touched"])
def test_a_changed_stamp_is_read_again(tmp_path: Path, reads: list[str], change: str) -> None:
    path = tmp_path / "a"
    path.write_text("one")
    cache = DigestCache(tmp_path / "c.json", tmp_path)
    cache.sha256(path)
    stat = path.stat()
    if change == "bytes":
        path.write_text("longer")
    elif change == "same size, old mtime":
        path.write_text("two")
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    elif change == "replaced":
        (tmp_path / "b").write_text("two")
        os.utime(tmp_path / "b", ns=(stat.st_atime_ns, stat.st_mtime_ns))
        os.replace(tmp_path / "b", path)
    else:
        os.utime(path)
    assert cache.sha256(path) == sha256_file(path)
    assert reads == ["a", "a"]


def test_verify_reads_everything_once(tmp_path: Path, reads: list[str]) -> None:
    (tmp_path / "a").write_text("x")
    cache = DigestCache(tmp_path / "c.json", tmp_path)
    cache.sha256(tmp_path / "a")
    cache.save()
    verifying = DigestCache(tmp_path / "c.json", tmp_path, verify=True)
    for _ in range(3):
        verifying.sha256(tmp_path / "a")
    assert reads == ["a", "a"]


def test_a_file_that_changes_while_it_is_read_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    cache = DigestCache(tmp_path / "c.json", tmp_path)

    def read_and_change(path: str | Path) -> str:
        value = sha256_file(path)
        Path(path).write_text("changed since")
        return value

    with monkeypatch.context() as patch:
        patch.setattr(digest_cache, "sha256_file", read_and_change)
        cache.sha256(path)
    assert cache.sha256(path) == sha256_bytes(b"changed since")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": 1}', DEEP, '{"a": [1, 2, 3, 4]}', "\x00\x00"], ids=repr_start)
def test_a_damaged_cache_is_an_empty_one(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.json").write_text(text)
    (tmp_path / "a").write_text("x")
    cache = DigestCache(tmp_path / "c.json", tmp_path)
    assert cache.sha256(tmp_path / "a") == sha256_bytes(b"x")
    cache.save()
    assert "a" in json.loads((tmp_path / "c.json").read_text())["known"]


def test_a_digest_that_was_damaged_in_the_cache_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    cache = DigestCache(tmp_path / "c.json", tmp_path)
    true = cache.sha256(tmp_path / "a")
    cache.save()
    saved = (tmp_path / "c.json").read_bytes()
    (tmp_path / "c.json").write_bytes(saved.replace(true.encode(), true[::-1].encode()))
    assert DigestCache(tmp_path / "c.json", tmp_path).sha256(tmp_path / "a") == true


def test_nothing_new_writes_nothing(tmp_path: Path) -> None:
    DigestCache(tmp_path / "c.json", tmp_path).save()
    assert not (tmp_path / "c.json").exists()
    (tmp_path / "a").write_text("x")
    cache = DigestCache(tmp_path / "c.json", tmp_path)
    cache.sha256(tmp_path / "a")
    cache.save()
    stamp = (tmp_path / "c.json").stat().st_mtime_ns
    again = DigestCache(tmp_path / "c.json", tmp_path)
    again.sha256(tmp_path / "a")
    again.save()
    assert (tmp_path / "c.json").stat().st_mtime_ns == stamp


def test_a_torn_file_is_known_by_its_size_without_being_read(tmp_path: Path, reads: list[str]) -> None:
    (tmp_path / "a").write_text("x")
    cache = DigestCache(tmp_path / "c.json", tmp_path)
    assert not cache.matches(tmp_path / "a", 2, sha256_bytes(b"xy"))
    assert not cache.matches(tmp_path / "none", 0, "")
    assert not cache.matches(tmp_path / "a" / "below a file", 0, "")
    assert not reads


# --- digests -----------------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(), x, max_size=3),
    max_leaves=8,
)


@given(JSON)
@settings(max_examples=80, deadline=None)
def test_canonical_json_reads_back_and_does_not_depend_on_key_order(value: object) -> None:
    assert json.loads(canonical_json(value)) == value

    def turned(v: object) -> object:
        if isinstance(v, dict):
            return {k: turned(v[k]) for k in reversed(list(v))}
        return [turned(x) for x in v] if isinstance(v, list) else v

    assert digest(turned(value)) == digest(value)


def test_canonical_json_refuses_what_json_cannot_say() -> None:
    with pytest.raises(ValueError):
        canonical_json(float("inf"))


def test_uniform_is_in_range_spread_and_fixed() -> None:
    drawn = [uniform("seed", str(n)) for n in range(2000)]
    assert all(0 <= u < 1 for u in drawn)
    assert abs(sum(drawn) / len(drawn) - 0.5) < 0.02
    assert uniform("a", "b") != uniform("ab") and uniform("a", "b") == uniform("a", "b")
