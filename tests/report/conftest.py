from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import made_study
from browser import Page
from dlas import report


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a made study of about 190 cells."""
    return made_study.whole(tmp_path_factory.mktemp("report") / "made")


@pytest.fixture(scope="session")
def made_page(made: Path) -> Path:
    return report.write([made], made / "report.html")


@pytest.fixture(scope="session")
def browser() -> Iterator[Page]:
    with Page() as page:
        yield page
