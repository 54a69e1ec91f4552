"""What the facts and rounds of one cell say, column by column; None where nothing was measured."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

from dlas.core.keys import canonical
from dlas.store.facts import Built, Evaluated, Memory, Observed, Timed
from dlas.store.results import FactRow, RoundRow
from dlas.tables.frame import Value
from dlas.tables.latency import Latency

BUILD = (
    "build_s", "weights_mb", "artifact_mb", "params", "nonzero_params", "macs", "effective_macs",
)  # fmt: skip
Columns = dict[str, Value]
"""What fills some columns of one row."""
HARMLESS = frozenset({"repeated"})
"""Flags of a round that was done again and was good then."""


def of_build(fact: FactRow | None) -> Columns:
    """Return the columns that the build fills."""
    if fact is None:
        return {}
    built = Built.from_json(fact.value)
    versions = ", ".join(f"{name} {v}" for name, v in (built.versions or {}).items())
    return {
        "artifact": fact.content,
        "software_versions": versions or None,
        **{name: getattr(built, name) for name in BUILD},
    }


def of_memory(fact: FactRow | None) -> Columns:
    """Return the column that the separate process for memory fills.

    Its cold start is not shown: it shared the machine. That of the rounds had it alone.
    """
    return {} if fact is None else {"memory_mb": Memory.from_json(fact.value).memory_mb}


def of_evaluation(fact: FactRow | None) -> Columns:
    """Return accuracy with its Wilson interval, and what changed from the baseline, paired.

    ``accuracy_drop`` is the baseline's accuracy less the cell's, ``flips`` the number of samples
    that got another label than from the baseline, ``agreement`` the share of those that got the
    same; all over the samples that both evaluated. Where nothing counts as correct, as with random
    weights, ``accuracy_source`` says why, and agreement is all there is.
    """
    if fact is None:
        return {}
    seen = Evaluated.from_json(fact.value)
    found: Columns = {"max_abs_error": seen.max_abs_error}
    if seen.accuracy_source:
        found["accuracy_source"] = seen.accuracy_source
    correct, baseline = seen.correct, seen.baseline_correct or ()
    if correct:
        low, high = wilson(sum(correct), len(correct))
        found |= {
            "accuracy": sum(correct) / len(correct),
            "accuracy_low": low,
            "accuracy_high": high,
            "accuracy_n": len(correct),
        }
    if both := min(len(correct), len(baseline)):
        found["accuracy_drop"] = (sum(baseline[:both]) - sum(correct[:both])) / both
    if pairs := list(zip(seen.labels, seen.baseline_labels or (), strict=False)):
        changed = sum(own != other for own, other in pairs)
        found["agreement"] = 1 - changed / len(pairs)
        if correct:
            found["flips"] = changed
    return found


def of_observation(fact: FactRow | None) -> Columns:
    """Return what ran, as read back from the runtime.

    Lists become text: processors joined by commas, kernels as JSON, fallbacks joined by ``; ``
    (``none`` where it was looked for and there was none).
    """
    if fact is None:
        return {}
    ran = Observed.from_json(fact.value)
    return {
        "ran_precision": ran.precision,
        "ran_threads": ran.threads,
        "ran_cpus": ",".join(str(cpu) for cpu in sorted(ran.cpus)) or None,
        "ran_isa": ran.isa,
        "ran_kernels": canonical(ran.kernels) if ran.kernels else None,
        "fallbacks": "; ".join(ran.fallbacks) or "none",
        "ran_sparsity": ran.sparsity,
    }


def of_rounds(rounds: Sequence[RoundRow], latency: Latency | None) -> Columns:
    """Return the columns that the complete rounds of a cell fill."""
    if latency is None:
        return {}
    every = [Timed.from_json(row.value) for row in rounds]
    return {
        "quiet_ms": latency.quiet.ms,
        "quiet_low_ms": latency.quiet.low_ms,
        "quiet_high_ms": latency.quiet.high_ms,
        "latency_ms": latency.seen.ms,
        "latency_low_ms": latency.seen.low_ms,
        "latency_high_ms": latency.seen.high_ms,
        "latency_p90_ms": latency.p90_ms,
        "latency_p99_ms": latency.p99_ms,
        "unsteady": any(is_unsteady(seen) for seen in every),
        "rounds": latency.rounds,
        "samples": latency.samples,
        "first_inference_ms": _median(milli(seen.first_inference_s) for seen in every),
        "load_ms": _median(milli(seen.load_s) for seen in every),
        "import_s": _median(seen.import_s for seen in every),
        "energy_mj": _median(energy_mj(row) for row in rounds),
        "energy_source": next((s for seen in every if (s := seen.energy_source)), None),
        "overhead_s": _median(r.overhead_s for r in rounds),
    }


def is_unsteady(seen: Timed) -> bool:
    """Say whether a round is to be read with care: it did not settle, or the machine did not."""
    return not seen.steady or bool(set(seen.flags) - HARMLESS)


def energy_mj(row: RoundRow) -> float | None:
    """Return the millijoules of one inference of a round."""
    joules = Timed.from_json(row.value).energy_j
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
