"""per_item_scores.csv is read into pairs; nothing is dropped in silence, and what is wrong is named with its line."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.base.errors import ManifestError
from pipeline.statistics.table import Unpaired, read_scores
from tests.score_tables import paired_rows, score_row, table_of, write_scores


def test_pairs_rows_by_item_type_and_temperature_whatever_their_order(tmp_path):
    rows = [
        score_row(f"d|{i}", c, i / 10 + (c == "treatment"), temp=t)
        for t in ("0", "0.7")
        for c in ("treatment", "control")
        for i in (2, 0, 1)
    ]
    rows[3], rows[5] = rows[5], rows[3]
    table = table_of(tmp_path, rows)
    assert len(table) == 6
    assert table.temps == (0.0, 0.7)
    np.testing.assert_allclose(table.metrics["correct"].treatment - table.metrics["correct"].control, 1)
    assert {(k, t) for k, t in zip(table.item_key, table.temp, strict=True)} == {(f"d|{i}", t) for i in range(3) for t in (0, 1)}


def test_items_that_one_arm_lacks_are_reported_not_compared(tmp_path):
    rows = [
        score_row("d|a", "control", 1),
        score_row("d|b", "control", 0),
        score_row("d|b", "treatment", 1),
        score_row("d|c", "treatment", 1),
    ]
    table = table_of(tmp_path, rows)
    assert table.item_key == ["d|b"]
    assert table.unpaired == [Unpaired("control", "d|a", "closed", 0.0), Unpaired("treatment", "d|c", "closed", 0.0)]


def test_the_same_item_in_both_types_is_two_pairs(tmp_path):
    rows = [score_row("d|a", c, 1, type=t) for c in ("control", "treatment") for t in ("open", "closed")]
    table = table_of(tmp_path, rows)
    assert sorted(table.type) == ["closed", "open"]
    assert len(set(table.cluster)) == 1


def test_every_column_with_a_spread_beside_it_is_a_metric_and_empty_cells_are_undefined(tmp_path):
    rows = [score_row("d|a", c, 1, own=v, own_std="") for c, v in (("control", ""), ("treatment", "2.5"))]
    table = table_of(tmp_path, rows)
    assert "own" in table.metrics and "confidence" not in table.metrics and "n" not in table.metrics
    assert np.isnan(table.metrics["own"].control[0])
    assert table.metrics["own"].treatment[0] == 2.5


def test_counts_are_kept_per_arm(tmp_path):
    rows = [score_row("d|a", "control", 0.5, n=4, failed=1, truncated=2), score_row("d|a", "treatment", 0.5, n=4, refused=3)]
    table = table_of(tmp_path, rows)
    assert table.k.tolist() == [[4], [4]]
    assert (table.failed.tolist(), table.truncated.tolist(), table.refused.tolist()) == ([[1], [0]], [[2], [0]], [[0], [3]])


def test_equal_cluster_names_in_two_data_sets_stay_two_clusters_and_an_item_without_one_is_its_own(tmp_path):
    rows = [
        score_row(k, c, 1, cluster=cl)
        for c in ("control", "treatment")
        for k, cl in (("x|1", "p"), ("x|2", "p"), ("y|1", "p"), ("x|3", ""), ("x|4", ""))
    ]
    table = table_of(tmp_path, rows)
    names = [table.clusters[i] for i in table.cluster]
    assert names == ["x|p", "x|p", "y|p", "x|3", "x|4"]


def test_a_file_without_data_set_and_cluster_columns_still_reads(tmp_path):
    rows = [
        {k: v for k, v in score_row(f"d|{i}", c, 1).items() if k not in ("dataset", "cluster")}
        for c in ("control", "treatment")
        for i in range(3)
    ]
    table = table_of(tmp_path, rows)
    assert table.datasets == ("d",)
    assert len(set(table.cluster)) == 3


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda rows: rows[2].update(correct="much"), ["scores.csv:4 (correct)", "'much'"]),
        (lambda rows: rows[2].update(correct="inf"), ["scores.csv:4 (correct)", "finite"]),
        (lambda rows: rows.append(dict(rows[0])), ["scores.csv:6", "'a|0'", "twice"]),
        (lambda rows: rows[1].update(condition="placebo"), ["'placebo'", "neither control nor treatment"]),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path, spoil, words):
    rows = paired_rows([0, 1], [1, 1])
    spoil(rows)
    with pytest.raises(ManifestError) as e:
        table_of(tmp_path, rows)
    assert all(w in str(e.value) for w in words), str(e.value)


def test_a_torn_line_and_a_missing_column_are_named(tmp_path):
    path = write_scores(tmp_path / "scores.csv", paired_rows([0, 1], [1, 1]))
    path.write_text(path.read_text()[:-20], "utf-8")
    with pytest.raises(ManifestError, match=r"scores\.csv:5: \d+ cells"):
        read_scores(path)
    path.write_text("item_key,type\n", "utf-8")
    with pytest.raises(ManifestError, match="no column 'condition'"):
        read_scores(path)


def test_a_file_that_is_no_text_is_named(tmp_path):
    (tmp_path / "scores.csv").write_bytes(b"item_key,\xff\x00\n")
    with pytest.raises(ManifestError, match=r"scores\.csv: not readable as CSV"):
        read_scores(tmp_path / "scores.csv")


def test_an_empty_score_file_is_an_empty_table(tmp_path):
    table = table_of(tmp_path, [])
    assert len(table) == 0 and table.unpaired == []
