"""The promise waterfall, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dlas.analyze import analyze, load_table

LAYERS = "model,optimization,software,hardware"
CEILINGS = pd.DataFrame({"host": ["h"], "gflops": [100.0], "gb_s": [10.0], "overhead_ms": [1.0]})
KERNELS = '{"conv": "dense"}'
NAMES = [*LAYERS.split(","), "latency_ms", "macs", "effective_macs", "params", "nonzero_params",
         "ran_sparsity", "ran_precision", "ran_kernels"]  # fmt: skip
ROWS = [
    ("m", "none", "s", "cpu", 11.0, 100.0, 100.0, 10.0, 10.0, 0.0, "float32", KERNELS),
    # 5 times fewer multiplications, half of the zeros skipped: 60 of 100 are done
    ("m", "thin", "s", "cpu", 6.0, 100.0, 20.0, 10.0, 2.0, 0.4, "float32", '{"conv": "csr"}'),
    ("m", "float16", "s", "cpu", 11.0, 100.0, 100.0, 10.0, 10.0, 0.0, "float32", KERNELS),
    ("m", "narrow+int8", "s", "cpu", 2.0, 50.0, 50.0, 5.0, 5.0, np.nan, "int8", None),
]


def found(rows=ROWS, ceilings=CEILINGS):
    made = load_table(
        pd.DataFrame(rows, columns=NAMES).assign(host="h"), layers=LAYERS, metric="latency_ms",
        ceilings=ceilings,
    )  # fmt: skip
    return analyze(made)


def test_numbers_worked_out_by_hand() -> None:
    stacks = found().waterfall_stacks.set_index("level")
    thin = stacks.loc["thin"]
    assert thin["macs"] == pytest.approx(5.0)
    assert thin["zeros"] == pytest.approx(20 / 60)
    assert (thin["width"], thin["precision"]) == (1.0, 1.0)
    # without the overhead of 1 ms the time falls from 10 to 5: 2 times, of 5/3 promised
    assert thin["kernels"] == pytest.approx(2 / (5 / 3))
    assert thin["overhead"] == pytest.approx((11 / 6) / 2)
    assert thin["left"] == pytest.approx(11 / 6)
    assert thin["why"] == {}
    assert thin["kernels_ran"] == "conv: dense before, csr now"
    half = stacks.loc["float16"]
    assert (half["width"], half["precision"], half["left"]) == (2.0, 0.5, 1.0)
    both = stacks.loc["narrow+int8"]
    assert (both["macs"], both["width"], both["precision"]) == (2.0, 4.0, 1.0)
    assert both["kernels"] == pytest.approx(10 / 8)
    assert "does not name its kernels" in both["kernels_ran"]


def test_the_factors_make_what_was_measured() -> None:
    analysis = found()
    steps = ["macs", "width", "zeros", "precision", "kernels", "overhead"]
    product = analysis.waterfall_stacks[steps].prod(axis=1)
    assert product.tolist() == pytest.approx(analysis.waterfall_stacks["left"].tolist())
    after = analysis.waterfalls.query("level == 'thin'").set_index("step")["after"]
    assert after["zeros"] == pytest.approx(5 / 3)
    assert after["left"] == pytest.approx(after["overhead"])


def test_no_step_asks_its_reader_to_invert_a_ratio() -> None:
    slower = (*ROWS[2][:4], 22.0, *ROWS[2][5:])
    (told,) = [f.sentence for f in found([ROWS[0], slower]).findings if f.kind == "waterfall"]
    assert "a narrower type promises to make it 2.00 times faster" in told
    assert "the type that ran makes it 2.00 times slower" in told
    assert told.endswith("as measured, it is 2.00 times slower.")


def test_what_is_not_known_is_not_measured_and_says_why() -> None:
    rows = [ROWS[0], (*ROWS[1][:9], np.nan, None, None)]
    analysis = found(rows, None)
    thin = analysis.waterfall_stacks.iloc[0]
    assert set(thin["why"]) == {"zeros", "precision", "overhead"}
    assert thin[["zeros", "precision", "overhead"]].isna().all()
    # what cannot be told apart is in the kernels
    assert thin["macs"] * thin["kernels"] == pytest.approx(thin["left"])
    (told,) = [f.sentence for f in analysis.findings if f.kind == "waterfall"]
    assert "zeros not measured, the runtime does not tell which zeros" in told
    assert "overhead not measured, the overhead of an inference was not measured in" in told


def test_nothing_is_told_of_a_table_without_an_optimization_or_a_latency() -> None:
    frame = pd.DataFrame(ROWS, columns=NAMES).rename(columns={"latency_ms": "mb"})
    assert analyze(load_table(frame, layers=LAYERS, metric="mb")).waterfalls.empty
    same = found([r for r in ROWS if r[1] == "none"])
    assert same.waterfalls.empty
