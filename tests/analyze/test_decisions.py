"""Flips, break-evens, ordered factors, expectations, the front, goals: by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlas.analyze import load_table
from dlas.analyze.estimate.noise import estimate
from dlas.analyze.parts.breakeven import break_evens
from dlas.analyze.parts.expected import expected
from dlas.analyze.parts.flips import flip_counts, flips
from dlas.analyze.parts.ordered import returns, scaling
from dlas.analyze.parts.pareto import front
from dlas.analyze.parts.taken import best


def load(rows, columns, **options):
    frame = pd.DataFrame(rows, columns=columns)
    return load_table(frame, **({"metric": "ms"} | options))


def done(table, function):
    return function(table, estimate(table))


FLIP = [("a", 1, 1.0), ("b", 1, 2.0), ("a", 2, 3.0), ("b", 2, 2.0)]


def test_a_flip_without_noise_needs_the_floor_on_both_sides():
    table = load(FLIP, ["x", "t", "ms"], layers="x,t")
    found = done(table, flips).query("layer == 'x'")
    row = found.iloc[0]
    assert (row["by"], row["better_at"], row["worse_at"]) == ("t", "t=1", "t=2")
    assert row["ratio_better"] == pytest.approx(2) and row["ratio_worse"] == pytest.approx(2 / 3)
    assert row["cells_better"] == ["a / 1", "b / 1"]
    assert np.isnan(row["p"])
    assert not len(done(load(FLIP, ["x", "t", "ms"], layers="x,t", floor=0.6), flips))
    assert flip_counts(found)[["layer", "by", "pairs"]].to_numpy().tolist() == [["x", "t", 1]]


def in_rounds(rows, noise, rounds=3, seed=0):
    rng = np.random.default_rng(seed)
    return [
        (*row[:-1], k, row[-1] * np.exp(rng.normal(0, noise)))
        for row in rows
        for k in range(rounds)
    ]


@pytest.mark.parametrize(("noise", "flipped"), [(0.01, True), (0.5, False)])
def test_a_flip_with_noise_needs_both_tests(noise, flipped):
    rows = in_rounds(FLIP, noise)
    table = load(rows, ["x", "t", "k", "ms"], layers="x,t", rounds="k")
    found = done(table, flips).query("layer == 'x'")
    assert (len(found) > 0) == flipped
    if flipped:
        assert found["p"].iloc[0] < 0.05


def test_one_bad_round_makes_no_flip():
    rows = [(x, t, k, v) for x, t, v in FLIP[:2] for k in range(3)]
    rows += [(x, t, k, v) for (x, t, v) in (("a", 2, 1.0), ("b", 2, 1.02)) for k in range(3)]
    rng = np.random.default_rng(0)
    rows += [(f"c{i}", 1, k, 5.0) for i in range(40) for k in range(3)]
    rows = [(*r[:3], r[3] * np.exp(rng.normal(0, 0.005))) for r in rows]
    # One of three rounds of a at t=2 took nine times as long.
    bad = [(*r[:3], r[3] * (9 if r[:3] == ("a", 2, 0) else 1)) for r in rows]
    table = load(bad, ["x", "t", "k", "ms"], layers="x,t", rounds="k")
    found = done(table, flips)
    assert not len(found.query("a == 'a' and b == 'b'"))


def test_a_break_even_by_hand():
    rows = [("dense", s, 4.0) for s in (0.5, 0.7, 0.9)]
    rows += [("sparse", 0.5, 8.0), ("sparse", 0.7, 5.0), ("sparse", 0.9, 2.0)]
    table = load(rows, ["x", "s", "ms"], layers="x,s")
    row = done(table, break_evens).query("factor == 's'").iloc[0]
    up, down = np.log(5 / 4), np.log(4 / 2)
    assert row["verdict"] == "crosses"
    assert row["level"] == pytest.approx(0.7 + 0.2 * up / (up + down))
    assert (row["below"], row["above"]) == (pytest.approx(2), pytest.approx(0.5))
    assert row["cells"] == ["dense / 0.7", "sparse / 0.7", "dense / 0.9", "sparse / 0.9"]


def test_no_break_even_in_range_and_none_that_can_be_told():
    rows = [("p", s, 4.0) for s in (1, 2)] + [("q", 1, 2.0), ("q", 2, 3.0)]
    found = done(load(rows, ["x", "s", "ms"], layers="x,s"), break_evens).query("layer == 'x'")
    assert found["verdict"].tolist() == ["none in range"]
    rows[-1] = ("q", 2, 4.1)
    found = done(load(rows, ["x", "s", "ms"], layers="x,s"), break_evens).query("layer == 'x'")
    assert found["verdict"].tolist() == ["cannot tell"]


def test_the_interval_of_a_break_even_is_the_inverted_test():
    """At its ends the t statistic of the interpolated difference is the critical one."""
    from scipy import stats

    rows = in_rounds(
        [("p", s, 4.0) for s in (0.0, 1.0)] + [("q", 0.0, 4.4), ("q", 1.0, 3.6)], 0.02, rounds=5
    )
    table = load(rows, ["x", "s", "k", "ms"], layers="x,s", rounds="k", strata=[])
    noise = estimate(table)
    noise = replace(noise, median=noise.mean)
    row = break_evens(table, noise).query("layer == 'x'").iloc[0]
    place = {c: i for i, c in enumerate(table.cells["cell"])}
    d = [noise.mean[place[f"p / {s}"]] - noise.mean[place[f"q / {s}"]] for s in (0, 1)]
    v = float(noise.var[0].sum()) * 2
    crit = stats.t.ppf(0.975, noise.df[0])
    for end in (row["low"], row["high"]):
        mean = (1 - end) * d[0] + end * d[1]
        se = np.sqrt((1 - end) ** 2 * v + end**2 * v)
        assert abs(mean / se) == pytest.approx(crit, rel=1e-6)
    assert row["low"] < row["level"] < row["high"]


def test_a_break_even_inside_a_layer_shares_its_partner():
    rows = [("none", "", 4.0), ("cut(s=0.5)", 0.5, 5.0), ("cut(s=0.9)", 0.9, 3.0)]
    frame = pd.DataFrame(rows, columns=["o", "o.s", "ms"]).replace("", np.nan)
    frame = pd.concat([frame.assign(m="m1"), frame.assign(m="m2")])
    table = load_table(frame, layers=["m", "o"], metric="ms")
    found = done(table, break_evens).query("layer == 'o'")
    assert found["context"].tolist() == ["(average)", "m=m1", "m=m2"]
    assert found["a"].iloc[0] == "cut" and found["b"].iloc[0] == "none"
    assert 0.5 < found["level"].iloc[0] < 0.9


def test_scaling_names_gains_and_losses():
    rows = [("p", t, v) for t, v in ((1, 4.0), (2, 2.0), (4, 3.0))]
    rows += [("q", t, v) for t, v in ((1, 1.0), (2, 1.5), (4, 2.0))]
    rows += [("r", t, v) for t, v in ((1, 4.0), (2, 2.0), (4, 5.0))]
    found = done(load(rows, ["x", "t", "ms"], layers="x,t"), scaling).set_index("context")
    assert found["shape"].to_dict() == {
        "x=p": "gains, best at 2",
        "x=q": "loses",
        "x=r": "loses, best at 2",
    }
    assert found.loc["x=p", "gain"] == pytest.approx(4 / 3)


def test_more_that_does_not_pay():
    rows = [(r, v, a) for r, v, a in ((0.3, 4.0, 0.9), (0.5, 3.0, 0.89), (0.7, 2.98, 0.85))]
    table = load(rows, ["r", "ms", "accuracy"], layers="r")
    found = done(table, returns)
    assert found["pays"].tolist() == [True, False]
    assert found["cost_change"].tolist() == [pytest.approx(-0.01), pytest.approx(-0.04)]


def test_expected_against_observed():
    rows = [("p", "full", 8.0, 100), ("p", "half", 4.0, 50)]
    rows += [("q", "full", 8.0, 100), ("q", "half", 7.0, 50)]
    table = load(rows, ["m", "o", "ms", "macs"], layers="m,o", baseline=["o=full"])
    found = done(table, lambda t, e: expected(t, e)[0]).query("factor == 'o'")
    verdicts = {(r.by, r.at): r.verdict for r in found.itertuples()}
    assert verdicts == {
        ("", ""): "over-predicts",
        ("m", "p"): "predicts",
        ("m", "q"): "over-predicts",
    }
    whole = found.iloc[0]
    assert whole["expected"] == pytest.approx(2)
    assert whole["observed"] == pytest.approx(np.sqrt(2 * 8 / 7))
    assert whole["achieved"] == pytest.approx(whole["observed"] / 2)


POINTS = st.lists(
    st.tuples(st.integers(1, 30), st.integers(0, 30)), min_size=1, max_size=25, unique=True
)


@settings(max_examples=25, deadline=None)
@given(POINTS)
def test_a_cell_on_the_front_is_never_dominated(points):
    rows = [(f"c{i}", float(ms), acc / 30) for i, (ms, acc) in enumerate(points)]
    table = load(rows, ["x", "ms", "accuracy"], layers="x", floor=0.0)
    found = done(table, front)
    on = found[found["front"] == "on the front"]
    assert len(on) >= 1
    for r in on.itertuples():
        better = (found["ms"] <= r.ms) & (found["accuracy"] >= r.accuracy)
        strictly = (found["ms"] < r.ms) | (found["accuracy"] > r.accuracy)
        assert not (better & strictly).any()
    for r in found[found["front"] == "dominated"].itertuples():
        by = found[found["cell"] == r.dominated_by].iloc[0]
        assert by["ms"] <= r.ms and by["accuracy"] >= r.accuracy


def test_a_cell_within_noise_of_the_front_may_be_on_it():
    rows = in_rounds([("a", 0.9, 1.0), ("b", 0.8, 1.01), ("c", 0.7, 2.0)], 0.02)
    table = load(rows, ["x", "accuracy", "k", "ms"], layers="x", rounds="k")
    found = done(table, front).set_index("cell")["front"]
    assert found.to_dict() == {"a": "on the front", "b": "may be on the front", "c": "dominated"}


def test_a_metric_nobody_measured_has_no_say_on_the_front():
    rows = [("a", 1.0, None), ("b", 2.0, None)]
    table = load(rows, ["x", "ms", "mb"], layers="x", goals={"minimize": ["ms", "mb"]})
    found = done(table, front)
    assert found[["cell", "front"]].to_numpy().tolist() == [
        ["a", "on the front"],
        ["b", "dominated"],
    ]


GOALS = {"minimize": ["ms"], "accuracy_drop_at_most": 0.02}


def goal_table(rows):
    columns = ["x", "ms", "accuracy_drop", "flips", "accuracy_n"]
    return load(rows, columns, layers="x", goals=GOALS)


def test_goals_meet_fail_and_cannot_tell():
    table = goal_table(
        [("a", 1.0, 0.10, 150, 1000), ("b", 2.0, 0.019, 60, 1000), ("c", 3.0, 0.0, 4, 1000)]
    )
    found = done(table, best)
    verdicts = found.verdicts.set_index("cell")["verdict"].to_dict()
    assert verdicts == {"a": "fails", "b": "cannot tell", "c": "meets"}
    assert (found.cell, found.sure) == ("c", True)
    assert found.runners_up["cell"].tolist() == ["b"]
    assert found.runners_up["meets"].tolist() == [False]


def test_no_label_changed_in_a_hundred_still_leaves_points_open():
    """Tango's interval: z^2 / (n + z^2) where no label changed; McNemar's where many did."""
    found = done(goal_table([("a", 1.0, 0.0, 0, 100)]), best).verdicts.iloc[0]
    end = 1.959964**2 / (100 + 1.959964**2)
    assert (found["low"], found["high"]) == (pytest.approx(-end), pytest.approx(end))
    assert found["verdict"] == "cannot tell"
    many = done(goal_table([("a", 1.0, 0.02, 5000, 100_000)]), best).verdicts.iloc[0]
    half = 1.959964 * np.sqrt((0.05 - 0.02**2) / 100_000)
    assert many["high"] - 0.02 == pytest.approx(half, rel=0.01)


def test_no_cell_surely_meets_the_goals():
    found = done(goal_table([("a", 1.0, 0.02, 50, 1000), ("b", 2.0, 0.5, 500, 1000)]), best)
    assert (found.cell, found.sure) == ("a", False)
    nothing = done(goal_table([("b", 2.0, 0.5, 500, 1000)]), best)
    assert nothing.cell == ""


def test_runners_up_are_those_noise_cannot_tell_apart():
    rows = in_rounds([("a", 1.0), ("b", 1.005), ("c", 1.5)], 0.01)
    table = load(rows, ["x", "k", "ms"], layers="x", rounds="k")
    found = done(table, best)
    assert {found.cell, *found.runners_up["cell"]} == {"a", "b"}
