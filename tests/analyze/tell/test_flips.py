"""Flips: which example is told, whom it is about, and under which conditions."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd

from dlas.analyze import analyze, load_table
from dlas.analyze.parts import flips as parts

NEAR = {"none": (1.0, 1.2), "cut": (1.2, 1.0)}
FAR = {"none": (10.0, 30.0), "cut": (30.0, 10.0)}


def told(times, goals=None, drop=0.0, noise=0.005):
    """Runtimes a and b by network and optimization, in rounds."""
    rng = np.random.default_rng(0)
    rows = [
        (net, opt, run, k, ms * np.exp(rng.normal(0, noise)), drop if opt == "cut" else 0.0)
        for net, by in times.items() for opt, both in by.items()
        for run, ms in zip("ab", both, strict=True) for k in range(4)
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["net", "opt", "run", "round", "ms", "drop"])
    table = load_table(frame, layers="net,opt,run", metric="ms", rounds="round", goals=goals or {},
                       baseline=["opt=none", "run=a"])  # fmt: skip
    found = analyze(table)
    return found, [f for f in found.findings if f.kind == "flip" and f.layers == ("run", "opt")]


def test_places_whose_winners_are_near_the_best_are_told_before_clearer_ones() -> None:
    _, (flip,) = told({"fast": NEAR, "slow": FAR})
    assert flip.contender
    assert "a is 20 % faster than b at opt=none" in flip.sentence
    assert "both with net=fast" in flip.sentence
    assert flip.overturn == (
        f"An error of {100 * (flip.ratio - 1):.0f} % common to all rounds of one side undoes the "
        "smaller of the two differences."
    )


def test_which_flips_there_are_and_how_sure_is_not_for_what_is_near_to_say(monkeypatch) -> None:
    found, _ = told({"fast": NEAR, "slow": FAR})
    monkeypatch.setattr(parts, "near_best", lambda table, _: np.zeros(len(table.cells), bool))
    plain = parts.flips(found.table, found.estimates)
    same = ["layer", "a", "b", "by", "p"]
    by = [f.sort_values(same)[same].to_dict("records") for f in (found.flips, plain)]
    assert by[0] == by[1] and len(plain)
    clearest = plain.query("layer == 'run'").iloc[0]
    assert "net=slow" in clearest["better_at"] and clearest["ratio_better"] > 2.9


def test_a_flip_is_about_contenders_where_the_winners_of_its_places_are() -> None:
    """On the fast network b comes out ahead by chance: that is not the flip that is told."""
    fast = {"none": (1.0, 1.2), "cut": (1.01, 1.0)}
    found, (flip,) = told({"fast": fast, "slow": FAR}, noise=0.02)
    y = dict(zip(found.table.rows["cell"], found.estimates.mean, strict=True))
    assert y["fast / cut / b"] < y["fast / cut / a"]
    assert "both with net=slow" in flip.sentence
    assert not flip.contender


def test_a_place_that_fails_the_goals_is_said_to() -> None:
    goals = {"minimize": ["ms"], "drop_at_most": 0.1}
    _, (flip,) = told({"fast": NEAR}, goals, drop=0.5)
    assert flip.sentence.endswith("; the stacks at opt=cut fail the goals.")
    assert not flip.contender
    _, (meets,) = told({"fast": NEAR}, goals)
    assert "fail" not in meets.sentence and meets.contender


def test_a_choice_that_fails_at_both_places_is_named_once() -> None:
    rng = np.random.default_rng(1)
    times = {("none", "a"): 1.0, ("cut", "a"): 2.0, ("none", "b"): 2.0, ("cut", "b"): 1.0}
    rows = [
        (opt, run, k, ms * np.exp(rng.normal(0, 0.005)), 0.5 if opt == "cut" else 0.0)
        for (opt, run), ms in times.items() for k in range(4)
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["opt", "run", "round", "ms", "drop"])
    table = load_table(frame, layers="opt,run", metric="ms", rounds="round",
                       goals={"minimize": ["ms"], "drop_at_most": 0.1})  # fmt: skip
    (flip,) = [f for f in analyze(table).findings if f.kind == "flip" and f.layers[0] == "opt"]
    assert flip.sentence.endswith("; cut at run=a and at run=b fails the goals.") or (
        flip.sentence.endswith("; cut at run=b and at run=a fails the goals.")
    )


def always(*more):
    rows = [
        (opt, "plain", run, {"nonea": 1.0, "noneb": 2.0, "cuta": 2.0, "cutb": 1.0}[opt + run])
        for opt, run in itertools.product(("none", "cut"), "ab")
    ]
    frame = pd.DataFrame([*rows, *more], columns=["opt", "kernel", "run", "ms"])
    table = load_table(frame, layers="opt,kernel,run", metric="ms")
    found = analyze(table).flips.query("layer == 'run' and a == 'a' and b == 'b'")
    return found["always"].iloc[0]


def test_what_neither_choice_is_ever_without_is_no_condition() -> None:
    assert always(("none", "winograd", "c", 3.0)) == []
    assert always(("none", "winograd", "a", 3.0)) == ["kernel=plain"]
