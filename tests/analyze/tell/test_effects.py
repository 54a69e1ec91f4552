"""What a choice gains near the best, where an average over all contexts leads wrong."""

from __future__ import annotations

import pandas as pd
import pytest

from dlas.analyze import analyze, load_table
from dlas.analyze.parts.effects import losses

COLUMNS = ["run", "kernel", "ms"]


def told(slow, fast, baseline="x"):
    """Kernels x and y on a runtime that nobody would take, and on the one to take."""
    rows = [
        (run, kernel, ms) for run, both in (("slow", slow), ("fast", fast))
        for kernel, ms in zip("xy", both, strict=True)
    ]  # fmt: skip
    table = load_table(pd.DataFrame(rows, columns=COLUMNS), layers="run,kernel", metric="ms",
                       baseline=[f"kernel={baseline}"])  # fmt: skip
    (found,) = [
        f for f in analyze(table).findings if f.kind == "speed-up" and f.layers == ("kernel",)
    ]
    return found


@pytest.mark.parametrize(
    ("baseline", "fast", "begins", "near"),
    [
        ("x", (1.1, 1.0), "kernel=y is 4.69 times faster than x", "10 % faster"),
        ("x", (1.0, 1.1), "kernel=y is 4.26 times faster than x", "10 % slower"),
        ("y", (1.0, 1.1), "kernel=x is 4.26 times slower than y", "10 % faster"),
    ],
)
def test_what_a_choice_gains_near_the_best_is_told_of_the_same_subject(
    baseline, fast, begins, near
) -> None:
    found = told((400.0, 20.0), fast, baseline)
    assert found.sentence.startswith(begins)
    single, then = found.sentence.split("; ")[1:3]
    assert single.startswith("single contexts ")
    assert then == f"where both come near the best (1 context) {near}"
    # which decides for the other one, nobody would take what is better on average
    assert found.contender is (fast[0] > fast[1])
    assert found.worth == pytest.approx(1.1 if fast[0] > fast[1] else 1.0)


def test_what_is_the_same_near_the_best_is_not_told_again() -> None:
    assert "near the best" not in told((22.0, 20.0), (1.1, 1.0)).sentence
    assert "near the best" not in told((1.3, 1.2), (1.1, 1.0)).sentence


def test_a_loss_says_what_all_of_its_contexts_have_in_common() -> None:
    rows = [("a", k, net, v * n) for k, v in (("x", 1.0), ("y", 2.0))
            for net, n in (("p", 1.0), ("q", 3.0))]  # fmt: skip
    rows += [("b", "x", net, 1.5) for net in "pq"]
    frame = pd.DataFrame(rows, columns=["run", "kernel", "net", "ms"])
    table = load_table(frame, layers="run,kernel,net", metric="ms",
                       baseline=["kernel=x", "run=a"])  # fmt: skip
    found = analyze(table)
    shared = losses(table, found.estimates).set_index("layer")["shared"]
    assert shared["kernel"] == ["run=a"] and shared["net"] == []
    by = {f.layers[0]: f.sentence for f in found.findings if f.kind == "loss"}
    assert "in a tenth of them); all of them with run=a; the baseline, x, is" in by["kernel"]
    assert "all of them" not in by["net"]
