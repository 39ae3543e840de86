"""Every published schema: valid JSON Schema 2020-12, closed where the format is ours, with examples and counter-examples."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from pipeline.base.errors import ManifestError
from pipeline.base.schemas import SCHEMA_DIR, parse_json, problems, read_document, schema

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "tests" / "examples"
NAMES = sorted(p.name.removesuffix(".schema.json") for p in SCHEMA_DIR.glob("*.schema.json"))
OPEN = {"event", "trial_manifest.v1"}
"""Open on purpose: an event's facts depend on the event; version 1 is the predecessor's format, not ours."""
WANTED = {
    "eval_config", "item", "request_row", "result_row", "run_state", "trial_manifest.v1", "trial_manifest.v2", "prepared_manifest",
    "build_manifest", "submission", "significance", "costs", "provenance", "archive_manifest", "event",
}  # fmt: skip


def examples(kind: str) -> list[Any]:
    found = [(name, path) for name in NAMES for path in sorted((EXAMPLES / name).glob(f"{kind}_*.json"))]
    return [pytest.param(name, path, id=f"{name}/{path.stem}") for name, path in found]


def test_every_boundary_format_has_a_schema() -> None:
    assert set(NAMES) >= WANTED


@pytest.mark.parametrize("name", NAMES)
def test_it_is_valid_json_schema_2020_12(name: str) -> None:
    document = schema(name)
    assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert document["title"]
    Draft202012Validator.check_schema(document)


@pytest.mark.parametrize("name", sorted(set(NAMES) - OPEN))
def test_it_is_closed(name: str) -> None:
    assert schema(name)["additionalProperties"] is False


@pytest.mark.parametrize("name", NAMES)
def test_it_has_examples_and_counter_examples(name: str) -> None:
    assert list((EXAMPLES / name).glob("pass_*.json"))
    assert len(list((EXAMPLES / name).glob("fail_*.json"))) >= 2


@pytest.mark.parametrize(("name", "path"), examples("pass"))
def test_an_example_passes(name: str, path: Path) -> None:
    assert problems(parse_json(path.read_bytes()), name) == []


@pytest.mark.parametrize(("name", "path"), examples("fail"))
def test_a_counter_example_fails_and_the_error_names_file_place_and_schema(name: str, path: Path) -> None:
    with pytest.raises(ManifestError) as caught:
        read_document(path, name)
    text = str(caught.value)
    assert str(path) in text
    assert re.search(r"\$[.\w\[\]-]*: ", text)
    assert f"schemas/{name}.schema.json" in text


@pytest.mark.parametrize("name", sorted(set(NAMES) - OPEN - {"eval_config", "item", "result_row", "request_row"}))
def test_no_required_key_of_an_example_can_be_left_out(name: str) -> None:
    document = json.loads((EXAMPLES / name / "pass_basic.json").read_text("utf-8"))
    required = schema(name)["required"]
    for key in required:
        assert problems({k: v for k, v in document.items() if k != key}, name), key


def test_the_docs_have_one_table_with_every_schema() -> None:
    text = (ROOT / "docs" / "manifests.md").read_text("utf-8")
    listed = re.findall(r"^\| `schemas/([\w.]+)\.schema\.json` \|", text, re.MULTILINE)
    assert sorted(listed) == NAMES
