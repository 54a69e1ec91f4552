"""Facts keep the JSON that they had before they had types, and read what lacks something."""

from __future__ import annotations

from typing import Any

import pytest

from dlas.core.keys import canonical
from dlas.core.records import Round, Status
from dlas.store.facts import Built, Evaluated, Fact, Memory, Observed, Rests, Timed, flagged
from dlas.store.rows import RoundRow

STORED: list[tuple[type[Fact], dict[str, Any]]] = [
    (Built, {
        "params": 7, "nonzero_params": None, "macs": 9, "effective_macs": 4.5, "weights_mb": 0.1,
        "build_s": 1.5, "artifact_mb": 0.2, "facts": {"passes": ["a"]}, "weights": "shipped",
        "achieved": [{"sparsity": 0.8}],
    }),
    (Evaluated, {
        "images": 64, "largest": 12.0, "not_finite": 0, "max_abs_error": 1e-6,
        "relative_error": None, "agreement": 1.0, "margins": [], "labels": [1, 2],
        "correct": [1, 0], "n": 2, "ids_hash": "c", "baseline_labels": [1, 1],
        "baseline_correct": [1, 1],
    }),
    (Evaluated, {
        "images": 64, "largest": 12.0, "not_finite": 3, "max_abs_error": None,
        "relative_error": None, "agreement": None, "margins": None, "labels": [], "correct": [],
        "n": 0, "ids_hash": "c",
    }),
    (Memory, {
        "memory_mb": 20.5, "import_rss_mb": 90.0, "peak_rss_mb": 110.5, "import_s": 1.0,
        "load_s": 0.1, "first_inference_s": 0.01, "needs": {"artifact": "c", "inputs": "d"},
        "stored_bytes": 0,
    }),
    (Memory, {"needs": {"artifact": "c", "inputs": None}}),
    (Observed, {
        "precision": "float32", "threads": 1, "isa": None, "kernels": {"conv": "gemm"},
        "fallbacks": ["x"], "sparsity": None, "cpus": [0, 1],
    }),
    (Rests, {"keys": ["a", "b"]}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "stored"), STORED)
def test_stored_json_stays_the_same_byte_for_byte(
    kind: type[Fact], stored: dict[str, Any]
) -> None:
    assert canonical(kind.from_json(stored).to_json()) == canonical(stored)


@pytest.mark.parametrize("kind", [Built, Evaluated, Memory, Observed, Rests])
def test_what_is_not_there_has_a_default_and_what_is_unknown_is_left(kind: type[Fact]) -> None:
    assert kind.from_json({}) == kind.from_json({"of another version": 1}) == kind()


def test_a_stored_round_is_read_whole_and_with_gaps() -> None:
    made = Round((), 10, 0.1, False, 0.5, 0.1, 0.01, "fork", cpus=(1,), flags=("steal",))
    stored = {k: v for k, v in made.to_json().items() if k != "samples_s"}
    assert canonical(Timed.from_json(stored).to_json()) == canonical(stored)
    assert Timed.from_json({"load_s": 0.1, "steady": None}) == Timed(load_s=0.1)


def test_a_flag_is_added_also_to_a_round_that_failed() -> None:
    failed = RoundRow("c", "h", 0, 0, "k", "a", Status.FAILED)
    assert flagged(failed, "drift").value == {"flags": ["drift"]}
    twice = flagged(flagged(failed, "repeated"), "drift")
    assert twice.value == {"flags": ["repeated", "drift"]}
