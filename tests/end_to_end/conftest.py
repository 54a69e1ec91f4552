"""Real studies on real (small) data, run by the command line in a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from place import Place, place


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """One place for all tests of a module: artefacts are shared."""
    return place(tmp_path_factory.mktemp("study"))


@pytest.fixture
def fresh(tmp_path: Path) -> Place:
    """A place for one test alone."""
    return place(tmp_path)
