"""Findings mean what they say: coverage, costs, contenders, conditions, and no false winner."""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from dlas.analyze import analyze, load_table
from dlas.analyze.conclusion import Finding
from dlas.analyze.estimate.noise import estimate
from dlas.analyze.parts.breakeven import break_evens
from dlas.analyze.parts.contenders import all_near, contenders, near_best
from dlas.analyze.parts.flips import flips
from dlas.analyze.parts.interactions import interactions, layer_pairs
from dlas.analyze.parts.ordered import scaling
from dlas.analyze.parts.regret import regrets
from dlas.analyze.parts.shares import left_out
from dlas.analyze.tell.findings import _once_a_fact, _ranked
from dlas.analyze.tell.shares import _matters


def load(rows, columns, **options):
    frame = pd.DataFrame(rows, columns=columns)
    return load_table(frame, **({"metric": "ms"} | options))


def kind(analysis, name):
    return [f for f in analysis.findings if f.kind == name]


def in_rounds(rows, noise=0.005, rounds=3, seed=0):
    """Repeat rows whose last number is a time."""
    rng = np.random.default_rng(seed)
    return [
        (*row[:-1], k, row[-1] * np.exp(rng.normal(0, noise)))
        for row in rows
        for k in range(rounds)
    ]


# ---------------------------------------------------------------- coverage and costs


def fails_on_large(word="failed"):
    """Runtime b is 30 % faster where both run, and fails on the large network."""
    rows = []
    for net, size in (("s", 1.0), ("m", 2.0), ("l", 9.0)):
        for threads in ("one", "two"):
            rows.append((net, threads, "a", "complete", size, 0.90, 40.0))
            failed = net == "l"
            rows.append((net, threads, "b", word if failed else "complete",
                         np.nan if failed else size / 1.3, 0.88, 20.0))  # fmt: skip
    columns = ["net", "threads", "run", "status", "ms", "accuracy", "memory_mb"]
    return load(rows, columns, layers="net,threads,run", baseline=["run=a"])


def test_a_choice_that_fails_somewhere_is_told_with_its_coverage_and_its_costs():
    (found,) = [f for f in kind(analyze(fails_on_large()), "speed-up") if f.layers == ("run",)]
    assert found.choices == ("run=b", "run=a")
    some = found.coverage
    assert (some.contexts, some.of, some.failed) == (4, 6, 2)
    assert (some.surely, some.against, some.undecided) == (4, 0, 0)
    assert "both ran in 4 of 6 contexts (it was tried and did not run in 2)" in found.sentence
    costs = {c.name: c for c in found.costs}
    assert costs["accuracy"].change == pytest.approx(-0.02) and costs["accuracy"].worse
    assert costs["memory_mb"].change == pytest.approx(0.5) and not costs["memory_mb"].worse
    assert "it costs 2.00 points of accuracy, saves 50 % of memory" in found.sentence


def test_of_a_worse_choice_it_is_said_who_failed_and_who_meets_the_goals():
    told = analyze(replace(fails_on_large(), baseline={"run": "b"}))
    (found,) = [f for f in kind(told, "speed-up") if f.layers == ("run",)]
    assert found.sentence.startswith("run=a is 30 % slower than b")
    assert "both ran in 4 of 6 contexts (b was tried and did not run in 2)" in found.sentence
    assert "b costs 2.00 points of accuracy, saves 50 % of memory" in found.sentence


@pytest.mark.parametrize("word", ["impossible", "unavailable", "pending"])
def test_what_a_rule_refuses_was_not_tried(word):
    (found,) = [f for f in kind(analyze(fails_on_large(word)), "speed-up") if f.layers == ("run",)]
    assert (found.coverage.contexts, found.coverage.of, found.coverage.failed) == (4, 6, 0)
    assert "it was tried and did not run" not in found.sentence


def test_it_is_no_winner_over_what_it_never_ran():
    (found,) = [f for f in kind(analyze(fails_on_large()), "dominance") if "run=b" in f.choices]
    assert "in all" not in found.sentence
    assert "where it ran, 4 of 6 contexts (in 2 it was tried and did not run)" in found.sentence
    assert found.coverage.failed == 2


def test_what_all_contexts_share_is_said_and_a_lone_level_is_no_condition():
    rows = [("d", r, k, v) for r, k, v in (("p", "x", 4.0), ("p", "y", 1.0), ("q", "x", 3.0))]
    rows += [("d", "q", "z", 2.9), ("d", "r", "x", 3.1)]
    table = load(rows, ["data", "run", "kernel", "ms"], layers="data,run,kernel",
                 baseline=["kernel=x"])  # fmt: skip
    told = {f.choices[0]: f for f in kind(analyze(table), "speed-up")}
    assert told["kernel=y"].coverage.shared == ("run=p",)
    assert not any("data=d" in f.sentence for f in analyze(table).findings)


def test_of_parameters_that_the_same_cells_have_one_is_said():
    """All that thin has says that it is thin: the parameter that was chosen, not its defaults."""
    rows = []
    for net, t in (("p", 1.0), ("q", 2.0)):
        rows.append((net, "none", None, None, None, "dense", 4 * t))
        for b in (1, 4):
            thin = (net, f"thin(b={b},s=9)", b, 0.1, 9)
            rows += [(*thin, "dense", 4 * t), (*thin, "csr", 2 * t)]
    names = ["net", "o", "o.b", "o.lr", "o.s", "kernel", "ms"]
    table = load(rows, names, layers="net,o,kernel", baseline=["kernel=dense"])
    (told,) = [f for f in kind(analyze(table), "speed-up") if "kernel=csr" in f.choices]
    assert told.coverage.shared == ("o.s=9",)


def test_a_parameter_that_a_choice_does_not_have_is_no_condition():
    rows = [("p", "thin(s=1)", 1, None, 4.0), ("p", "thin(s=2)", 2, None, 3.0),
            ("p", "few(bits=4)", None, 4, 2.0), ("p", "few(bits=8)", None, 8, 2.5)]  # fmt: skip
    rows += [("q", *r[1:-1], 2 * r[-1]) for r in rows]
    table = load(rows, ["net", "o", "o.s", "o.bits", "ms"], layers="net,o")
    told = [f for f in analyze(table).findings if f.layers == ("o.bits",) and f.coverage]
    assert told
    assert not any("(empty)" in text for f in told for text in (f.sentence, *f.coverage.shared))


@pytest.mark.parametrize(("p", "sure"), [(0.02, False), (0.012, True)])
def test_the_dearest_of_several_layers_has_to_be_sure_by_so_much_more(p, sure):
    """One of four layers is below 5 % by chance in nearly a fifth of all tables."""
    found = pd.DataFrame({"p": [p, 0.5, 0.8, np.nan], "ratio": [1.1, 1.02, 0.99, 1.0]})
    analysis = SimpleNamespace(estimates=SimpleNamespace(known=True))
    assert _matters(analysis, found).tolist() == [sure, False, False, False]
    better = found.assign(p=0.001, ratio=[1.1, 0.9, 0.9, 0.9])
    assert _matters(analysis, better).tolist() == [True, False, False, False]


def test_the_goals_decide_in_how_many_contexts_a_choice_may_be_taken():
    rows = [("p", "a", 2.0, 0.0), ("p", "b", 1.0, 0.0), ("q", "a", 2.0, 0.0), ("q", "b", 1.0, 0.5)]
    table = load(rows, ["net", "o", "ms", "drop"], layers="net,o", baseline=["o=a"],
                 goals={"minimize": ["ms"], "drop_at_most": 0.1})  # fmt: skip
    (found,) = [f for f in kind(analyze(table), "speed-up") if f.layers == ("o",)]
    assert found.meets == 1
    assert "it surely meets the goals in 1 of 2 contexts, a in 2" in found.sentence


# ---------------------------------------------------------------- break-evens


LEVELS = (1, 2, 4, 8, 16, 32)


def curves(*signs, noise=0.004):
    rows = []
    for context, curve in zip("pqrs", signs, strict=False):
        for level, sign in zip(LEVELS, curve, strict=True):
            rows += [(context, "a", level, 4.0), (context, "b", level, 4.0 * 1.1**sign)]
    return load(in_rounds(rows, noise), ["c", "x", "n", "i", "ms"], layers="c,x,n", rounds="i")


def told_break_evens(table):
    return [f for f in kind(analyze(table), "break-even") if f.layers == ("n", "x")]


def test_the_segment_that_surely_crosses_is_told():
    (found,) = told_break_evens(curves((0, 0, 0, 1, 1, -1), (0, 0, 0, 1, 1, -1)))
    assert 16 <= found.numbers["level"] <= 32
    assert found.choices == ("x=b", "x=a")
    assert (found.coverage.surely, found.coverage.contexts) == (2, 2)


def test_several_crossings_are_said():
    found = told_break_evens(curves((1, 1, -1, -1, 1, 1)))
    rows = break_evens(*_estimated(curves((1, 1, -1, -1, 1, 1))))
    row = rows[(rows["factor"] == "n") & (rows["layer"] == "x")].iloc[0]
    assert row["crossings"] == 2 and row["again"] == [["8", "16"]]
    assert "it turns back to a between n 8 and 16" in found[0].sentence


def _estimated(table):
    return table, estimate(table)


def test_no_break_even_where_only_the_mean_crosses():
    table = curves((3, 3, 2, 2, 1, 1), (-1, -1, -2, -2, -3, -3))
    rows = break_evens(*_estimated(table))
    mean = rows[(rows["layer"] == "x") & (rows["context"] == "(average)")].iloc[0]
    assert mean["verdict"] == "crosses"
    assert not told_break_evens(table)


# ---------------------------------------------------------------- flips


def test_a_pair_turned_only_by_two_layers_together_names_both():
    """Only where both are other does b win: neither turns it from everywhere by itself."""
    rows = []
    for m, n in itertools.product((1, 2), (1, 2)):
        gap = {(1, 1): -2.0, (2, 2): 2.0}.get((m, n), 0.0)
        rows += [(f"m{m}", f"n{n}", "a", 4.0), (f"m{m}", f"n{n}", "b", 4.0 * 1.1**-gap)]
    table = load(in_rounds(rows), ["m", "n", "x", "i", "ms"], layers="m,n,x", rounds="i")
    (row,) = flips(*_estimated(table)).query("layer == 'x'").to_dict("records")
    assert (row["by"], row["alone"]) == ("m, n", False)
    (found,) = [f for f in kind(analyze(table), "flip") if f.layers[0] == "x"]
    assert "m and n flip x, only together" in found.sentence


def test_averages_that_no_single_context_turns_name_no_layer_alone():
    """m moves b by twice as much in both contexts of n, and turns it in neither."""
    rows = []
    for (m, n), gap in {(1, 1): -3, (1, 2): 1, (2, 1): -1, (2, 2): 3}.items():
        rows += [(f"m{m}", f"n{n}", "a", 4.0 * 1.1**gap), (f"m{m}", f"n{n}", "b", 4.0)]
    table = load(in_rounds(rows), ["m", "n", "x", "i", "ms"], layers="m,n,x", rounds="i")
    found = flips(*_estimated(table)).query("layer == 'x'")
    assert found["by"].tolist() == ["n"] and found["alone"].all()


# ---------------------------------------------------------------- interactions and bad rounds


def with_a_bad_round(rows, which):
    return [(*r[:-1], r[-1] * (3.0 if r[:-1] in which else 1.0)) for r in rows]


@pytest.mark.parametrize("rounds", [3, 5])
def test_one_bad_round_makes_no_interaction_and_no_scaling(rounds):
    rows = [
        (f"a{i}", n, 4.0 + i) for i, n in itertools.product(range(12), (1, 2))
    ]  # fmt: skip
    bad = with_a_bad_round(in_rounds(rows, 0.003, rounds), {("a0", 2, 1)})
    table = load(bad, ["a", "n", "i", "ms"], layers="a,n", rounds="i", strata=[])
    both = estimate(table)
    # The noise of the quiet cells, as if the bad round had not been pooled into it.
    quiet = estimate(load(in_rounds(rows, 0.003, rounds), ["a", "n", "i", "ms"], layers="a,n",
                          rounds="i", strata=[]))  # fmt: skip
    noise = replace(both, var=quiet.var, df=quiet.df)
    assert not (interactions(table, noise)["q"] < 0.05).any()
    shapes = scaling(table, noise).set_index("context")["shape"]
    assert not shapes["a=a0"].startswith("loses")
    unguarded = replace(noise, median=noise.mean)
    assert (interactions(table, unguarded)["q"] < 0.05).any()


def test_the_largest_of_many_interactions_is_shrunk():
    rng = np.random.default_rng(5)
    rows = [(f"a{i}", f"b{j}", float(np.exp(rng.normal(0, 0.02)))) for i in range(5)
            for j in range(5)]  # fmt: skip
    table = load(in_rounds(rows, 0.1), ["a", "b", "i", "ms"], layers="a,b", rounds="i")
    found = interactions(*_estimated(table))
    size, likely = (np.abs(np.log(found[c])) for c in ("ratio", "likely"))
    assert (likely <= size + 1e-12).all()
    assert likely.max() < 0.8 * size.max()


def test_a_runtime_that_two_hosts_disagree_on_is_told_by_host():
    rows = []
    for host, net, run in itertools.product(("h1", "h2"), ("p", "q", "r"), ("a", "b")):
        sign = {"h1": 1.5, "h2": 1 / 1.5}[host] if run == "b" else 1.0
        rows.append((host, net, run, {"p": 1.0, "q": 2.0, "r": 3.0}[net] * sign))
    table = load(in_rounds(rows), ["host", "net", "run", "i", "ms"], layers="net,run", rounds="i")
    found = analyze(table)
    by = [f for f in kind(found, "interaction") if f.layers == ("run", "host")]
    assert by and by[0].certainty == "significant"
    assert "host" not in set(layer_pairs(found.interactions, 0.05)["by"])
    pair = found.shares[found.shares["term"] == "run x host"]["share"].iloc[0]
    assert pair > 0.1
    assert not [f for f in kind(found, "speed-up") if f.layers == ("run",)]


# ---------------------------------------------------------------- importance


def regret_table(straw=1.0):
    """Left at a0 the best is 2 times as slow, left at b0 1.5 times; c is a straw man's layer."""
    rows = []
    for net, a, b in itertools.product(("p", "q"), ("a0", "a1", "a2"), ("b0", "b1")):
        ms = {"p": 1.0, "q": 5.0}[net] * {"a0": 2.0, "a1": 1.0, "a2": straw}[a]
        rows.append((net, a, b, ms * {"b0": 1.5, "b1": 1.0}[b]))
    return load(in_rounds(rows, 0.003), ["net", "a", "b", "i", "ms"], layers="net,a,b", rounds="i",
                given=["net"], baseline=["a=a0", "b=b0"])  # fmt: skip


@pytest.mark.parametrize("straw", [3.0, 300.0])
def test_importance_is_what_a_default_costs_and_no_straw_man_moves_it(straw):
    found = regrets(*_estimated(regret_table(straw))).set_index("layer")
    assert list(found.index) == ["a", "b"]
    assert found["ratio"].tolist() == pytest.approx([2.0, 1.5], rel=0.02)
    assert (found["low"] > 1).all() and (found["groups"] == 2).all()
    (told,) = kind(analyze(regret_table(straw)), "importance")
    assert told.sentence.startswith(
        "a matters most for ms: left at a0, the best stack that can be"
    )
    assert not found["confounded"].any()


def test_layers_that_go_together_are_said_to_be_confounded_with_what_would_tell():
    rows = [(f"n{i}", a, f"b{a[1]}", {"a0": 2.0, "a1": 1.0}[a] + i)
            for i in range(4) for a in ("a0", "a1")]  # fmt: skip
    table = load(in_rounds(rows, 0.003), ["n", "a", "b", "i", "ms"], layers="n,a,b", rounds="i",
                 given=["n"], baseline=["a=a0", "b=b0"])  # fmt: skip
    found = regrets(*_estimated(table)).set_index("layer")
    assert found.loc["a", "confounded"] == ["b"] and found.loc["b", "confounded"] == ["a"]
    (told,) = kind(analyze(table), "importance")
    assert "are confounded" in told.sentence and "a=a0" in told.sentence


def test_a_level_without_which_another_layer_collapses_proves_nothing():
    rows = [("p", "x", 1.0), ("p", "y", 2.0), ("q", "x", 9.0), ("r", "x", 4.0), ("s", "x", 2.0)]
    table = load(rows, ["a", "b", "ms"], layers="a,b")
    found = left_out(*_estimated(table)).set_index(["layer", "level"])["collapses"]
    assert found[("a", "p")] and not found[("a", "q")]


# ---------------------------------------------------------------- baselines and what to take


def test_a_straw_man_first_in_the_file_is_no_baseline():
    rows = [(r, n, v * n) for r, v in (("straw", 9.0), ("good", 1.0), ("fair", 1.2))
            for n in (1, 2, 3)]  # fmt: skip
    table = load(rows, ["run", "net", "ms"], layers="run,net")
    assert table.reference("run") == "fair"
    assert load(rows[:6], ["run", "net", "ms"], layers="run,net").reference("run") == "good"
    assert load(rows, ["run", "net", "ms"], layers="run,net",
                baseline=["run=straw"]).reference("run") == "straw"  # fmt: skip


def test_what_a_person_would_have_had_is_the_baseline_of_a_stack():
    rows = [(o, n, 1.0) for o in ("cut(s=0.5)", "cut(s=0.9)", "none") for n in range(3)]
    table = load(rows[:-1], ["optimization", "net", "ms"], layers="optimization,net")
    assert table.reference("optimization") == "none"


def test_of_those_that_cannot_be_told_apart_the_simplest_is_taken_and_rivals_are_named():
    rows = [("none", 1.02), ("tiny", 1.0), ("cut", 3.0)]
    table = load(in_rounds(rows, 0.03), ["optimization", "i", "ms"], layers="optimization",
                 rounds="i")  # fmt: skip
    found = analyze(table)
    assert found.best.cell == "none" and found.best.runners_up["cell"].tolist() == ["tiny"]
    assert found.best.stack == {"optimization": "none"}
    (told,) = kind(found, "best")
    assert told.sentence.startswith("Take optimization=none: ms ")
    assert "optimization=tiny (" in told.sentence
    further = load(
        [(*r, {"none": 90.0, "tiny": 30.0, "cut": 10.0}[r[0]]) for r in in_rounds(rows, 0.03)],
        ["optimization", "i", "ms", "mb"], layers="optimization", rounds="i",
        goals={"minimize": ["ms", "mb"]},
    )  # fmt: skip
    assert analyze(further).best.cell == "tiny"


# ---------------------------------------------------------------- expectations, order of findings


def test_a_runtime_promises_nothing_and_a_type_that_did_not_run_is_said():
    rows = []
    for run, o in itertools.product(("p", "q"), ("full", "half")):
        runs = "float16" if (run, o) == ("p", "half") else "float32"
        ms = {("p", "full"): 1.0, ("p", "half"): 30.0, ("q", "full"): 1.2, ("q", "half"): 1.2}
        rows.append((run, o, ms[run, o], runs))
    table = load(rows, ["software", "optimization", "ms", "ran_precision"],
                 layers="software,optimization", baseline=["optimization=full"])  # fmt: skip
    told = kind(analyze(table), "expectation")
    assert {f.layers[0] for f in told} == {"optimization"}
    assert (
        "A narrower type (ran_precision) promises optimization=half to be 2.00 times faster"
        in (told[0].sentence)
    )
    assert "it is 30.0 times slower" in told[0].sentence
    assert "In 1 of 2 contexts it ran in float32 like full" in told[0].sentence


def finding(kind_, ratio, fact="", contender=True):
    return Finding(kind_, "", ratio=ratio, low=ratio, fact=fact, contender=contender)


def test_contenders_come_before_straw_men_and_facts_once():
    found = [
        finding("speed-up", 30.0, "straw", contender=False),
        finding("speed-up", 1.2, "one"),
        finding("flip", 1.3, "one"),
        finding("loss", 1.1, "two"),
        finding("best", 1.0),
    ]
    ranked = _ranked(found, ("best",))
    assert [(f.kind, f.fact) for f in ranked] == [
        ("best", ""), ("flip", "one"), ("loss", "two"), ("speed-up", "straw"), ("speed-up", "one"),
    ]  # fmt: skip
    assert [f.fact for f in _once_a_fact([finding("flip", 2.0), finding("flip", 3.0)])] == ["", ""]


def test_what_a_choice_gains_comes_before_what_was_promised_of_it():
    found = [
        finding("expectation", 3.0, "one"),
        finding("expectation", 2.0, "two"),
        finding("speed-up", 1.2, "one"),
        finding("flip", 1.1, "one"),
    ]
    told = [(f.kind, f.fact) for f in _once_a_fact(found)]
    assert told == [
        ("expectation", "two"),
        ("speed-up", "one"),
        ("expectation", "one"),
        ("flip", "one"),
    ]


def test_a_choice_ranks_by_what_it_is_worth_among_stacks_near_the_best():
    """Kernel y is 20 times as fast as x on a runtime that nobody would take, 10 % on the other."""
    rows = [("slow", "x", 400.0), ("slow", "y", 20.0), ("fast", "x", 1.1), ("fast", "y", 1.0)]
    found = load(rows, ["run", "kernel", "ms"], layers="run,kernel", baseline=["kernel=x"])
    (told,) = [f for f in kind(analyze(found), "speed-up") if "kernel=y" in f.choices]
    assert told.ratio == pytest.approx((20 * 1.1) ** 0.5)
    assert told.contender and told.worth == pytest.approx(1.1)
    other = finding("flip", 1.2)
    assert [f.kind for f in _ranked([told, other], ())] == ["flip", "speed-up"]
    ranked = _ranked([replace(told, worth=np.nan), other], ())
    assert [f.kind for f in ranked] == ["speed-up", "flip"]


def test_the_better_choice_of_a_promise_comes_first():
    rows = [(o, ms, macs) for o, ms, macs in (("full", 1.0, 100.0), ("half", 3.0, 50.0))]
    table = load(rows, ["optimization", "ms", "macs"], layers="optimization",
                 baseline=["optimization=full"])  # fmt: skip
    (told,) = kind(analyze(table), "expectation")
    assert told.choices == ("optimization=full", "optimization=half")


def test_what_the_problem_costs_decides_nothing():
    rows = [
        (m, r, a * b) for m, a in (("s", 1.0), ("l", 1.4)) for r, b in (("p", 1.0), ("q", 1.3))
    ]
    found = kind(analyze(load(rows, ["model", "software", "ms"], layers="model,software")), "loss")
    assert {f.layers: f.contender for f in found} == {("model",): False, ("software",): True}


def test_a_contender_is_near_the_best_somewhere():
    table = regret_table(300.0)
    found = contenders(table, near_best(*_estimated(table)))
    assert found["a"] == {"a1"} and "b1" in found["b"]
    assert all_near(found, ("a=a1", "b=b1")) and not all_near(found, ("a=a1", "a=a2"))


def test_a_technique_is_a_contender_where_any_of_its_kind_is():
    known = {"opt": frozenset({"thin(sparsity=0.5)", "thin(sparsity=0.7)"})}
    assert all_near(known, ("opt=thin",)) and all_near(known, ("opt=thin with by=layer",))
    assert not all_near(known, ("opt=fat",)) and not all_near(known, ("opt=fat with by=layer",))


def test_a_layer_may_be_called_host():
    rows = [
        (h, r, t * u) for h, t in (("x", 1.0), ("y", 9.0)) for r, u in (("p", 1.0), ("q", 9.0))
    ]
    table = load(rows, ["host", "run", "ms"], layers="host,run")
    assert contenders(table, near_best(*_estimated(table)))["host"] == {"x"}
    found = analyze(table)
    assert "host" in {*found.layer_pairs["layer"], *found.layer_pairs["by"]}


def test_the_stack_to_take_has_the_score_of_its_own_host():
    rows = [(h, r, 1.0 * t, a) for h, a, s in (("h1", 0.5, 5.0), ("h2", 0.9, 1.0))
            for r, t in (("p", s), ("q", 4 * s))]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["host", "run", "ms", "accuracy"])
    frame["cell"] = frame["run"]
    found = analyze(load_table(frame, layers="run", metric="ms"))
    (best,) = kind(found, "best")
    assert "on h2" in best.sentence and "accuracy 0.9" in best.sentence


def test_repeats_taken_back_to_back_are_warned_of():
    rng = np.random.default_rng(2)
    cells = list(itertools.product(*(range(4),) * 3))
    own = rng.normal(0, 0.03, len(cells))
    for alike in (True, False):
        rows = [
            (*c, i, float(np.exp((own[k] if alike else rng.normal(0, 0.03))
                                 + rng.normal(0, 0.002))))
            for k, c in enumerate(cells) for i in range(3)
        ]  # fmt: skip
        frame = pd.DataFrame(rows, columns=["a", "b", "c", "i", "ms"])
        frame[["a", "b", "c"]] = frame[["a", "b", "c"]].map(lambda v: f"v{v}")
        table = load_table(frame, layers="a,b,c", metric="ms", rounds="i")
        assert any("back to back" in n for n in analyze(table).table.notes) is alike
