"""Projects that many test files begin with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.project import Project, make


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose run is complete. Not to be touched: copy it."""
    project = make(tmp_path_factory.mktemp("finished"))
    project.run()
    return project


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    """A copy of the finished project, to be damaged."""
    return finished.copy(tmp_path / "project")


@pytest.fixture
def empty(tmp_path: Path) -> Project:
    """A project in which nothing was run."""
    return make(tmp_path / "empty")
