"""Choices, stacks, their texts, cells and factor columns."""

from __future__ import annotations

from dataclasses import replace

from dlas.core.stack import LAYERS, Choice, Stack

CPU = Choice("cpu", {"threads": 2, "isa": "native"}, ("threads",))
WEIGHTS = Choice("weight-pruning", {"epochs": 1, "sparsity": 0.8}, ("sparsity",))
CHANNELS = Choice("channel-pruning", {"epochs": 1, "ratio": 0.3}, ("epochs", "ratio"))


def stack(*optimization: Choice) -> Stack:
    plain = {name: (Choice(name),) for name in LAYERS}
    return Stack(
        **{**plain, "optimization": optimization, "hardware": (CPU,)},
        sublayers={"optimization.pruning": "weight-pruning(sparsity=0.8)"},
    )


def test_the_text_shows_what_differs_from_the_default() -> None:
    assert WEIGHTS.text == "weight-pruning(sparsity=0.8)"
    assert CHANNELS.text == "channel-pruning(epochs=1,ratio=0.3)"
    assert Choice("none").text == "none"


def test_a_pipeline_is_joined_by_plus() -> None:
    assert stack(WEIGHTS, Choice("int8")).text("optimization") == (
        "weight-pruning(sparsity=0.8)+int8"
    )


def test_a_cell_does_not_depend_on_what_is_shown_or_on_sublayers() -> None:
    one = stack(WEIGHTS)
    other = replace(one, optimization=(replace(WEIGHTS, shown=()),), sublayers={})
    assert one.cell == other.cell
    assert one.cell != stack(CHANNELS).cell
    assert stack(WEIGHTS, CHANNELS).cell != stack(CHANNELS, WEIGHTS).cell


def test_a_parameter_is_a_column_and_shared_names_carry_the_technique() -> None:
    alone = stack(WEIGHTS).factors()
    assert alone["optimization.sparsity"] == 0.8
    assert alone["optimization.epochs"] == 1
    assert alone["hardware.threads"] == 2
    assert alone["optimization.pruning"] == "weight-pruning(sparsity=0.8)"
    both = stack(WEIGHTS, CHANNELS).factors()
    assert both["optimization.weight-pruning.epochs"] == 1
    assert both["optimization.channel-pruning.epochs"] == 1
    assert "optimization.epochs" not in both
    assert both["optimization.ratio"] == 0.3


def test_json_reads_back() -> None:
    one = stack(WEIGHTS, CHANNELS)
    again = Stack.from_json(one.to_json())
    assert again == one
    assert again.cell == one.cell
    assert again.text("optimization") == one.text("optimization")
    assert again.factors() == one.factors()
