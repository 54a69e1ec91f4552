"""What the rows of one cell tell a sampler: its first round and its facts, or that it failed.

Later rounds are not looked at: a sampler told the same rows again names the same stacks, whatever
was measured since.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from dlas.core.errors import UserError
from dlas.core.records import Status
from dlas.store.facts import Built, Evaluated, Memory
from dlas.store.results import FactRow, ResultStore, RoundRow
from dlas.tables import values
from dlas.tables.fitted import round_ms
from dlas.tables.latency import Latency, Span, least_of, quantile


def heard(
    results: ResultStore, cell: str, host: str, columns: Sequence[str]
) -> dict[str, float] | None:
    """Return the values of columns, None: the cell failed.

    Raises:
        UserError: the cell was measured and has no such value.
    """
    facts = {row.kind: row for row in results.rows(FactRow, cell=cell, host=host)}
    rounds = results.rows(RoundRow, cell=cell, host=host, control=0, round=0)
    statuses = [*(row.status for row in facts.values()), *(row.status for row in rounds)]
    if Status.FAILED in statuses or not rounds or not rounds[0].samples:
        return None
    told = _columns(facts, rounds[0])
    absent = [column for column in columns if not isinstance(told.get(column), int | float)]
    if absent:
        raise UserError(
            f"goals: {', '.join(absent)} was not measured on this machine (cell {cell}): explore "
            "can seek what `dlas table` shows for this study"
        )
    return {column: float(str(told[column])) for column in columns}


def _columns(facts: dict[str, FactRow], row: RoundRow) -> values.Columns:
    latency = Latency(
        seen=Span(round_ms(row), None, None),
        quiet=Span(math.exp(least_of([row])), None, None),
        p90_ms=quantile(row.samples, 0.9) * 1e3,
        p99_ms=quantile(row.samples, 0.99) * 1e3,
        rounds=1,
        samples=len(row.samples),
    )
    return {
        **values.of_build(facts.get(Built.KIND)),
        **values.of_memory(facts.get(Memory.KIND)),
        **values.of_evaluation(facts.get(Evaluated.KIND)),
        **values.of_rounds([row], latency),
    }
