"""The aggregate, the provenance page and the last lines in the terminal."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from report_factory import make_trial

from pipeline.reporting.aggregate import AggregateRow, aggregate_row, write_aggregate
from pipeline.reporting.pages import asset
from pipeline.reporting.provenance import write_provenance_report
from pipeline.reporting.terminal import fitting_columns, plain_table, print_verdicts, verdict_lines, verdict_row


def _contrast(a: str, b: str) -> float:
    """The WCAG contrast ratio of two colours `#rrggbb`."""

    def light(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((light(a), light(b)))
    return (high + 0.05) / (low + 0.05)


def test_colours_can_be_told_apart() -> None:
    """In the light, in the dark and on paper: letters at least 4.5 to 1 on their ground, edges of controls and lines of figures 3 to 1."""
    themes = [dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6})", block)) for block in re.findall(r":root \{(.*?)\}", asset("report.css"), re.S)]
    assert len(themes) == 3
    for colours in themes:
        letters = [(ink, on) for ink in ("ink", "muted", "control", "treatment", "good", "bad") for on in ("paper", "raised", "soft")]
        letters += [("ink", on) for on in ("mark", "gold", "band")]
        faint = {pair: ratio for pair in letters if (ratio := _contrast(*(colours[c] for c in pair))) < 4.5}
        assert not faint
        assert min(_contrast(colours[c], colours["paper"]) for c in ("edge", "margin", "control", "treatment", "good", "bad")) >= 3


def _document(folder: Path, name: str = "brief", model: str = "tiny", **verdict: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(
        make_trial(folder / f"{name}-{model}", name=name, n_open=20, n_closed=10).significance.read_text()
    )
    document.update(model=model, trial=f"{name}-{model}")
    document["verdict"].update(verdict)
    return document


def _rows(folder: Path) -> list[AggregateRow]:
    trials = [("brief", "tiny"), ("brief", "large"), ("<i>stern</i>", "tiny")]
    return [aggregate_row(_document(folder, n, m), f"{n}-{m}/reports/report.html", usd=0.01) for n, m in trials]


def test_matrix_has_a_cell_per_contrast_and_model(tmp_path: Path) -> None:
    """Two contrasts by two models: three cells link to their reports, the fourth says that it was not run."""
    md, html = tmp_path / "aggregate_report.md", tmp_path / "report.html"
    write_aggregate(_rows(tmp_path), md, html)
    page, text = html.read_text("utf-8"), md.read_text("utf-8")
    assert page.count("brief-tiny/reports/report.html") == 2, "once in the matrix, once in the list"
    assert "not run" in page
    assert "<i>" not in page
    header, _, *lines = [line for line in text.splitlines() if line.startswith("|")]
    assert header == "| contrast | metric | tiny | large |"
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in lines] == [5, 5]
    assert "](brief-large/reports/report.html)" in lines[0]
    assert lines[1].endswith("| – |")


def test_aggregate_of_a_dry_run_says_so(tmp_path: Path) -> None:
    """Numbers of simulated answers carry the banner in both files; those of a model do not."""
    for provider, told in (("simulated", True), ("openai", False)):
        write_aggregate(_rows(tmp_path), tmp_path / "x.md", tmp_path / "x.html", provider=provider)
        for name in ("x.md", "x.html"):
            assert ("this is a dry run" in (tmp_path / name).read_text("utf-8")) is told


def test_aggregate_is_stable(tmp_path: Path) -> None:
    """The same trials give the same bytes."""
    outputs = []
    for name in ("a", "b"):
        write_aggregate(_rows(tmp_path / name), tmp_path / name / "x.md", tmp_path / name / "x.html")
        outputs.append((tmp_path / name / "x.md").read_bytes() + (tmp_path / name / "x.html").read_bytes())
    assert outputs[0] == outputs[1]


def test_aggregate_prints_oriented_simultaneous_intervals(tmp_path: Path) -> None:
    """A cell shows what the verdict is read from, not the row's own interval."""
    row = aggregate_row(_document(tmp_path, effect=0.05, low=0.012, high=0.088), "r.html")
    assert (row.effect, row.interval) == ("+5.0 points", "[+1.2, +8.8]")


def test_provenance_shows_every_key_and_stays_inert(tmp_path: Path) -> None:
    """Known keys get their sections, unknown ones are shown all the same, text is escaped, nested attempts are a table."""
    out = tmp_path / "provenance.html"
    write_provenance_report(
        {
            "schema_version": 1,
            "trial": "brief-tiny",
            "config_hash": "a" * 64,
            "locked_at": None,
            "versions": {"abiding": "0.1.0"},
            "prompts": {"control": {"path": None, "sha256": "d" * 64}, "treatment": {"path": "p.txt", "sha256": "e" * 64}},
            "shards": [{"shard": "t0_control_p00", "attempts": [{"job": "j-1"}, {"job": "j-2"}]}, {"shard": "t0_control_p01", "reused": 3}],
            "looks": [],
            "notes": ["<script>alert(1)</script>"],
            "something_new": {"k": "v-new"},
        },
        out,
    )
    page = out.read_text("utf-8")
    for text in ("a" * 64, "0.1.0", "e" * 64, ">j-1<", ">j-2<", "t0_control_p01", "no look before this one", "v-new", "Something new"):
        assert text in page
    assert "<script" not in page
    assert "script-src &#39;none&#39;" in page


def test_verdict_lines_say_sentence_reason_and_caveats(tmp_path: Path) -> None:
    """The sentence comes first; control characters of a hostile name do not reach the terminal."""
    document = _document(tmp_path, sentence="No verdict\x1b[31m.", reason="Too few clusters.", caveats=["One look was not planned."])
    assert verdict_lines(document) == ["No verdict[31m.", "Reason: Too few clusters.", "Note: One look was not planned."]


def test_plain_output_is_aligned_and_without_colour(tmp_path: Path) -> None:
    """Into a pipe: sentence, header, one line a trial, columns that line up, no escape codes."""
    stream = io.StringIO()
    documents = [_document(tmp_path), _document(tmp_path, "stern", "large")]
    print_verdicts(documents, stream)
    lines = stream.getvalue().splitlines()
    assert lines[0] == documents[0]["verdict"]["sentence"]
    assert lines[2].split() == ["trial", "metric", "control", "treatment", "effect", "interval", "p", "items", "clusters", "verdict"]
    assert len({line.index("[") for line in lines[3:]}) == 1
    assert "\x1b" not in stream.getvalue()


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("no_color", [False, True])
def test_terminal_has_colour_unless_told_not_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_color: bool) -> None:
    """NO_COLOR is honoured; every number of the narrow table stays whole."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    stream, document = _Terminal(), _document(tmp_path, "a-contrast-with-a-long-name", "and-a-long-model-name")
    print_verdicts([document], stream)
    text = stream.getvalue()
    assert ("\x1b[3" in text) is not no_color
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    for column in ("effect", "interval", "verdict"):
        assert verdict_row(document)[column] in plain
    assert max(map(len, plain.splitlines()[1:])) <= 80


def test_narrow_terminals_drop_the_lesser_columns(tmp_path: Path) -> None:
    """Effect, interval and verdict stay at any width; a wide one keeps all."""
    rows = [verdict_row(_document(tmp_path))]
    assert fitting_columns(rows, 200) == list(rows[0])
    assert fitting_columns(rows, 10) == ["trial", "effect", "interval", "verdict"]
    assert len(plain_table(rows)) == 2


def _luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1, 2], ids=["light", "dark", "print"])
def test_text_has_contrast(scheme: int) -> None:
    """Every text colour stands out from every ground by 4.5 to 1 (WCAG 2.1, 1.4.3), in all three palettes."""
    css = asset("report.css")
    blocks = [m.group(1) for m in re.finditer(r":root \{(.*?)\}", css, re.DOTALL)]
    palette = {
        k: v if len(v) == 7 else "#" + "".join(c * 2 for c in v[1:]) for k, v in re.findall(r"--([a-z]+): (#[0-9a-f]{3,6})", blocks[scheme])
    }
    worst = {}
    for text in ("ink", "muted", "control", "treatment", "good", "bad"):
        for ground in ("paper", "raised", "soft"):
            high, low = sorted((_luminance(palette[text]), _luminance(palette[ground])), reverse=True)
            worst[text, ground] = (high + 0.05) / (low + 0.05)
    for ground in ("mark", "gold", "band"):
        high, low = sorted((_luminance(palette["ink"]), _luminance(palette[ground])), reverse=True)
        worst["ink", ground] = (high + 0.05) / (low + 0.05)
    assert {k: round(v, 2) for k, v in worst.items() if v < 4.5} == {}


def test_modules_for_a_run_without_work_import_nothing_heavy() -> None:
    """A no-op run may import every module here without paying for matplotlib, scipy, numpy, Jinja2, jsonschema or rich."""
    modules = sorted(p.stem for p in (Path(__file__).parents[1] / "pipeline/reporting").glob("*.py") if p.stem != "__init__")
    code = "import sys, importlib\n" + "".join(f"importlib.import_module('pipeline.reporting.{m}')\n" for m in modules)
    code += "print(sorted({'matplotlib', 'scipy', 'numpy', 'jinja2', 'jsonschema', 'rich', 'markupsafe'} & set(sys.modules)))"
    assert len(modules) > 10
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    assert done.stdout.strip() == "[]"
