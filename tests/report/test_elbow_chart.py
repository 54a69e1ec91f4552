"""Accuracy and latency along a parameter, drawn with the elbow where there is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import crowded
import made_study
from browser import Page
from dlas import report
from dlas.analyze import analyze
from dlas.core.stack import Choice
from dlas.report.pack import unpack
from dlas.report.payload import collect
from dlas.tables import intake

SPARSITIES = (0.5, 0.8, 0.95)


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with three sparsities, on one thread and two."""
    names = {s: f"weight-{s}" for s in SPARSITIES}
    with pytest.MonkeyPatch.context() as patch:
        for s, name in names.items():
            choice = Choice("weight-pruning", {"sparsity": s}, ("sparsity",))
            patch.setitem(made_study.PIPELINES, name, (choice,))
        stacks = [("resnet-8", o, r, t, "native") for o in ("none", *names.values())
                  for r in ("pytorch", "openvino") for t in (1, 2)]  # fmt: skip
        rows = list(made_study.rows(stacks))
        return made_study.fill(tmp_path_factory.mktemp("pruned") / "out", rows)


@pytest.fixture(scope="module")
def written_page(pruned: Path) -> Path:
    return report.write([pruned], pruned / "report.html")


def test_every_curve_names_the_rows_of_its_levels(pruned: Path) -> None:
    found = analyze(intake.of_folders([pruned], intake.Asked("quiet_ms"))).elbows
    payload: dict[str, Any] = collect([pruned])
    cells = unpack(payload["cells"], payload["texts"])
    told = unpack(payload["tables"]["elbows"], payload["texts"])
    assert len(told) == len(found) > 0
    for mine, theirs in zip(told, found.to_dict("records"), strict=True):
        assert [cells[row]["cell"] for row in mine["rows"]] == theirs["cells"]
        assert mine["levels"] == theirs["levels"] and mine["level"] == theirs["level"]
    assert [0.0, *SPARSITIES] in [one["levels"] for one in told]


def test_the_curve_and_its_elbow_are_drawn(fresh: Page, written_page: Path) -> None:
    fresh.open(written_page)
    assert fresh.said() == []
    drawn = fresh.run(
        "(() => { const c = document.querySelector('[data-chart=elbow]'); return {"
        " traces: c.data.map((t) => [t.name, t.x, t.y, t.yaxis]), shapes: c.layout.shapes.map((s)"
        " => [s.type, s.x0]), picked: bendShown, caption: c.parentElement.textContent}; })()"
    )
    one = fresh.run(f"bent().find((b) => bendKey(b) === {drawn['picked']!r})")
    values = fresh.run(f"{one['rows']}.map((r) => [CELLS[r].quiet_ms, CELLS[r].accuracy])")
    (first, x, y, axis), (second, x2, y2, axis2) = drawn["traces"]
    assert ("undisturbed" in first, second, axis, axis2) == (True, "accuracy", "y", "y2")
    assert x == x2 == [0, *SPARSITIES]
    assert [list(pair) for pair in zip(y, y2, strict=True)] == values
    assert ["line", one["level"]] in drawn["shapes"]
    assert "The elbow is at" in drawn["caption"]
    assert fresh.run("[...document.querySelectorAll('#elbow option')].length") == 4
    fresh.run("chosen['hardware.threads'] = '2', redraw()")
    fresh.wait_drawn()
    shown = fresh.run(
        "bent().find((b) => bendKey(b) === bendShown).rows.map((r) => CELLS[r].hardware)"
    )
    assert set(shown) == {"cpu(threads=2)"}
    for width in (360, 768):
        fresh.resize(width)
        fresh.run("redraw()")
        fresh.wait_drawn()
        assert fresh.run(crowded.CHART_TEXTS) == []
        assert fresh.run("document.documentElement.scrollWidth") <= width
    assert fresh.said() == []


def test_two_levels_make_no_curve(untouched: Page) -> None:
    """In the made study each parameter has one level beside none."""
    assert not untouched.run("document.querySelector('[data-chart=elbow]')")
    assert "Elbows: two levels make no curve." in untouched.run(
        "document.querySelector('#understand .unsaid').textContent"
    )
