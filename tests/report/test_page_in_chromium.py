"""The page in a real browser: it draws, filters, explains itself, asks nobody and fits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import made_study
from browser import Page
from dlas import report
from dlas.analyze import Analysis, analyze
from dlas.cli import show
from dlas.cli.display import text_of
from dlas.tables import intake

PRINTS = """Object.fromEntries([...document.querySelectorAll('[data-chart]')].map((c) =>
  [c.dataset.chart, c.hidden ? 'hidden' : JSON.stringify([
  (c.data || []).map((t) => [t.x, t.y, t.z]),
  (c.layout.annotations || []).map((a) => a.text)])]))"""
"""What each chart shows, as text."""
CHARTS = {
    "picture", "shares", "losses", "interaction", "flips", "winners", "latency-accuracy",
    "speedups", "expected", "break-even", "memory", "cold-start", "coverage", "controls", "drift",
    "roofline", "returns", "correlations", "waterfall",
}  # fmt: skip


@pytest.fixture(scope="module")
def found(made: Path) -> Analysis:
    return analyze(intake.of_folders([made], intake.Asked("quiet_ms")))


@pytest.fixture
def page(browser: Page, made_page: Path) -> Page:
    """The made study's report, freshly opened."""
    browser.untouched = None
    browser.events.clear()
    browser.resize(1600)
    browser.open(made_page)
    return browser


@pytest.fixture
def untouched(browser: Page, made_page: Path, request: pytest.FixtureRequest) -> Page:
    """The same for a test that reads only: opened anew where the last test was another one."""
    if browser.untouched != made_page:
        request.getfixturevalue("page")
        browser.untouched = made_page
    return browser


def choose(page: Page, name: str, value: str) -> None:
    page.run(
        f"(() => {{ const s = document.querySelector('select[name=\"{name}\"]');"
        f" s.value = {json.dumps(value)}; s.dispatchEvent(new Event('change')); }})()"
    )


def outside(requests: list[str]) -> list[str]:
    return [url for url in requests if not url.startswith(("file:", "data:", "blob:"))]


@pytest.mark.parametrize("width", [360, 1600])
def test_it_draws_fits_is_silent_and_asks_nobody(browser, made_page, width):
    browser.untouched = None
    browser.events.clear()
    browser.resize(width)
    browser.open(made_page)
    drawn = browser.run(
        "[...document.querySelectorAll('[data-chart]')].filter((c) => !c.hidden &&"
        " c.querySelector('.main-svg') && Number(c.dataset.points) > 0 &&"
        " c.getBoundingClientRect().right <= innerWidth &&"
        " c.querySelector('.main-svg').getBoundingClientRect().width <= c.clientWidth + 1)"
        ".map((c) => c.dataset.chart)"
    )
    assert set(drawn) == CHARTS
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.said() == []
    assert outside(browser.requests()) == []


def test_filters_act_on_every_chart_and_table(page):
    before = page.run(PRINTS)
    assert set(before) == CHARTS
    rows = page.run("document.querySelectorAll('#cells tbody tr').length")
    choose(page, "model", "vit-tiny")
    after = page.run(PRINTS)
    assert [name for name in CHARTS if after[name] == before[name]] == []
    assert page.run("complete().every((c) => c.model === 'vit-tiny')")
    assert page.run("document.querySelectorAll('#cells tbody tr').length") < rows
    page.run("document.getElementById('filters').reset()")
    page.wait("document.getElementById('filter-state').textContent === 'none'")
    assert page.run(PRINTS) == before
    assert page.said() == []


def test_every_filter_can_leave_nothing_and_says_so(page):
    choose(page, "software", "torch-compile")
    choose(page, "optimization", "int8")  # no complete cell is both
    hidden = page.run(
        "[...document.querySelectorAll('[data-chart]')].filter(c => c.hidden).length"
    )
    assert hidden >= 10
    assert "None yet" in page.run("document.getElementById('answer').textContent")
    assert page.said() == []


WIDEST = (
    "Math.max(...[...document.querySelectorAll('[data-chart]')].filter((c) => !c.hidden)"
    ".map((c) => c.querySelector('.main-svg').getBoundingClientRect().width))"
)


def test_it_fits_on_paper(page):
    on_screen = page.run(WIDEST)
    page.run("window.dispatchEvent(new Event('beforeprint'))")
    assert page.run(WIDEST) == 690  # A4 less 12 mm on each side is 703 pixels wide
    page.send("Emulation.setEmulatedMedia", media="print")
    page.resize(703)
    wide = page.run(
        "[...document.querySelectorAll('main table')].filter((t) => !t.closest('#cells-table'))"
        ".filter((t) => t.getBoundingClientRect().right > innerWidth).map((t) => t.textContent)"
    )
    assert wide == []
    assert page.run("getComputedStyle(document.querySelector('#cells-table')).page") == "wide"
    page.send("Emulation.setEmulatedMedia", media="")
    page.resize(1600)
    page.run("window.dispatchEvent(new Event('afterprint'))")
    assert page.run(WIDEST) == on_screen
    assert page.said() == []


def test_the_script_finds_the_same_returns_and_correlations(untouched, found):
    told = untouched.run(
        "EST.ordered.flatMap((o) => stepsOf(o)).map((s) => ({...s, pairs: s.pairs.length}))"
    )
    steps = {(s["factor"], s["kind"], s["from"], c): s for s in told for c in s["costs"]}
    assert len(steps) == len(found.returns) > 0
    for r in found.returns.to_dict("records"):
        mine = steps[r["factor"], r["technique"], float(r["from"]), r["cost"]]
        assert mine["pairs"] == r["contexts"]
        assert close([mine["ratio"], mine["low"], mine["high"]], [r["gain"], r["low"], r["high"]])
        cost = mine["costs"][r["cost"]]
        assert close(cost["change"], r["cost_change"])
        assert cost["pays"] == r["pays"]
    whole = found.correlations[found.correlations["by"] == ""]
    assert len(whole) > 5
    for r in whole.to_dict("records"):
        mine = untouched.run(f"spearman(analysed(), {json.dumps(r['x'])}, {json.dumps(r['y'])})")
        assert mine["cells"] == r["cells"]
        assert close(mine["spearman"], r["spearman"])


def test_the_price_stands_on_the_first_screen_with_its_table(untouched, found):
    cards = untouched.run(
        "[...document.querySelectorAll('#answer .card')].map((c) => c.textContent)"
    )
    (told,) = [c for c in cards if c.startswith("What tuning layer by layer costs")]
    top = found.price["ratio"].max()
    assert f"{untouched.run(f'num({top})')} times the best" in told
    for model in made_study.MODELS:
        assert f"{model}: " in told
    rows = untouched.run("document.querySelectorAll('#answer [data-part=price] tbody tr').length")
    assert rows == found.price_starts["ratio"].notna().sum() > 0


def test_the_waterfall_multiplies_to_what_was_measured(untouched, found):
    stacks = found.waterfall_stacks
    for level, rows in found.waterfalls.groupby("level"):
        told = untouched.run(
            f"fallOf(TABLES.waterfall_stacks.filter((s) => s.level === {json.dumps(level)}))"
        )
        assert close([t["after"] for t in told], rows["after"].tolist())
        assert close(told[-1]["factor"], rows["factor"].iloc[-1])
        assert told[-1]["known"] == (stacks["level"] == level).sum()


def test_the_roofline_draws_what_was_read(untouched, found):
    drawn = untouched.run(
        "document.querySelector('[data-chart=roofline]').data"
        ".map((t) => [t.name, t.mode, t.x, t.y])"
    )
    tops = {round(max(y), 3) for _, mode, _, y in drawn if mode == "lines"}
    assert tops == {round(90 * 1.02, 3), round(180 * 1.02, 3)}  # the larger of both readings
    marks = sum(len(x) for _, mode, x, _ in drawn if mode == "markers")
    assert marks == len(found.roofline) == found.table.complete.sum()
    text = untouched.run("document.querySelector('[data-part=ceilings]').textContent")
    assert "not measured: the network of one operator: not made" in text


def close(one: Any, two: Any) -> bool:
    return one == pytest.approx(two, rel=1e-4, abs=1e-6)


def test_the_script_computes_what_python_does(untouched, found):
    told = untouched.run(
        "({shares: Stats.shares(analysed()), left: Stats.leftOut(analysed()),"
        " losses: Stats.losses(analysed()), best: Stats.best(cells())})"
    )
    layers = found.shares[found.shares["kind"] == "layer"].set_index("term")["share"].to_dict()
    assert close(told["shares"], layers)
    left = found.left_out[found.left_out["layer"] != ""]
    assert [(r["layer"], r["level"], r["changed"]) for r in told["left"]] == [
        (r.layer, r.level, r.changed) for r in left.itertuples()
    ]
    for mine, theirs in zip(told["losses"], found.losses.to_dict("records"), strict=True):
        assert mine["layer"] == theirs["layer"]
        for name in ("second_median", "second_q90", "baseline_median", "worst_median", "ties"):
            assert close(mine[name], theirs[name])
    ids = untouched.run("CELLS.map((c) => c.cell)")
    assert ids[told["best"]["row"]] == found.best.cell
    near = found.best.runners_up
    assert [ids[r["row"]] for r in told["best"]["runners_up"]] == near["cell"].tolist()


def test_the_script_finds_the_interactions_that_python_finds(untouched, found):
    told = untouched.run("Stats.interactions(analysed())")
    theirs = found.interactions.to_dict("records")
    assert len(told) == len(theirs)
    key = ("layer", "a", "b", "by", "m", "n")
    mine = {tuple(t[k] for k in key): t for t in told}
    for t in theirs:
        one = mine[tuple(t[k] for k in key)]
        for name in ("ratio", "low", "high", "at_m", "at_n"):
            assert close(one[name], t[name])
        assert one["q"] == pytest.approx(t["q"], rel=1e-3, abs=1e-9)


def test_the_script_draws_the_winner_maps_of_python(untouched, found):
    maps = found.winner_maps
    for (layer, one, two), rows in maps.groupby(["layer", "row_layer", "column_layer"]):
        told = untouched.run(f"Stats.winnerMap(analysed(), '{layer}', '{one}', '{two}')")
        mine = {(t["rowLevel"], t["columnLevel"]): t for t in told}
        assert len(mine) == len(rows)
        for r in rows.itertuples():
            t = mine[r.row, r.column]
            assert (t["best"], set(t["tied"])) == (r.best, set(r.tied))
            assert close(t["over_second"], r.over_second)


def test_numbers_are_written_as_dlas_show_writes_them(untouched):
    values = [0.0001234567, 0.00001234567, 1.0, 12345.678, 999.96, 9999.96, -0.5, 1e-7, 3, 0.1]
    assert untouched.run(f"{json.dumps(values)}.map(exact)") == [text_of(v) for v in values]


def test_contrast_of_text_is_enough(untouched):
    """WCAG AA: 4.5 to 1, for every colour of text on the two backgrounds."""
    ratios = untouched.run(
        """(() => { const style = getComputedStyle(document.documentElement);
        const light = (name) => { const hex = style.getPropertyValue(name).trim().slice(1);
          const part = (i) => { const v = parseInt(hex.slice(i, i + 2), 16) / 255;
            return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
          return 0.2126 * part(0) + 0.7152 * part(2) + 0.0722 * part(4); };
        return ['--ink', '--soft', '--accent', '--bad', '--good', '--warn'].flatMap((n) =>
          ['--paper', '--shade'].map((b) => (light(b) + 0.05) / (light(n) + 0.05))); })()"""
    )
    assert min(ratios) >= 4.5


def test_two_clicks_from_a_finding_to_a_cell_with_the_numbers_of_dlas_show(page, made):
    page.run("document.querySelector('#answer .finding button.list').click()")
    assert page.run("document.getElementById('dialog').open")
    page.run("document.querySelector('#dialog button.cell').click()")
    title = page.run("document.getElementById('dialog-title').textContent")
    known = show.describe(made, title.removeprefix("Cell "))
    shown = dict(
        page.run(
            "[...document.querySelectorAll('#dialog table')].flatMap((t) =>"
            " [...t.querySelectorAll('tbody tr')].map((r) => [...r.cells].map((c) =>"
            " c.textContent))).filter((r) => r.length === 2)"
        )
    )
    for name, value in known["results"][0].items():
        if name != "cell" and text_of(value):
            assert shown[name] == text_of(value), name
    rounds = page.run(
        "[...document.querySelectorAll('#dialog caption')].filter((c) =>"
        " c.textContent.startsWith('Every round'))[0].parentElement.querySelectorAll("
        "'tbody tr').length"
    )
    assert rounds == len(known["rounds"])
    assert known["reproduce"][0] in page.run("document.getElementById('dialog').textContent")


def test_every_chart_has_a_table_and_every_control_a_name(page):
    page.run("document.querySelectorAll('details[data-table]').forEach((d) => { d.open = true })")
    page.wait(
        "[...document.querySelectorAll('details[data-table]')].every((d) =>"
        " d.querySelectorAll('tbody tr').length > 0)"
    )
    assert page.run("document.querySelectorAll('details[data-table]').length") == len(CHARTS)
    assert page.run(
        "[...document.querySelectorAll('[data-chart]')].every((c) => c.getAttribute('role') ==="
        " 'img' && c.getAttribute('aria-label').length > 20)"
    )
    assert page.run("[...document.querySelectorAll('select')].every((s) => s.closest('label'))")
    assert page.run(
        "[...document.querySelectorAll('button')].every((b) => (b.getAttribute('aria-label') ||"
        " b.textContent).trim())"
    )
    assert page.run(
        "[...document.querySelectorAll('table')].every((t) => t.querySelector('th[scope]'))"
    )


def test_the_table_sorts_by_any_column(page):
    first = "document.querySelector('#cells tbody tr').cells[0].textContent"
    page.run("document.querySelector('[data-sort=accuracy]').click()")
    low = page.run(first)
    page.run("document.querySelector('[data-sort=accuracy]').click()")
    assert page.run("document.activeElement.dataset.sort") == "accuracy"
    accuracy = f"CELLS.find((c) => c.cell.startsWith({first})).accuracy"
    high = page.run(accuracy)
    assert high == page.run("Math.max(...CELLS.map((c) => c.accuracy ?? 0))")
    assert page.run(first) != low


PLAIN = [("resnet-8", p, s, t, "native") for p in ("none", "bfloat16")
         for s in ("pytorch", "openvino") for t in (1, 2)]  # fmt: skip


def degraded(kind: str, folder: Path) -> list[Path]:
    """Return output folders that lack something."""
    from dataclasses import replace

    from dlas.core.records import Status
    from dlas.store.results import CellRow, FactRow, RoundRow, SentinelRow

    rows = list(made_study.rows(PLAIN, rounds=1 if kind == "one round" else 3,
                                controls=kind != "no controls"))  # fmt: skip
    if kind == "nothing complete":
        rows = [replace(r, status=Status.FAILED, stage="build", reason="<b>no & way</b>")
                if isinstance(r, CellRow) else r for r in rows
                if not isinstance(r, RoundRow | FactRow | SentinelRow)]  # fmt: skip
    elif kind == "one cell":
        rows = list(made_study.rows(PLAIN[:1]))
    elif kind == "no accuracy":
        rows = [r for r in rows if not (isinstance(r, FactRow) and r.kind == "evaluate")]
    found = [made_study.fill(folder / "a", rows, goals=kind not in ("no accuracy", "one round"))]
    if kind == "two hosts":
        other = [replace(r, host="host-2") if hasattr(r, "host") else r for r in rows]
        other = [replace(r, session="s2") if hasattr(r, "session") else r for r in other]
        found.append(made_study.fill(folder / "b", other))
    elif kind == "the same twice":
        found.append(made_study.fill(folder / "b", rows))
    return found


@pytest.mark.parametrize(
    "kind",
    ["nothing complete", "one cell", "one round", "no accuracy", "no controls", "two hosts",
     "the same twice"],
)  # fmt: skip
def test_what_lacks_something_still_opens_silently(browser, tmp_path, kind):
    made = report.write(degraded(kind, tmp_path), tmp_path / "report.html")
    browser.untouched = None
    browser.events.clear()
    browser.resize(1600)
    browser.open(made)
    assert browser.said() == []
    assert outside(browser.requests()) == []
    answer = browser.run("document.getElementById('answer').textContent")
    wanted = {
        "nothing complete": "None yet",
        "one cell": "Cannot be said",
        "one round": "No noise is known",
        "no accuracy": "software",
        "no controls": "There are no controls",
        "two hosts": "on host-",
        "the same twice": "cannot be analysed together",
    }
    assert wanted[kind] in answer
    browser.run("openCell(0)")
    assert browser.run("document.getElementById('dialog').open")
    assert browser.said() == []
