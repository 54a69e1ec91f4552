from __future__ import annotations

import pytest

from dlas.core.precision import bits


@pytest.mark.parametrize(
    ("name", "width"),
    [("float32", 32), ("float16", 16), ("bfloat16", 16), ("int8", 8), ("int4", 4),
     ("none", None), ("nsga2", None), ("float32+int8", None), ("weight-pruning", None)],
)  # fmt: skip
def test_the_bits_of_a_type(name: str, width: int | None) -> None:
    assert bits(name) == width
