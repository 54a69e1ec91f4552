"""What is held equal: a parameter is compared within each technique, a sub-layer across them."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from claim_tables import SIZE, claim, evidence, judged, verdict
from dlas.analyze.claims import Basis
from dlas.core.goals import Goals
from dlas.core.stack import Choice

PRIMITIVES = {"direct": 1.0, "gemm": 10.0, "winograd": 0.1}
"""How long each takes with dense weights; as CSR twice as long, which winograd cannot."""


def primitives(*, written: bool) -> Basis:
    """Return networks by primitive and weights; ``written``: texts alone say what a choice is."""
    rows, choices = [], {}
    for m in "abc":
        for name, ms in PRIMITIVES.items():
            for weights in ("dense", "csr")[: 1 if name == "winograd" else 2]:
                text = name if weights == "dense" else f"{name}(weights=csr)"
                choices[text] = (Choice(name, {"weights": weights}),)
                rows.append(
                    {"model": m, "alg": text, "alg.weights": weights, "tuning": "no",
                     "ms": SIZE[m] * ms * (2 if weights == "csr" else 1)}
                )  # fmt: skip
    tuned = [row | {"tuning": "yes", "ms": row["ms"] / 2} for row in rows]
    frame = pd.DataFrame([*rows, *tuned])
    found = evidence(frame, layers=["model", "alg", "tuning"], baseline=["alg=direct"])
    if written:
        return found
    return replace(found, table=replace(found.table, choices={"alg": choices}))


@pytest.mark.parametrize("written", [True, False])
@pytest.mark.parametrize(
    "test",
    [
        "ratio(ms, alg.weights == 'csr', alg.weights == 'dense') == 2 in every model",
        "winner(alg.weights) == 'dense' in every model",
        "not flips(alg.weights, by=tuning) in every model",
    ],
)
def test_a_parameter_is_compared_within_each_technique(test, written):
    """By all dense ones, winograd among them, csr would take 6.3 times as long."""
    found = primitives(written=written)
    (one,) = judged(found, claim(test))
    assert one.verdict == "reproduced"
    kinds = found.table.skeletons["alg"].tolist()
    for answer in one.tests[0].answers:
        assert {kinds[r] for r in (*answer.first, *answer.second)} == {"direct", "gemm"}


@pytest.mark.parametrize("written", [True, False])
def test_techniques_may_be_contexts_of_their_parameters(written):
    test = "ratio(ms, alg.weights == 'csr', alg.weights == 'dense') == 2 in every {}"
    (one,) = judged(primitives(written=written), claim(test.format("alg.technique, tuning")))
    assert [a.place["alg.technique"] for a in one.tests[0].answers] == ["direct"] * 2 + [
        "gemm"
    ] * 2
    assert [p["alg.technique"] for p in one.tests[0].lonely] == ["winograd"] * 2
    assert one.verdict == "reproduced"


def test_the_highest_level_is_that_of_the_technique():
    """Each pruning has levels of its own; neither is compared with the other's."""
    speed = {("cut", 0.5): 2.0, ("cut", 0.7): 1.0, ("thin", 0.6): 8.0, ("thin", 0.9): 4.0}
    frame = pd.DataFrame(
        [
            {"model": m, "opt": f"{kind}(s={s})", "opt.s": str(s), "ms": SIZE[m] * ms}
            for m in "abc"
            for (kind, s), ms in speed.items()
        ]
    )
    found = evidence(frame, layers=["model", "opt"], baseline=None)
    test = "ratio(ms, opt.s == highest, opt.s == lowest) == 0.5 in every {}"
    for places in ("model", "model, opt.technique"):
        assert verdict(found, test.format(places)) == "reproduced"


def test_a_sub_layer_is_compared_across_techniques():
    """Its levels are what tells techniques apart: held equal, there would be no pair."""
    kinds = {"none": "no", "thin(s=0.5)": "weights", "cut(r=0.5)": "channels"}
    frame = pd.DataFrame(
        [
            {"model": m, "opt": o, "opt.pruning": pruning, "ms": SIZE[m] * (1 + (o == "none"))}
            for m in "abc"
            for o, pruning in kinds.items()
        ]
    )
    found = evidence(frame, layers=["model", "opt"])
    test = "ratio(ms, opt.pruning == 'no', opt.pruning == '{}') == 2 in every model"
    for pruning in ("weights", "channels"):
        assert verdict(found, test.format(pruning)) == "reproduced"


def test_hosts_may_be_compared():
    frame = pd.DataFrame(
        [
            {"model": m, "opt": "none", "host": h, "ms": SIZE[m] * ms}
            for m in "abc"
            for h, ms in {"x": 1.0, "y": 2.0}.items()
        ]
    )
    found = evidence(frame, layers=["model", "opt"])
    test = "ratio(ms, host == 'y', host == 'x') == 2 in every model"
    assert verdict(found, test) == "reproduced"


def test_levels_of_a_parameter_are_ranked_within_a_technique():
    """Cut has the least level alone, where its times are others: it would turn the order."""
    rows = [
        {"opt": f"thin(s={s})", "opt.s": str(s), "threads": t, "ms": 10.0 * (1 - s), "macs": 1 - s}
        for s in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
        for t in (1, 2)
    ]
    rows += [
        {"opt": "cut(s=0.1)", "opt.s": "0.1", "threads": t, "ms": 1.0, "macs": 0.9} for t in (1, 2)
    ]
    found = evidence(pd.DataFrame(rows), layers=["opt", "threads"], baseline=None)
    (one,) = judged(found, claim("correlation(macs, ms, over=opt.s) > 0.5"))
    assert one.tests[0].answers[0].value == pytest.approx(1.0)
    assert one.verdict == "reproduced"


@pytest.mark.parametrize("rivals", [[], ["cut(ratio=0.5)"]])
@pytest.mark.parametrize(
    "test",
    [
        "elbow(along=opt.s) < 0.5 in every model",
        "breakeven('thin' in opt, opt.pruning == 'none', along=opt.s) < 0.7 in every model",
        "ratio(ms, opt.s == highest, opt.s == lowest) < 0.5 in every model",
    ],
)
def test_a_parameter_inside_a_sub_layer_is_compared_along_all_its_levels(test, rivals):
    """Also where another choice of the sub-layer has no such parameter."""
    speed = {"none": 10.0, "thin(s=0.5)": 12.0, "thin(s=0.7)": 8.0, "thin(s=0.9)": 4.0}
    speed |= dict.fromkeys(rivals, 7.0)
    rows = []
    for m in "abc":
        for pruning, ms in speed.items():
            for precision in ("none", "int8"):
                parts = [p for p in (pruning, precision) if p != "none"]
                rows.append(
                    {"model": m, "opt": "+".join(parts) or "none", "opt.pruning": pruning,
                     "opt.precision": precision, "opt.s": pruning.partition("s=")[2].strip(")"),
                     "accuracy": 0.9, "accuracy_n": 10**6,
                     "ms": SIZE[m] * ms * (0.5 if precision == "int8" else 1)}
                )  # fmt: skip
    goals = Goals(minimize=("ms",), at_most=(("accuracy_drop", 0.1),))
    found = evidence(
        pd.DataFrame(rows).assign(accuracy_drop=0.0), layers=["model", "opt"],
        baseline=["opt=none"], goals=goals,
    )  # fmt: skip
    assert set(found.table.sublayers) == {"opt.pruning", "opt.precision"}
    (one,) = judged(found, claim(test))
    assert one.verdict == "reproduced", one.reason
