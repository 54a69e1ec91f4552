"""A reduced set of the truth tests; ``benchmarks/truth.py`` runs the whole."""

import importlib.util
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "benchmarks" / "truth.py"


@pytest.fixture(scope="module")
def truth():
    spec = importlib.util.spec_from_file_location("truth", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules["truth"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["truth"]


def share(row):
    return float(row["measured"].removesuffix(" %"))


# The bars of so few tables leave room for chance: a true rate at the bar fails one in a hundred
# times or less, and one far from it fails nearly always.


def test_what_is_planted_is_found(truth):
    rows = list(truth.run_power(30, seed=11))
    assert len(rows) == 4
    for row in rows:
        assert share(row) >= 86, row


def test_no_flip_is_found_where_there_is_none(truth):
    rows = list(truth.run_nulls(60, seed=12))
    assert len(rows) == 3
    for row in rows:
        assert share(row) <= 15, row


def test_intervals_hold_the_truth(truth):
    rows = {row["check"]: share(row) for row in truth.run_coverage(40, seed=13)}
    assert len(rows) == 5
    # Guarded against single bad rounds, intervals of means hold somewhat more than they say.
    assert 93 <= rows["coverage: paired speed-up in one context"] <= 99
    assert rows["coverage: pair effect (ratio of ratios)"] == pytest.approx(95, abs=3)
    for check, covered in rows.items():
        assert covered >= (85 if "break-even" in check else 90), check


def test_equal_cells_yield_no_finding(truth):
    (row,) = truth.run_findings(5, seed=14)
    assert share(row) <= 40, row


def test_a_price_is_told_where_there_is_one(truth):
    *additive, trap = truth.run_prices(5, seed=15)
    assert len(additive) == 3
    for row in additive:
        assert share(row) <= 20, row
    assert share(trap) >= 80, trap


def test_the_generator_knows_nothing_of_the_analysis(truth):
    source = PATH.read_text()
    half = source.index(
        "# ---------------------------------------------------------------- asking"
    )
    used = source[source.index("# ----", source.index("import")) : half]
    assert "estimate(" not in used and "from_study(" not in used and "flips(" not in used


def test_a_planted_flip_is_one(truth):
    """The null that shrinks gaps really never reverses one; the generator is tested too."""
    import numpy as np

    for seed in range(50):
        log = truth.shrinking(np.random.default_rng(seed))
        for axis, size in enumerate(truth.SHAPE):
            moved = np.moveaxis(log, axis, 0).reshape(size, -1)
            for a in range(size):
                gap = moved[a] - moved
                assert not ((gap > 1e-9).any(axis=1) & (gap < -1e-9).any(axis=1)).any()


def test_counts_go_on_where_they_were_stopped(truth, tmp_path):
    def asked(rng, draws):
        for _ in range(draws):
            asked.calls += 1
            if asked.calls == asked.stop:
                raise KeyboardInterrupt
            yield "heads", int(rng.random() < 0.5), 1

    asked.calls, asked.stop = 0, -1
    whole = truth.counted(23, (1, 2), asked, None)
    assert whole["heads"][1] == 23
    asked.calls, asked.stop = 0, 13
    with pytest.raises(KeyboardInterrupt):
        truth.counted(23, (1, 2), asked, truth.Progress(tmp_path / "state.json"))
    asked.calls, asked.stop = 0, -1
    taken_up = truth.Progress(tmp_path / "state.json")
    assert truth.counted(23, (1, 2), asked, taken_up) == whole
    assert asked.calls == 13  # ten were kept: two worlds of five
