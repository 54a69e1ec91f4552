"""The round model against statsmodels, by hand, and its A/A controls."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

from dlas.analyze import load_table
from dlas.analyze.estimate.load import from_study
from dlas.analyze.estimate.noise import estimate


def rounds_table(y, **options):
    """A table with one layer ``x`` of n levels and r rounds."""
    n, r = y.shape
    frame = pd.DataFrame(
        {
            "x": np.repeat([f"c{i}" for i in range(n)], r),
            "round": np.tile(np.arange(r), n),
            "ms": np.exp(y).ravel(),
        }
    )
    frame = frame[frame["ms"].notna()]
    return load_table(frame, layers=["x"], metric="ms", rounds="round", **options)


@pytest.mark.parametrize("holes", [0, 5])
def test_differences_and_their_errors_are_those_of_least_squares(holes):
    rng = np.random.default_rng(3)
    y = rng.normal(0, 1, (6, 1)) + rng.normal(0, 0.2, 4) + rng.normal(0, 0.05, (6, 4))
    y.flat[rng.choice(y.size, holes, replace=False)] = np.nan
    table = rounds_table(y, strata=[])
    found = estimate(table)
    cell, part = np.indices(y.shape)
    frame = pd.DataFrame({"y": y.ravel(), "c": cell.ravel(), "r": part.ravel()}).dropna()
    fit = smf.ols("y ~ C(c) + C(r)", frame).fit()
    assert found.df[0] == fit.df_resid
    assert found.strata["sd"][0] ** 2 == pytest.approx(fit.mse_resid, rel=1e-6)
    d = found.mean[3] - found.mean[0]
    assert d == pytest.approx(fit.params["C(c)[T.3]"], abs=1e-6)
    if not holes:
        se = np.sqrt((found.var[3] + found.var[0]).sum())
        assert se == pytest.approx(fit.bse["C(c)[T.3]"])


def test_variances_of_strata_are_unbiased():
    rng = np.random.default_rng(5)
    sums = np.zeros(2)
    sd = np.repeat([0.01, 0.04], 6)[:, None]
    plain = rounds_table(np.zeros((12, 3)))
    kind = np.repeat(["a", "b"], 6)
    table = replace(plain, cells=plain.cells.assign(kind=kind), strata=("kind",))
    for _ in range(300):
        y = rng.normal(0, 0.1, 3) + sd * rng.normal(size=(12, 3))
        seen = replace(table, samples=table.samples.assign(log=y.ravel()))
        sums += estimate(seen).strata.set_index("stratum")["sd"][["a", "b"]].to_numpy() ** 2
    assert np.sqrt(sums / 300) == pytest.approx([0.01, 0.04], rel=0.05)


def test_strata_are_found_where_noise_differs():
    rng = np.random.default_rng(7)
    n = 60
    sd = np.where(np.arange(n) % 2, 0.1, 0.01)[:, None]
    y = sd * rng.normal(size=(n, 3))
    frame = pd.DataFrame(
        {
            "loud": np.repeat(np.where(np.arange(n) % 2, "yes", "no"), 3),
            "other": np.repeat([f"o{i // 2}" for i in range(n)], 3),
            "r": np.tile([0, 1, 2], n),
            "ms": np.exp(y).ravel(),
        }
    )
    table = load_table(frame, layers=["loud", "other"], metric="ms", rounds="r")
    strata = estimate(table).strata.set_index("stratum")["sd"]
    assert set(strata.index) == {"yes", "no"}
    assert strata["yes"] > 5 * strata["no"]


def test_one_round_is_no_noise():
    table = rounds_table(np.zeros((4, 1)))
    assert estimate(table).kind == "unknown"


@pytest.mark.parametrize("metric", ["quiet_ms", "latency_ms"])
def test_of_single_rounds_alone_in_their_stratum_nothing_is_claimed(metric):
    """Runtime c was measured once: its own noise is not nothing, and the others keep theirs."""
    rng = np.random.default_rng(0)
    cells, rounds = [], []
    for runtime, n in (("a", 4), ("b", 4), ("c", 1)):
        for m in range(8):
            name = f"{runtime}{m}"
            cells.append((name, "h", "complete", "d", f"m{m}", "o", "n", runtime, "cpu", 1.0))
            log = 0.5 * m + np.abs(rng.normal(0, 0.02, n))
            rounds += [(name, 0, r, "h", "s", float(np.exp(v))) for r, v in enumerate(log)]
    layers = ["dataset", "model", "optimization", "algorithm", "software", "hardware"]
    frame = pd.DataFrame(cells, columns=["cell", "host", "status", *layers, metric])
    names = ["cell", "control", "round", "host", "session", metric]
    table = from_study(frame, pd.DataFrame(rounds, columns=names))
    found = estimate(table)
    lone = frame["software"].eq("c").to_numpy()
    assert found.kind == "rounds" and np.isfinite(found.mean[~lone]).all()
    assert np.isnan(found.mean[lone]).all()
    assert [n for n in found.notes if "8 cells have a single round" in n]
    # the others are what they are without it
    alone = estimate(from_study(frame[~lone], pd.DataFrame(rounds[:64], columns=names)))
    assert found.gap(0, 8).sum() == pytest.approx(alone.gap(0, 8).sum(), rel=0.02)


def test_intervals_are_read_as_95_per_cent():
    frame = pd.DataFrame({"x": ["a", "b"], "ms": [1.0, 2.0], "lo": [0.9, 1.8], "hi": [1.1, 2.2]})
    table = load_table(frame, layers="x", metric="ms", low="lo", high="hi")
    found = estimate(table)
    half = (np.log(1.1) - np.log(0.9)) / 2
    assert np.sqrt(found.var[0].sum()) == pytest.approx(half / 1.959964, rel=1e-6)


def study(rng, extra):
    """Thirty cells with a control each; controls differ from their cell by ``extra`` more."""
    n, r = 30, 3
    cells = pd.DataFrame(
        {
            "cell": [f"c{i}" for i in range(n)],
            "host": "h",
            "status": "complete",
            "reason": "",
            "dataset": "d",
            "model": [f"m{i}" for i in range(n)],
            "optimization": "o",
            "algorithm": "a",
            "software": "s",
            "hardware": "w",
            "latency_ms": 1.0,
        }
    )
    parts = []
    common = rng.normal(0, 0.1, r)
    for control in (0, 1):
        shift = extra * rng.normal(size=(n, 1)) * control
        y = common + shift + 0.02 * rng.normal(size=(n, r))
        parts.append(
            pd.DataFrame(
                {
                    "cell": np.repeat(cells["cell"], r),
                    "control": control,
                    "round": np.tile(np.arange(r), n),
                    "host": "h",
                    "session": "s",
                    "latency_ms": np.exp(y).ravel(),
                }
            )
        )
    return from_study(cells, pd.concat(parts))


def test_controls_that_agree_change_nothing():
    found = estimate(study(np.random.default_rng(1), 0.0))
    assert len(found.controls) == 30
    assert found.inflation == 1.0
    assert found.controls["inside"].mean() >= 0.85


def test_controls_that_differ_widen_every_interval():
    found = estimate(study(np.random.default_rng(1), 0.1))
    assert found.controls["inside"].mean() < 0.5
    assert found.inflation > 2
    calm = estimate(study(np.random.default_rng(1), 0.0))
    assert found.floor() > 2 * calm.floor()


def test_the_tails_of_a_cell_are_those_of_its_rounds_over_their_number():
    rng = np.random.default_rng(2)
    shape = (3000, 5)
    drawn = {
        "laplace": rng.laplace(size=shape),  # excess kurtosis 3
        "normal": rng.standard_normal(shape),
        "uniform": rng.uniform(-1, 1, shape),  # -1.2: never below nothing
    }
    tails = {name: estimate(rounds_table(0.03 * e, strata=[])).tails for name, e in drawn.items()}
    assert all(np.ptp(each) == 0 for each in tails.values())
    assert 5 * tails["laplace"][0] == pytest.approx(3, abs=0.6)
    assert 5 * tails["normal"][0] < 0.25
    assert tails["uniform"][0] == 0
