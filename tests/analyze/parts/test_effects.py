"""Paired speed-ups, losses, interactions, shares, winners: against tables worked by hand."""

import itertools

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf

from dlas.analyze import load_table
from dlas.analyze.estimate.noise import estimate
from dlas.analyze.parts.effects import losses, speedups
from dlas.analyze.parts.interactions import interactions, layer_pairs
from dlas.analyze.parts.shares import left_out, shares
from dlas.analyze.parts.winners import winner_maps, winners


def grid(y, names="abcdef", keep=None):
    """A table whose cells are an array of latencies; NaN is a hole."""
    y = np.asarray(y, dtype=float)
    rows = [
        {names[k]: f"{names[k]}{i}" for k, i in enumerate(place)} | {"ms": y[place]}
        for place in itertools.product(*map(range, y.shape))
        if np.isfinite(y[place])
    ]
    return pd.DataFrame(rows)


def load(y, **options):
    frame = grid(y)
    return load_table(frame, layers=[c for c in frame if c != "ms"], metric="ms", **options)


def parts(table, *functions):
    noise = estimate(table)
    return [f(table, noise) for f in functions]


def test_paired_speed_ups_by_hand():
    table = load([[8, 4], [6, 6], [1, np.nan]], baseline={"b": "b0"})
    ((one, contexts),) = parts(table, speedups)
    row = one.query("factor == 'b'").iloc[0]
    assert (row["level"], row["baseline"], row["contexts"]) == ("b1", "b0", 2)
    assert row["ratio"] == pytest.approx(np.sqrt(2 * 1))
    assert row["median"] == pytest.approx(np.sqrt(2))
    assert (row["least"], row["most"]) == (pytest.approx(1.0), pytest.approx(2.0))
    assert (row["surely_faster"], row["undecided"], row["slower"]) == (0.5, 0.5, 0.0)
    assert np.isnan(row["low"]) and np.isnan(row["p"])
    assert set(contexts.query("factor == 'b'")["context"]) == {"a=a0", "a=a1"}


def test_losses_by_hand():
    table = load([[8, 4, 5], [6, 3, 9], [7, 7, 7]], baseline={"b": "b0"})
    row = parts(table, losses)[0].set_index("layer").loc["b"]
    assert row["second_median"] == pytest.approx(5 / 4)
    assert row["baseline_median"] == pytest.approx(2.0)
    assert row["worst_median"] == pytest.approx(2.0)
    assert row["ties"] == pytest.approx(1 / 3)


def test_a_ratio_of_ratios_by_hand():
    y = np.array([[[8.0, 2.0], [4.0, 2.0]], [[9.0, 3.0], [5.0, 5.0]]])
    found = parts(load(y), interactions)[0]
    row = found.query("layer == 'b' and by == 'c'").iloc[0]
    # (b0/b1 at c0) / (b0/b1 at c1): 2/1 in context a0, (9/5)/(3/5) in a1.
    assert row["contexts"] == 2
    assert row["ratio"] == pytest.approx(np.sqrt(2 * 3))
    assert (row["least"], row["most"]) == (pytest.approx(2), pytest.approx(3))


def test_a_hole_takes_its_context_out_of_an_interaction():
    y = np.array([[[8.0, 2.0], [4.0, 2.0]], [[9.0, 3.0], [5.0, np.nan]]])
    row = parts(load(y), interactions)[0].query("layer == 'b' and by == 'c'").iloc[0]
    assert row["contexts"] == 1 and row["ratio"] == pytest.approx(2)


def test_no_interaction_where_effects_multiply():
    y = np.exp(np.add.outer(np.add.outer([0, 0.3], [0, 1.0, 2.0]), [0, 0.5]))
    found = parts(load(y), interactions)[0]
    assert found["ratio"].to_numpy() == pytest.approx(1.0)
    assert not layer_pairs(found, 0.05)["found"].any()


def test_shares_on_a_balanced_grid_are_those_of_the_analysis_of_variance():
    rng = np.random.default_rng(2)
    y = np.exp(rng.normal(size=(3, 4, 2)))
    frame = grid(y).assign(log=lambda f: np.log(f["ms"]))
    fit = smf.ols("log ~ (C(a) + C(b) + C(c)) ** 2", frame).fit()
    anova = sm.stats.anova_lm(fit)["sum_sq"]
    anova = anova / anova.sum()
    found = parts(load(y), shares)[0].set_index("term")["share"]
    for term, name in (
        ("a", "C(a)"),
        ("b", "C(b)"),
        ("a x b", "C(a):C(b)"),
        ("b x c", "C(b):C(c)"),
    ):
        assert found[term] == pytest.approx(anova[name], abs=1e-6)
    assert found["higher orders and noise"] == pytest.approx(anova["Residual"], abs=1e-6)


def test_shares_with_holes_add_up():
    rng = np.random.default_rng(4)
    y = np.exp(rng.normal(size=(3, 4, 5)))
    y.flat[rng.choice(60, 24, replace=False)] = np.nan
    found = parts(load(y), shares)[0]
    summed = found[found["kind"].isin(["layer", "pair", "rest"])]["share"].sum()
    assert summed == pytest.approx(1.0)
    assert (found.query("kind == 'layer'")["share"] > -1e-9).all()


def test_shapley_share_is_the_mean_over_orders():
    rng = np.random.default_rng(8)
    y = np.exp(rng.normal(size=(3, 3)))
    y[0, 1] = y[2, 2] = np.nan
    frame = grid(y).assign(log=lambda f: np.log(f["ms"]))

    def r2(formula):
        return smf.ols(f"log ~ {formula}", frame).fit().rsquared

    alone, last = r2("C(a)"), r2("C(a) + C(b)") - r2("C(b)")
    found = parts(load(y), shares)[0].set_index("term")["share"]
    assert found["a"] == pytest.approx((alone + last) / 2, abs=1e-6)


def test_confounded_layers_are_said_to_be():
    frame = pd.DataFrame({"a": ["p", "p", "q", "q"], "b": ["x", "x", "y", "y"], "c": list("uvuv")})
    table = load_table(frame.assign(ms=[1.0, 2.0, 3.0, 5.0]), layers="a,b,c", metric="ms")
    found = parts(table, shares)[0].query("kind == 'layer'").set_index("term")
    assert found["confounded"].to_dict() == {"a": True, "b": True, "c": False}
    assert found["share"]["a"] == pytest.approx(found["share"]["b"])


def test_one_straw_man_makes_its_layer_matter_most():
    effect = [0.0, 0.05, 4.0]
    y = np.exp(np.add.outer(effect, [0.0, 0.8, 1.6]))
    found = parts(load(y), left_out)[0].set_index(["layer", "level"])
    assert found.loc[("", ""), "order"] == "a > b"
    assert found.loc[("a", "a2"), "order"] == "b > a"
    assert found.loc[("a", "a2"), "changed"]
    assert not found.loc[("b", "b0"), "changed"]


def test_winners_and_ties_within_the_floor():
    table = load([[1.0, 1.02, 3.0], [2.0, 1.0, 3.0]])
    found = parts(table, winners)[0].query("layer == 'b'").set_index("level")
    assert found["best"].to_dict() == {"b0": 1, "b1": 1, "b2": 0}
    assert found["clearly"].to_dict() == {"b0": 0, "b1": 1, "b2": 0}
    assert found["tied"].to_dict() == {"b0": 0, "b1": 1, "b2": 0}


def test_a_winner_map_is_fair_to_holes():
    # b1 is better wherever both are, but only b0 was measured in the fast context.
    y = np.full((1, 2, 1, 3), np.nan)
    y[0, 0, 0] = [1.0, 10.0, 20.0]
    y[0, 1, 0] = [np.nan, 5.0, 10.0]
    frame = grid(y)
    frame = pd.concat([frame, frame.assign(a="a1"), frame.assign(c="c1")])
    table = load_table(frame, layers="a,b,c,d", metric="ms")
    found = parts(table, winner_maps)[0]
    row = found.query("layer == 'b' and row == 'a0' and column == 'c0'").iloc[0]
    assert row["best"] == "b1" and row["contexts"] == 2
    assert row["over_second"] == pytest.approx(2.0)
    assert row["tied"] == []
