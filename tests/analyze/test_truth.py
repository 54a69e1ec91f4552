"""A reduced set of the truth tests; ``benchmarks/truth.py`` runs the whole."""

import ast
import importlib
import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PARTS = ("power", "nulls", "coverage", "findings", "prices", "grids", "counting", "worlds")


@pytest.fixture(scope="module")
def truth():
    """The parts of the benchmark by name, and ``slices``, where their counts are kept."""
    known = set(sys.modules)
    sys.path.insert(0, str(BENCHMARKS))
    found = {name: importlib.import_module(f"truths.{name}") for name in PARTS}
    yield SimpleNamespace(**found, slices=importlib.import_module("slices"))
    sys.path.remove(str(BENCHMARKS))
    for name in set(sys.modules) - known:
        if name.partition(".")[0] in ("slices", "truths"):
            del sys.modules[name]


def share(row):
    return float(row["measured"].removesuffix(" %"))


# The bars of so few tables leave room for chance: a true rate at the bar fails one in a hundred
# times or less, and one far from it fails nearly always.


def test_what_is_planted_is_found(truth):
    rows = list(truth.power.run(30, seed=11))
    assert len(rows) == 4
    for row in rows:
        assert share(row) >= 86, row


def test_no_flip_is_found_where_there_is_none(truth):
    rows = list(truth.nulls.run(60, seed=12))
    assert len(rows) == 3
    for row in rows:
        assert share(row) <= 15, row


def test_intervals_hold_the_truth(truth):
    rows = {row["check"]: share(row) for row in truth.coverage.run(40, seed=13)}
    assert len(rows) == 5
    # Guarded against single bad rounds, intervals of means hold somewhat more than they say.
    assert 93 <= rows["coverage: paired speed-up in one context"] <= 99
    assert rows["coverage: pair effect (ratio of ratios)"] == pytest.approx(95, abs=3)
    for check, covered in rows.items():
        assert covered >= (85 if "break-even" in check else 90), check


def test_equal_cells_yield_no_finding(truth):
    (row,) = truth.findings.run(5, seed=14)
    assert share(row) <= 40, row


def test_a_price_is_told_where_there_is_one(truth):
    *additive, trap = truth.prices.run(5, seed=15)
    assert len(additive) == 3
    for row in additive:
        assert share(row) <= 20, row
    assert share(trap) >= 80, trap


def test_the_generator_knows_nothing_of_the_analysis():
    tree = ast.parse((BENCHMARKS / "truths" / "grids.py").read_text())
    used = [n.names[0].name if isinstance(n, ast.Import) else n.module for n in ast.walk(tree)
            if isinstance(n, ast.Import | ast.ImportFrom)]  # fmt: skip
    assert set(used) == {"__future__", "itertools", "dataclasses", "numpy", "pandas"}


def test_a_planted_flip_is_one(truth):
    """The null that shrinks gaps really never reverses one; the generator is tested too."""
    for seed in range(50):
        log = truth.grids.shrinking(np.random.default_rng(seed))
        for axis, size in enumerate(truth.grids.SHAPE):
            moved = np.moveaxis(log, axis, 0).reshape(size, -1)
            for a in range(size):
                gap = moved[a] - moved
                assert not ((gap > 1e-9).any(axis=1) & (gap < -1e-9).any(axis=1)).any()


# ---------------------------------------------------------------- counting in slices


def opened(truth, path, minutes=1e9, *, anew=False):
    return truth.slices.Slices.of(SimpleNamespace(state=path, minutes=minutes, anew=anew))


def tossed(rng, draws):
    """Give whether coins fall on heads."""
    for _ in range(draws):
        tossed.calls += 1
        if tossed.calls == tossed.stop:
            raise KeyboardInterrupt
        yield "heads", int(rng.random() < 0.5), 1


def test_a_layer_that_costs_nothing_does_not_matter_most(truth):
    """Whether that is told untruly is counted by the cells that there are."""
    grids, log = truth.grids, np.zeros(truth.grids.SHAPE)
    log[:, 0] += 0.2  # no optimization costs
    world = grids.World(log, np.ones(grids.SHAPE, dtype=bool), log)

    def told(layer, default, true=world, text="{} matters most for quiet_ms"):
        finding = SimpleNamespace(
            kind="importance", sentence=text.format(layer), layers=(layer, "algorithm")
        )
        regrets = pd.DataFrame({"layer": [layer], "default": [default]})
        return truth.worlds.mattering(SimpleNamespace(findings=[finding], regrets=regrets), true)

    assert not told("optimization", "none")
    assert told("optimization", "narrow") and told("software", "s0")
    assert not told("software", "s0", text="No layer matters beyond noise")
    there = world.there.copy()
    there[:, 1:, :, 0] = False  # s0 runs with no optimization alone: it costs after all
    assert not told("software", "s0", grids.World(log, there, log))


def test_a_promise_is_told_truly_or_not(truth):
    log = truth.grids.along(np.array([0.0, -0.2, -1.5]), 4) + np.zeros(truth.grids.SHAPE)

    def untrue(threads, verdict, observed=2.0):
        both = (f"hardware=cpu(threads={threads})", "hardware=cpu(threads=1)")
        finding = SimpleNamespace(
            kind="expectation",
            numbers={"expected": float(threads), "verdict": verdict, "observed": observed},
            choices=both if observed >= 1 else both[::-1],  # the better one comes first
        )
        return truth.worlds.untrue(finding, log)

    assert [untrue(2, v) for v in ("over-predicts", "under-predicts")] == [False, True]
    assert [untrue(4, v) for v in ("over-predicts", "under-predicts")] == [True, False]
    assert [untrue(4, v, 0.5) for v in ("over-predicts", "under-predicts")] == [True, False]
    assert not untrue(2, "predicts") and not untrue(2, "cannot tell")


def test_counts_go_on_where_they_were_stopped(truth, tmp_path):
    count, state = truth.counting.counted, tmp_path / "state.json"
    tossed.calls, tossed.stop = 0, -1
    whole = count(23, (1, 2), tossed, None, __file__)
    assert whole.tables == whole.counts["heads"][1] == 25  # worlds are counted whole
    tossed.calls, tossed.stop = 0, 13
    with pytest.raises(KeyboardInterrupt):
        count(23, (1, 2), tossed, opened(truth, state), __file__)
    tossed.calls, tossed.stop = 0, -1
    assert count(23, (1, 2), tossed, opened(truth, state), __file__) == whole
    assert tossed.calls == 15  # ten were kept: two worlds of five
    # fewer tables are the first of many, and more of them go on from these
    assert count(10, (1, 2), tossed, opened(truth, state), __file__).counts["heads"][1] == 10
    tossed.calls = 0
    assert count(40, (1, 2), tossed, opened(truth, state), __file__) == count(
        40, (1, 2), tossed, None, __file__
    )
    assert tossed.calls == 15 + 40


def test_without_time_what_stands_is_told(truth, tmp_path):
    tossed.calls, tossed.stop = 0, -1
    count, state = truth.counting.counted, tmp_path / "state.json"
    count(10, (3,), tossed, opened(truth, state), __file__)
    late = opened(truth, state, minutes=0)
    found = count(500, (3,), tossed, late, __file__)
    assert (found.told, found.tables, late.left) == ("10 of 500", 10, 98)  # worlds of five
    del late  # and with it the lock on its file
    (row,) = truth.counting.rate(found, "heads", "at most 5 %")
    assert row["tables"] == "10 of 500" and row["reached"] == "NO"
    nothing = count(500, (4,), tossed, opened(truth, state, minutes=0), __file__)
    assert list(truth.counting.rate(nothing, "heads", "at most 5 %")) == []


def test_counts_of_other_code_are_not_mixed(truth, tmp_path):
    state = tmp_path / "state.json"
    opened(truth, state).fill("coins", 3, lambda i: i, "one")
    with pytest.raises(truth.slices.Refused, match=r"3 tables were made by other code \(one, now"):
        opened(truth, state).fill("coins", 5, lambda i: -i, "two")
    assert json.loads(state.read_text())["found"]["coins"]["tables"] == [0, 1, 2]
    assert opened(truth, state).fill("dice", 1, lambda i: i, "two") == [0]
    assert opened(truth, state, anew=True).fill("coins", 2, lambda i: -i, "two") == [0, -1]
    assert set(json.loads(state.read_text())["found"]) == {"coins", "dice"}
    state.write_text('{"coins": [1]}')
    with pytest.raises(truth.slices.Refused, match="no counts of this version"):
        opened(truth, state)


def test_two_runs_do_not_write_one_file(truth, tmp_path):
    first = opened(truth, tmp_path / "state.json")
    with pytest.raises(truth.slices.Refused, match="another run writes it"):
        opened(truth, tmp_path / "state.json")
    first.save()


@pytest.mark.parametrize(
    ("held", "of", "bar", "told"),
    [
        (0, 20, "at most 5 %", "yes"), (0, 19, "at most 5 %", "too few"),
        (2, 20, "at most 5 %", "NO"), (93, 100, "at least 93 %", "yes"),
        (92, 100, "at least 93 %", "NO"), (0, 3, "none", "yes"), (1, 3, "none", "NO"),
        (3, 3, "beside it", "yes"),
    ],
)  # fmt: skip
def test_a_bar_is_reached_or_not(truth, held, of, bar, told):
    assert truth.counting.reached(held, of, bar) == told


def test_what_code_does_counts_and_not_what_it_says(truth, tmp_path):
    def of(text, name="one.py"):
        truth.slices.sources.cache_clear()
        (tmp_path / name).write_text(text)
        return truth.slices.sources(tmp_path / name)

    plain = of("def f(x):\n    return x\n")
    assert of('"""Said."""\n\n\ndef f(x):\n    """Said."""\n    # said\n    return x\n') == plain
    assert of("def f(x):\n    return -x\n") != plain
    # what it imports counts, at any depth, and what lies beside that does not
    narrow = of("from dlas.core.least import expected_least\n")
    assert narrow != of("from dlas.core.keys import digest\n") != plain
    used = truth.slices._files("dlas.core.least", (BENCHMARKS.parent / "src",))
    assert [p.name for p in used] == ["least.py"]


def test_each_part_rests_on_what_it_asks(truth):
    """A change of the price is none of the flips: only its own counts are made anew."""
    loaded: dict[str, set[str]] = {}
    for part in ("prices", "nulls"):
        seen, left = set(), [BENCHMARKS / "truths" / f"{part}.py"]
        while left:
            path = left.pop()
            if path not in seen:
                seen.add(path)
                names = truth.slices._imported(ast.parse(path.read_text()))
                roots = (BENCHMARKS.parent / "src", BENCHMARKS)
                left += [p for n in names for p in truth.slices._files(n, roots)]
        loaded[part] = {p.name for p in seen}
    assert {"price.py", "noise.py", "grids.py"} <= loaded["prices"]
    assert "price.py" not in loaded["nulls"] and "flips.py" in loaded["nulls"]
    assert "flips.py" not in loaded["prices"]


def test_the_state_is_written_now_and_then(truth, tmp_path, monkeypatch):
    monkeypatch.setattr(truth.slices, "SAVED_EVERY", -1.0)
    state = tmp_path / "state.json"
    slices = opened(truth, state)

    def one(number):
        assert number == 0 or len(json.loads(state.read_text())["found"]["a"]["tables"]) == number
        return time.monotonic()

    slices.fill("a", 3, one)
