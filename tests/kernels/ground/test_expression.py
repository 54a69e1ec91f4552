"""Elementwise arithmetic as trees, and their tables."""

import math

import numpy as np
import pytest

from dlas.kernels.ground.errors import InputError
from dlas.kernels.ground.expression import OPERATORS, given, number, operator, table, values
from dlas.kernels.ground.quantization import ByteTable, Scale

X = given(0)


def test_a_product_with_its_own_sigmoid_is_silu() -> None:
    for parts in ((X, operator("sigmoid", X)), (operator("sigmoid", X), X)):
        assert operator("multiply", *parts) == operator("silu", X)
    assert operator("multiply", X, operator("sigmoid", given(1))).op == "multiply"


def test_text_names_inputs_and_operators() -> None:
    tree = operator("multiply", operator("silu", X), operator("sigmoid", given(1)))
    assert tree.text() == "(silu(x0) * sigmoid(x1))"
    assert operator("divide", X, number(6)).text(["q"]) == "(q / 6)"
    assert sorted(tree.inputs()) == [0, 1]
    assert sorted(tree.operators()) == ["multiply", "sigmoid", "silu"]


def test_operators_are_those_of_mathematics() -> None:
    x = np.linspace(-8, 8, 41, dtype=np.float32)
    exact = {
        "sigmoid": lambda v: 1 / (1 + math.exp(-v)),
        "silu": lambda v: v / (1 + math.exp(-v)),
        "gelu": lambda v: 0.5 * v * (1 + math.erf(v / math.sqrt(2))),
        "erf": math.erf,
        "tanh": math.tanh,
        "relu6": lambda v: min(max(v, 0), 6),
    }
    for name, function in exact.items():
        found = values(operator(name, X), [x])
        np.testing.assert_allclose(found, [function(float(v)) for v in x], rtol=3e-7, atol=1e-12)
        assert found.dtype == np.float32
    assert exact.keys() <= OPERATORS.keys()


def test_a_table_holds_the_rounded_result_of_every_byte() -> None:
    scale, out = Scale(0.05, 100), Scale(0.02, 7)
    found = table(operator("silu", X), scale, out)
    assert found is not None and found.scale == out and found.name == "silu(x)"
    for q in (0, 1, 99, 100, 101, 255):
        x = (q - 100) * 0.05
        step = round(x / (1 + math.exp(-x)) / 0.02) + 7
        assert found.stored[q] == min(max(step, 0), 255)
    constant = table(number(1.0), scale, out)
    assert constant is not None and set(constant.stored) == {57}


def test_what_is_no_number_has_no_table() -> None:
    assert table(operator("sqrt", X), Scale(0.05, 100), Scale(0.02, 7)) is None


def test_a_table_of_another_size_is_refused() -> None:
    with pytest.raises(InputError, match=r"a table must hold 256 bytes.*got 3"):
        ByteTable(b"abc", Scale(1.0))
