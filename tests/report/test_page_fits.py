"""The page at any width, on paper, in the dark: nothing overflows, collides, breaks, is long."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import crowded
from browser import Page

WIDTHS = (360, 480, 768, 1024, 1280, 1600)
LONGEST = 9000


@pytest.fixture
def at_any_width(untouched: Page) -> Iterator[Page]:
    """The made study's report; its width is put back afterwards."""
    yield untouched
    untouched.resize(1600)
    untouched.run("redraw()")
    untouched.wait_drawn()


@pytest.mark.parametrize("width", WIDTHS)
def test_no_text_overflows_or_collides(at_any_width: Page, width: int) -> None:
    page = at_any_width
    page.resize(width)
    page.run("scrollTo(0, 0), redraw()")
    page.wait_drawn()
    assert page.run("document.documentElement.scrollWidth") <= width
    assert page.run(crowded.OVERFLOWS + "('body')") == []
    assert page.run(crowded.COLLISIONS + "('body')") == []
    assert page.run(crowded.CHART_TEXTS) == []


def test_what_is_looked_for_is_found(at_any_width: Page) -> None:
    """Planted: a text that sticks out of its box, two that lie on each other, a broken word."""
    page = at_any_width
    page.run(
        "(() => { const box = document.createElement('div'); box.id = 'planted';"
        ' box.innerHTML = \'<p style="width: 60px; white-space: nowrap">sticks out of its box</p>'
        '<p>one upon</p><p style="margin-top: -1.6em">the other</p>'
        '<p style="width: 30px; overflow-wrap: anywhere">complete</p>\';'
        " document.body.append(box); })()"
    )
    overflows = page.run(crowded.OVERFLOWS + "('#planted')")
    collisions = page.run(crowded.COLLISIONS + "('#planted')")
    broken = page.run(crowded.BROKEN_WORDS + "('#planted')")
    page.run("document.getElementById('planted').remove()")
    assert len(overflows) == 1 and overflows[0].startswith("sticks out of its box")
    assert "the other | one upon" in collisions
    assert broken == ["complete"]
    page.run(
        "Plotly.relayout(document.querySelector('[data-chart=losses]'), {annotations:"
        " [0.4, 0.41].map((x) => ({x, y: 0.5, xref: 'paper', yref: 'paper', text: 'planted text',"
        " showarrow: false})).concat([{x: 1.05, y: 0.9, xref: 'paper', yref: 'paper', text:"
        " 'beyond the edge', showarrow: false}])}).then(() => 1)"
    )
    told = page.run(crowded.CHART_TEXTS)
    assert "losses: planted text | planted text" in told
    assert "losses: beyond the edge is cut off" in told


def test_it_is_not_long(untouched: Page) -> None:
    assert untouched.run("document.documentElement.scrollHeight") <= LONGEST


def test_the_dialogs_break_no_words(at_any_width: Page) -> None:
    page = at_any_width
    page.run("openCell(0)")
    assert page.run(crowded.BROKEN_WORDS + "('#dialog')") == []
    assert page.run(crowded.OVERFLOWS + "('#dialog')") == []
    page.run("openList(complete().map((c) => c.row), 'all')")
    assert page.run(crowded.BROKEN_WORDS + "('#dialog')") == []
    page.resize(360)
    page.run("openCell(0)")
    assert page.run(crowded.OVERFLOWS + "('#dialog')") == []
    assert page.run("document.getElementById('dialog').scrollWidth <= innerWidth")
    page.run("document.getElementById('dialog').close()")


def test_it_fits_on_paper(at_any_width: Page) -> None:
    page = at_any_width
    widest = (
        "Math.max(...[...document.querySelectorAll('.chart[data-chart]')].filter((c) => !c.hidden)"
        ".map((c) => c.querySelector('.main-svg').getBoundingClientRect().width))"
    )
    on_screen = page.run(widest)
    page.run("window.dispatchEvent(new Event('beforeprint'))")
    assert page.run(widest) == 690  # A4 less 12 mm on each side is 703 pixels wide
    page.send("Emulation.setEmulatedMedia", media="print")
    page.resize(703)
    try:
        wide = page.run(
            "[...document.querySelectorAll('main table')].filter((t) =>"
            " !t.closest('#cells-table')).filter((t) => t.getBoundingClientRect().right >"
            " innerWidth).map((t) => t.textContent.slice(0, 80))"
        )
        assert wide == []
        assert page.run(crowded.CHART_TEXTS) == []
        assert page.run(crowded.COLLISIONS + "('#main')") == []
        style = "getComputedStyle(document.querySelector('#data'))"
        assert page.run(f"{style}.page") == "wide"
    finally:
        page.send("Emulation.setEmulatedMedia", media="")
        page.resize(1600)
        page.run("window.dispatchEvent(new Event('afterprint'))")
    assert page.run(widest) == on_screen
    assert page.said() == []


LIGHT = """(() => { const style = getComputedStyle(document.documentElement);
  const light = (name) => { const hex = style.getPropertyValue(name).trim().slice(1);
    const part = (i) => { const v = parseInt(hex.slice(i, i + 2), 16) / 255;
      return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
    return 0.2126 * part(0) + 0.7152 * part(2) + 0.0722 * part(4); };
  return ['--ink', '--soft', '--accent', '--bad', '--good', '--warn'].flatMap((n) =>
    ['--paper', '--shade'].map((b) => { const [x, y] = [light(b), light(n)];
      return (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05); })); })()"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_of_text_is_enough(at_any_width: Page, scheme: str) -> None:
    """WCAG AA: 4.5 to 1, for every colour of text on the two backgrounds."""
    page = at_any_width
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    page.send("Emulation.setEmulatedMedia", media="", features=features)
    try:
        assert min(page.run(LIGHT)) >= 4.5
        page.wait(  # charts follow by themselves
            "getComputedStyle(document.querySelector('[data-chart=losses] .ytick text')).fill"
            " === getComputedStyle(document.body).color"
        )
    finally:
        page.send("Emulation.setEmulatedMedia", media="", features=[])
        page.wait_drawn()
    assert page.said() == []
