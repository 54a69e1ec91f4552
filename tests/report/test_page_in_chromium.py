"""The page in a real browser: it answers, draws, filters, sorts, explains itself, asks nobody."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import made_study
from browser import Page
from dlas.analyze import Analysis
from dlas.cli import show
from dlas.cli.display import text_of

PRINTS = """Object.fromEntries([...document.querySelectorAll('[data-chart]')].map((c) =>
  [c.dataset.chart, c.hidden ? 'hidden' : c.classList.contains('matrix') ? c.textContent :
  JSON.stringify([(c.data || []).map((t) => [t.x, t.y, t.z]),
  (c.layout.annotations || []).map((a) => a.text)])]))"""
"""What each chart shows, as text."""
CHARTS = {
    "picture", "losses", "interaction", "flips", "winners", "trade-off", "speedups", "expected",
    "cold-start", "coverage", "controls", "drift", "correlations", "waterfall",
}  # fmt: skip
"""Two thread counts make no break-even; all stacks are bound by the same: no roofline."""


def choose(page: Page, name: str, value: str) -> None:
    page.run(
        f"(() => {{ const s = document.querySelector('select[name=\"{name}\"]');"
        f" s.value = {json.dumps(value)}; s.dispatchEvent(new Event('change')); }})()"
    )
    page.wait_drawn()


def outside(requests: list[str]) -> list[str]:
    return [url for url in requests if not url.startswith(("file:", "data:", "blob:"))]


def card(page: Page, name: str) -> str:
    return str(page.run(f"document.querySelector('#answer .card.{name}').textContent"))


@pytest.mark.parametrize("width", [360, 1600])
def test_it_draws_fits_is_silent_and_asks_nobody(fresh, made_page, width):
    fresh.resize(width)
    fresh.open(made_page)
    drawn = fresh.run(
        "[...document.querySelectorAll('[data-chart]')].filter((c) => !c.hidden &&"
        " (c.classList.contains('matrix') || c.querySelector('.main-svg')) &&"
        " Number(c.dataset.points) > 0 && c.getBoundingClientRect().right <= innerWidth)"
        ".map((c) => c.dataset.chart)"
    )
    assert set(drawn) == CHARTS
    assert fresh.run("document.documentElement.scrollWidth") <= width
    assert fresh.said() == []
    assert outside(fresh.requests()) == []


# ---------------------------------------------------------------- the first screen


def test_the_first_screen_decides(untouched: Page, found: Analysis, made: Path) -> None:
    told = card(untouched, "deploy")
    row = found.table.cells.set_index("cell").loc[found.best.cell]
    for layer in ("model", "software", "dataset"):
        assert row[layer] in told
    assert f"dlas export {made} {found.best.cell} --to deploy" in told
    assert "undisturbed latency" in told and "accuracy" in told and "memory" in told
    near = len(found.best.runners_up)
    assert ("No rival" if not near else "cannot be told apart") in told
    # all four questions are answered above the fold of a laptop
    tops = untouched.run(
        "[...document.querySelectorAll('#answer .card')].map((c) => c.getBoundingClientRect().top)"
    )
    assert max(tops) < 1000


def test_the_card_says_what_made_the_difference_and_what_it_costs(untouched, found):
    told = card(untouched, "difference")
    start, taken = untouched.run(
        "[untuned(CELLS[DATA.best.row]), CELLS[DATA.best.row]].map((c) => c.cell)"
    )
    cells, mean = found.table.cells["cell"].tolist(), found.estimates.mean
    gain = np.exp(mean[cells.index(start)] - mean[cells.index(taken)])
    assert untouched.run(f"capital(gain({gain}))") in told and gain > 2
    assert "points of accuracy" in told
    # beside the next best: the cell that differs in the software alone
    table = found.table.cells.assign(mean=mean).set_index("cell")
    layers = [x for x in found.table.layers if x != "software"]
    same = (table[layers] == table.loc[taken, layers]).all(axis=1) & table["mean"].notna()
    second = table[same].drop(taken).sort_values("mean").iloc[0]
    ratio = np.exp(second["mean"] - table.loc[taken, "mean"])
    assert second["software"] in told
    assert untouched.run(f"sized({ratio})") in told


def test_the_card_names_what_not_to_combine(untouched, found):
    told = card(untouched, "avoid")
    choices = found.flips[~found.flips["layer"].isin(["model", "dataset"])]
    assert any(f"{name} with " in told for name in {*choices["a"], *choices["b"]})
    assert not any(f"{model} with " in told for model in made_study.MODELS)
    assert "slower than" in told and "faster with" in told


def test_the_price_stands_on_the_first_screen_with_its_table(untouched, found):
    told = card(untouched, "price")
    top = found.price["ratio"].max()
    assert f"{untouched.run(f'num({top})')} times the best" in told
    for model in made_study.MODELS:
        assert f"{model}: " in told
    rows = untouched.run("document.querySelectorAll('#price-table tbody tr').length")
    assert rows == found.price_starts["ratio"].notna().sum() > 0


def test_the_trust_card_counts_rounds_controls_and_readings(untouched, made):
    told = card(untouched, "trust-card")
    counted = untouched.run(
        "[roundsNow().length, roundsNow().filter(disturbed).length,"
        " DATA.controls.length, DATA.controls.filter((c) => c.inside).length]"
    )
    assert f"{counted[1]} of {counted[0]} flagged" in told and counted[1] > 0
    assert f"{counted[3]} of {counted[2]} controls measured twice agree" in told
    for line in ("no virtual machine seen", "sessionone: ", "of 40 readings", "two latencies"):
        assert line in told


# ---------------------------------------------------------------- filters


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
    page.wait_drawn()
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


# ---------------------------------------------------------------- the trade-off and the findings


def test_the_axes_of_the_trade_off_can_be_chosen(page):
    options = page.run(
        "[...document.querySelectorAll('#trade select')].map((s) => [...s.options]"
        ".map((o) => o.value))"
    )
    wanted = {"quiet_ms", "latency_ms", "accuracy", "memory_mb", "artifact_mb", "cold_start_s"}
    assert wanted <= set(options[0]) and options[0] == options[1]
    page.run(
        "(() => { const s = document.querySelectorAll('#trade select')[1]; s.value = 'memory_mb';"
        " s.dispatchEvent(new Event('change')); })()"
    )
    shown = page.run(
        "document.querySelector('[data-chart=trade-off]').data.filter((t) => t.mode === 'markers')"
        ".flatMap((t) => t.y.map((y, i) => [y, CELLS[t.customdata[i]].memory_mb]))"
    )
    assert len(shown) == page.run("complete().length")
    assert all(y == memory for y, memory in shown)
    assert page.said() == []


def test_no_stack_on_the_drawn_front_fails_a_goal_or_is_beaten(untouched):
    front = untouched.run(
        "document.querySelector('[data-chart=trade-off]').data.filter((t) => t.mode === 'markers')"
        ".flatMap((t) => t.customdata.filter((_, i) => t.marker.line.width[i] === 2))"
    )
    assert front
    assert not set(front) & set(untouched.run("[...failing()]"))
    cells = untouched.run("complete().filter((c) => !failing().has(c.row))")
    for row in front:
        one = next(c for c in cells if c["row"] == row)
        assert not any(
            c["quiet_ms"] < one["quiet_ms"] and c["accuracy"] > one["accuracy"] for c in cells
        )


def test_a_long_finding_is_folded_and_opens(page):
    told = "[...document.querySelectorAll('#findings-table .told')]"
    folded = f"{told}.filter((t) => t.scrollHeight > t.clientHeight + 4)"
    assert page.run(f"{folded}.length") > 0
    assert page.run(f"{folded}.every((t) => t.nextSibling.textContent.startsWith('All of it'))")
    page.run(f"{folded}.forEach((t) => {{ t.nextSibling.open = true; }})")
    assert page.run(f"{folded}.length") == 0


def test_the_findings_sort_by_every_column(page, found):
    ranks = "[...document.querySelectorAll('#findings-table td.rank')].map((t) => +t.textContent)"
    page.run("document.querySelector('#findings .more').click()")
    first = {f.fact or str(f.rank): f.rank for f in reversed(found.findings)}
    assert page.run(ranks) == sorted(first.values()), "of every fact the first"
    assert len(first) < len(found.findings)
    page.run("document.querySelector('#findings [data-by=size]').click()")
    page.run("document.querySelector('#findings .more').click()")
    assert page.run("document.querySelector('#findings [data-by=size]').ariaSort === null")
    sizes = page.run(
        f"{ranks}.map((r) => sizeOf(FINDINGS.find((f) => f.rank === r))).filter((s) => s !== null)"
    )
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) > 5
    assert page.run(
        "document.querySelector('#findings th.size').getAttribute('aria-sort')"
    ) == "descending"  # fmt: skip
    assert page.said() == []


def test_the_table_sorts_by_any_column(page):
    top = "document.querySelector('#cells tbody tr').cells[0].textContent"
    page.run("document.querySelector('[data-sort=accuracy]').click()")
    low = page.run(top)
    page.run("document.querySelector('[data-sort=accuracy]').click()")
    assert page.run("document.activeElement.dataset.sort") == "accuracy"
    accuracy = f"CELLS.find((c) => c.cell.startsWith({top})).accuracy"
    high = page.run(accuracy)
    assert high == page.run("Math.max(...CELLS.map((c) => c.accuracy ?? 0))")
    assert page.run(top) != low


# ---------------------------------------------------------------- for everyone


def test_two_clicks_from_a_finding_to_a_cell_with_the_numbers_of_dlas_show(page, made):
    page.run("document.querySelector('#findings .finding td.cells button.list').click()")
    assert page.run("document.getElementById('dialog').open")
    page.run("document.querySelector('#dialog button.cell').click()")
    known = show.describe(made, page.run("document.getElementById('dialog-cell').textContent"))
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
        "[...document.querySelectorAll('[data-chart]')].every((c) =>"
        " ['img', 'region'].includes(c.getAttribute('role')) &&"
        " c.getAttribute('aria-label').length > 20)"
    )
    assert page.run("[...document.querySelectorAll('select')].every((s) => s.closest('label'))")
    assert page.run(
        "[...document.querySelectorAll('button')].every((b) => (b.getAttribute('aria-label') ||"
        " b.textContent).trim())"
    )
    assert page.run(
        "[...document.querySelectorAll('table')].every((t) => t.querySelector('th[scope]'))"
    )


def test_every_entry_of_the_menu_leads_somewhere_and_the_groups_are_four(untouched):
    links = untouched.run("[...document.querySelectorAll('#menu a')].map((a) => a.hash.slice(1))")
    assert {"decide", "understand", "trust", "data"} <= set(links)
    assert untouched.run("document.querySelectorAll('section.group').length") == 4
    targets = untouched.run(
        "[...document.querySelectorAll('a[href^=\"#\"]')].map((a) => a.hash.slice(1))"
    )
    assert [
        t for t in set(targets) if not untouched.run(f"!!document.getElementById('{t}')")
    ] == []


def test_it_is_used_by_keyboard_alone(page):
    def press(key: str, code: int) -> None:
        for kind in ("keyDown", "keyUp"):
            page.send("Input.dispatchKeyEvent", type=kind, key=key, code=key,
                      windowsVirtualKeyCode=code, text="\r" if key == "Enter" else "")  # fmt: skip

    press("Tab", 9)
    assert page.run("document.activeElement.className") == "skip"
    page.run("document.querySelector('#answer button.cell').focus()")
    press("Enter", 13)
    assert page.run("document.getElementById('dialog').open")
    press("Escape", 27)
    assert not page.run("document.getElementById('dialog').open")
    page.run("document.querySelector('#trade .legend button').focus()")
    before = page.run("document.activeElement.getAttribute('aria-pressed')")
    press("Enter", 13)
    assert before == "true"
    assert page.run("document.activeElement.getAttribute('aria-pressed')") == "false"
