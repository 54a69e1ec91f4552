"""What the facts and rounds of one cell say, column by column; None where nothing was measured."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dlas.core.keys import canonical
from dlas.store.results import FactRow, RoundRow
from dlas.tables.latency import Latency

BUILD = (
    "build_s", "weights_mb", "artifact_mb", "params", "nonzero_params", "macs", "effective_macs",
)  # fmt: skip
HARMLESS = frozenset({"repeated"})
"""Flags of a round that was done again and was good then."""


def of_build(fact: FactRow | None) -> dict[str, Any]:
    """Return the columns that the build fills."""
    if fact is None:
        return {}
    return {"artifact": fact.content} | {name: fact.value.get(name) for name in BUILD}


def of_memory(fact: FactRow | None) -> dict[str, Any]:
    """Return the column that the separate process for memory fills.

    Its cold start is not shown: it shared the machine. That of the rounds had it alone.
    """
    return {} if fact is None else {"memory_mb": fact.value.get("memory_mb")}


def of_evaluation(fact: FactRow | None) -> dict[str, Any]:
    """Return accuracy with its Wilson interval, and what changed from the baseline, paired.

    ``accuracy_drop`` is the baseline's accuracy less the cell's, ``flips`` the number of samples
    that got another label than from the baseline; both over the samples that both evaluated.
    """
    if fact is None:
        return {}
    value = fact.value
    found: dict[str, Any] = {"max_abs_error": value.get("max_abs_error")}
    correct = value.get("correct") or []
    if correct:
        low, high = wilson(sum(correct), len(correct))
        found |= {
            "accuracy": sum(correct) / len(correct),
            "accuracy_low": low,
            "accuracy_high": high,
            "accuracy_n": len(correct),
        }
    both = min(len(correct), len(value.get("baseline_correct") or []))
    if both:
        before = sum(value["baseline_correct"][:both])
        found["accuracy_drop"] = (before - sum(correct[:both])) / both
    pairs = list(zip(value.get("labels") or [], value.get("baseline_labels") or [], strict=False))
    if pairs:
        found["flips"] = sum(own != other for own, other in pairs)
    return found


def of_observation(fact: FactRow | None) -> dict[str, Any]:
    """Return what ran, as read back from the runtime.

    Lists become text: processors joined by commas, kernels as JSON, fallbacks joined by ``; ``
    (``none`` where it was looked for and there was none).
    """
    if fact is None:
        return {}
    ran = fact.value
    cpus = ran.get("cpus") or []
    return {
        "ran_precision": ran.get("precision"),
        "ran_threads": ran.get("threads"),
        "ran_cpus": ",".join(str(cpu) for cpu in sorted(cpus)) or None,
        "ran_isa": ran.get("isa"),
        "ran_kernels": canonical(ran["kernels"]) if ran.get("kernels") else None,
        "fallbacks": "; ".join(ran.get("fallbacks") or []) or "none",
        "ran_sparsity": ran.get("sparsity"),
    }


def of_rounds(rounds: Sequence[RoundRow], latency: Latency | None) -> dict[str, Any]:
    """Return the columns that the complete rounds of a cell fill."""
    if latency is None:
        return {}
    values = [r.value for r in rounds]
    return {
        "latency_ms": latency.ms,
        "latency_low_ms": latency.low_ms,
        "latency_high_ms": latency.high_ms,
        "latency_p90_ms": latency.p90_ms,
        "unsteady": any(is_unsteady(v) for v in values),
        "rounds": latency.rounds,
        "samples": latency.samples,
        "first_inference_ms": _median(milli(v.get("first_inference_s")) for v in values),
        "load_ms": _median(milli(v.get("load_s")) for v in values),
        "import_s": _median(v.get("import_s") for v in values),
        "energy_mj": _median(energy_mj(r) for r in rounds),
        "energy_source": next((s for v in values if (s := v.get("energy_source"))), None),
        "overhead_s": _median(r.overhead_s for r in rounds),
    }


def is_unsteady(value: Mapping[str, Any]) -> bool:
    """Say whether a round is to be read with care: it did not settle, or the machine did not."""
    return not value.get("steady", True) or bool(set(value.get("flags", ())) - HARMLESS)


def energy_mj(row: RoundRow) -> float | None:
    """Return the millijoules of one inference of a round."""
    joules = row.value.get("energy_j")
    return None if joules is None else joules / len(row.samples) * 1e3


def milli(value: float | None) -> float | None:
    """Return thousandths of a number that may be missing."""
    return None if value is None else value * 1e3


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a share (Wilson 1927)."""
    z = statistics.NormalDist().inv_cdf(0.975)
    share, scale = successes / n, 1 + z**2 / n
    middle = (share + z**2 / (2 * n)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)
    return max(0.0, middle - half), min(1.0, middle + half)


def _median(values: Iterable[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return statistics.median(known) if known else None
