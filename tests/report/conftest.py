from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

import made_study
from browser import Page
from dlas import report
from dlas.analyze import Analysis, analyze
from dlas.report.material import Material
from dlas.report.pack import Part
from dlas.report.payload import of_material
from dlas.tables import intake


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a made study of about 190 cells."""
    return made_study.whole(tmp_path_factory.mktemp("report") / "made")


@pytest.fixture(scope="session")
def written(made: Path) -> tuple[Path, Part]:
    """The made study's report, and the payload that it was written from."""
    seen: list[Part] = []

    def kept(material: Material) -> Part:
        seen.append(of_material(material))
        return copy.deepcopy(seen[0])

    with patch("dlas.report.payload.of_material", kept):
        page = report.write([made], made / "report.html")
    return page, seen[0]


@pytest.fixture(scope="session")
def made_page(written: tuple[Path, Part]) -> Path:
    return written[0]


@pytest.fixture(scope="session")
def found(made: Path) -> Analysis:
    """What the analysis says of the made study."""
    return analyze(intake.of_folders([made], intake.Asked("quiet_ms")))


@pytest.fixture(scope="session")
def browser() -> Iterator[Page]:
    with Page() as page:
        yield page


@pytest.fixture
def fresh(browser: Page) -> Page:
    """The browser at its usual width, with nothing said yet: for a test's own page."""
    browser.untouched = None
    browser.events.clear()
    browser.resize(1600)
    return browser


@pytest.fixture
def page(fresh: Page, made_page: Path) -> Page:
    """The made study's report, freshly opened."""
    fresh.open(made_page)
    return fresh


@pytest.fixture
def untouched(browser: Page, made_page: Path, request: pytest.FixtureRequest) -> Page:
    """The same for a test that reads only: opened anew where the last test was another one."""
    if browser.untouched != made_page:
        request.getfixturevalue("page")
        browser.untouched = made_page
    return browser
