"""Sub-layers: each compared with the others equal; curves along parameters inside them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from dlas.analyze import analyze, load_table
from dlas.analyze.estimate.levels import EMPTY
from dlas.analyze.estimate.noise import estimate
from dlas.analyze.estimate.table import Table
from dlas.analyze.parts.contenders import all_near
from dlas.analyze.parts.contrasts import grid
from dlas.analyze.parts.effects import speedups
from dlas.analyze.parts.elbows import elbows
from dlas.core.goals import Goals
from dlas.core.stack import Choice

BOTH = {"opt.pruning": "", "opt.precision": ""}
GOALS = Goals(minimize=("ms",), at_most=(("accuracy_drop", 0.15),))
PRUNED = {"": (1.0, 0.0), "0.5": (0.6, 0.01), "0.8": (0.36, 0.08)}
"""What each sparsity makes of the time, and the accuracy that it takes."""


def table(
    precisions=("none", "int8"), keep=lambda s, p: True, scheme=False, baseline=("opt=none",)
):
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
        frame, layers=["model", "opt"], metric="ms", rounds="round", baseline=list(baseline),
        goals=GOALS,
    )  # fmt: skip


def curves(made):
    found = elbows(made, estimate(made))
    return {tuple(r.fixed.values())[:2]: r for r in found.itertuples()}


def test_sub_layers_are_told_from_parameters() -> None:
    made = table()
    assert made.sublayers == BOTH
    by_name = {f.name: f for f in made.factors}
    assert made.siblings(by_name["opt.s"]) == ()


def changed(made: Table, **columns) -> Table:
    """Return a table with other columns: what makes of the old ones each new one."""
    return replace(made, cells=made.cells.assign(**columns))


def test_columns_that_do_not_spell_the_layer_are_no_sub_layers() -> None:
    """Of one column alone int8 would be credited to pruning; numbers are no choices."""
    made = table()
    one = replace(made, parameters=("opt.pruning", "opt.s"))
    assert one.sublayers == {}
    found, _ = speedups(one, estimate(one))
    assert found.set_index("factor").loc["opt.s", "contexts"] == 4
    assert "opt.pruning" not in set(found["factor"])
    blurred = table(("none", "int8(method=x)", "int8(method=y)"))
    assert blurred.sublayers == BOTH
    short = changed(blurred, **{"opt.precision": blurred.cells["opt.precision"].str[:4]})
    assert short.sublayers == {}
    rows = [{"hw": h, "lib": a, "threads": t, "threads.physical": t * (1 + (h == "B")), "ms": t}
            for h in "AB" for a in "xy" for t in (1, 2)]  # fmt: skip
    cpu = load_table(pd.DataFrame(rows), layers=["hw", "lib", "threads"], metric="ms")
    assert cpu.sublayers == {}
    analyze(cpu)


def test_rows_of_a_study_without_sub_layers_change_nothing() -> None:
    made = table()
    more = made.cells[made.cells["opt"] == "none"].assign(
        cell="other", model="c", **{"opt.pruning": "", "opt.precision": ""}
    )
    both = replace(made, cells=pd.concat([made.cells, more], ignore_index=True))
    assert both.sublayers == made.sublayers


def test_a_plain_level_may_have_any_name_and_need_not_have_run() -> None:
    made = table()
    names = {"none": "float32", "int8": "int8"}
    assert changed(
        made, **{"opt.precision": made.cells["opt.precision"].map(names)}
    ).sublayers == {"opt.pruning": "", "opt.precision": "float32"}
    rest = table(keep=lambda s, p: bool(s) or p != "none", baseline=())
    assert "none" not in set(rest.cells["opt"])
    assert rest.sublayers == BOTH


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


def test_a_sub_layer_without_the_layer_s_baseline_is_compared_with_what_is_plain() -> None:
    made = replace(table(), baseline={"opt": "int8"})
    one, _ = speedups(made, estimate(made))
    assert set(one.loc[one["factor"] == "opt.pruning", "baseline"]) == {"none"}
    assert set(one.loc[one["factor"] == "opt.precision", "baseline"]) == {"int8"}


def test_a_machine_on_which_everything_failed_hides_no_comparison() -> None:
    made = table()
    failed = made.cells.assign(host="other", status="failed", value=np.nan)
    both = replace(made, cells=pd.concat([made.cells, failed], ignore_index=True))
    factor = next(f for f in both.factors if f.name == "opt.pruning")
    found = grid(both, factor, estimate(made_long(both)))
    assert (found.row >= 0).sum() == made.complete.sum()


def made_long(both: Table) -> Table:
    """Return a table without rounds, whose cells are judged by the floor."""
    return replace(both, samples=None)


def test_cells_that_only_texts_tell_apart_are_not_mixed() -> None:
    """Of two int8s no column tells the method; one pruned cell of each is missing."""
    made = table(
        ("none", "int8(method=x)", "int8(method=y)"),
        keep=lambda s, p: (s, p) not in {("0.5", "int8(method=x)"), ("0.8", "int8(method=y)")},
    )
    without_columns = replace(made, parameters=("opt.s",))
    for each in (made, without_columns):
        factor = next(f for f in each.factors if f.name == "opt.s")
        found = grid(each, factor, estimate(each))
        assert (found.row >= 0).sum() == (each.cells["opt.s"] != EMPTY).sum()
        pairs = found.row[(found.row >= 0).all(axis=1)]
        assert len(pairs) == 2  # of float32 alone
        assert set(each.cells["opt"].iloc[pairs.ravel()]) == {"thin(s=0.5)", "thin(s=0.8)"}


def test_a_curve_holds_every_level_and_starts_at_what_else_is_equal() -> None:
    found = curves(table())
    assert set(found) == {(m, o) for m in "ab" for o in ("thin", "thin+int8")}
    for (_, kind), one in found.items():
        assert one.levels == [0.0, 0.5, 0.8]
        assert one.metric == pytest.approx([1.0, 0.6, 0.36], rel=0.01)
        first = 0.88 if "int8" in kind else 0.9
        assert one.accuracy == pytest.approx([first, first - 0.01, first - 0.08])


@pytest.mark.parametrize("columns", [True, False])
def test_a_curve_starts_at_the_same_parameters_of_the_rest(columns: bool) -> None:
    made = table(("none", "int8(method=x)", "int8(method=y)"), scheme=columns)
    found = elbows(made, estimate(made))
    assert len(found) == 6 and {tuple(x) for x in found["levels"]} == {(0.0, 0.5, 0.8)}
    texts = made.cells.set_index(made.rows["cell"].astype(str))["opt"]
    for row in found.itertuples():
        assert len({texts[c].partition("int8")[2] for c in row.cells}) == 1


def test_a_curve_of_choices_that_share_a_parameter_starts_at_what_else_is_equal() -> None:
    """Both techniques have `images`: alone it is `opt.images`, together `opt.int8.images`."""
    made = table()
    steps = {"none": Choice("none"), "int8": Choice("int8", {"images": 256})}
    choices, images, own = {}, [], []
    for text in made.cells["opt"]:
        parts = [p for p in text.split("+") if p != "none"] or ["none"]
        choices[text] = tuple(
            steps.get(p) or Choice("thin", {"s": float(p[7:-1]), "images": 1000}, ("s",))
            for p in parts
        )
        alone = [str(c.params.get("images", "")) for c in choices[text]]
        images.append(alone[0] if len(parts) == 1 else "")
        own.append("256" if len(parts) == 2 else "")
    shared = changed(made, **{"opt.images": images, "opt.int8.images": own})
    shared = replace(
        shared, choices={"opt": choices},
        parameters=(*made.parameters, "opt.images", "opt.int8.images"),
    )  # fmt: skip
    found = curves(shared)
    assert {one.levels[0] for one in found.values()} == {0.0}
    assert found["a", "thin+int8"].accuracy[0] == pytest.approx(0.88)
    assert shared.inside["opt"].carriers("opt.int8.images") == {"int8"}
    assert shared.inside["opt"].carriers("opt.s") == {"thin"}
    # The same of a table of which nobody knows the choices.
    exported = changed(replace(shared, choices={}), **{"opt.thin.images": [
        "1000" if len(p) == 2 else "" for p in made.cells["opt"].str.split("+")
    ]})  # fmt: skip
    exported = replace(exported, parameters=(*shared.parameters, "opt.thin.images"))
    again = curves(exported)
    assert {k: one.levels for k, one in again.items()} == {
        k: one.levels for k, one in found.items()
    }


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("plain", [True, False])
def test_a_curve_never_starts_at_a_stack_with_its_own_technique(known: bool, plain: bool) -> None:
    """In a pipeline of two prunings neither's share is in the column of the one."""
    texts = {"none": "", "thin(s=0.5)": "0.5", "thin(s=0.8)": "0.8", "thin(s=0.5)+slim(s=0.6)": ""}
    rows = [
        {"model": m, "opt": o, "opt.s": s, "ms": 10 - 2 * i, "accuracy": 0.9 - i / 100,
         "accuracy_n": 10**6, "accuracy_drop": i / 100}
        for m in "ab" for i, (o, s) in enumerate(texts.items()) if plain or o != "none"
    ]  # fmt: skip
    made = load_table(pd.DataFrame(rows), layers=["model", "opt"], metric="ms", goals=GOALS)
    if known:
        thin = {s: Choice("thin", {"s": s}, ("s",)) for s in (0.5, 0.8)}
        choices = {
            "none": (Choice("none"),), "thin(s=0.5)": (thin[0.5],), "thin(s=0.8)": (thin[0.8],),
            "thin(s=0.5)+slim(s=0.6)": (thin[0.5], Choice("slim", {"s": 0.6}, ("s",))),
        }  # fmt: skip
        made = replace(made, choices={"opt": choices})
    levels = {tuple(one.levels) for one in curves(made).values()}
    assert levels == {(0.0, 0.5, 0.8) if plain else (0.5, 0.8)}


def test_another_network_is_no_network_of_no_width() -> None:
    rows = [
        {"model": m, "model.width": w, "rt": r, "ms": ms, "accuracy": 0.9 - ms / 1000,
         "accuracy_n": 10**6, "accuracy_drop": 0.01}
        for m, w, ms in (("r", "", 7.0), ("m(width=0.35)", "0.35", 6.0),
                         ("m(width=0.5)", "0.5", 8.0))
        for r in "xy"
    ]  # fmt: skip
    for baseline in ([], ["model=r"]):
        made = load_table(
            pd.DataFrame(rows), layers=["model", "rt"], metric="ms", goals=GOALS, baseline=baseline
        )
        assert {tuple(x) for x in elbows(made, estimate(made))["levels"]} == {(0.35, 0.5)}


@pytest.mark.parametrize(
    ("texts", "column"),
    [
        ({"cpu(1)": "1", "cpu(2)": "2", "cpu(4)": "4", "gpu": ""}, "hw.threads"),
        ({"thin(s=0.5)": "0.5", "thin(s=0.8)": "0.8", "none": ""}, "hw.sparsity"),
        ({"it(steps=[0.5,0.8])": "[0.5,0.8]", "it(steps=[0.5,0.9])": "[0.5,0.9]", "none": ""},
         "hw.steps"),
        ({"thin(s=0.5)": "0.5", "thin(s=0.8)": "0.8", "none": ""}, "hw.pruning.s"),
    ],
)  # fmt: skip
def test_a_text_may_name_a_parameter_otherwise_than_its_column(texts, column) -> None:
    rows = [{"model": m, "hw": t, column: p, "ms": 1.0 + i}
            for m in "ab" for i, (t, p) in enumerate(texts.items())]  # fmt: skip
    made = load_table(pd.DataFrame(rows), layers=["model", "hw"], metric="ms")
    found, _ = speedups(made, estimate(made))
    mine = found[found["factor"] == column]
    assert len(mine) == sum(p != "" for p in texts.values()) - 1
    assert (mine["contexts"] == 2).all()


def test_a_plain_curve_starts_at_the_plain_stack_whatever_the_baseline() -> None:
    found = curves(replace(table(), baseline={"opt": "int8"}))
    assert found["a", "thin"].accuracy[0] == pytest.approx(0.9)
    assert found["a", "thin+int8"].accuracy[0] == pytest.approx(0.88)


def test_without_a_stack_that_is_equal_but_for_it_a_curve_starts_later() -> None:
    """Never at float32 where the curve is int8's: the step would be that of int8."""
    found = curves(table(keep=lambda s, p: bool(s) or p == "none"))
    assert found["a", "thin"].levels == [0.0, 0.5, 0.8]
    assert found["a", "thin+int8"].levels == [0.5, 0.8]


def test_a_kind_with_parameters_is_a_contender_where_any_of_its_technique_is() -> None:
    near = {"opt": frozenset({"thin(mode=x,s=0.5)"})}
    assert all_near(near, ["opt=thin(mode=x)", "opt=thin with opt.s=0.8"])
    assert not all_near(near, ["opt=slim(mode=x)"])
