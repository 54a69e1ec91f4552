"""A study that several machines work on: what it is, and what has to be true in the end."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dlas.store.results import CellRow, FactRow, ResultStore, RoundRow
from dlas.store.shared_store import SharedStore
from place import Place

LAYERS = {"optimization": ["none", {"weight-pruning": {"sparsity": 0.5, "epochs": 1}}],
          "software": ["onnxruntime"], "hardware": ["cpu"]}  # fmt: skip
MEASURE = {"rounds": 2, "memory": False, "accuracy_samples": 20, "min_controls": 0}
LEASE_S = "3"
SECRETS = ("s3cr3t-of-the-store", "s3cr3t-of-the-database")
"""Passwords in the environment of all that runs, to be seen nowhere."""


def rows(database: str) -> Mapping[type, list[Any]]:
    with ResultStore(database, read_only=True) as store:
        return store.snapshot()


def whole(lab: Place, database: str, bucket: str, undisturbed: Place) -> None:
    """Check that the run is as an undisturbed one, and each step was committed once."""
    found = rows(database)
    assert {row.status for row in found[CellRow]} == {"complete"}
    measured = [(row.cell, row.control, row.round) for row in found[RoundRow]]
    assert sorted(measured) == sorted(undisturbed.rounds())
    assert {(fact.cell, fact.kind) for fact in found[FactRow]} == set(undisturbed.facts())
    generations = committed(bucket, lab.root / "looks")
    assert len(generations) >= 10
    assert set(generations.values()) == {0}
    rested = {key for row in found[FactRow] if row.kind == "steps" for key in row.value["keys"]}
    assert rested <= set(generations)


def committed(bucket: str, cache: Path) -> dict[str, int]:
    """Return the newest generation of each step in a store; 0: it was committed once."""
    store = SharedStore(bucket, cache)
    return {key: store.generation(key) for key in store._steps.every()}


def begun(bucket: str, cache: Path, steps: int) -> None:
    """Return when so many steps are done."""
    store = SharedStore(bucket, cache)
    until = time.monotonic() + 240
    while len(store._steps.every()) < steps:
        assert time.monotonic() < until, "nothing is ever done"
        time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
