"""docs/data.md says what is so: counts, options, examples."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import msgspec
import pytest
import yaml

from pipeline.base import schemas
from pipeline.base.rows import Item
from pipeline.sources import KINDS
from pipeline.sources.checks import check
from pipeline.sources.columns import FIELDS
from scripts import fetch_data, init

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "data.md").read_text("utf-8")


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    assert found
    return found[1]


def test_the_example_of_sources_is_valid() -> None:
    """It passes the config's schema, and its checksum is the one that is fetched."""
    sources = yaml.safe_load(block("yaml"))["sources"]
    config = {"model_id": "m", "sources": sources}
    assert schemas.problems(config, "eval_config") == []
    (squad,) = [source for source in sources["open_book"] if source["kind"] == "squad_v2"]
    assert squad["sha256"] == fetch_data.OFFICIAL["squad_v2"].sha256


def test_the_example_item_is_valid() -> None:
    """It decodes and passes the checks of a closed-book item."""
    line = block("json")
    check(msgspec.json.decode(line, type=Item), "closed", "docs")
    assert schemas.problems(json.loads(line), "item") == []


def test_the_example_of_init_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is written, on a table with those columns: two treatments against the control, checked to the last item."""
    (tmp_path / "dodo.py").touch()
    (tmp_path / "reviews.csv").write_text("nr,text,label,genre\n1,Great,good,film\n")
    shutil.copytree(ROOT / "config", tmp_path / "config")
    monkeypatch.chdir(tmp_path)
    command = shlex.split(block("sh").replace("\\\n", " "))
    assert command[:3] == ["python", "-m", "scripts.init"]
    assert init.main([*command[3:], "--provider", "openai", "--model", "m"]) == 0
    config = yaml.safe_load((tmp_path / "config" / "my_reviews.yaml").read_text())
    assert list(config["arms"]) == ["control", "short", "default"]


def test_every_option_and_kind_is_described_and_exists() -> None:
    """The table's keys are those of the config's schema; kinds and fields are all named."""
    table = re.findall(r"^\| (`.*?) \|", TEXT.partition("## Items")[0], re.MULTILINE)
    keys = {key for row in table for key in re.findall(r"`(\w+)`", row)}
    source = schemas.schema("eval_config")["properties"]["sources"]["properties"]["open_book"]["items"]
    assert keys == set(source["properties"])
    assert set(source["properties"]["kind"]["enum"]) == set(KINDS)
    assert all(f"**{kind}**" in TEXT for kind in KINDS)
    assert all(re.search(rf"\b{field}\b", TEXT) for field in FIELDS)


def test_prompts_and_their_lengths_are_as_listed() -> None:
    """The table of prompts names each file and its number of words."""
    listed = {name: int(words) for name, words in re.findall(r"^\| `(\w+)` \| (\d+) \|", TEXT, re.MULTILINE)}
    files = (ROOT / "config" / "prompts").glob("*.txt")
    assert listed == {path.stem: len(path.read_text("utf-8").split()) for path in files}


def test_counts_of_the_sample_are_as_told() -> None:
    """72 and 72 questions over 24 passages."""
    for name in ("closed_book", "open_book"):
        lines = (ROOT / "config" / "sample" / f"{name}.jsonl").read_bytes().splitlines()
        told = re.search(rf"{name}.jsonl`: (\d+) questions(?: over (\d+) short passages)?", TEXT)
        assert told
        assert int(told[1]) == len(lines)
        if told[2]:
            assert int(told[2]) == len({json.loads(line)["cluster"] for line in lines})
