"""The user's own files: canonical JSONL, JSONL and CSV of any shape; what is refused, where, and with what advice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base.errors import ConfigError
from pipeline.base.rows import Item, encode
from pipeline.sources import locate, read
from pipeline.sources.cache import cache_names, cached
from pipeline.sources.sample import draw, sample

SAMPLE = Path(__file__).parents[1] / "config" / "sample"


def write(folder: Path, name: str, *lines: dict[str, Any] | str | bytes) -> Path:
    coded = [line if isinstance(line, bytes) else (line if isinstance(line, str) else json.dumps(line)).encode() for line in lines]
    path = folder / name
    path.write_bytes(b"".join(line + b"\n" for line in coded))
    return path


def rows(path: Path, type: str = "closed", **source: Any) -> list[tuple[Item, str]]:
    kind = "csv" if path.suffix in (".csv", ".tsv") else "jsonl"
    return list(read({"kind": kind, "path": path.name, **source}, path.parent, type))  # type: ignore[arg-type]


def items(path: Path, type: str = "closed", **source: Any) -> list[Item]:
    return [item for item, _place in rows(path, type, **source)]


def row(**more: Any) -> dict[str, Any]:
    return {"dataset": "d", "id": "1", "question": "q?", "answers": ["a"], **more}


# --- canonical JSONL ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "type"), [("open_book", "open"), ("closed_book", "closed")])
def test_the_bundled_sample_reads_as_itself(name: str, type: str) -> None:
    """What is read, encoded again, is the file."""
    path = SAMPLE / f"{name}.jsonl"
    assert b"".join(encode(item) + b"\n" for item in items(path, type)) == path.read_bytes()


def test_messages_meta_and_cluster_are_kept(tmp_path: Path) -> None:
    """All fields of an item come through; its place is file:line, blank lines counted."""
    messages = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]
    path = write(tmp_path, "x.jsonl", "", row(messages=messages, meta={"level": 3}, cluster="c"))
    ((item, place),) = rows(path)
    assert (item.messages, item.meta, item.cluster) == (messages, {"level": 3}, "c")
    assert place == "x.jsonl:2"


def test_a_key_of_an_item_may_also_stand_in_its_meta(tmp_path: Path) -> None:
    """That is no key that stands twice."""
    given = row(question='What is "id", é?', meta={"id": "x", "question": ["id"]})
    assert items(write(tmp_path, "x.jsonl", given)) == [Item(**given)]


def test_the_source_names_the_dataset_of_rows_that_do_not(tmp_path: Path) -> None:
    """`dataset` may be left out of the rows; a row that names one keeps it."""
    unnamed = row(id="2")
    del unnamed["dataset"]
    path = write(tmp_path, "x.jsonl", row(), unnamed)
    assert [item.dataset for item in items(path, dataset="mine")] == ["d", "mine"]
    assert [item.dataset for item in items(path)] == ["d", "jsonl"]


OPEN = {"context": "A passage."}
REFUSED: list[tuple[str, str, list[Any], str]] = [
    ("closed", "duplicate id", [row(), row(id="2"), row()], r"x.jsonl:3: the id '1' of dataset 'd' stands twice, first at x.jsonl:1"),
    ("closed", "double key", [row(), '{"id": "2", "question": "q?", "id": "3", "answers": []}'], "x.jsonl:2: key 'id' stands twice"),
    ("closed", "escaped key", ['{"id": "2", "question": "q?", "i\\u0064": "3", "answers": []}'], "x.jsonl:1: key 'id' stands twice"),
    ("closed", "empty question", [row(question="")], r"x.jsonl:1: .*question"),
    ("closed", "blank question", [row(question=" \t")], r"x.jsonl:1: item '1': the question is empty"),
    ("closed", "blank id", [row(id=" ")], "x.jsonl:1: .*the id is blank"),
    ("closed", "control character in the id", [row(id="a\nb")], "x.jsonl:1: .*control characters"),
    ("closed", "bar in the dataset", [row(dataset="a|b")], "x.jsonl:1: .*cannot be used"),
    ("closed", "torn line", [row(), '{"dataset": "d", "id'], r"x.jsonl:2: not a valid line: JSON is malformed"),
    ("closed", "not an object", ["[1]"], "x.jsonl:1: not a valid line: Expected `object`"),
    ("closed", "wrong type", [row(answers="a")], r"x.jsonl:1: .*Expected `array`, got `str` - at `\$.answers`"),
    ("closed", "unknown key", [row(answer="a")], r"x.jsonl:1: .*unknown field `answer`.*declare `columns`"),
    ("closed", "missing key", [{"id": "1", "question": "q"}], "x.jsonl:1: .*missing required field `answers`"),
    ("closed", "not UTF-8", [row(), b'{"id": "\xff"}'], r"x.jsonl:2: not UTF-8: byte 9 of the line is 0xff.*Save the file as UTF-8"),
    ("closed", "UTF-16", ["{}".encode("utf-16")], r"x.jsonl:1: not UTF-8: byte 1 of the line is 0xff"),
    ("closed", "nested without end", ["[" * 100000], "x.jsonl:1: "),
    ("closed", "answerable without answers", [row(answers=[])], "x.jsonl:1: .*has no answers.*is_unanswerable: true"),
    ("closed", "unanswerable with answers", [row(is_unanswerable=True)], "x.jsonl:1: .*unanswerable but has answers"),
    ("closed", "empty answer", [row(answers=["a", " "])], "x.jsonl:1: .*answers is empty"),
    ("closed", "blank cluster", [row(cluster="")], "x.jsonl:1: .*cluster is blank"),
    ("closed", "closed with context", [row(**OPEN)], "x.jsonl:1: .*sources.open_book"),
    ("open", "open without context", [row()], "x.jsonl:1: .*needs a context.*sources.closed_book"),
    ("open", "open with blank context", [row(context=" ")], "x.jsonl:1: .*needs a context"),
    ("closed", "no messages", [row(messages=[])], "x.jsonl:1: .*empty list"),
    ("closed", "system among messages", [row(messages=[{"role": "system", "content": "x"}])], "x.jsonl:1: .*role is 'system'"),
    ("closed", "message without content", [row(messages=[{"role": "user"}])], r"x.jsonl:1: .*messages\[0\] has no content"),
]


@pytest.mark.parametrize(("type", "name", "lines", "said"), REFUSED, ids=[case[1] for case in REFUSED])
def test_what_is_refused(tmp_path: Path, type: str, name: str, lines: list[Any], said: str) -> None:
    """Each fault is a ConfigError (exit 2) with file:line, reason and remedy."""
    with pytest.raises(ConfigError, match=said) as e:
        items(write(tmp_path, "x.jsonl", *lines), type)
    assert e.value.remedy
    assert e.value.exit_code == 2


def test_an_unanswerable_item_without_answers_is_accepted(tmp_path: Path) -> None:
    """The other side of the refusals above, closed and open."""
    assert items(write(tmp_path, "x.jsonl", row(answers=[], is_unanswerable=True)))[0].is_unanswerable
    assert items(write(tmp_path, "x.jsonl", row(answers=[], is_unanswerable=True, **OPEN)), "open")[0].is_unanswerable


@pytest.mark.parametrize("name", ["x.jsonl", "x.csv"])
def test_a_byte_order_mark_is_no_fault(tmp_path: Path, name: str) -> None:
    """Files saved by editors that write one read the same."""
    lines = [row()] if name == "x.jsonl" else ["id,question,answers", "1,q?,a"]
    path = write(tmp_path, name, *lines)
    plain = items(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert items(path) == plain


# --- any columns -------------------------------------------------------------------------------------------------------

COLUMNS = {"id": "nr", "question": "text", "answers": "label", "cluster": "author"}


def test_csv_columns_are_mapped_and_the_others_go_to_meta(tmp_path: Path) -> None:
    """Quoted cells may hold commas and line breaks; the place of a record is its first line."""
    path = write(tmp_path, "x.csv", "nr,text,label,author,year", '7,"Good, or',
                 'bad?",good|fine,Ann,1999', "8,Again?,bad,Bob,")  # fmt: skip
    (first, place), (second, later) = rows(path, columns=COLUMNS, answer_separator="|", dataset="reviews")
    question, answers = "Good, or\nbad?", ["good", "fine"]
    assert first == Item(dataset="reviews", id="7", question=question, answers=answers, meta={"year": "1999"}, cluster="Ann")
    assert (second.answers, second.meta, place, later) == (["bad"], {"year": ""}, "x.csv:2", "x.csv:4")


def test_without_a_separator_the_cell_is_one_answer(tmp_path: Path) -> None:
    """Nothing is split by guess."""
    assert items(write(tmp_path, "x.csv", "question,answers", "q?,a|b; c"))[0].answers == ["a|b; c"]


def test_delimiters(tmp_path: Path) -> None:
    """A declared delimiter, and the tab for *.tsv."""
    assert items(write(tmp_path, "x.csv", "question;answers", "q?;a"), delimiter=";")[0].answers == ["a"]
    assert items(write(tmp_path, "x.tsv", "question\tanswers", "q?\ta"))[0].answers == ["a"]


def test_open_book_csv_with_unanswerable_rows(tmp_path: Path) -> None:
    """`is_unanswerable` takes true/false, yes/no, 1/0."""
    path = write(tmp_path, "x.csv", "question,answers,context,is_unanswerable", "q?,a,P.,no", "r?,,P.,TRUE")
    assert [item.is_unanswerable for item in items(path, "open")] == [False, True]


def test_rows_without_ids_get_ids_of_their_content(tmp_path: Path) -> None:
    """The same rows in another order have the same ids; the same row twice is a repeated id."""
    a = items(write(tmp_path, "x.csv", "question,answers", "q?,a", "r?,b"))
    b = items(write(tmp_path, "y.csv", "question,answers", "r?,b", "q?,a"))
    assert {i.question: i.id for i in a} == {i.question: i.id for i in b}
    with pytest.raises(ConfigError, match=r"x.csv:3: .*stands twice, first at x.csv:2"):
        items(write(tmp_path, "x.csv", "question,answers", "q?,a", "q?,a"))


def test_jsonl_of_any_shape(tmp_path: Path) -> None:
    """With `columns` a line is an object of any shape; meta keeps JSON types; numbers may be ids and answers."""
    path = write(tmp_path, "x.jsonl", {"nr": 7, "text": "2+3?", "label": [5, "five"], "tags": ["x"]})
    (item,) = items(path, columns={"id": "nr", "question": "text", "answers": "label"})
    assert item == Item(dataset="jsonl", id="7", question="2+3?", answers=["5", "five"], meta={"tags": ["x"]})


TABLES: list[tuple[str, list[Any], dict[str, Any], str]] = [
    ("missing question column", ["text,answers", "q?,a"], {}, r"x.csv:1: there is no column 'question' .*: text, answers.*question: NAME"),
    ("missing declared column", ["question,answers", "q?,a"], {"columns": {"id": "nr"}}, r"x.csv:1: there is no column 'nr' \(for id\)"),
    ("unknown field", ["question,answers", "q?,a"], {"columns": {"topic": "t"}}, "columns.topic is no field of an item"),
    ("too few cells", ["question,answers", "q?,a", "r?"], {}, "x.csv:3: 1 cells, but the header names 2 columns"),
    ("too many cells", ["question,answers", "q?,a,b"], {}, "x.csv:2: 3 cells"),
    ("stray quote", ["question,answers", '"q" x,a'], {}, "x.csv:2: not CSV"),
    ("open quote", ["question,answers", "q?,a", '"r?,b'], {}, "x.csv:3: not CSV"),
    ("column twice", ["question,answers,answers", "q?,a,b"], {}, "x.csv:1: the column name 'answers' stands twice"),
    ("column without a name", ["question,,answers", "q?,a,b"], {}, "x.csv:1: a column has no name"),
    ("empty file", [], {}, "x.csv: the file is empty"),
    ("empty question", ["question,answers", " ,a"], {}, "x.csv:2: the question is empty"),
    ("no answer", ["question,answers", "q?,"], {}, "x.csv:2: .*has no answers"),
    ("not UTF-8", ["question,answers", b"q\xe9?,a"], {}, "x.csv:2: not UTF-8: byte 2 of the line is 0xe9"),
    ("bad truth", ["question,answers,is_unanswerable", "q?,a,perhaps"], {}, "x.csv:2: is_unanswerable is 'perhaps'"),
    ("long delimiter", ["question,answers", "q?,a"], {"delimiter": "::"}, "delimiter '::' is not one character"),
    ("messages in a cell", ["question,answers,messages", "q?,a,hello"], {}, "x.csv:2: messages is not a list"),
]


@pytest.mark.parametrize(("name", "lines", "source", "said"), TABLES, ids=[case[0] for case in TABLES])
def test_tables_that_are_refused(tmp_path: Path, name: str, lines: list[Any], source: dict[str, Any], said: str) -> None:
    """Each fault of a table is a ConfigError with file:line, reason and remedy."""
    with pytest.raises(ConfigError, match=said) as e:
        items(write(tmp_path, "x.csv", *lines), **source)
    assert e.value.remedy


def test_long_cells_are_read(tmp_path: Path) -> None:
    """A passage longer than the csv module's own limit of 128 KiB."""
    (item,) = items(write(tmp_path, "x.csv", "question,answers,context", f"q?,a,{'word ' * 40000}"), "open")
    assert item.context is not None
    assert len(item.context) > 131072


# --- files and samples -------------------------------------------------------------------------------------------------


def test_missing_files_say_what_to_do(tmp_path: Path) -> None:
    """A missing path, a URL not fetched yet, an unknown kind."""
    with pytest.raises(ConfigError, match=r"nowhere.jsonl: there is no such file"):
        items(tmp_path / "nowhere.jsonl")
    with pytest.raises(ConfigError, match=r"https://example.org/x.jsonl is not fetched yet.*scripts.fetch_data"):
        next(read({"kind": "jsonl", "url": "https://example.org/x.jsonl"}, tmp_path, "closed"))
    with pytest.raises(ConfigError, match="Use one of squad_v2"):
        next(read({"kind": "parquet", "path": "x"}, tmp_path, "closed"))


def test_a_fetched_url_is_found_by_sha256_or_by_name(tmp_path: Path) -> None:
    """With a sha256 the file of that name, else the one with the URL's own; without one a name that holds a digest of the URL."""
    raw, url, sha = tmp_path / "data" / "raw", "https://example.org/a/dev%20set.json?x=1", "0" * 64
    raw.mkdir(parents=True)
    assert cache_names(url, sha) == (sha, "dev set.json")
    source = {"kind": "jsonl", "url": url, "sha256": sha}
    assert locate(source, tmp_path) == raw / sha
    (raw / "dev set.json").touch()
    assert locate(source, tmp_path) == raw / "dev set.json"
    (raw / sha).touch()
    assert locate(source, tmp_path) == raw / sha
    assert cached(url, None, raw).name.endswith("-dev set.json")
    assert cached(url, None, raw) != cached(url.replace("/a/", "/b/"), None, raw)


def test_max_items_draws_a_nested_sample(tmp_path: Path) -> None:
    """A larger sample holds the smaller one, in file order, and it is not simply the head of the file."""
    path = write(tmp_path, "x.jsonl", *[row(id=str(n), question=f"q{n}?") for n in range(200)])
    whole = items(path)
    small, large = items(path, max_items=20), items(path, max_items=50)
    assert len(small) == 20
    assert len(large) == 50
    assert [i for i in whole if i in large] == large
    assert [i for i in large if i in small] == small
    assert small != whole[:20]
    assert items(path, max_items=1000) == whole


def test_faults_outside_the_sample_are_refused_too(tmp_path: Path) -> None:
    """The whole file is checked, not only the rows that are drawn."""
    path = write(tmp_path, "x.jsonl", *[row(id=str(n)) for n in range(20)], row(id="20", answers=[]))
    with pytest.raises(ConfigError, match=r"x.jsonl:21"):
        items(path, max_items=1)


@given(st.integers(0, 30), st.integers(1, 30), st.integers(0, 5))
def test_every_item_is_equally_likely_to_be_drawn_whatever_the_order(total: int, size: int, turn: int) -> None:
    """The sample is a set that depends on the ids alone, not on their order in the file."""
    made = [(Item(dataset="d", id=str(n), question="q", answers=["a"]), str(n)) for n in range(total)]
    turned = made[turn:] + made[:turn]
    assert {p for _i, p in sample(made, size)} == {p for _i, p in sample(turned, size)}
    assert len(list(sample(made, size))) == min(total, size)


def test_seeds_draw_differently_and_evenly() -> None:
    """Over many seeds each of 20 items is drawn about as often as the others: 5 of 20, so 250 of 1,000 times, give or take 5 sigma."""
    made = [Item(dataset="d", id=str(n), question="q", answers=["a"]) for n in range(20)]
    counts = dict.fromkeys((item.id for item in made), 0)
    for seed in range(1000):
        drawn = draw(made, 5, seed)
        assert drawn == [item for item in made if item in drawn]  # in the order given
        for item in drawn:
            counts[item.id] += 1
    assert all(abs(count - 250) < 5 * (1000 * 0.25 * 0.75) ** 0.5 for count in counts.values())
