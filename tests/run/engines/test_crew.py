"""What becomes of errands whose machine died, without a scheduler: Dask's part is played here."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dlas.run.engines import dask as crews
from dlas.run.engines.dask import SLOTS, TRIES, Crew, Errand, Hired
from dlas.run.engines.errands import Enrolled, Lost


class KilledWorker(Exception):
    """As Dask calls it that several workers died over a task."""


@pytest.fixture
def crew(monkeypatch: pytest.MonkeyPatch) -> Crew:
    """Return a crew of one machine with four slots, which talks to nobody."""
    monkeypatch.setattr(Crew, "_connected", lambda self: SimpleNamespace(status="running"))
    monkeypatch.setattr(Crew, "_serve", lambda self: None)
    wire: Any = SimpleNamespace(url="tcp://nobody")
    commission: Any = SimpleNamespace(session="s")
    made = Crew(wire, commission, lambda machine: True)
    made._hired["tcp://1"] = Hired("tcp://1", 4, said=Enrolled("one", slots=4))
    return made


def handed_out(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the slots of whatever is handed out."""
    taken: list[int] = []

    def submit(*given: object, **how: Any) -> Any:
        taken.append(how["resources"][SLOTS])
        return SimpleNamespace(add_done_callback=lambda done: None, cancel=lambda: None)

    monkeypatch.setattr(crew, "_submit", submit)
    return taken


def ended(crew: Crew, errand: Errand, error: Exception) -> None:
    errand.task.status, errand.task.exception = "error", lambda timeout: error
    crew._ended(errand, errand.task)
    crew._hired.setdefault("tcp://1", Hired("tcp://1", 4, said=Enrolled("one", slots=4)))


def errand() -> Errand:
    return Errand("step", None, "x", lambda machine: True)


def test_an_errand_is_given_up_only_after_it_was_alone(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, asked = handed_out(crew, monkeypatch), errand()
    crew._handle("send", asked)
    for _ in range(TRIES - 1):
        ended(crew, asked, Lost("died", "tcp://1"))
        assert not asked.future.done()
        crew._hand_out(asked)
    assert taken == [1, 1, 4]
    ended(crew, asked, Lost("died", "tcp://1"))
    with pytest.raises(Lost, match="died"):
        asked.future.result(timeout=0)


def test_so_is_one_that_dask_gave_up(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    taken, asked = handed_out(crew, monkeypatch), errand()
    crew._handle("send", asked)
    ended(crew, asked, KilledWorker("x"))
    crew._hand_out(asked)
    ended(crew, asked, KilledWorker("x"))
    assert taken == [1, 4]
    with pytest.raises(Lost, match="every worker that did it died"):
        asked.future.result(timeout=0)


def test_an_errand_that_nobody_began_is_no_try(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, asked = handed_out(crew, monkeypatch), errand()
    crew._handle("send", asked)
    for _ in range(5):  # its process was let go since nobody had asked anything of it
        ended(crew, asked, Lost("nobody works for the run", "tcp://1", begun=False))
        assert "tcp://1" in crew._hired
        crew._hand_out(asked)
    assert taken == [1] * 6
    assert not asked.future.done()


def test_who_was_lost_is_pickled_whole() -> None:
    import pickle

    there = pickle.loads(pickle.dumps(Lost("said", "tcp://1", begun=False)))
    assert (str(there), there.address, there.begun) == ("said", "tcp://1", False)
    assert crews.TRIES > 1
