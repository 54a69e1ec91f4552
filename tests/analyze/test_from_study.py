"""A study's own frames, findings as text and JSON, comparison of two runs."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest

from dlas.analyze import analyze, compare, from_study, load_table, render_comparison, render_text
from dlas.analyze.estimate.noise import estimate
from dlas.core.errors import UserError

PRUNED = {"plain": None, "cut(sparsity=0.5)": 0.5, "cut(sparsity=0.9)": 0.9}
RUNTIMES = ("fast(tuning=none)", "slow")


def frames(hosts=("h",), sessions=("s",), change=1.0, noise=0.01, seed=0, rounds=3):
    """Two networks, three optimizations, two runtimes, two thread counts; one cell failed.

    Sparsity 0.9 pays on the fast runtime only: a flip, and a break-even.
    """
    rng = np.random.default_rng(seed)
    cells, samples = [], []
    for host, (m, (o, s), r, t) in itertools.product(
        hosts, itertools.product(("p", "q"), PRUNED.items(), RUNTIMES, (1, 2))
    ):
        log = {"p": 0.0, "q": 1.0}[m] - 0.5 * np.log(t) + 0.7 * (r == "slow")
        if s is not None:
            log += (0.9 - s - 0.2) if r != "slow" else 0.3
        log += np.log(change) * (r == "slow")
        failed = (m, o, r, t) == ("q", "plain", "slow", 2)
        name = f"{m}-{o}-{r}-{t}"
        seen = []
        for session, k in itertools.product(sessions, range(rounds)):
            seen.append(np.exp(log + rng.normal(0, noise)))
            if not failed:
                samples.append((name, 0, k, host, session, seen[-1]))
        row = {
            "cell": name, "host": host, "status": "failed" if failed else "complete",
            "reason": "out of memory" if failed else "", "dataset": "d", "model": m,
            "optimization": o, "algorithm": "native", "software": r,
            "hardware": f"cpu(threads={t})", "optimization.sparsity": s,
            "software.tuning": "none" if "tuning" in r else None, "hardware.threads": t,
            "latency_ms": np.nan if failed else np.median(seen),
            "accuracy": 0.9 - (s or 0) / 50, "macs": 1e6 * (1 - (s or 0)),
        }  # fmt: skip
        cells.append(row)
    columns = ["cell", "control", "round", "host", "session", "latency_ms"]
    return pd.DataFrame(cells), pd.DataFrame(samples, columns=columns)


def test_a_study_is_told_from_its_two_frames():
    table = from_study(*frames())
    assert table.parameters == ("optimization.sparsity", "software.tuning", "hardware.threads")
    assert [f.name for f in table.factors] == [
        "model", "optimization", "software", "hardware", "optimization.sparsity",
        "hardware.threads",
    ]  # fmt: skip
    analysis = analyze(table)
    assert table.reference("hardware") == "cpu(threads=1)"
    flip = analysis.flips.query("layer == 'optimization' and by == 'software'")
    assert {"plain", "cut(sparsity=0.9)"} in [{r.a, r.b} for r in flip.itertuples()]
    even = analysis.break_evens.query(
        "factor == 'optimization.sparsity' and layer == 'optimization' and verdict == 'crosses'"
    )
    average = even.query("context == '(average)'")
    assert not len(average) or average["a"].iloc[0] == "cut"
    fast = even[even["context"].str.contains("fast")]
    assert len(fast) == 4
    assert fast["level"].between(0.65, 0.75).all()
    assert (fast["low"] < 0.7).all() and (fast["high"] > 0.7).all()
    said = [f.sentence for f in analysis.findings]
    assert any("1 cells are failed" in s and "out of memory" in s for s in said)


def test_parameters_split_a_layers_share():
    shares = analyze(from_study(*frames())).shares.query("kind == 'factor'").set_index("term")
    assert {"optimization (technique)", "optimization.sparsity", "hardware.threads"} <= set(
        shares.index
    )


def test_sessions_have_rounds_of_their_own():
    cells, rounds = frames(sessions=("s1", "s2"))
    # A later session on a machine that is slower as a whole: a round effect, no noise.
    later = rounds["session"] == "s2"
    rounds.loc[later, "latency_ms"] *= 1.5
    found = estimate(from_study(cells, rounds))
    assert found.strata["sd"].max() < 0.03


def test_hosts_are_never_pooled():
    cells, rounds = frames(hosts=("h1", "h2"))
    rounds.loc[rounds["host"] == "h2", "latency_ms"] *= 5
    cells.loc[cells["host"] == "h2", "latency_ms"] *= 5
    analysis = analyze(from_study(cells, rounds))
    assert analysis.table.context_columns[-1] == "host"
    one = analysis.speedups.query("level == 'slow'").iloc[0]
    assert one["contexts"] == 2 * 11
    assert set(analysis.front["host"]) == {"h1", "h2"}
    assert not analysis.flips["by"].str.contains("host").any()


def test_a_metric_without_rounds_is_judged_by_the_floor():
    cells, rounds = frames()
    table = from_study(cells.assign(memory_mb=cells["macs"] / 1e5), rounds, metric="memory_mb")
    assert not analyze(table).estimates.known


def test_latency_intervals_stand_in_for_rounds():
    cells, _ = frames()
    value = cells["latency_ms"]
    cells = cells.assign(latency_low_ms=value * 0.98, latency_high_ms=value * 1.02)
    found = estimate(from_study(cells))
    assert found.kind == "intervals"


def test_the_price_is_told_first_also_where_there_are_several_goals():
    goals = {"minimize": ["latency_ms", "macs"]}
    found = analyze(from_study(*frames(), goals=goals)).findings
    assert [f.kind for f in found[:3]] == ["price", "front", "best"]


def test_findings_are_ranked_evident_and_in_json():
    analysis = analyze(from_study(*frames(), goals={"minimize": ["latency_ms"]}))
    assert [f.rank for f in analysis.findings] == list(range(1, len(analysis.findings) + 1))
    assert [f.kind for f in analysis.findings[:2]] == ["price", "best"]
    data = json.loads(analysis.to_json())
    assert data["schema"] == 1
    assert data["complete"] == 23 and data["cells"] == 24
    assert len(data["findings"]) == len(analysis.findings)
    ids = set(analysis.table.cells["cell"])
    for found in data["findings"]:
        assert set(found["cells"]) <= ids
        if found["certainty"] == "significant":
            assert found["q"] < 0.05
    assert {"flips", "shares", "speedups", "coverage"} <= set(data["tables"])
    for name, rows in data["tables"].items():
        frame = getattr(analysis, name)
        assert len(rows) == len(frame)
        assert not rows or set(rows[0]) == set(frame.columns)


def test_the_text_is_one_line_a_statement():
    analysis = analyze(from_study(*frames()))
    text = render_text(analysis, most=0)
    assert text.count("\n\n") == len(analysis.findings)
    short = render_text(analysis, most=3, evidence=False)
    assert short.count("[") == 3 and "more findings are in the file" in short


def test_the_same_table_gives_the_same_bytes():
    one, two = (analyze(from_study(*frames())).to_json() for _ in range(2))
    assert one == two


def test_comparison_of_a_run_with_itself_and_with_a_slower_runtime():
    a = from_study(*frames(seed=1))
    again = compare(a, from_study(*frames(seed=2)))
    assert again.cells["changed"].sum() <= 2
    changed = compare(a, from_study(*frames(seed=3, change=1.3)))
    slow = changed.cells["key"].str.contains("slow")
    assert (changed.cells["changed"] == slow).mean() > 0.9
    rows = changed.levels.set_index("level")
    assert rows.loc["slow", "q"] < 0.05
    ratio = rows.loc["fast(tuning=none)", "ratio"] / rows.loc["slow", "ratio"]
    assert ratio == pytest.approx(1.3, rel=0.02)
    text = render_comparison(changed)
    assert "23 common cells" in text and "software=slow" in text
    json.dumps(changed.to_dict())


@pytest.mark.parametrize("seed", range(6))
def test_what_every_cell_differs_by_from_session_to_session_is_no_change(seed):
    """Nothing changed, but cells differ by 2.7 % each, as two sessions of one machine do."""
    a = from_study(*frames(seed=10 * seed + 1))
    cells, rounds = frames(seed=10 * seed + 2)
    rng = np.random.default_rng(seed)
    own = dict(zip(cells["cell"], np.exp(rng.normal(0.05, 0.027, len(cells))), strict=True))
    moved = rounds.assign(latency_ms=rounds["latency_ms"] * rounds["cell"].map(own))
    found = compare(a, from_study(cells, moved))
    assert found.cells["beyond_shift"].sum() <= 2
    assert not (found.levels["q"] < 0.05).any()
    assert not len(found.winners)
    assert 0.015 < found.apart < 0.05
    assert "from run to run" in render_comparison(found)


def test_of_one_cell_alone_nothing_is_said_to_have_changed():
    cells, rounds = frames()
    one = cells["cell"] == "p-plain-slow-1"
    cells, rounds = (f.rename(columns={"latency_ms": "quiet_ms"}) for f in (cells, rounds))
    few = rounds[rounds["cell"] == "p-plain-slow-1"]
    twice = few.assign(quiet_ms=2 * few["quiet_ms"])
    found = compare(from_study(cells[one], few), from_study(cells[one], twice))
    assert found.known and found.shift == pytest.approx(0.5, rel=0.02)
    assert not found.cells["changed"].any() and np.isnan(found.apart)
    assert "one cell does not tell" in render_comparison(found)


def test_comparison_tells_status_missing_cells_and_winners():
    cells, rounds = frames()
    other = cells.copy()
    other.loc[0, ["status", "reason"]] = ["failed", "crash"]
    other = other.drop(index=5)
    # The fast runtime is now the slow one.
    swap = rounds["cell"].str.contains("fast")
    turned = rounds.assign(latency_ms=rounds["latency_ms"] * np.where(swap, 4.0, 1.0))
    found = compare(from_study(cells, rounds), from_study(other, turned))
    assert found.status[["before", "after", "reason"]].to_numpy().tolist() == [
        ["complete", "failed", "crash"]
    ]
    assert len(found.only_a) == 1 and not found.only_b
    won = found.winners.query("layer == 'software'")
    assert (
        len(won) and set(won["before"]) == {"fast(tuning=none)"} and set(won["after"]) == {"slow"}
    )


def test_tables_that_cannot_be_compared():
    a = load_table(pd.DataFrame({"x": ["a"], "ms": [1.0]}), layers="x", metric="ms")
    b = load_table(pd.DataFrame({"y": ["a"], "s": [1.0]}), layers="y", metric="s")
    with pytest.raises(UserError) as caught:
        compare(a, b)
    assert len(caught.value.problems) == 2


def test_comparison_without_common_cells_says_so():
    a = load_table(pd.DataFrame({"x": ["a"], "ms": [1.0]}), layers="x", metric="ms")
    b = load_table(pd.DataFrame({"x": ["b"], "ms": [1.0]}), layers="x", metric="ms")
    assert render_comparison(compare(a, b)).startswith("0 common cells")
