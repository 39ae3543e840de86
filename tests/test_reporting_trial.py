"""report.md and report.html: what stands in them, that hostile text stays text, and that the same inputs give the same bytes."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_factory import HOSTILE, make_trial

from pipeline.base.errors import ManifestError
from pipeline.base.schemas import problems
from pipeline.reporting.pages import asset
from pipeline.reporting.trial import TrialReportInputs, write_trial_report

EXAMPLE = Path(__file__).parent / "examples/significance/pass_basic.json"


class _Page(HTMLParser):
    """Counts elements and gathers ids, links, scripts and the text outside of them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside = tag
            if tag == "script":
                self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif not self._inside:
            self.text.append(data)

    @property
    def ids(self) -> list[str]:
        return [a["id"] for _, a in self.tags if a.get("id")]  # type: ignore[misc]


def _write(folder: Path, **options: object) -> tuple[str, str]:
    inputs = make_trial(folder, **options)  # type: ignore[arg-type]
    write_trial_report(inputs)
    return (inputs.out_dir / "report.md").read_text("utf-8"), (inputs.out_dir / "report.html").read_text("utf-8")


def _data(page: str) -> dict:  # type: ignore[type-arg]
    found = re.search(r'<script type="application/json" id="explorer-data">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found.group(1))


def test_factory_writes_documents_of_the_published_schema(tmp_path: Path) -> None:
    """The test inputs are what the statistics step may write, so that these tests speak of real reports."""
    inputs = make_trial(tmp_path)
    assert problems(json.loads(inputs.significance.read_text()), "significance") == []


def test_same_inputs_same_bytes_wherever_they_lie(tmp_path: Path) -> None:
    """No clock, path or order of a set gets into the files: two folders, two writes each, one content."""
    pages = [_write(tmp_path / name, n_open=30, n_closed=12, confidence=True) for name in ("a", "b/deeper", "a")]
    assert pages[0] == pages[1] == pages[2]
    assert str(tmp_path) not in "".join(pages[0])


def test_report_opens_with_the_verdict(tmp_path: Path) -> None:
    """The verdict's sentence is the first paragraph of both, before any table or figure."""
    markdown, page = _write(tmp_path)
    sentence = json.loads((tmp_path / "significance.json").read_text())["verdict"]["sentence"]
    assert markdown.split("\n")[2] == f"**{sentence}**"
    assert page.index('<p class="sentence">') < page.index("<table")
    assert sentence in "".join(_Page(page).text)


def test_all_sections_and_figures_are_there(tmp_path: Path) -> None:
    """Each thing that a reader is promised has its place: figures as SVG with a name and a description."""
    _, page = _write(tmp_path)
    parsed = _Page(page)
    assert {"verdict", "effects", "trade", "planning", "cost", "exploratory", "trust", "items", "method"} <= set(parsed.ids)
    plots = [a for t, a in parsed.tags if t == "svg" and a.get("class") == "plot"]
    assert [str(a["aria-labelledby"]).split("-")[0] for a in plots] == ["forest", "trade", "risk", "outcomes", "differences", "power"]
    assert all(a["role"] == "img" for a in plots)
    assert len(parsed.ids) == len(set(parsed.ids)), "ids must be unique in the page"


def test_self_contained(tmp_path: Path) -> None:
    """No element loads anything: no src, no stylesheet, no url(), and a policy that would refuse it."""
    _, page = _write(tmp_path)
    parsed = _Page(page)
    assert not [a for t, a in parsed.tags if "src" in a or t in ("link", "img", "iframe", "object")]
    assert not re.search(r"url\((?!#)", page)
    hrefs = {a["href"] for t, a in parsed.tags if t == "a"}
    assert {h for h in hrefs if h and not h.startswith("#")} == {"provenance.html", "../../report.html"}
    policy = next(a["content"] for t, a in parsed.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "script-src 'sha256-" in policy


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    """Scripts, closing tags, overrides and very long lines in answers, questions, golds, passages and names do not become markup."""
    markdown, page = _write(tmp_path, hostile=True, n_open=10, n_closed=5, name="<b>bold</b> | x")
    parsed = _Page(page)
    assert len(parsed.scripts) == 2, "the explorer and its data, nothing else"
    assert not [t for t, _ in parsed.tags if t in ("img", "b")]
    data = _data(page)
    assert data["items"]["question"][0] == HOSTILE[0]
    assert data["answers"]["control"]["text"][1] == HOSTILE[1]
    assert "<" not in parsed.scripts[0]
    for line in markdown.splitlines():
        assert "<b>" not in line.replace("\\<", "")
    header = next(line for line in markdown.splitlines() if line.startswith("| metric"))
    table = markdown[markdown.index(header) :].split("\n\n")[0].splitlines()
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {len(re.findall(r"(?<!\\)\|", header))}


def test_long_answers_are_cut_and_say_so(tmp_path: Path) -> None:
    """An answer of 100 kB is shown up to the cap, with its true length."""
    _, page = _write(tmp_path, hostile=True, n_open=10, n_closed=5)
    answers = _data(page)["answers"]
    assert max(map(len, answers["control"]["text"])) == answers["cap"] == 20_000
    assert list(answers["control"]["cut"].values()) == [100_000, 100_000]


def test_dry_run_is_labelled_and_a_paid_one_is_not(tmp_path: Path) -> None:
    """Numbers of a simulated provider carry a banner in both files."""
    inputs = make_trial(tmp_path)
    for provider, shown in (("simulated", True), ("fireworks", False)):
        write_trial_report(replace(inputs, provider=provider))
        for name in ("report.md", "report.html"):
            assert ("dry run" in (inputs.out_dir / name).read_text("utf-8")) is shown


def test_changes_and_notes_are_printed(tmp_path: Path) -> None:
    """What changed since the lock and the notes of the statistics appear in both files."""
    inputs = replace(make_trial(tmp_path), changes=["The margin was 0.05."])
    write_trial_report(inputs)
    for name in ("report.md", "report.html"):
        text = (inputs.out_dir / name).read_text("utf-8")
        assert "The margin was 0.05." in text
        assert "Nothing differs" not in text
        assert "Clusters are passages." in text


def _with_effect(inputs: TrialReportInputs, effect: float, metric: str) -> str:
    document = json.loads(inputs.significance.read_text())
    document["verdict"].update(metric=metric, effect=effect)
    inputs.significance.write_text(json.dumps(document))
    write_trial_report(replace(inputs, trust=None))
    return (inputs.out_dir / "report.md").read_text("utf-8")


def test_trust_is_the_callers_else_ours_else_a_warning(tmp_path: Path) -> None:
    """A validation that the caller brings is printed; without one, ours of `correct`; of a metric nobody validated the report says so."""
    inputs = make_trial(tmp_path)
    write_trial_report(inputs)
    assert "Judged by two people." in (inputs.out_dir / "report.md").read_text("utf-8")
    large = _with_effect(inputs, 0.05, "correct")
    assert "EVOUNA-NQ" in large and "wrong by up to 1.8 points" in large
    assert "no larger than that" not in large
    assert "no larger than that" in _with_effect(inputs, -0.01, "correct")
    assert "No validation of this metric" in _with_effect(inputs, 0.05, "f1")


def test_our_validation_is_the_documented_one() -> None:
    """Every row of agreement.json stands in the table of docs/scoring.md."""
    text = (Path(__file__).parents[1] / "docs/scoring.md").read_text("utf-8").replace("**", "")
    measured: dict[tuple[str, str], list[str]] = {}
    system = people = ""
    for line in text.splitlines():
        cells = [c.strip() for c in line.strip("|").split("|")]
        if len(cells) == 6 and cells[1] in ("exact match", "correct"):
            system, people = cells[0] or system, cells[4] or people
            measured[system, {"exact match": "em"}.get(cells[1], cells[1])] = [cells[2], cells[3], people, cells[5]]
    ours = {(row[0], metric): row[1:] for metric, found in json.loads(asset("agreement.json"))["metrics"].items() for row in found["rows"]}
    assert ours == measured
    assert "| correct, other half | 90.2% | 0.755 | 1.8 points |" in text


def test_price_says_what_it_is_made_of(tmp_path: Path) -> None:
    """Both files name the price per million tokens, the batch factor and its source."""
    for text in _write(tmp_path, n_open=10, n_closed=5):
        assert "tiny: $0.10 input, $0.40 output per million tokens, times 0.5 (config)." in text


def test_published_example_is_readable(tmp_path: Path) -> None:
    """The example of the statistics room gives a report, though the items behind it are others."""
    inputs = make_trial(tmp_path)
    shutil.copy(EXAMPLE, inputs.significance)
    write_trial_report(inputs)
    text = (inputs.out_dir / "report.md").read_text("utf-8")
    assert "concise is better than plain on correct by 3.9 points" in text
    assert "| correct ↑ | all datasets | 1,000 | 51.2% | 55.1% | +3.9 |" in text
    assert "### correct by domain" in text


def test_no_verdict_and_missing_numbers_are_printed(tmp_path: Path) -> None:
    """A trial without interval, p-value or detectable effect still gives a report that says so, without drawing them."""
    inputs = make_trial(tmp_path)
    document = json.loads(inputs.significance.read_text())
    document["verdict"].update(verdict="no_verdict", rule=1, reason="Fewer than 10 informative clusters.", effect=None, low=None, high=None)
    for row in document["rows"]:
        row.update(se=None, df=None, ci_low=None, ci_high=None, ci_method=None, p_value=None, p_method=None, mde=None)
        row.update(simultaneous_low=None, simultaneous_high=None, warnings=["Fewer than 10 clusters."])
    inputs.significance.write_text(json.dumps(document))
    write_trial_report(inputs)
    page = (inputs.out_dir / "report.html").read_text("utf-8")
    assert 'class="gauge"' not in page
    assert 'aria-labelledby="forest-title' not in page
    assert "There is no standard error to plan from:" in page
    assert "Fewer than 10 informative clusters." in page
    assert page.count("Fewer than 10 clusters. (") == 1


def test_one_sided_bounds_are_not_called_an_interval(tmp_path: Path) -> None:
    """With alternative `greater` the numbers that decide are one-sided bounds, and the reports call them so."""
    inputs = make_trial(tmp_path)
    document = json.loads(inputs.significance.read_text())
    document["verdict"]["alternative"] = "greater"
    inputs.significance.write_text(json.dumps(document))
    write_trial_report(inputs)
    for name in ("report.md", "report.html"):
        text = (inputs.out_dir / name).read_text("utf-8")
        assert "One-sided 95% bounds" in text and "simultaneous interval" not in text
    assert "| 95% interval | One-sided 95% bounds | p |" in (inputs.out_dir / "report.md").read_text("utf-8")


def test_tables_are_rectangular_and_say_nothing_twice(tmp_path: Path) -> None:
    """Every row of a Markdown table has as many cells as its head, whatever stands in them; one comparison alone has one interval."""
    inputs = make_trial(tmp_path, hostile=True)
    document = json.loads(inputs.significance.read_text())
    for row in document["rows"]:
        row["dataset"] = {"alpha": "a | b", "beta": "`c|"}.get(row["dataset"], row["dataset"])
    inputs.significance.write_text(json.dumps(document))
    write_trial_report(inputs)
    tables = re.findall(r"(?:^\|.*\n)+", (inputs.out_dir / "report.md").read_text("utf-8"), re.MULTILINE)
    assert len(tables) > 5
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1, table
    assert sum("95% interval" in table.splitlines()[0] and table.count("simultaneous") for table in tables) == 0


def test_result_to_quote_keeps_treatment_minus_control(tmp_path: Path) -> None:
    """Where less is better the verdict's numbers are turned; the sentence to quote has the row's own, with levels, p and items."""
    inputs = make_trial(tmp_path)
    document = json.loads(inputs.significance.read_text())
    row, verdict = document["rows"][0], document["verdict"]
    row.update(control_mean=0.5, treatment_mean=0.54, higher_is_better=False, n_items=1234)
    verdict.update(effect=-0.04, low=-0.07, high=-0.01, verdict="worse", n_items=1234, n_clusters=99)
    inputs.significance.write_text(json.dumps(document))
    write_trial_report(inputs)
    quoted = (
        "On “correct”, “brief” reached 54.0% and “plain” 50.0%: treatment − control +4.0 points, 95% interval \\[+1.0, +7.0\\], "
        "two-sided p 0.012, 1,234 items in 99 clusters; verdict: worse."
    )
    assert f"> {quoted}\n" in (inputs.out_dir / "report.md").read_text("utf-8")


def test_curve_columns_stand_only_beside_a_curve(tmp_path: Path) -> None:
    """Without a confidence score there is no AURC column, and the report says what a curve would need."""
    inputs = make_trial(tmp_path)
    document = json.loads(inputs.significance.read_text())
    write_trial_report(inputs)
    assert "<th scope=\"col\" class=\"n\">AURC</th>" in (inputs.out_dir / "report.html").read_text("utf-8")
    document["risk"] = [{**r, "curve": None} for r in document["risk"]]
    inputs.significance.write_text(json.dumps(document))
    write_trial_report(inputs)
    page, text = ((inputs.out_dir / f"report.{kind}").read_text("utf-8") for kind in ("html", "md"))
    assert "AURC" not in page + text
    assert "a curve needs a confidence score with every answer" in page and "it needs a confidence score with every answer" in text


def test_lost_answers_are_told_by_arm(tmp_path: Path) -> None:
    """Beside the verdict stands how many answers each arm lost, since an imbalance moves the effect."""
    inputs = make_trial(tmp_path)
    document = json.loads(inputs.significance.read_text())
    document["answers"]["control"].update(answers=90, failed=5, truncated=0, refused=3)
    document["answers"]["treatment"].update(answers=90, failed=0, truncated=1, refused=0)
    inputs.significance.write_text(json.dumps(document))
    write_trial_report(inputs)
    assert "9 of 180 (8 control, 1 treatment)" in (inputs.out_dir / "report.md").read_text("utf-8")


def test_exploratory_contrast_says_that_it_is(tmp_path: Path) -> None:
    """A contrast outside the primary family gets no primary table."""
    inputs = make_trial(tmp_path)
    document = json.loads(inputs.significance.read_text())
    document["primary"]["role"] = document["verdict"]["role"] = "exploratory"
    document["rows"][0].update(role="exploratory", simultaneous_low=None, simultaneous_high=None)
    inputs.significance.write_text(json.dumps(document))
    write_trial_report(inputs)
    assert "not among the declared primary comparisons" in (inputs.out_dir / "report.md").read_text("utf-8")
    assert "not among the declared primary comparisons" in (inputs.out_dir / "report.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("name", "content"), [("significance", "{"), ("costs", "[]"), ("scores", "item_key,type\n"), ("predictions", "a,b\n")]
)
def test_unreadable_input_is_named(tmp_path: Path, name: str, content: str) -> None:
    """A torn document or a table without its columns is an error that names the file."""
    inputs = make_trial(tmp_path)
    path: Path = getattr(inputs, name)
    path.write_text(content)
    with pytest.raises(ManifestError, match=re.escape(path.name)):
        write_trial_report(inputs)
