"""A published table (IISWC 2018) from its numbers alone: the four statements it is known for."""

from pathlib import Path

import pytest

from dlas.analyze import analyze, load_table, render_text

TABLE = Path(__file__).parents[1] / "data" / "iiswc-2018.csv"
THREADS = {"Odroid": ["1", "2", "4", "8"], "i7": ["1", "2", "4"]}


@pytest.fixture(scope="module")
def analysis():
    table = load_table(
        TABLE,
        layers="model,optimization,device,threads",
        metric="seconds",
        baseline=["optimization=plain"],
    )
    return analyze(table)


@pytest.fixture(scope="module")
def sentences(analysis):
    return [f.sentence for f in analysis.findings]


def one(sentences, *parts):
    found = [s for s in sentences if all(p in s for p in parts)]
    assert len(found) == 1, found
    return found[0]


def test_nothing_is_called_significant_without_rounds(analysis):
    assert not analysis.estimates.known
    assert {f.certainty for f in analysis.findings} == {"stated", "beyond the floor"}
    assert "neither rounds nor intervals" in render_text(analysis)


def test_dense_network_slows_down_with_threads_on_both_devices(analysis, sentences):
    rows = analysis.scaling.query("factor == 'threads'")
    where = rows["context"].str.contains("model=MobileNet, optimization=plain")
    shapes = {r.fixed["device"]: r.shape for r in rows[where].itertuples()}
    assert shapes == {"Odroid": "loses, best at 2", "i7": "loses"}
    said = one(sentences, "With model=MobileNet, optimization=plain a higher threads")
    assert "34 % slower from 1 to 8 at device=Odroid after gaining 25 % at 2" in said
    assert "43 % slower from 1 to 4 at device=i7" in said


def test_weight_pruning_changes_sign_with_threads_on_both_devices(analysis, sentences):
    rows = analysis.flips.query("a == 'plain' and b == 'weight-pruned' and by == 'threads'")
    assert len(rows) == 1
    assert set(rows["places"].iloc[0]) == {
        "model=MobileNet, device=Odroid",
        "model=MobileNet, device=i7",
    }
    said = one(sentences, "threads flips optimization: plain", "than weight-pruned")
    assert "model=MobileNet, device=Odroid" in said and "model=MobileNet, device=i7" in said


def test_channel_pruning_is_the_fastest_in_all_contexts(analysis, sentences):
    row = analysis.winners.query("level == 'channel-pruned'").iloc[0]
    assert (row["best"], row["clearly"], row["contested"]) == (21, 21, 21)
    one(
        sentences,
        "optimization=channel-pruned is the fastest optimization in all 21 contexts",
    )


def test_macs_over_predict_on_two_networks_and_not_on_the_third(analysis, sentences):
    rows = analysis.expected.query(
        "level == 'channel-pruned' and cost == 'macs' and by == 'model'"
    ).set_index("at")["verdict"]
    assert rows.to_dict() == {
        "ResNet-18": "over-predicts",
        "MobileNet": "over-predicts",
        "VGG-16": "predicts",
    }
    said = one(
        sentences, "Fewer multiplications (macs) promises optimization=channel-pruned to be"
    )
    assert "VGG-16 1.88 times faster of 1.90 times promised (as promised)" in said
    assert "ResNet-18 2.52 times faster of 7.30 times promised (less than promised)" in said
    assert "MobileNet 3.70 times faster of 5.79 times promised (less than promised)" in said


def test_every_finding_names_cells_that_exist_and_what_would_overturn_it(analysis):
    cells = set(analysis.table.cells["cell"])
    for f in analysis.findings:
        assert set(f.cells) <= cells
        assert f.overturn or f.kind == "noise"
        assert f.sentence.endswith(".")
    claims = [f for f in analysis.findings if f.kind in {"flip", "speed-up", "interaction"}]
    assert claims and all(f.cells for f in claims)


def test_a_paired_speed_up_by_hand(analysis):
    row = analysis.speedup_contexts.query(
        "level == 'channel-pruned' and context == 'model=VGG-16, device=i7, threads=4'"
    ).iloc[0]
    assert row["ratio"] == pytest.approx(0.223 / 0.121)
    assert row["cell"] == "VGG-16 / channel-pruned / i7 / 4"


def test_the_order_of_the_layers_is_said_to_rest_on_one_level(analysis, sentences):
    changed = analysis.left_out.query("changed")
    assert changed[["layer", "level"]].to_numpy().tolist() == [["optimization", "channel-pruned"]]
    one(sentences, "rests on single levels: without optimization=channel-pruned")
