from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dlas.analyze import load_table
from dlas.analyze.parts.roofline import roofline
from dlas.core.errors import UserError

OPTIONS = {"layers": ["m", "threads"], "metric": "latency_ms"}
CEILINGS = pd.DataFrame(
    {"host": ["h"], "threads": [1], "gflops": [100.0], "gb_s": [10.0], "overhead_ms": [0.05]}
)


def cells(**more):
    rows = [
        ("big", 10.0, 400e6, 1.0, 1),
        ("tiny", 0.06, 1e5, 0.01, 1),
        ("wide", 6.0, 1e6, 50.0, 1),
        ("slow", 20.0, 400e6, 1.0, 1),
    ]
    frame = pd.DataFrame(rows, columns=["m", "latency_ms", "macs", "weights_mb", "threads"])
    return frame.assign(host="h", **more)


def found(frame, ceilings=CEILINGS):
    rows = roofline(load_table(frame, ceilings=ceilings, **OPTIONS))
    rows = rows.set_index(rows["cell"].str.split(" / ").str[0])
    return rows.loc[[m for m in ("big", "tiny", "wide", "slow") if m in rows.index]]


def test_nothing_is_said_without_measured_ceilings():
    assert not len(roofline(load_table(cells(), **OPTIONS)))


def test_each_cell_is_capped_by_the_largest_of_three_times():
    rows = found(cells())
    assert rows["bound"].to_dict() == {
        "big": "arithmetic",
        "tiny": "overhead",
        "wide": "memory",
        "slow": "none of them",
    }
    assert rows.loc["big", "arithmetic_ms"] == pytest.approx(8.0)
    assert rows.loc["big", "explained"] == pytest.approx(0.8)
    assert rows.loc["wide", "memory_ms"] == pytest.approx(5.0)
    assert rows.loc["big", "gflops"] == pytest.approx(80.0)
    assert rows.loc["big", "most_gflops"] == pytest.approx(100.0)


def test_a_ceiling_that_is_missing_or_means_nothing_is_refused():
    with pytest.raises(UserError, match="gb_s"):
        found(cells(), CEILINGS.drop(columns="gb_s"))
    with pytest.raises(UserError, match="no column 'colour'"):
        found(cells(), CEILINGS.assign(colour="red"))
    with pytest.raises(UserError, match="two rows"):
        found(cells(), pd.concat([CEILINGS, CEILINGS]))


def test_a_ceiling_holds_where_its_columns_say():
    frame = cells(runtime=["a", "a", "b", "b"])
    two = pd.concat([CEILINGS.assign(runtime="a"), CEILINGS.assign(runtime="b", gflops=50.0)])
    rows = found(frame, two)
    assert rows["most_gflops"].tolist() == [100, 100, 50, 50]
    assert list(found(frame, two[two["runtime"] == "a"]).index) == ["big", "tiny"]


def test_a_figure_that_was_not_measured_caps_nothing():
    rows = found(cells(), CEILINGS.assign(overhead_ms=np.nan, gb_s=np.nan))
    assert rows["bound"].to_dict()["wide"] == "none of them"
    assert rows["memory_ms"].isna().all()
    nothing = CEILINGS.assign(overhead_ms=np.nan, gb_s=np.nan, gflops=np.nan)
    assert found(cells(), nothing)["explained"].isna().all()


def test_weights_that_fit_into_the_cache_are_not_read_from_memory():
    rows = found(cells(), CEILINGS.assign(cache_mb=32.0))
    assert rows.loc["wide", "memory_ms"] == pytest.approx(5.0)
    assert np.isnan(rows.loc["big", "memory_ms"])


def test_a_type_of_another_width_has_no_arithmetic_ceiling():
    frame = cells(ran_precision=["float32", "int8", None, "bfloat16"])
    rows = found(frame, CEILINGS.assign(precision="float32"))
    assert rows["arithmetic_ms"].notna().tolist() == [True, False, True, False]


def test_a_narrow_type_goes_by_its_own_ceiling():
    frame = cells(ran_precision=["float32", "int8", None, "bfloat16"])
    rows = found(frame, CEILINGS.assign(precision="float32", gflops_int8=400.0))
    assert rows["arithmetic_ms"].notna().tolist() == [True, True, True, False]
    assert rows["most_gflops"].tolist()[:3] == [100, 400, 100]
    assert rows.loc["tiny", "arithmetic_ms"] == pytest.approx(2 * 1e5 / 400e6)


def test_where_zeros_are_skipped_their_multiplications_do_not_count():
    frame = cells(effective_macs=[40e6, 1e5, 1e6, 40e6], ran_sparsity=[0.9, 0.0, np.nan, 0.0])
    rows = found(frame)
    assert rows.loc["big", "arithmetic_ms"] == pytest.approx(0.8)
    assert rows.loc["slow", "arithmetic_ms"] == pytest.approx(8.0)
