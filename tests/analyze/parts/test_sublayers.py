"""Sub-layers: each compared with the others equal; curves along parameters inside them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from dlas.analyze import load_table
from dlas.analyze.estimate.noise import estimate
from dlas.analyze.parts.contrasts import grid
from dlas.analyze.parts.effects import speedups
from dlas.analyze.parts.elbows import elbows
from dlas.core.goals import Goals

GOALS = Goals(minimize=("ms",), at_most=(("accuracy_drop", 0.15),))
PRUNED = {"": (1.0, 0.0), "0.5": (0.6, 0.01), "0.8": (0.36, 0.08)}
"""What each sparsity makes of the time, and the accuracy that it takes."""


def table(precisions=("none", "int8"), keep=lambda s, p: True, columns=(), scheme=False):
    """Pruning crossed with precision on two networks; int8 halves the time and takes 0.02."""
    rng = np.random.default_rng(0)
    rows = []
    for model in "ab":
        for p in precisions:
            for s, (factor, loss) in PRUNED.items():
                if not keep(s, p):
                    continue
                pruning, narrow = f"thin(s={s})" if s else "none", p.partition("(")[0] != "none"
                parts = [x for x in (pruning, p) if x != "none"]
                drop = loss + 0.02 * narrow
                row = {
                    "model": model, "opt": "+".join(parts) or "none", "opt.pruning": pruning,
                    "opt.precision": p, "opt.s": s, "accuracy": 0.9 - drop, "accuracy_n": 10**6,
                    "accuracy_drop": drop, "method": p.partition("=")[2].strip(")"),
                }  # fmt: skip
                ms = 10 * factor * (0.5 if narrow else 1.0)
                rows += [row | {"round": r, "ms": ms * np.exp(rng.normal(0, 0.001))}
                         for r in range(4)]  # fmt: skip
    frame = pd.DataFrame(rows)
    method = frame.pop("method")
    if scheme:
        frame["opt.method"] = method
    return load_table(
        frame, layers=["model", "opt"], metric="ms", rounds="round", baseline=["opt=none"],
        goals=GOALS,
    )  # fmt: skip


def curves(made):
    found = elbows(made, estimate(made))
    return {tuple(r.fixed.values())[:2]: r for r in found.itertuples()}


def test_sub_layers_are_told_from_parameters() -> None:
    made = table()
    assert made.sublayers == ("opt.pruning", "opt.precision")
    by_name = {f.name: f for f in made.factors}
    assert made.siblings(by_name["opt.s"]) == ()


def test_each_sub_layer_is_compared_with_the_other_one_equal() -> None:
    made = table()
    one, contexts = speedups(made, estimate(made))
    found = one.set_index(["factor", "level"])
    narrow = found.loc[("opt.precision", "int8")]
    assert (narrow["baseline"], narrow["contexts"]) == ("none", 6)
    assert narrow["ratio"] == pytest.approx(2.0, rel=0.01)
    thin = found.loc[("opt.pruning", "thin(s=0.8)")]
    assert (thin["baseline"], thin["contexts"]) == ("none", 4)
    assert thin["ratio"] == pytest.approx(1 / 0.36, rel=0.01)
    assert found.loc[("opt.s", "0.8"), "contexts"] == 4
    places = set(contexts.loc[contexts["factor"] == "opt.precision", "context"])
    assert "model=a, opt.pruning=thin(s=0.5)" in places


def test_where_sub_layers_do_not_tell_cells_apart_nothing_is_mixed() -> None:
    """Two int8s whose text says nothing of their method are not taken for one cell."""
    made = table(precisions=("none", "int8(method=x)", "int8(method=y)"), scheme=True)
    cells = made.cells.assign(**{"opt.precision": made.cells["opt.precision"].str[:4]})
    blurred = replace(made, cells=cells)
    factor = next(f for f in blurred.factors if f.name == "opt.pruning")
    found = grid(blurred, factor, estimate(blurred))
    assert (found.row >= 0).sum() == blurred.complete.sum()


def test_a_curve_holds_every_level_and_starts_at_what_else_is_equal() -> None:
    found = curves(table())
    assert set(found) == {(m, o) for m in "ab" for o in ("thin", "thin+int8")}
    for (_, kind), one in found.items():
        assert one.levels == [0.0, 0.5, 0.8]
        assert one.metric == pytest.approx([1.0, 0.6, 0.36], rel=0.01)
        first = 0.88 if "int8" in kind else 0.9
        assert one.accuracy == pytest.approx([first, first - 0.01, first - 0.08])


def test_a_curve_starts_at_the_same_parameters_of_the_rest() -> None:
    made = table(precisions=("none", "int8(method=x)", "int8(method=y)"), scheme=True)
    found = elbows(made, estimate(made))
    assert len(found) == 6 and {tuple(x) for x in found["levels"]} == {(0.0, 0.5, 0.8)}
    cells = made.cells.set_index(made.rows["cell"].astype(str))
    for row in found.itertuples():
        assert len({cells.loc[c, "opt.method"] for c in row.cells}) == 1


def test_without_a_stack_that_is_equal_but_for_it_a_curve_starts_later() -> None:
    """Never at float32 where the curve is int8's: the step would be that of int8."""
    found = curves(table(keep=lambda s, p: bool(s) or p == "none"))
    assert found["a", "thin"].levels == [0.0, 0.5, 0.8]
    assert found["a", "thin+int8"].levels == [0.5, 0.8]
