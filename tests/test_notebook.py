"""The example notebook runs on a real (dry) run, and shows what it promises."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.own_project import ROOT, make_project, sh

NOTEBOOK = ROOT / "examples/explore_run.ipynb"
COMMANDS = re.findall(r"```sh\n(.*?)```", (ROOT / "docs/experiments.md").read_text("utf-8"), re.S)[0].strip().splitlines()


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell, in a kernel of its own, in the project's examples folder; the tables are there and the effect agrees by hand."""
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient (extra `test`)")
    pytest.importorskip("ipykernel", reason="needs ipykernel (extra `test`)")
    pytest.importorskip("polars", reason="needs polars (extra `frames`)")
    nbformat = pytest.importorskip("nbformat")
    project = make_project(tmp_path / "project")
    sh(project, COMMANDS[0])
    sh(project, COMMANDS[2])
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "the notebook is kept without outputs"
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("ABIDING_RUN", raising=False)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    for folder in ("JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(folder, str(tmp_path / folder.lower()))
    client = nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(project / "examples")}})
    client.execute()
    shown = "\n".join(
        str(output.get("text") or output.get("data", {}).get("text/plain")) for c in notebook.cells for output in c.get("outputs", [])
    )
    assert "Traceback" not in shown
    for expected in ("<run reviews-", " on label", "│ control ┆ 240", "meta_genre", "interaction_p", "of 240 items"):
        assert expected in shown, (expected, shown)
    told = re.search(r"by hand (-?[\d.]+), in the report (-?[\d.]+)", shown)
    assert told is not None and told[1] == told[2]
