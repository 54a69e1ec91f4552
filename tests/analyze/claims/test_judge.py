"""Verdicts on tables whose answers are known, each by hand."""

from __future__ import annotations

import io
import json
import math
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from claim_tables import LAYERS, PLAIN, SIZE, SPEED, claim, curve, evidence, grid, judged, verdict
from dlas.analyze import load_table
from dlas.analyze.claims import Basis, as_json, as_markdown, as_text, judge
from dlas.analyze.claims.amounts import gap
from dlas.analyze.claims.gauges import within
from dlas.analyze.claims.hypothesis import ClaimsFile
from dlas.analyze.claims.plainly import Plainly
from dlas.analyze.claims.spoken import numbered
from dlas.analyze.estimate.noise import estimate
from dlas.core.goals import Goals

# ---------------------------------------------------------------- ratios


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        ("speedup(opt == 'fast') > 1 in every context", "reproduced"),
        ("speedup(opt == 'fast') > 1.9 in every context", "reproduced"),
        ("speedup(opt == 'fast') > 2.1 in every context", "not reproduced"),
        ("speedup(opt == 'slow') > 1 in every context", "not reproduced"),
        ("speedup(opt == 'slow') > 1 in some context", "not reproduced"),
        ("speedup(opt == 'slow') < 1 in most context", "reproduced"),
        ("speedup(opt == 'fast') == 2 in every context", "reproduced"),
        ("speedup(opt == 'fast') != 2 in every context", "not reproduced"),
        ("ratio(ms, opt == 'fast', opt == 'slow') == 0.3333 in every model", "reproduced"),
        ("ratio(ms, threads == highest, threads == lowest) < 1 in every model, opt", "reproduced"),
        ("not speedup(opt == 'slow') > 1 in every context", "reproduced"),
        ("speedup(opt == 'fast', of=opt == 'slow') > 2.9 in every context", "reproduced"),
    ],
)
def test_ratios(test, expected):
    assert verdict(evidence(PLAIN), test) == expected


def test_the_interval_decides_not_the_value():
    noisy = evidence(PLAIN, error=0.8)
    (one,) = judged(noisy, claim("speedup(opt == 'fast') > 1 in every context"))
    assert one.verdict == "cannot tell"
    assert one.tests[0].count(None) == 8
    assert "0 of 8 cases say yes, 0 no, 8 neither" in one.reason
    assert "More rounds" in one.change


def test_a_ratio_by_hand():
    (one,) = judged(
        evidence(PLAIN), claim("ratio(ms, opt == 'fast', opt == 'none') < 1 in every model")
    )
    answer = one.tests[0].answers[0]
    sd = math.log1p(0.01) / 1.959964
    half = 1.959964 * sd * math.sqrt(2 / 2)  # two pairs of two cells each
    assert answer.value == pytest.approx(0.5)
    assert answer.low == pytest.approx(0.5 * math.exp(-half), rel=1e-6)
    assert answer.high == pytest.approx(0.5 * math.exp(half), rel=1e-6)


def test_the_least_effect_moves_the_line():
    found, test = evidence(PLAIN), "speedup(opt == 'fast') > 1 in every context"
    assert verdict(found, test, least_effect=0.9) == "reproduced"
    assert verdict(found, test, least_effect=1.2) == "not reproduced"


def test_more_is_better_where_it_is_so():
    frame = PLAIN.assign(fps=1 / PLAIN["ms"])
    found = evidence(frame, metric="fps")
    assert found.table.maximize
    assert verdict(found, "speedup(opt == 'fast') > 1.9 in every context") == "reproduced"
    assert (
        verdict(found, "ratio(fps, opt == 'fast', opt == 'none') > 1.9 in every model")
        == "reproduced"
    )
    assert verdict(found, "winner(opt) == 'fast' in every context") == "reproduced"


def test_pairs_are_equal_in_all_else():
    """A cell without its partner is no pair, and is counted as a side that is missing."""
    frame = PLAIN[~((PLAIN["model"] == "a") & (PLAIN["opt"] == "none"))]
    (one,) = judged(evidence(frame), claim("speedup(opt == 'fast') > 1 in every model"))
    assert one.verdict == "reproduced"
    assert [a.place for a in one.tests[0].answers] == [{"model": m} for m in "bcd"]
    assert [dict(p) for p in one.tests[0].lonely] == [{"model": "a"}]


def test_the_layer_that_is_compared_may_make_contexts():
    test = "ratio(ms, opt == 'none', opt != 'none') > 1 in every model, opt"
    (one,) = judged(evidence(PLAIN), claim(test))
    places = [a.place for a in one.tests[0].answers]
    assert {"model": "a", "opt": "none against fast"} in places
    assert len(places) == 8
    assert one.verdict == "not reproduced"


def test_two_quantities():
    frame = PLAIN.assign(macs=PLAIN["opt"].map({"none": 8, "fast": 2, "slow": 8}))
    promise = "ratio(macs, opt == 'none', opt == 'fast')"
    found = evidence(frame)
    assert verdict(found, f"speedup(opt == 'fast') < {promise} in every context") == "reproduced"
    assert (
        verdict(found, f"speedup(opt == 'fast') > {promise} in every context") == "not reproduced"
    )
    same = evidence(frame.assign(macs=frame["macs"].replace(2, 4)))
    assert verdict(same, f"speedup(opt == 'fast') == {promise} in every context") == "reproduced"


@pytest.mark.parametrize(
    ("sign", "expected"),
    [("<", "not reproduced"), (">", "not reproduced"), ("<=", "reproduced"), ("==", "reproduced")],
)
def test_what_is_exact_and_equal_is_neither_more_nor_less(sign, expected):
    found = evidence(PLAIN.assign(macs=8, flops=8))
    test = "ratio({}, opt == 'fast', opt == 'none') {} 1 in every model"
    assert verdict(found, test.format("macs", sign)) == expected
    (one,) = judged(found, claim(test.format("flops", sign)))
    assert "nothing is known of the error of flops" in one.reason, "to some it is a rate"


def test_two_quantities_by_other_columns_cannot_be_matched():
    """Contexts of one layer's choices are not those of another's, though their levels be alike."""
    rows = [
        {"model": f"m{m}", "opt": str(o), "threads": str(t), "ms": (1 + m) * o * t, "macs": o * t}
        for m in range(3)
        for o in (1, 2, 3)
        for t in (1, 2, 3)
    ]
    found = evidence(pd.DataFrame(rows), baseline=["opt=1"])
    test = "speedup(opt == 1, of=opt == 2) {} ratio(macs, threads == 1, threads == 2) in every {}"
    (one,) = judged(found, claim(test.format(">", "context")))
    assert one.verdict == "cannot tell"
    assert "has a value by model, threads, and ratio(macs" in one.reason
    assert "by model, opt: name the columns" in one.reason
    assert verdict(found, test.format(">", "model")) == "reproduced"


def test_contexts_of_two_quantities_that_lack_a_side_are_told_once_and_in_order():
    frame = grid(lambda m, o, t: SIZE[m] * SPEED[o] / t, models="abcdef").assign(macs=1.0)
    gone = (frame["model"].isin(["b", "e"])) & (frame["opt"] == "none")
    only = frame["model"].isin(["a", "d"]) & (frame["opt"] == "slow")
    frame = frame[~gone & ~only]
    test = "speedup(opt == 'fast') < ratio(macs, opt == 'fast', opt == 'slow') in every model"
    (one,) = judged(evidence(frame), claim(test))
    assert [a.place["model"] for a in one.tests[0].answers] == ["c", "f"]
    assert [p["model"] for p in one.tests[0].lonely] == ["b", "e", "a", "d"]


def test_parameters_are_compared_with_their_siblings_equal():
    rows = [
        {"model": m, "opt": f"thin(s={s},k={k})", "opt.s": s, "opt.k": k, "ms": 10 / (1 + s) * k}
        for m in "abc"
        for s in (0.5, 1.0)
        for k in (1, 2)
    ]
    found = evidence(pd.DataFrame(rows), layers=["model", "opt"], baseline=None)
    (one,) = judged(
        found, claim("ratio(ms, opt.s == highest, opt.s == lowest) == 0.75 in every context")
    )
    assert one.verdict == "reproduced"
    for answer in one.tests[0].answers:
        cells = found.table.cells
        pairs = zip(sorted(answer.first), sorted(answer.second), strict=True)
        assert all(cells["opt.k"][a] == cells["opt.k"][b] for a, b in pairs)


# ---------------------------------------------------------------- orders


def test_winner():
    found = evidence(PLAIN)
    assert verdict(found, "winner(opt) == 'fast' in every context") == "reproduced"
    assert verdict(found, "winner(opt) == 'slow' in some context") == "not reproduced"
    assert verdict(found, "winner(opt) != 'slow' in every context") == "reproduced"
    assert verdict(found, "winner(opt) in ['fast', 'slow'] in every context") == "reproduced"
    (one,) = judged(found, claim("winner(opt) == 'fsat' in every context"))
    assert one.verdict == "cannot tell"
    assert "opt has no level 'fsat'. Did you mean 'fast'" in one.reason


def test_of_two_equal_choices_none_is_the_winner():
    frame = grid(lambda m, o, t: SIZE[m] * {"none": 1, "fast": 0.5, "slow": 0.5}[o])
    assert verdict(evidence(frame), "winner(opt) == 'fast' in every context") == "cannot tell"


def without(frame, *holes):
    """Return a table without some cells, each ``model, opt, threads``."""
    keys = list(zip(frame["model"], frame["opt"], frame["threads"], strict=True))
    return frame[[key not in holes for key in keys]]


def test_a_winner_has_met_every_other():
    """Two that are nowhere side by side: nobody knows which is better."""
    holes = [(m, "fast", 1) for m in "abcd"] + [(m, "slow", 2) for m in "abcd"]
    found = evidence(without(PLAIN, *holes))
    for choice in ("fast", "slow"):
        (one,) = judged(found, claim(f"winner(opt) == '{choice}' in every model"))
        expected = {"fast": "cannot tell", "slow": "not reproduced"}
        assert one.verdict == expected[choice], "what is beaten by one is no winner"
    (one,) = judged(found, claim("winner(opt) == 'fast' in every model"))
    assert "slow is nowhere beside fast" in one.tests[0].answers[0].told
    assert verdict(found, "winner(opt) == 'none' in every model") == "not reproduced"
    assert verdict(found, "winner(opt) in ['fast', 'slow'] in every model") == "reproduced"


def test_what_was_never_compared_is_no_steady_winner():
    """Fast beats none everywhere; slow, which it never met, may beat it at one level."""
    both = pd.concat(
        [grid(lambda m, o, t: SIZE[m] * SPEED[o]).assign(place=p) for p in ("x", "y")]
    )
    layers = {"layers": [*LAYERS, "place"]}
    test = "not changes_winner(opt, by=threads) in every model"
    assert verdict(evidence(both, **layers), test) == "reproduced"
    apart = ((both["place"] == "x") & (both["opt"] == "slow")) | (
        (both["place"] == "y") & (both["opt"] == "fast")
    )
    assert verdict(evidence(both[~apart], **layers), test) == "cannot tell"


def test_the_best_is_better_than_what_there_is_at_its_level_alone():
    """Fast is ahead of none with one thread and behind with two; slow, better, has but one."""
    speed = {(1, "none"): 1.0, (1, "fast"): 0.5, (2, "none"): 0.5, (2, "fast"): 1.0}
    frame = grid(lambda m, o, t: SIZE[m] * speed.get((t, o), 0.1))
    found = evidence(without(frame, *[(m, "slow", 2) for m in "abcd"]))
    assert verdict(found, "flips(opt, by=threads) in every model") == "reproduced"
    (one,) = judged(found, claim("changes_winner(opt, by=threads) in every model"))
    told = [a.told for a in one.tests[0].answers]
    assert not any("the next best, has" in t and "of fast; at threads 2" in t for t in told)
    slower = grid(lambda m, o, t: SIZE[m] * speed.get((t, o), 9.0))
    found = evidence(without(slower, *[(m, "slow", 2) for m in "abcd"]))
    assert verdict(found, "changes_winner(opt, by=threads) in every model") == "reproduced"


TURNED = grid(lambda m, o, t: SIZE[m] * (SPEED[o] if t == 1 else 1 / SPEED[o]))


def test_flips():
    assert verdict(evidence(TURNED), "flips(opt, by=threads) in every model") == "reproduced"
    assert verdict(evidence(PLAIN), "flips(opt, by=threads) in some model") == "not reproduced"
    assert (
        verdict(evidence(TURNED), "not flips(opt, by=threads) in some model") == "not reproduced"
    )
    assert (
        verdict(evidence(TURNED, error=0.9), "flips(opt, by=threads) in every model")
        == "cannot tell"
    )


def test_a_gap_that_shrinks_is_no_flip():
    frame = grid(lambda m, o, t: SIZE[m] * SPEED[o] ** (1 / t**3))
    assert verdict(evidence(frame), "flips(opt, by=threads) in some model") == "not reproduced"
    assert (
        verdict(evidence(frame), "changes_winner(opt, by=threads) in some model")
        == "not reproduced"
    )


def test_the_winner_changes():
    assert (
        verdict(evidence(TURNED), "changes_winner(opt, by=threads) in every model") == "reproduced"
    )
    assert (
        verdict(evidence(PLAIN), "changes_winner(opt, by=threads) in some model")
        == "not reproduced"
    )


def test_a_flip_behind_the_winner_changes_nothing():
    speed = {(1, "none"): 1, (1, "slow"): 2, (2, "none"): 2, (2, "slow"): 1}
    frame = grid(lambda m, o, t: SIZE[m] * speed.get((t, o), 0.2))
    found = evidence(frame)
    assert verdict(found, "flips(opt, by=threads) in every model") == "reproduced"
    assert verdict(found, "changes_winner(opt, by=threads) in some model") == "not reproduced"


# ---------------------------------------------------------------- along a column


CROSSING = curve(lambda m, s: 1.5 - s / 1.4)  # equal at 0.7
BREAK = "breakeven('thin' in opt, opt == 'none', along=opt.s) {} in every model"


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("< 0.8", "reproduced"),
        ("> 0.8", "not reproduced"),
        ("> 0.6", "reproduced"),
        ("< 0.6", "not reproduced"),
        ("< 0.7", "cannot tell"),
        ("< 0.95", "cannot tell"),
        ("> 0.2", "cannot tell"),
    ],
)
def test_break_evens(level, expected):
    found = evidence(CROSSING, layers=["model", "opt"])
    (one,) = judged(found, claim(BREAK.format(level)))
    assert one.verdict == expected
    if level in ("< 0.95", "> 0.2"):
        assert "is outside of the levels, 0.5 to 0.9" in one.tests[0].answers[0].told
    else:
        assert "break-even near 0.7" in one.tests[0].answers[0].told


ACCURACY = {"": 0.9, "0.5": 0.9, "0.7": 0.89, "0.9": 0.6}
SAVED = curve(
    lambda m, s: {0.5: 0.8, 0.7: 0.6, 0.9: 0.55}[s],
    accuracy=ACCURACY,
    accuracy_n=dict.fromkeys(ACCURACY, 10**6),
)


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (">= 0.7", "reproduced"),
        (">= 0.5", "reproduced"),
        ("> 0.5", "reproduced"),
        ("> 0.7", "not reproduced"),
        ("<= 0.7", "reproduced"),
        ("< 0.7", "not reproduced"),
        (">= 0.95", "cannot tell"),
        (">= 0", "reproduced"),
        ("< 0", "not reproduced"),
    ],
)
def test_elbows(level, expected):
    goals = Goals(minimize=("ms",), at_most=(("accuracy_drop", 0.1),))
    frame = SAVED.assign(accuracy_drop=0.9 - SAVED["accuracy"])
    found = evidence(frame, layers=["model", "opt"], goals=goals)
    assert verdict(found, f"elbow(along=opt.s) {level} in every model") == expected


def test_without_a_word_on_accuracy_there_is_no_elbow():
    (one,) = judged(
        evidence(SAVED, layers=["model", "opt"]), claim("elbow(along=opt.s) > 0.5 in every model")
    )
    assert one.verdict == "cannot tell"
    assert "the goals say nothing of accuracy" in one.reason


# ---------------------------------------------------------------- correlation, drop


def ranked(order, models="abcdef"):
    sizes = dict(zip(models, order, strict=True))
    return grid(lambda m, o, t: SIZE[m] * SPEED[o], models=models).assign(
        macs=lambda f: f["model"].map(sizes)
    )


@pytest.mark.parametrize(
    ("order", "test", "expected"),
    [
        ((1, 2, 3, 4, 5, 6), "> 0", "reproduced"),
        ((1, 2, 3, 4, 5, 6), "> 0.5", "reproduced"),
        ((6, 5, 4, 3, 2, 1), "< 0", "reproduced"),
        ((6, 5, 4, 3, 2, 1), "> 0", "not reproduced"),
        ((3, 1, 4, 6, 2, 5), "> 0", "cannot tell"),
        ((3, 6, 1, 5, 4, 2), "== 0", "cannot tell"),
    ],
)
def test_correlations(order, test, expected):
    found = evidence(ranked(order))
    (one,) = judged(found, claim(f"correlation(macs, ms, over=model) {test}"))
    assert one.verdict == expected
    assert one.tests[0].answers[0].value == pytest.approx(
        pd.Series(order).corr(pd.Series(range(6)), method="spearman")
    )


def test_no_correlation_over_many_models():
    rng, n = np.random.default_rng(1), 120
    y = rng.normal(size=n)
    x = rng.permutation(n)
    frame = pd.DataFrame({"model": [f"m{i}" for i in range(n)], "ms": np.exp(y), "macs": 1 + x})
    found = evidence(frame, layers=["model"], baseline=None)
    assert verdict(found, "correlation(macs, ms, over=model) == 0") == "reproduced"


def test_few_models_have_no_order():
    (one,) = judged(
        evidence(ranked((1, 2, 3, 4), "abcd")), claim("correlation(macs, ms, over=model) > 0")
    )
    assert one.verdict == "cannot tell"
    assert "needs 5 different ones, measured with all else equal, and there are 4" in one.reason


def test_levels_without_a_place_in_common_have_no_order():
    """Each model was measured with threads of its own: their times say nothing of the models."""
    frame = ranked((1, 2, 3, 4, 5, 6))
    frame = frame[frame["threads"] == 1].assign(threads=frame["model"])
    (one,) = judged(evidence(frame), claim("correlation(macs, ms, over=model) > 0"))
    assert one.verdict == "cannot tell"
    assert "measured with all else equal, and there are 0" in one.reason


@pytest.mark.parametrize(
    ("drop", "test", "expected"),
    [
        (0.10, "> 0.05", "reproduced"),
        (0.01, "> 0.05", "not reproduced"),
        (0.05, "> 0.05", "cannot tell"),
        (0.01, "< 0.05", "reproduced"),
    ],
)
def test_drops(drop, test, expected):
    lost = PLAIN["opt"].map({"none": 0.0, "fast": drop, "slow": 0.0})
    frame = PLAIN.assign(accuracy_drop=lost, accuracy_n=1000, flips=(lost * 1000).round())
    assert verdict(evidence(frame), f"drop(opt == 'fast') {test} in every model") == expected


def losing(drop):
    lost = PLAIN["opt"].map({"none": 0.0, "fast": drop, "slow": 0.0})
    return PLAIN.assign(accuracy_drop=lost, accuracy_n=1000, flips=(lost * 1000).round())


def test_a_drop_has_no_ratio():
    test = "ratio(accuracy_drop, opt == 'fast', opt == 'none') > 0.5 in every model"
    (one,) = judged(evidence(losing(0.1)), claim(test))
    assert one.verdict == "cannot tell"
    assert "accuracy_drop may be zero or below: it has no ratio; say drop(...)" in one.reason


def test_a_ratio_is_no_drop():
    """Where the drop is the metric analysed, its logarithm is known, which is no share."""
    frame = losing(0.1).assign(accuracy_drop=PLAIN["opt"].map({"none": 0.1}).fillna(0.3))
    found = evidence(frame, metric="accuracy_drop")
    (one,) = judged(found, claim("drop(opt == 'fast') < 0.05 in every model"))
    assert one.verdict == "cannot tell"
    assert "a drop is a difference, and of accuracy_drop only ratios are known" in one.reason


def test_accuracy_by_other_names_errs_as_its_images_do():
    names = {
        "accuracy_drop": "loss",
        "accuracy_n": "images",
        "flips": "turned",
        "accuracy": "top1",
    }
    test = "drop(opt == 'fast') > 0.05 in every model"
    plain = losing(0.1).assign(accuracy=0.9)
    found = evidence(plain.rename(columns=names))
    found = Basis(found.table, found.estimates, names=names)
    one, two = (judged(each, claim(test))[0] for each in (evidence(plain), found))
    assert one.verdict == two.verdict == "reproduced"
    assert one.p == two.p
    for column in ("accuracy", "accuracy_drop"):
        ours, theirs = (e.gauge(e.named(column)) for e in (evidence(plain), found))
        np.testing.assert_array_equal(ours.var, theirs.var)
        assert (ours.sign, ours.logarithmic) == (theirs.sign, theirs.logarithmic)


def test_a_layer_may_have_a_dot_in_its_name():
    """The techniques of such a layer, and its parameters under another name, are found."""
    frame = PLAIN.assign(**{"opt.s": PLAIN["opt"].map({"none": "", "fast": "1", "slow": "2"})})
    frame = frame.rename(columns={"opt": "part.opt", "opt.s": "part.opt.s"})
    table = load_table(
        frame, layers=["model", "part.opt", "threads"], metric="ms", baseline=["part.opt=none"]
    )
    found = Basis(table, within(table, estimate(table), 0.01), names={"x.o": "part.opt"})
    assert found.named("x.o.s") == "part.opt.s"
    assert found.texts("part.opt.technique") == table.cells["part.opt"].tolist()
    test = "speedup(part.opt.technique == 'fast', of=part.opt.technique == 'none') > 1.9 {}"
    assert verdict(found, test.format("in every part.opt.technique, model")) == "reproduced"


def test_what_a_layer_is_by_row_is_read_once():
    found = evidence(PLAIN)
    assert found.texts("opt") is found.texts("opt")


# ---------------------------------------------------------------- what cannot be told


@pytest.mark.parametrize(
    ("test", "said"),
    [
        (
            "speedup(optt == 'fast') > 1 in every model",
            "no column is called 'optt'. Did you mean 'opt'",
        ),
        (
            "speedup(opt == 'fast') > 1 in every modle",
            "no column is called 'modle'. Did you mean 'model'",
        ),
        ("ratio(mss, opt == 'fast', opt == 'none') > 1 in every model", "Did you mean 'ms'"),
        (
            "ratio(watts, opt == 'fast', opt == 'none') > 1 in every model",
            "nothing is known of the error of watts",
        ),
        (
            "speedup(opt == 'fats') > 1 in every model",
            "no cell meets \"opt == 'fats'\" (opt has fast, none, slow)",
        ),
        ("speedup(opt == 'fast') > 1 in every model where threads == 8", "meets 'threads == 8'"),
        (
            "speedup(opt == 'fast', of=model == 'a') > 1 in every threads",
            "two choices of one layer",
        ),
        ("speedup(opt == 'fast') > 1 in every watts", "watts is no layer, nor part of one"),
        ("flips(opt, by=watts) in some model", "watts is no layer"),
        ("speedup(opt > 3) > 1 in every model", "compares what has no order"),
        ("drop(opt == 'fast') > 0 in every model", "no column is called 'accuracy_drop'"),
        (
            "breakeven(opt == 'fast', opt == 'none', along=model) > 1 in every context",
            "are no numbers",
        ),
        (
            "ratio(ms, opt == highest, opt == 'none') > 1 in every model",
            "the one column with numbers",
        ),
        (
            "speedup(opt == 'fast') > 1 in every threads",
            "at least 3 cases with both sides are needed, there are 2",
        ),
    ],
)
def test_why_nothing_can_be_told(test, said):
    (one,) = judged(evidence(PLAIN.assign(watts=1.0)), claim(test))
    assert (one.verdict, one.p) == ("cannot tell", 1.0)
    assert said in one.reason
    assert one.change


def test_without_noise_nothing_is_told():
    table = load_table(PLAIN, layers=LAYERS, metric="ms", baseline=["opt=none"])
    found = Basis(table, estimate(table))
    (one,) = judged(found, claim("speedup(opt == 'fast') > 1 in every context"))
    assert one.verdict == "cannot tell"
    assert "nothing is known of the error of ms" in one.reason


def test_more_contexts_may_be_asked_for():
    test = "speedup(opt == 'fast') > 1 in every context"
    assert verdict(evidence(PLAIN), test, least_contexts=8) == "reproduced"
    (one,) = judged(evidence(PLAIN), claim(test, least_contexts=9))
    assert "at least 9 cases with both sides are needed, there are 8" in one.reason


# ---------------------------------------------------------------- quantifiers, families


def half(share):
    """Return a table in which the fast choice is fast on some models alone."""
    good = set("abcdef"[:share])
    return grid(
        lambda m, o, t: SIZE[m] * (2 if o == "fast" and m not in good else SPEED[o]),
        models="abcdef",
    )


@pytest.mark.parametrize(
    ("share", "every", "some", "most"),
    [
        (6, "reproduced", "reproduced", "reproduced"),
        (4, "not reproduced", "reproduced", "reproduced"),
        (3, "not reproduced", "reproduced", "not reproduced"),
        (0, "not reproduced", "not reproduced", "not reproduced"),
    ],
)
def test_quantifiers(share, every, some, most):
    found = evidence(half(share))
    for how, expected in (("every", every), ("some", some), ("most", most)):
        assert verdict(found, f"speedup(opt == 'fast') > 1 in {how} model") == expected


def test_all_tests_of_a_claim_must_hold():
    good, bad = (
        "speedup(opt == 'fast') > 1 in every context",
        "speedup(opt == 'slow') > 1 in every context",
    )
    found = evidence(PLAIN)
    assert verdict(found, [good, good]) == "reproduced"
    assert verdict(found, [good, bad]) == "not reproduced"


def test_what_is_sure_alone_may_not_be_among_many():
    frame = grid(lambda m, o, t: SIZE[m] * {"none": 1, "fast": 0.985, "slow": 1}[o])
    found = evidence(frame, error=0.01)
    test = "speedup(opt == 'fast') > 1 in every context"
    alone = judged(found, claim(test))[0]
    assert alone.verdict == "reproduced"
    others = [claim("speedup(opt == 'slow') > 1 in every context", f"o{i}") for i in range(20)]
    among = judged(found, claim(test), *others)[0]
    assert among.p == pytest.approx(min(1, 21 * alone.p))
    assert among.verdict == "cannot tell"
    assert "sure if it stood alone" in among.reason


def test_what_cannot_be_tried_takes_no_part_in_the_family():
    found, test = evidence(PLAIN, error=0.2), "speedup(opt == 'fast') > 1 in every context"
    one = judged(found, claim(test))[0]
    two = judged(found, claim(test), claim("speedup(no == 1) > 1 in every context", "d"))[0]
    assert one.p == two.p


# ---------------------------------------------------------------- rounds, hosts, names


def test_noise_comes_from_the_rounds():
    rng = np.random.default_rng(0)
    rounds = [
        PLAIN.assign(r=r, ms=PLAIN["ms"] * np.exp(rng.normal(0, 0.02, len(PLAIN))))
        for r in range(5)
    ]
    table = load_table(
        pd.concat(rounds), layers=LAYERS, metric="ms", rounds="r", baseline=["opt=none"]
    )
    found = Basis(table, estimate(table))
    assert verdict(found, "speedup(opt == 'fast') > 1.8 in every context") == "reproduced"
    assert verdict(found, "speedup(opt == 'fast') > 1.97 in every context") == "cannot tell"


def test_hosts_are_different_contexts_and_may_flip():
    two = pd.concat([PLAIN.assign(host="x"), TURNED[TURNED["threads"] == 2].assign(host="y")])
    found = evidence(two)
    (one,) = judged(found, claim("speedup(opt == 'fast') > 1 in every model"))
    assert {a.place["host"] for a in one.tests[0].answers} == {"x", "y"}
    assert verdict(found, "flips(opt, by=host) in every model") == "reproduced"


def test_other_names_and_other_orders_of_rows_change_nothing():
    test = "speedup(opt == 'fast') > 1.9 in every model where threads == 2"
    names = {"model": "Netz", "opt": "Verfahren", "threads": "Kerne", "ms": "t"}
    other = PLAIN.rename(columns=names).sample(frac=1, random_state=3)
    table = load_table(
        other,
        layers=[names[x] for x in LAYERS],
        metric="t",
        maximize=False,
        baseline=["Verfahren=none"],
    )
    found = Basis(table, within(table, estimate(table), 0.01), names=names)
    one, two = (judged(e, claim(test))[0] for e in (evidence(PLAIN), found))
    assert one.verdict == two.verdict == "reproduced"
    assert one.p == pytest.approx(two.p)


# ---------------------------------------------------------------- what is said


def test_text_and_json_say_the_same():
    found = evidence(PLAIN)
    file = ClaimsFile(
        "f",
        (
            claim("speedup(opt == 'fast') > 1 in every context", "yes"),
            claim("speedup(opt == 'slow') > 1 in every context", "no"),
            claim("speedup(no == 1) > 1 in every context", "open"),
        ),
        "h",
        "",
    )
    made = judge(found, file)
    text, data = as_text(found, file, made, ["a note"]), as_json(found, file, made, ["a note"])
    assert "f: 3 claims: 1 reproduced, 1 not reproduced, 1 cannot tell" in text
    assert data["counts"] == {"reproduced": 1, "not reproduced": 1, "cannot tell": 1}
    json.dumps(data, allow_nan=False)
    for one in data["claims"]:
        assert f"{one['id']}: {one['verdict'].upper()}. Something." in text
        assert one["change"] in text
    first = data["claims"][0]["tests"][0]
    assert (first["yes"], first["no"], first["undecided"]) == (8, 0, 0)
    cells = set(found.table.rows["cell"])
    for context in first["contexts"]:
        assert context["first"] and set(context["first"]) <= cells
        assert context["second"] and set(context["second"]) <= cells


def test_a_page_for_people():
    found = evidence(PLAIN)
    file = ClaimsFile(
        "f",
        (
            claim("speedup(opt == 'fast') > 1 in every context", "yes", source="a | b"),
            claim("speedup(no == 1) > 1 in every context", "open"),
        ),
        "h",
        "",
        "What it is.",
    )
    page = as_markdown(found, file, judge(found, file), ["a note"])
    assert page.startswith("# What became of 2 claims: f\n\nWhat it is.\n\n**1 reproduced, 0 not")
    assert (
        "24 stacks were measured. A stack is one choice of each of: model, opt, threads." in page
    )
    sure, open_ = (part.split("\n\n")[2] for part in page.split("## ")[1:3])
    row = sure.splitlines()[-1]
    assert row.startswith("| yes | Something. | every case | 8 yes | model ")
    assert re.search(
        r": fast is [\d.]+ times as fast \([\d.]+ to [\d.]+\) as the baseline \|", row
    )
    assert open_.splitlines()[-1].startswith(
        "| open | Something. | every case | no case to look at | no column is called"
    )
    assert "- a note" in page and "Source: a | b." in page
    asked, unknown = (line for line in page.splitlines() if line.startswith("  `speedup"))
    first, second = re.search(r"decided by (.+) against (.+)\)$", asked).groups()
    assert {first, second} <= set(found.table.rows["cell"]) and first != second
    assert unknown.endswith("in every context`")


def shown(found, test, **changed):
    """Return what is said of the context on which a test hangs."""
    (one,) = judged(found, claim(test, **changed))
    return Plainly(found).shown(one.tests[0])


@pytest.mark.parametrize(
    ("test", "said"),
    [
        ("speedup(opt == 'fast', of=opt == 'none') > 1 in every context",
         r"fast is \S+ times as fast \(\S+ to \S+\) as no opt$"),
        ("ratio(ms, opt == 'slow', opt == 'none') > 1 in every context",
         r"slow takes \S+ times as long \(\S+ to \S+\) as no opt$"),
        ("speedup(opt == 'fast') < ratio(ms, opt == 'none', opt == 'fast') in every context",
         r"fast is 2\.00 times as fast as the baseline; no opt takes 2\.00 times as long as fast; "
         r"the first is 1\.00 times the second \(\S+ to \S+\)$"),
        ("changes_winner(opt, by=threads) in every model",
         r"at threads 1, none, the best of the others, takes 2\.00 times as long \(.*\) as fast; "
         r"at threads 2, fast takes 3\.00 times as long \(\S+ to \S+\) as slow$"),
        ("winner(opt) == 'fast' in every context",
         r"\w+, the best of the others, takes \S+ times as long \(\S+ to \S+\) as fast$"),
    ],
)  # fmt: skip
def test_what_was_seen_is_a_sentence(test, said):
    assert re.search(said, shown(evidence(TURNED if "changes" in test else PLAIN), test))


def test_names_are_short_where_the_table_has_short_ones():
    found = evidence(PLAIN)
    brief = replace(found, short={"opt": {"fast": "f", "slow": "s"}})
    test = "speedup(opt == 'fast', of=opt == 'slow') > 1 in every context"
    assert re.search(r"f is 3\.00 times as fast \(\S+ to \S+\) as s$", shown(brief, test))
    turned = replace(evidence(TURNED), short=brief.short)
    said = shown(turned, "flips(opt, by=threads) in every model")
    assert re.search(r"\b[fs] takes \S+ times as long \(\S+ to \S+\) as ", said), said


def test_nothing_in_the_table_is_changed():
    found = evidence(PLAIN)
    before = found.table.cells.copy()
    judged(found, claim("winner(opt) == 'fast' in every context"))
    pd.testing.assert_frame_equal(before, found.table.cells)


def test_a_table_with_intervals():
    text = (
        "model,opt,threads,ms,low,high\na,none,1,10,9.9,10.1\na,fast,1,5,4.9,5.1\n"
        "b,none,1,20,19,21\nb,fast,1,9,8.9,9.1\nc,none,1,30,29,31\nc,fast,1,9,8,10\n"
    )
    frame = pd.read_csv(io.StringIO(text))
    table = load_table(
        frame, layers=LAYERS, metric="ms", low="low", high="high", baseline=["opt=none"]
    )
    found = Basis(table, estimate(table))
    assert verdict(found, "speedup(opt == 'fast') > 1.8 in every context") == "reproduced"


def rounds_of(errors: np.ndarray, gain: float) -> Basis:
    """Return two choices in many contexts whose rounds err as given, ``(contexts, 2, rounds)``."""
    contexts, _, rounds = errors.shape
    rows = [
        {"model": f"m{i}", "opt": ("none", "fast")[j], "round": r,
         "ms": math.exp(errors[i, j, r] - gain * j)}
        for i in range(contexts) for j in range(2) for r in range(rounds)
    ]  # fmt: skip
    table = load_table(
        pd.DataFrame(rows), layers=["model", "opt"], metric="ms", rounds="round",
        baseline=["opt=none"],
    )  # fmt: skip
    return Basis(table, estimate(table))


def test_heavy_tails_make_far_out_values_less_sure_and_normal_ones_do_not():
    """With 40 contexts the best of them lies far out: a mean of five rounds is no normal there."""
    rng = np.random.default_rng(0)
    shape, test = (40, 2, 5), "speedup(opt == 'fast') > 1 in some context"
    normal = rounds_of(0.03 * rng.standard_normal(shape), 0.0)
    heavy = rounds_of(0.03 * rng.standard_t(3, shape), 0.0)
    assert normal.main.tails.max() < 0.2 < heavy.main.tails.min()
    z = {}
    for name, found in (("normal", normal), ("heavy", heavy)):
        amount = gap(found.main, [0], [1])
        at = amount.value - 4 * amount.se
        z[name] = amount.above(at)
        assert amount.above(amount.value - 1.96 * amount.se) == pytest.approx(0.025, rel=0.25)
    assert z["normal"] < 1e-4 < z["heavy"]
    assert verdict(heavy, test) == "cannot tell"
    assert verdict(rounds_of(0.03 * rng.standard_t(3, shape), 0.5), test) == "reproduced"


def test_what_is_said_of_several_tests_is_numbered():
    assert numbered(["a"]) == ["a"]
    assert numbered(["a", "a"]) == ["a"]
    assert numbered(["a", "b"]) == ["1) a", "2) b"]
    found = evidence(PLAIN)
    tests = [f"speedup(opt == 'fast') {sign} 1 in every model, threads" for sign in "><"]
    tests[1] += " where model != 'a'"
    file = ClaimsFile("f", (claim(tests),), "h", "")
    page = as_markdown(found, file, judge(found, file))
    (row,) = (line for line in page.splitlines() if line.startswith("| c |"))
    assert re.search(r"\| every case \| 1\) 8 yes<br>2\) 6 no \| 1\) model .*<br>2\) model ", row)
    assert "where model != 'a': fast is" in row
    assert "\n  1) `speedup" in page and "\n  2) `speedup" in page
