"""All that is known of one cell, and how to reproduce it: for ``dlas show``."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dlas.cli.achieved import achieved_text
from dlas.cli.display import table, text_of
from dlas.cli.formats import rows_of
from dlas.cli.printing import harmless
from dlas.core.errors import UserError
from dlas.core.stack import LAYERS, Stack
from dlas.store.address import address_of
from dlas.store.results import (
    CellRow,
    FactRow,
    HostRow,
    ResultStore,
    RoundRow,
    SessionRow,
)
from dlas.tables import cells_frame
from dlas.tables.read import read

MEASURED = (
    "round", "control", "status", "median_ms", "runs", "steady", "launch", "cpus", "threads_seen",
    "steal_share", "involuntary_switches", "flags", "overhead_s", "reason",
)  # fmt: skip


def describe(folder: Path, cell: str) -> dict[str, object]:
    """Return what is known of the cell whose hash begins with ``cell``, as JSON.

    Raises:
        UserError: no cell begins so, or several do.
    """
    (whole,) = read([folder])
    row = _find(whole.rows_of_cells, folder, cell)
    with ResultStore(address_of(folder), read_only=True) as results:
        facts = results.rows(FactRow, cell=row.cell)
        rounds = results.rows(RoundRow, cell=row.cell)
        hosts = {h.host: h.description for h in results.rows(HostRow)}
        sessions = results.rows(SessionRow, study=row.study)
    frame = cells_frame([whole])
    found = frame[frame["cell"] == row.cell]
    stack = Stack.from_json(row.stack)
    return {
        "cell": row.cell,
        "study": row.study,
        "status": str(row.status),
        "stage": row.stage,
        "reason": row.reason,
        "layers": {layer: stack.text(layer) for layer in LAYERS},
        "factors": stack.factors(),
        "results": rows_of(found),
        "facts": [_fact(fact) for fact in facts],
        "rounds": [_round(each) for each in rounds],
        "hosts": {host: hosts.get(host, {}) for host in sorted({r.host for r in rounds})},
        "sessions": [
            {"session": s.session, "started_at": s.started_at, "command": s.command,
             "dlas": s.dlas_version, "versions": s.versions}
            for s in sessions
        ],
        "log": row.log,
        "reproduce": [
            f"dlas run {folder / 'study.yaml'} --out {folder} --only {row.cell} --remeasure",
            f"dlas run {folder / 'study.yaml'} --out again --only {row.cell}",
        ],
    }  # fmt: skip


def _find(rows: Sequence[CellRow], folder: Path, cell: str) -> CellRow:
    found = [row for row in rows if row.cell.startswith(cell)]
    if len({row.cell for row in found}) == 1:
        return found[0]
    if found:
        several = ", ".join(sorted({row.cell for row in found})[:4])
        raise UserError(f"several cells of {folder} begin with {cell!r}: {several}")
    some = ", ".join(row.cell for row in rows[:3]) or "none"
    raise UserError(
        f"no cell of {folder} begins with {cell!r}; there are {len(rows)}, e.g. {some}. "
        "`dlas table` lists them"
    )


def _fact(fact: FactRow) -> dict[str, object]:
    named = ("kind", "host", "key", "content", "stage", "reason", "created_at", "attempts")
    return {"status": str(fact.status), **{n: getattr(fact, n) for n in named},
            "value": fact.value}  # fmt: skip


def _round(row: RoundRow) -> dict[str, object]:
    samples = row.samples
    return {
        "host": row.host,
        "session": row.session,
        "round": row.round,
        "control": row.control,
        "status": str(row.status),
        "stage": row.stage,
        "reason": row.reason,
        "median_ms": statistics.median(samples) * 1e3 if samples else None,
        "runs": len(samples),
        "artifact": row.content,
        "created_at": row.created_at,
        "overhead_s": row.overhead_s,
        **row.value,
    }


def show_text(known: Mapping[str, Any], width: int | None) -> str:
    """Return what :func:`describe` found as text."""
    head = {name: known[name] for name in ("cell", "study", "status", "stage", "reason")}
    blocks = [_pairs(head), _pairs(known["layers"]), "factors\n" + _pairs(known["factors"])]
    for row in known["results"]:
        left = {k: v for k, v in row.items() if k not in head and k not in known["layers"]}
        values = {k: v for k, v in left.items() if k not in known["factors"]}
        blocks.append(f"results on host {row.get('host', '?')}\n" + _pairs(values))
    if known["rounds"]:
        blocks.append("rounds\n" + table(known["rounds"], MEASURED, width))
    for fact in known["facts"]:
        text = {k: fact[k] for k in ("status", "reason", "key", "content", "created_at")}
        text |= {"not counted": ", ".join(fact["value"].get("uncounted") or [])}
        blocks.append(f"{fact['kind']}\n" + _pairs(text))
        blocks += [achieved_text(done, width) for done in fact["value"].get("achieved") or ()]
    if known["log"]:
        blocks.append(f"end of the log\n{harmless(known['log'].rstrip())}")
    commands = dict.fromkeys(s["command"] for s in known["sessions"] if s["command"])
    blocks.append("was run by\n" + "\n".join(f"  {harmless(line)}" for line in commands))
    blocks.append("reproduce\n" + "\n".join(f"  {line}" for line in known["reproduce"]))
    return "\n\n".join(blocks)


def _pairs(values: Mapping[str, object]) -> str:
    shown = {name: text_of(value) for name, value in values.items()}
    wide = max((len(name) for name, text in shown.items() if text), default=0)
    return "\n".join(f"  {name:{wide}}  {text}" for name, text in shown.items() if text)
