"""The page of results that lack something, of several hosts, of other tables than ours."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import crowded
import made_study
from browser import Page
from dlas import report
from dlas.analyze import load_table
from dlas.core.records import Status
from dlas.store.results import CellRow, FactRow, HostRow, RoundRow, Row, SentinelRow

PLAIN = [("resnet-8", p, s, t, "native") for p in ("none", "bfloat16")
         for s in ("pytorch", "openvino") for t in (1, 2)]  # fmt: skip


def degraded(kind: str, folder: Path) -> list[Path]:
    """Return output folders that lack something."""
    rows = list(made_study.rows(PLAIN, rounds=1 if kind == "one round" else 3,
                                controls=kind != "no controls"))  # fmt: skip
    if kind == "nothing complete":
        rows = [replace(r, status=Status.FAILED, stage="build", reason="<b>no & way</b>")
                if isinstance(r, CellRow) else r for r in rows
                if not isinstance(r, RoundRow | FactRow | SentinelRow)]  # fmt: skip
    elif kind == "one cell":
        rows = list(made_study.rows(PLAIN[:1]))
    elif kind == "a runtime of one round":
        more = made_study.rows([("resnet-8", "none", "tvm", t, "native") for t in (1, 2)])
        rows += [r for r in more if not isinstance(r, RoundRow) or r.round == 0]
    elif kind == "no accuracy":
        rows = [r for r in rows if not (isinstance(r, FactRow) and r.kind == "evaluate")]
    found = [made_study.fill(folder / "a", rows, goals=kind not in ("no accuracy", "one round"))]
    if kind == "two hosts":
        found.append(made_study.fill(folder / "b", elsewhere(rows)))
    elif kind == "the same twice":
        found.append(made_study.fill(folder / "b", rows))
    elif kind == "two days":
        more = made_study.rows([("resnet-8", "none", "tvm", t, "native") for t in (1, 2)])
        found.append(made_study.fill(folder / "b", again(more)))
    return found


def elsewhere(rows: list[Row]) -> list[Row]:
    """Return rows as of another host, in a session of its own."""
    return again(replace(r, host="host-2") if hasattr(r, "host") else r for r in rows)


def again(rows: Iterable[Row]) -> list[Row]:
    """Return rows as of a session of their own."""
    return [replace(r, session="s2") if hasattr(r, "session") else r for r in rows]


def sound(browser: Page, path: Path) -> None:
    """Open a page and look at what must be right of any."""
    browser.open(path)
    assert browser.said() == []
    asked = [u for u in browser.requests() if not u.startswith(("file:", "data:", "blob:"))]
    assert asked == []
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    assert browser.run(crowded.OVERFLOWS + "('body')") == []
    assert browser.run(crowded.COLLISIONS + "('body')") == []
    assert browser.run(crowded.CHART_TEXTS) == []
    browser.run("openCell(0)")
    assert browser.run("document.getElementById('dialog').open")
    assert browser.said() == []


def answer(browser: Page) -> str:
    return str(browser.run("document.getElementById('answer').textContent"))


@pytest.mark.parametrize(
    "kind",
    ["nothing complete", "one cell", "one round", "no accuracy", "no controls", "two hosts",
     "the same twice", "two days", "a runtime of one round"],
)  # fmt: skip
def test_what_lacks_something_still_opens_silently(fresh, tmp_path, kind):
    sound(fresh, report.write(degraded(kind, tmp_path), tmp_path / "report.html"))
    wanted = {
        "nothing complete": "None yet",
        "one cell": "Cannot be said",
        "one round": "No noise is known",
        "no accuracy": "software",
        "no controls": "there are no controls",
        "two hosts": "on host-",
        "the same twice": "cannot be analysed together",
        "a runtime of one round": "sessionone: intervals say",
        "two days": "2 cells share no measurement with the rest, and are in no comparison",
    }
    assert wanted[kind] in answer(fresh)


def test_one_cell_draws_no_chart_that_says_nothing(fresh, tmp_path):
    fresh.open(report.write(degraded("one cell", tmp_path), tmp_path / "report.html"))
    charts = fresh.run(
        "[...document.querySelectorAll('[data-chart]')].map((c) => c.dataset.chart)"
    )
    assert set(charts) <= {"drift", "controls"}
    told = fresh.run("document.querySelector('#understand .unsaid').textContent")
    for part in ("interactions", "roofline", "break-even"):
        assert part in told.split("What matters:")[0]


# ---------------------------------------------------------------- the machine, the two latencies


def write(folder: Path, rows: list[Row]) -> Path:
    return report.write([made_study.fill(folder / "out", rows)], folder / "report.html")


def test_a_virtual_machine_is_named(fresh, tmp_path):
    rows = [
        replace(r, description={**r.description, "virtualization": "kvm"})
        if isinstance(r, HostRow)
        else r
        for r in made_study.rows(PLAIN)
    ]
    fresh.open(write(tmp_path, rows))
    assert "a virtual machine (kvm): neighbours can take time" in answer(fresh)


def jittery(row: Row) -> Row:
    """OpenVINO is as quick as ever in one run of four, and six times slower in the others."""
    if not (isinstance(row, RoundRow) and row.cell in JITTERY):
        return row
    slow = np.array(row.samples) * np.where(np.arange(len(row.samples)) % 4 == 0, 1.0, 6.0)
    return replace(row, samples=tuple(slow.tolist()))


JITTERY = {made_study.stack(*one).cell for one in PLAIN if one[2] == "openvino"}


def test_where_the_two_latencies_decide_differently_is_told(fresh, tmp_path):
    fresh.open(write(tmp_path, [jittery(r) for r in made_study.rows(PLAIN)]))
    card = fresh.run("document.querySelector('.trust-card').textContent")
    assert re.search("as seen, with neighbours, .*pytorch.* would surely be the answer", card)
    rows = fresh.run("DATA.as_seen.rows.map((r) => [r.layer, CELLS[r.quiet].software,"
                     " CELLS[r.seen].software, r.sure])")  # fmt: skip
    apart = [r for r in rows if r[0] == "software"]
    assert apart and all(r[1:] == ["openvino", "pytorch", True] for r in apart)
    table = fresh.run("document.querySelector('#as-seen').textContent")
    assert "both surely" in table
    late = fresh.run("document.querySelector('#jitter').textContent")
    assert re.search(r"openvino[^+]*\+[345]\d\d %", late)  # so much later it comes as seen


def test_equal_latencies_choose_the_same(fresh, tmp_path):
    fresh.open(write(tmp_path, list(made_study.rows(PLAIN, noise=0.001))))
    told = fresh.run("document.querySelector('.trust-card').textContent")
    assert "no other stack is surely better; 0 of" in told


# ---------------------------------------------------------------- factors in an order


def test_three_levels_make_a_break_even_and_a_return(fresh, tmp_path):
    def rows() -> list[Row]:
        stacks = [(m, "none", s, t, "native") for m in ("resnet-8", "vit-tiny")
                  for s in ("pytorch", "openvino") for t in (1, 2, 4)]  # fmt: skip
        return list(made_study.rows(stacks))

    sound(fresh, write(tmp_path, rows()))
    charts = fresh.run("[...document.querySelectorAll('[data-chart]')].filter((c) => !c.hidden)"
                       ".map((c) => c.dataset.chart)")  # fmt: skip
    assert {"break-even", "returns"} <= set(charts)
    fresh.resize(360)
    fresh.run("document.getElementById('dialog').close(), redraw()")
    fresh.wait_drawn()
    assert fresh.run(crowded.CHART_TEXTS) == []


# ---------------------------------------------------------------- a table from elsewhere


def throughputs() -> pd.DataFrame:
    """Images per second of 3 networks x 2 engines x 3 batches, accuracy and price beside them."""
    rows = []
    for i, network in enumerate(("a-long-name-of-a-network", "b", "c")):
        for j, engine in enumerate(("plain", "tuned")):
            for batch in (1, 8, 64):
                fps = 50.0 * (i + 1) * (1.7 if engine == "tuned" and batch < 64 else 1.0)
                fps *= batch**0.5 * (0.6 if (engine, batch) == ("tuned", 64) else 1.0)
                rows.append({"network": network, "engine": engine, "batch": batch, "fps": fps,
                             "low": fps * 0.98, "high": fps * 1.02, "accuracy": 0.7 + 0.02 * i,
                             "price": 1.0 + j})  # fmt: skip
    return pd.DataFrame(rows)


Options = dict[str, object]


@pytest.fixture
def page_of(fresh: Page, tmp_path: Path) -> Callable[[pd.DataFrame, Options], Page]:
    def made(frame: pd.DataFrame, options: Options) -> Page:
        frame.to_csv(tmp_path / "bench.csv", index=False)
        table = load_table(tmp_path / "bench.csv", **options)
        sound(fresh, report.write_table(table, [tmp_path / "bench.csv"], tmp_path / "r.html"))
        return fresh

    return made


def test_a_table_from_elsewhere_has_a_page_of_its_own_words(page_of):
    page = page_of(throughputs(), {"layers": "network,engine,batch", "metric": "fps",
                                   "low": "low", "high": "high"})  # fmt: skip
    told = answer(page)
    assert "dlas export" not in told and "nothing is known of what these numbers" in told
    # the best of more-is-better: c with 64 plain (1200), not the least
    assert page.run("CELLS[DATA.best.row].fps") == pytest.approx(150 * 8)
    assert "95 % interval (1180 to 1220)" in told, "1176 to 1224, in three digits"
    assert "better" in told and "faster" not in told
    measures = page.run("DATA.measures.map((m) => [m.name, m.more])")
    assert ["fps", True] in measures and ["price", False] in measures
    assert page.run("[DATA.layers, DATA.filters]") == [["network", "engine", "batch"]] * 2
    assert page.run("complete().length") == 18
    # on a log axis the break-even stands where it is, between 8 and 64
    point = page.run("TABLES.break_evens.find((b) => b.context === '(average)').level")
    lines = page.run(
        "document.querySelector('[data-chart=break-even]').layout.shapes.filter((s) =>"
        " s.yref === 'paper' && s.type === 'line').map((s) => s.x0)"
    )
    kind = page.run("document.querySelector('[data-chart=break-even]').layout.xaxis.type")
    assert (kind, lines) == ("log", [pytest.approx(point)]) and 8 < point < 64


def test_of_given_layers_each_level_has_its_own_answer(page_of):
    page = page_of(throughputs(), {"layers": "network,engine,batch", "metric": "fps",
                                   "given": "network"})  # fmt: skip
    told = page.run("document.querySelector('.card.deploy').textContent")
    for network in ("a-long-name-of-a-network", "b", "c"):
        assert network in told
    assert "One for each network" in told


def test_layers_called_as_what_the_page_has_of_every_row_get_another_name(page_of):
    frame = throughputs().rename(columns={"engine": "host", "network": "status"})
    system = dict(zip(sorted(set(frame["host"])), ("5.9.1", "5.10.2", "5.11.0"), strict=False))
    frame["host.os"] = frame["host"].map(system)
    page = page_of(frame, {"layers": "status,host,batch", "metric": "fps"})
    assert page.run("EST.orders['host_.os']") == list(system.values())
    assert page.run("DATA.layers") == ["status_", "host_", "batch"]
    assert page.run("CELLS[DATA.best.row]['host_']") == "plain"
    assert "status is status_, host is host_" in answer(page)
    assert page.run("complete().length") == 18
