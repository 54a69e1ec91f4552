"""How long machines are waited for, and what is asked of the one that measures a label's cells."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dlas.core import registry
from dlas.core.errors import UserError
from dlas.core.records import Status
from dlas.run import member as members
from dlas.run.engines.dask import Errand
from dlas.run.engines.errands import Commission, MeasureErrand, Reply
from dlas.run.plan.plan import make
from dlas.run.team import GATHER_S, VARIABLE, Posting, Team, gathering
from dlas.study.study import Study

LAYERS = {
    "dataset": ["digits"], "model": ["resnet-8"], "software": ["pytorch"],
    "hardware": [{"cpu": {"on": "big"}}],
}  # fmt: skip


@pytest.mark.parametrize(("said", "seconds"), [("", GATHER_S), ("0", 0), ("2.5", 2.5)])
def test_workers_are_waited_for_as_long_as_is_asked(
    monkeypatch: pytest.MonkeyPatch, said: str, seconds: float
) -> None:
    monkeypatch.setenv(VARIABLE, said)
    assert gathering() == seconds


@pytest.mark.parametrize("said", ["soon", "-1", "nan", "inf"])
def test_what_is_no_time_is_a_sentence(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv(VARIABLE, said)
    with pytest.raises(UserError, match=f"DLAS_GATHER='{said}': must be seconds"):
        gathering()


class Crew:
    """Notes what is asked, and answers at once."""

    def __init__(self) -> None:
        self.sent: list[Errand] = []

    def send(self, errand: Errand) -> Future[Reply]:
        self.sent.append(errand)
        errand.future.set_result(Reply())
        return errand.future


def test_what_failed_in_this_run_is_not_tried_again_by_who_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(registry.LABELS, "big")
    study = Study.from_dict({"name": "s", "layers": LAYERS}, tmp_path)
    plan = make(study, [(stack, registry.resolve(stack)) for stack in study.stacks])
    crew: Any = Crew()
    team = Team(crew, None, [Posting("big", "h", "m", plan.cells, plan.steps)])  # type: ignore[arg-type]
    monkeypatch.setattr(Team, "show", lambda self: None)
    with team.measuring():
        pass
    (errand,) = crew.sent
    asked = errand.given
    assert asked == MeasureErrand(
        frozenset(stack.cell for stack in study.stacks), frozenset(plan.steps)
    )

    begun: list[Any] = []

    @contextmanager
    def campaign(*given: Any, **how: Any) -> Iterator[Any]:
        begun.append(how)
        yield SimpleNamespace(run=list, close=lambda: SimpleNamespace(cells={"failed": 1}))

    monkeypatch.setattr(members, "campaign", campaign)
    worker = members.Member(tmp_path / "machine", "m", lambda said: None)
    worker.commission = Commission("s", study, "store", None, "", (Status.FAILED,), False)
    assert worker.measure(asked).counts == {"failed": 1}
    assert begun[0]["retry"] == (Status.FAILED,)
    assert begun[0]["tried"] == plan.steps.keys()
