"""What a run of a study would do and cost: counts from the plan, seconds and bytes as guesses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dlas.core.keys import Json
from dlas.core.protocols import Dataset
from dlas.run.plan.counts import measurement_count
from dlas.run.plan.durations import by_dataset
from dlas.run.plan.lacking import lacking
from dlas.run.plan.pilot import Pilot, read_pilot
from dlas.run.plan.plan import Plan, Refused, Runnable, Seen, make, nobody_looked
from dlas.run.plan.sizes import disk
from dlas.study.study import Study


def preview(
    study: Study,
    store: Path | None = None,
    seen: Seen = nobody_looked,
    pilot: Path | None = None,
) -> dict[str, Any]:
    """Return what a run would do: cells by status, steps with and without sharing, cost.

    Files of weights may be missing, which a run refuses: ``missing_weights`` has each with how
    many stacks need it and the command that trains it. What rests on one is sought in no store.
    Evaluations (one per artefact) are counted as steps, measurements apart. Seconds and megabytes
    are guesses from typical values, not readings, but for artefacts that ``store`` knows already
    and for steps like those of ``pilot``, the output folder of an earlier run.

    Raises:
        UserError: ``store`` is no artefact store, ``pilot`` holds no results.
    """
    plan = make(study, seen=seen, without_weights=True)
    runnable = plan.runnable
    status = Counter(
        c.refusal.status if isinstance(c, Refused) else "runnable" for c in plan.cells
    )
    stages = Counter(str(step.stage) for step in plan.steps.values())
    artefacts = {c.build for c in runnable}
    stages["evaluate"] = len(artefacts)
    known = read_pilot(pilot, study.measure.min_seconds) if pilot else Pilot()
    parts = by_dataset(plan, known)
    return {
        "study": study.name,
        "hash": study.hash,
        "data": data_read(runnable),
        "cells": len(plan.cells),
        "cells_by_status": dict(sorted(status.items())),
        "steps": sum(stages.values()),
        "steps_unshared": sum(len(c.steps) + 1 for c in runnable),
        "by_stage": dict(stages),
        "measurements": measurement_count(runnable, study.measure),
        "expected_s": sum(part["expected_s"] for part in parts),
        "by_dataset": parts,
        "pilot": str(pilot) if pilot else None,
        **disk(plan, store, known),
        "refusals": _reasons(plan),
        "missing_weights": [asdict(each) for each in lacking(c.techniques for c in runnable)],
        "folder": str(study.folder),
        "not_looked_at": _not_looked_at(runnable),
    }


def data_read(cells: Iterable[Runnable]) -> list[dict[str, Any]]:
    """Return what each data set was found to hold (:class:`dlas.core.contents.Contents`).

    Choices that hold the same, at another size say, stand together in ``datasets``. One that
    cannot tell has a ``problem`` instead: what was read is information and stops nothing.
    """
    found: list[dict[str, Any]] = []
    seen: set[str] = set()
    for cell in cells:
        text = cell.stack.text("dataset")
        if text in seen:
            continue
        seen.add(text)
        told = _told(cell.techniques.dataset)
        same = next((each for each in found if each == each | told), None)
        if same is None:
            found.append({"datasets": [text], **told})
        else:
            same["datasets"].append(text)
    return found


def _told(dataset: Dataset) -> dict[str, Json]:
    try:
        return dataset.contents().to_json()
    except Exception as error:  # anyone's data set: a run says what is wrong with it
        return {"problem": str(error) or type(error).__name__}


def _reasons(plan: Plan) -> list[dict[str, Any]]:
    counted = Counter((c.refusal.status, c.refusal.reason) for c in plan.refused)
    return [
        {"status": status, "reason": reason, "cells": n}
        for (status, reason), n in counted.most_common()
    ]


def _not_looked_at(cells: Iterable[Runnable]) -> list[str]:
    """Return the interpreters that a run will ask first: a plan starts no process."""
    found = (
        c.techniques.software.python for c in cells if c.interpreter and not c.interpreter.asked
    )
    return sorted(set(found))
