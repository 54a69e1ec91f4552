"""Which ceilings a run reads: float32, and the types that its cells ask for and the CPU has."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dlas.core import registry
from dlas.kernels.ground import cpu
from dlas.run.ceilings import Ceilings, _loop_step

pytest.importorskip("tvm_ffi")


def cell(precision: str, threads: int = 1) -> Any:
    """Return a cell as far as ceilings look at it."""
    hardware = registry.make("hardware", "cpu", {"threads": threads})
    text = f"cpu(threads={threads})"
    return SimpleNamespace(
        stack=SimpleNamespace(text=lambda _layer: text),
        techniques=SimpleNamespace(hardware=hardware, precision=precision),
        threads=threads,
    )


def types(*cells: Any) -> list[tuple[int, str]]:
    bench: Any = None
    found = Ceilings(bench, cells, {}, {})
    return [(plan.threads, dtype) for plan, dtype in found._types()]


def test_each_type_is_read_where_cells_ask_for_it() -> None:
    assert types(cell("float32")) == [(1, "float32")]
    asked = (cell("int8"), cell("float32", 2), cell("int8"))
    assert types(*asked) == [(1, "float32"), (1, "int8"), (2, "float32")]


@pytest.mark.parametrize("flag", [None, "avx512_bf16"])
def test_halves_are_read_where_the_cpu_multiplies_them(
    flag: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(cpu, "flags", lambda: frozenset({*cpu.V4} | ({flag} if flag else set())))
    narrow = ["float32"] if flag is None else ["float32", "bfloat16"]
    assert [dtype for _, dtype in types(cell("bfloat16"), cell("float16"))] == narrow


def test_float32_keeps_its_step() -> None:
    wide, narrow = (_loop_step(cell("int8"), dtype) for dtype in ("float32", "int8"))
    assert wide is not None and narrow is not None and wide.key != narrow.key
    assert "dtype" not in wide.args and narrow.args["dtype"] == "int8"
