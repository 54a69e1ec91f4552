"""Interactions: what all of their contexts have in common."""

from __future__ import annotations

import pandas as pd
import pytest

from dlas.analyze import analyze, load_table


@pytest.fixture(scope="module")
def told():
    """What a network takes turns with the runtime, b and c of which run without pruning alone."""
    ms = {("p", "a"): 1.0, ("q", "a"): 4.0, ("p", "b"): 4.0, ("q", "b"): 1.0,
          ("p", "c"): 1.0, ("q", "c"): 1.0}  # fmt: skip
    rows = [(n, "none", r, r == "c", h, t * k) for (n, r), t in ms.items()
            for h, k in (("one", 1.0), ("two", 0.9))]  # fmt: skip
    rows += [(n, "cut", "a", False, h, t) for n, t in (("p", 1.0), ("q", 2.0))
             for h in ("one", "two")]  # fmt: skip
    names = ["net", "opt", "run", "run.jit", "cpu", "ms"]
    table = load_table(pd.DataFrame(rows, columns=names), layers="net,opt,run,cpu", metric="ms")
    return [f for f in analyze(table).findings if f.kind == "interaction"]


def test_what_all_contexts_have_in_common_is_said(told) -> None:
    (found,) = [f for f in told if set(f.layers) == {"net", "run"}]
    assert found.sentence.endswith("; all of them with opt=none.")
    assert found.numbers["shared"] == ("opt=none",)


def test_the_two_layers_themselves_are_no_condition(told) -> None:
    """Both runtimes have no compiler just in time, which another has: that is which they are."""
    for f in told:
        names = {x.partition("=")[0].partition(".")[0] for x in f.numbers["shared"]}
        assert not names & set(f.layers)
        assert ("all of them with" in f.sentence) == bool(f.numbers["shared"])
