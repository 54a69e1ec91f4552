"""What the page's script computes for its filters is what the analysis computes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import made_study
from browser import Page
from dlas import report
from dlas.analyze import Analysis, analyze
from dlas.cli.display import text_of
from dlas.tables import intake


def close(one: Any, two: Any) -> bool:
    return one == pytest.approx(two, rel=1e-4, abs=1e-6)


def returns_agree(page: Page, found: Analysis) -> None:
    told = page.run(
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


def test_the_script_finds_the_same_returns_and_correlations(untouched, found):
    returns_agree(untouched, found)
    whole = found.correlations[found.correlations["by"] == ""]
    assert len(whole) > 5
    for r in whole.to_dict("records"):
        mine = untouched.run(f"spearman(analysed(), {json.dumps(r['x'])}, {json.dumps(r['y'])})")
        assert mine["cells"] == r["cells"]
        assert close(mine["spearman"], r["spearman"])


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
    # In the made study all stacks are bound by the same, so that it is not drawn unasked.
    drawn = untouched.run(
        "(() => { const place = document.createElement('div'); place.id = 'planted-roof';"
        " document.body.append(place); drawRoofline(place);"
        " return place.querySelector('[data-chart=roofline]').data"
        ".map((t) => [t.name, t.mode, t.x, t.y]); })()"
    )
    tops = {round(max(y), 3) for _, mode, _, y in drawn if mode == "lines"}
    assert tops == {round(90 * 1.02, 3), round(180 * 1.02, 3)}  # the larger of both readings
    marks = sum(len(x) for _, mode, x, _ in drawn if mode == "markers")
    assert marks == len(found.roofline) == found.table.complete.sum()
    text = untouched.run(
        "(() => { const place = document.getElementById('planted-roof'); place.remove();"
        " place.querySelectorAll('details').forEach((d) => { d.open = true; });"
        " return place.querySelector('[data-part=ceilings]').textContent; })()"
    )
    assert "not measured: the network of one operator: not made" in text


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
    interactions_agree(untouched, found)


def interactions_agree(page: Page, found: Analysis) -> None:
    told = page.run("Stats.interactions(analysed())")
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
    winners_agree(untouched, found)


def winners_agree(page: Page, found: Analysis) -> None:
    maps = found.winner_maps
    for (layer, one, two), rows in maps.groupby(["layer", "row_layer", "column_layer"]):
        told = page.run(f"Stats.winnerMap(analysed(), '{layer}', '{one}', '{two}')")
        mine = {(t["rowLevel"], t["columnLevel"]): t for t in told}
        assert len(mine) == len(rows)
        for r in rows.itertuples():
            t = mine[r.row, r.column]
            assert (t["best"], set(t["tied"])) == (r.best, set(r.tied))
            assert close(t["over_second"], r.over_second)


# ---------------------------------------------------------------- a machine that drifted


@pytest.fixture(scope="module")
def drifted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A smaller study whose rounds drifted: cells have an error in common."""
    runtimes = ("pytorch", "onnxruntime", "openvino", "tvm")
    chosen = [c for c in made_study.combinations() if c[0] != "vit-tiny" and c[2] in runtimes]
    chosen = [c for c in chosen if c[1] in ("none", "bfloat16", "channel-pruning")]
    rows = made_study.drifting(made_study.rows(chosen, rounds=5, noise=0.01))
    return made_study.fill(tmp_path_factory.mktemp("report") / "drifted", rows)


@pytest.fixture(params=["quiet_ms", "latency_ms"], scope="module")
def shown(drifted: Path, browser: Page, request: pytest.FixtureRequest) -> tuple[Page, Analysis]:
    """Its page, opened, and what the analysis says: undisturbed, then as seen."""
    asked = intake.Asked(request.param)
    page = report.write([drifted], drifted / f"{request.param}.html", asked)
    browser.untouched = None
    browser.open(page)
    return browser, analyze(intake.of_folders([drifted], asked))


def test_errors_in_common_cancel_in_the_script_as_in_python(shown) -> None:
    page, found = shown
    estimates = found.estimates
    rows = [r for r, v in enumerate(estimates.mean.tolist()) if np.isfinite(v)]
    if found.table.metric == "quiet_ms":
        common, own = estimates.var[rows, estimates.own :], estimates.var[rows, : estimates.own]
        assert common.sum() > 0.2 * own.sum()
        share = f"{estimates.drift:.0%}".replace("%", " %")
        card = page.run("document.querySelector('.trust-card').textContent")
        assert f"{share} of the variance between rounds is common to all cells" in card
    told = page.run("TABLES.contexts.map((c) => Stats.meanRatio([[c.base, c.cell]]))")
    theirs = found.speedup_contexts.to_dict("records")
    assert len(told) == len(theirs) > 50
    assert all(
        close([m["ratio"], m["low"], m["high"]], [t["ratio"], t["low"], t["high"]])
        for m, t in zip(told, theirs, strict=True)
    )
    each = "TABLES.contexts.filter((c) => c.factor === s.factor && c.level === s.level)"
    told = page.run(
        f"TABLES.speedups.map((s) => Stats.meanRatio({each}.map((c) => [c.base, c.cell])))"
    )
    theirs = found.speedups.to_dict("records")
    assert len(told) == len(theirs) > 5
    assert all(
        close([m["ratio"], m["low"], m["high"]], [t["ratio"], t["low"], t["high"]])
        for m, t in zip(told, theirs, strict=True)
    )


def test_the_script_finds_the_rivals_that_python_finds(shown) -> None:
    page, found = shown
    near = found.best.runners_up
    told = page.run("Stats.best(CELLS).runners_up.map((r) => [r.ratio, r.low, r.high])")
    theirs = near[["ratio", "low", "high"]].to_numpy().tolist()
    assert len(told) == len(theirs)
    assert all(close(m, t) for m, t in zip(told, theirs, strict=True))


def test_what_a_drift_leaves_is_in_every_part_of_the_script(shown) -> None:
    page, found = shown
    interactions_agree(page, found)
    winners_agree(page, found)
    returns_agree(page, found)


def test_numbers_are_written_as_dlas_show_writes_them(untouched):
    values = [0.0001234567, 0.00001234567, 1.0, 12345.678, 999.96, 9999.96, -0.5, 1e-7, 3, 0.1]
    assert untouched.run(f"{json.dumps(values)}.map(exact)") == [text_of(v) for v in values]
