"""What the page's script computes for its filters is what the analysis computes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dlas.cli.display import text_of


def close(one: Any, two: Any) -> bool:
    return one == pytest.approx(two, rel=1e-4, abs=1e-6)


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
