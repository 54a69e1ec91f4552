"""What a user can get wrong in a table: a clear message, or a stated, correct partial answer."""

import numpy as np
import pandas as pd
import pytest

from dlas.analyze import analyze, from_study, load_table, render_text
from dlas.analyze.estimate.noise import estimate
from dlas.core.errors import UserError

LAYERS = ["model", "runtime"]


def frame(**changes):
    out = pd.DataFrame(
        {
            "model": ["p", "p", "q", "q"],
            "runtime": ["x", "y", "x", "y"],
            "ms": [1.0, 2.0, 3.0, 4.0],
        }
    )
    return out.assign(**changes)


def problems(source, **options):
    with pytest.raises(UserError) as caught:
        load_table(source, **({"layers": LAYERS, "metric": "ms"} | options))
    return caught.value.problems


def whole(source, **options):
    """Analyse, tell and write: no part may fail."""
    table = load_table(source, **({"layers": LAYERS, "metric": "ms"} | options))
    analysis = analyze(table)
    analysis.to_json()
    return analysis, render_text(analysis, most=0)


def test_missing_columns_are_told_together_with_near_names():
    found = problems(frame(), layers=["modle", "runtime"], metric="msec", rounds="round")
    assert len(found) == 3
    assert "Did you mean 'model'?" in found[0]
    assert "It has: model, runtime, ms" in found[1]


def test_words_for_numbers_are_rows_that_did_not_run():
    analysis, text = whole(frame(ms=["1", "OOM", "3", "n/a"]))
    assert (
        "2 of 4 rows have no positive number as ms and are left out: 'OOM' (1), 'n/a' (1)." in text
    )
    assert analysis.failures["reason"].tolist() == ["ms is 'OOM'", "ms is 'n/a'"]
    assert int(analysis.table.complete.sum()) == 2


def test_numbers_that_cannot_be_read_name_their_rows():
    (found,) = problems(frame(ms=["1", "1.2.3", "3", "4,5x,"]))
    assert found == "'ms' must be a number: rows 2 ('1.2.3'), 4 ('4,5x,')"


def test_a_column_without_any_number_is_no_metric():
    (found,) = problems(frame(ms=["fast", "slow", "slow", "-"]))
    assert found.startswith("'ms' must be a number: 4 rows are not, e.g. 1 ('fast')")


def test_numbers_that_came_as_text_are_numbers():
    table = load_table(frame(ms=["1", "2", "3", "4"]), layers=LAYERS, metric="ms")
    assert table.cells["value"].tolist() == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize("bad", [-1.0, 0.0, np.inf])
def test_times_that_are_none_are_left_out(bad):
    analysis, text = whole(frame(ms=[1.0, bad, 3.0, 4.0]))
    assert f"1 of 4 rows have no positive number as ms and are left out: {bad:g} (1)." in text
    assert analysis.failures["reason"].tolist() == [f"ms is {bad:g}"]


def test_mostly_negative_numbers_are_no_metric():
    (found,) = problems(frame(ms=[1.0, -1.0, -3.0, 0.0]))
    assert found == (
        "'ms' must be above zero (ratios are taken of it): 3 rows are not, e.g. 2 (-1), 3 (-3), "
        "4 (0)"
    )


def test_copies_of_a_row_count_once():
    analysis, text = whole(pd.concat([frame(), frame().iloc[[1]]]))
    assert "1 rows are copies of others: they count once." in text
    assert not analysis.estimates.known and len(analysis.table.cells) == 4


def test_rows_that_differ_in_what_was_measured_alone_are_repeats():
    again = frame(ms=[1.02, 2.01, 3.0, 4.1], load_s=[0.11, 0.12, 0.1, 0.13])
    analysis, text = whole(pd.concat([frame(load_s=[0.1, 0.11, 0.12, 0.15]), again]))
    assert "4 cells have 2 rows that only differ in what was measured" in text
    assert analysis.estimates.kind == "rounds"
    assert "the median is taken (load_s)" in text


def test_rows_that_differ_in_a_setting_need_it_named():
    (found,) = problems(pd.concat([frame(batch=1), frame(ms=[5.0, 6, 7, 8], batch=8)]))
    assert "8 rows are not told apart by the layers model, runtime (rows 1 and 5" in found
    assert "they differ in batch" in found and "--rounds" in found and "--repeats" in found
    both = pd.concat([frame(batch=1), frame(ms=[1.1, 2.1, 3.1, 4.1], batch=8)])
    assert load_table(both, layers=LAYERS, metric="ms", repeats=True).samples is not None


def test_duplicate_rounds():
    twice = pd.concat([frame(r=1), frame(r=1).iloc[[0]]])
    assert "the same 'r' twice: rows 1, 5" in problems(twice, rounds="r")[0]


def test_zero_rows():
    assert problems(frame().iloc[:0]) == ("the table has no rows",)


def test_half_an_interval():
    assert "needs both ends" in problems(frame(lo=0.5), low="lo")[0]


def test_value_outside_its_interval():
    (found,) = problems(frame(lo=0.5, hi=3.5), low="lo", high="hi")
    assert found == "'ms' lies outside 'lo'..'hi': row 4"


def test_rounds_and_interval_together():
    found = problems(frame(lo=0.5, hi=9.0, r=1), low="lo", high="hi", rounds="r")
    assert any("not both" in p for p in found)


def test_baseline_of_unknown_layer_and_level():
    assert (
        "'modle' is not a layer. Did you mean 'model'?"
        in problems(frame(), baseline=["modle=p"])[0]
    )
    assert "model has no level 'pp'" in problems(frame(), baseline={"model": "pp"})[0]
    assert "must be LAYER=LEVEL" in problems(frame(), baseline=["model"])[0]


@pytest.mark.parametrize("floor", [-0.1, 1, 5, float("nan")])
def test_floor_out_of_range(floor):
    assert "floor" in problems(frame(), floor=floor)[0]


def test_a_floor_in_per_cent_is_told_how_to_write_it():
    assert problems(frame(), floor=5)[0].endswith("got 5: 5 % is 0.05")


def test_metric_that_is_a_layer_and_layers_named_twice():
    found = problems(frame(), layers=["model", "model", "ms"])
    assert any("named twice" in p for p in found) and any(
        "also named as a layer" in p for p in found
    )


def test_goals_that_cannot_be_read():
    assert "must be a number" in problems(frame(), goals={"ms_at_most": "low"})[0]
    assert "must be minimize" in problems(frame(), goals={"fast": 1})[0]
    assert "no column 'accuracy'" in problems(frame(), goals={"accuracy_at_least": 0.9})[0]


def test_files_that_are_no_tables(tmp_path):
    assert "no such file" in problems(tmp_path / "none.csv")[0]
    assert ".csv or .parquet" in problems(tmp_path / "none.txt")[0]
    empty = tmp_path / "empty.csv"
    empty.write_text("")
    assert "empty" in problems(empty)[0]
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"no parquet at all")
    assert "cannot be read" in problems(broken)[0]


def test_csv_and_parquet_and_frame_say_the_same(tmp_path):
    frame().to_csv(tmp_path / "t.csv", index=False)
    frame().to_parquet(tmp_path / "t.parquet")
    texts = [whole(s)[1] for s in (frame(), tmp_path / "t.csv", tmp_path / "t.parquet")]
    assert texts[0] == texts[1] == texts[2]


def test_one_level_only_is_stated():
    analysis, text = whole(frame(model="p").iloc[:2])
    assert "One level only, so no effect can be seen: model." in text
    assert set(analysis.speedups["factor"]) == {"runtime"}


def test_one_cell_only():
    analysis, text = whole(frame().iloc[:1])
    assert not len(analysis.speedups) and not len(analysis.flips)
    assert "One level only" in text and "Take p / x" in text


def test_all_failed_shows_coverage_only():
    analysis, text = whole(frame(status="failed", reason="out of memory"))
    assert "No cell is complete: only coverage can be shown." in text
    assert "4 cells are failed" in text and "out of memory" in text
    assert analysis.coverage["failed"].sum() == 4
    assert not analysis.best.cell


def test_all_failed_with_text_for_numbers_is_no_mistake():
    whole(frame(status="failed", ms="-"))


def test_nan_is_left_out_and_stated():
    analysis, text = whole(frame(ms=[1.0, np.nan, 3.0, 4.0]))
    assert "1 complete cells have no ms: they are left out." in text
    row = analysis.speedups.query("factor == 'runtime'").iloc[0]
    assert row["contexts"] == 1 and row["ratio"] == pytest.approx(3 / 4)


def test_all_nan():
    assert "No cell is complete" not in whole(frame(status="complete"))[1]
    assert "4 complete cells have no ms" in whole(frame(ms=np.nan))[1]


def test_mixed_hosts_are_compared_within_a_host_only():
    one, two = frame(host="slow"), frame(host="fast", ms=[0.1, 0.1, 0.1, 0.1])
    analysis, text = whole(pd.concat([one, two]))
    assert "2 hosts: every comparison is made within one host" in text
    row = analysis.speedups.query("factor == 'runtime'").iloc[0]
    # Four contexts (two models on two hosts): geometric mean of 1/2, 3/4, 1 and 1.
    assert row["contexts"] == 4
    assert row["ratio"] == pytest.approx((1 / 2 * 3 / 4) ** 0.25)
    layers = analysis.shares.query("kind == 'layer'").set_index("term")["share"]
    assert layers.sum() <= 1 + 1e-9 and "host" not in layers


def test_empty_level_is_a_level_and_stated():
    analysis, text = whole(frame(runtime=["x", None, "x", None]))
    assert "2 of 4 rows have no runtime: they are shown as its level (empty)." in text
    assert "(empty)" in set(analysis.winners["level"])


def test_constant_metric_gives_no_shares():
    analysis, _ = whole(frame(ms=2.0))
    assert not len(analysis.shares) and not len(analysis.flips)


def test_nothing_comparable_is_stated_not_invented():
    analysis, _ = whole(frame().iloc[[0, 3]])
    assert not len(analysis.speedups)
    never = analysis.comparable.set_index("layer")["never_met"]
    assert never["model"] == ["p and q"]
    confounded = analysis.shares.query("kind == 'layer'")["confounded"]
    assert confounded.all()


def study(**changes):
    cells = pd.DataFrame(
        {
            "cell": ["a", "b"], "host": "h", "status": "complete", "reason": "",
            "dataset": "d", "model": ["p", "q"], "optimization": "o", "algorithm": "n",
            "software": "s", "hardware": "cpu(threads=1)", "hardware.threads": 1,
            "latency_ms": [1.0, 2.0],
        }
    )  # fmt: skip
    rounds = pd.DataFrame(
        {
            "cell": ["a", "a", "b", "b"], "control": 0, "round": [0, 1, 0, 1], "host": "h",
            "session": "s1", "latency_ms": [1.0, 1.1, 2.0, 2.1],
        }
    )  # fmt: skip
    return cells, rounds.assign(**changes)


def test_rounds_of_a_study_are_checked():
    cells, rounds = study()
    with pytest.raises(UserError, match="column 'session' is missing"):
        from_study(cells, rounds.drop(columns="session"))
    with pytest.raises(UserError, match="above zero"):
        from_study(*study(latency_ms=[1.0, -1.0, 2.0, 2.0]))
    with pytest.raises(UserError, match="the same round twice"):
        from_study(*study(round=0))


def test_rounds_without_a_cell_are_counted():
    table = from_study(*study(cell=["a", "a", "b", "zzz"]))
    assert any("1 rounds belong to no complete cell" in note for note in table.notes)


def test_cells_without_rounds_are_counted():
    cells, rounds = study(latency_ms=[1.0, 1.1, 2.0, 2.4])
    more = cells.iloc[[0]].assign(cell="c", model="r")
    table = from_study(pd.concat([cells, more]), rounds)
    assert any("1 complete cells have no rounds" in note for note in table.notes)
    assert np.isnan(estimate(table).mean).tolist() == [False, False, True]


def test_rounds_of_another_host_are_not_joined():
    table = from_study(*study(host="elsewhere"))
    assert table.samples is not None and not len(table.samples)
    assert any("4 rounds belong to no complete cell" in note for note in table.notes)
    assert not analyze(table).estimates.known
