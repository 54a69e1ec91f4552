"""Hand-made rows, and the folder to put them in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dlas.core.records import Round, Status
from dlas.core.stack import Choice, Stack
from dlas.store.results import (
    FILE_NAME,
    CellRow,
    FactRow,
    ResultStore,
    RoundRow,
    Row,
    SentinelRow,
    SessionRow,
)

HOST = "host-1"


def stack(sparsity: float | None = None, threads: int = 1, software: str = "pytorch") -> Stack:
    pruned = Choice("weight-pruning", {"sparsity": sparsity, "epochs": 1}, ("sparsity",))
    return Stack(
        (Choice("digits"),),
        (Choice("resnet-8"),),
        (Choice("none") if sparsity is None else pruned,),
        (Choice("native"),),
        (Choice(software, {"layout": "nchw"}),),
        (Choice("cpu", {"threads": threads}, ("threads",)),),
        {"optimization.pruning": "none" if sparsity is None else "weight-pruning"},
    )


def cell_row(made: Stack, position: int = 0, **changed: object) -> CellRow:
    texts = {n: made.text(n) for n in ("dataset", "model", "optimization", "algorithm")}
    row = CellRow(
        "st", made.cell, position, made.to_json(), **texts, software=made.text("software"),
        hardware=made.text("hardware"), status=Status.COMPLETE,
    )  # fmt: skip
    return replace(row, **changed)  # type: ignore[arg-type]


def fact(cell: str, kind: str, value: dict[str, object], **changed: object) -> FactRow:
    row = FactRow(
        cell, HOST, kind, "key", "content", Status.COMPLETE, value=value, session="s1",
        created_at="2026-01-01T00:00:00.000+00:00",
    )  # fmt: skip
    return replace(row, **changed)  # type: ignore[arg-type]


def round_row(
    cell: str, number: int, samples_ms: Sequence[float], *, control: int = 0,
    flags: tuple[str, ...] = (), seen: dict[str, object] | None = None, **changed: object,
) -> RoundRow:  # fmt: skip
    made = Round(
        samples_s=(), warmup_runs=10, warmup_s=0.1, steady=True, import_s=1.5, load_s=0.02,
        first_inference_s=0.004, launch="fork", flags=flags, cpus=(1,),
    )  # fmt: skip
    value = replace(made, **(seen or {})).to_json()  # type: ignore[arg-type]
    row = RoundRow(
        cell, HOST, control, number, "key", "content", Status.COMPLETE, value=value,
        samples=tuple(ms / 1e3 for ms in samples_ms), session="s1", position=3,
        created_at=f"2026-01-01T00:0{number}:30.000+00:00", overhead_s=0.1 * (number + 1),
    )  # fmt: skip
    return replace(row, **changed)  # type: ignore[arg-type]


SESSION = SessionRow("s1", "st", HOST, "2026-01-01T00:00:00.000+00:00", command="dlas run")
SENTINEL = SentinelRow("s1", 0, 10, 0.0123, "2026-01-01T00:00:05.000+00:00")


def fill(folder: Path, *rows: Row) -> Path:
    with ResultStore(folder / FILE_NAME) as store:
        store.put(*rows)
    return folder
