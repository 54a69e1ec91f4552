"""What is known before measuring: of each cell the same figures, and only what differs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from dlas.explore import forehand


def cell(prepared: str, precision: str, threads: int) -> tuple[str, Any]:
    hardware = SimpleNamespace(threads=threads)
    return prepared, SimpleNamespace(precision=precision, name=prepared, hardware=hardware)


def test_what_differs_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"small": 1000, "large": 8000}
    monkeypatch.setattr(forehand, "weights_bytes", lambda t: sizes[t.name])
    cells = [cell("small", "float32", 1), cell("large", "float16", 1), cell("large", "int8", 1)]
    found = forehand.known(cells)
    assert found is not None
    assert found.shape == (3, 2)
    assert np.allclose(np.exp(found[:, 1]), [1000, 8000, 8000])


def test_a_model_that_tells_nothing_leaves_the_bytes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forehand, "weights_bytes", lambda t: cast(int, {"a": 1000}.get(t.name)))
    found = forehand.known([cell("a", "float32", 1), cell("b", "float32", 2)])
    assert found is not None
    assert np.allclose(np.exp(found), [[1], [2]])
    assert forehand.known([cell("b", "float32", 1)] * 3) is None
