"""The process that works for one run on one machine: plans, does steps, measures.

A Dask worker starts it (:mod:`dlas.run.engines.deputy`) as ``python -m dlas.run.member LINE
FOLDER NAME``; it answers what comes over the line, each in a thread of its own, and ends with it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from dlas.core import registry
from dlas.core.errors import DlasError, StorageError, UserError
from dlas.core.keys import key
from dlas.core.protocols import unavailable
from dlas.core.stack import Stack
from dlas.run.engines.errands import (
    Commission,
    Enrolled,
    MeasureErrand,
    Remark,
    Reply,
    StepErrand,
)
from dlas.run.engines.hands import default_workers
from dlas.run.engines.local import LocalEngine
from dlas.run.executed import Answers
from dlas.run.measure import host as hosts
from dlas.run.measure.alone import beside_measuring
from dlas.run.plan import plan as planning
from dlas.run.plan.plan import CellPlan, Live, Refused
from dlas.run.process.interpreters import ask
from dlas.run.process.isolate import Pool
from dlas.run.progress import Silent
from dlas.run.run import STORE, campaign
from dlas.store.objects import DamagedObject
from dlas.store.shared_store import artifact_store

Tell = Callable[[Remark], None]


@dataclass
class Member:
    """What works for one run; ``folder`` is where this machine keeps its files."""

    folder: Path
    name: str
    tell: Tell
    commission: Commission | None = None
    _engine: LocalEngine | None = None
    _held: ExitStack = field(default_factory=ExitStack)
    _starting: threading.Lock = field(default_factory=threading.Lock)
    _noted: set[str] = field(default_factory=set)

    def do(self, method: str, given: Any) -> object:
        """Do what is asked."""
        if method == "enrol":
            return self.enrol(given)
        if method == "step":
            return self.step(given)
        if method == "measure":
            return self.measure(given)
        raise ValueError(f"{method!r} is nothing that a member does")

    def close(self) -> None:
        """End whatever is being done."""
        self._held.close()

    # ------------------------------------------------------------ what it can do

    def enrol(self, commission: Commission) -> Enrolled:
        """Take on a run, and say what of it can be done here."""
        self.commission = commission
        try:
            self._require_places(commission)
            return self._planned(commission)
        except DlasError as error:
            return Enrolled(self.name, problem=str(error))

    def _require_places(self, commission: Commission) -> None:
        folder = commission.study.folder
        if not folder.is_dir():
            raise UserError(
                f"the study's folder {folder} is not there: share it, or copy it there"
            )
        if commission.proof is not None and not Path(commission.proof).is_dir():
            raise UserError(
                f"{commission.store} is not the store that the run uses: share it between the "
                "machines under the same name, or give --store s3://BUCKET/PREFIX"
            )
        os.chdir(folder)  # for good: this process works for one study

    def _planned(self, commission: Commission) -> Enrolled:
        carried = registry.labels()
        named = [s for s in commission.study.stacks if s.label in carried]
        live, refused = _resolved(named)
        interpreters = ask(planning.questions(live))
        answers = Answers(interpreters=interpreters)
        answers.look(live, self._note, (str(commission.study.folder),))
        mine = planning.make(commission.study, live, answers.seen, interpreters)
        others, _ = _resolved([s for s in commission.study.stacks if not s.label])
        every = planning.make(
            commission.study, others, answers.seen, ask(planning.questions(others))
        )
        description = hosts.describe()
        return Enrolled(
            name=self.name,
            host=hosts.host_class(description),
            labels=carried,
            slots=default_workers(),
            keys=frozenset((*mine.steps, *every.steps)),
            cells=(*mine.cells, *refused),
            steps=dict(mine.steps),
            dlas=registry.source_version("dlas"),
            libraries=description["libraries"],
        )

    # ------------------------------------------------------------ steps

    def step(self, asked: StepErrand) -> Reply:
        """Do one step, unless it is done."""
        try:
            engine = self._ready()
            engine = replace(engine, anew=True) if asked.anew else engine
            record, known = engine.make(asked.step, asked.needs, asked.files)
        except DamagedObject as error:
            return Reply(damaged=error.content, problem=str(error))
        except (StorageError, UserError) as error:
            return Reply(problem=f"{self.name}: {error}")
        return Reply(record, known)

    def _ready(self) -> LocalEngine:
        """Return what does steps here; opened with the first of them."""
        with self._starting:
            if self._engine is None:
                assert self.commission is not None, "nobody has enrolled"
                own = self._own(self.commission)
                (own / "jobs").mkdir(parents=True, exist_ok=True)
                store = artifact_store(self.commission.store, own / STORE)
                self._held.enter_context(store.use())
                self._engine = LocalEngine(
                    store=store,
                    pool=self._held.enter_context(Pool(own / "jobs")),
                    settings=self.commission.study.measure,
                    paths=(str(self.commission.study.folder),),
                    retry=self.commission.retry,
                    beside=self._beside,
                )
            return self._engine

    def _own(self, commission: Commission) -> Path:
        """Return this machine's folder for a study in a store: what was fetched is kept there."""
        name = key("member", commission.study.name, commission.store, commission.results)[:12]
        return self.folder / f"study-{name}"

    # ------------------------------------------------------------ measuring

    def measure(self, asked: MeasureErrand) -> Reply:
        """Evaluate and measure cells whose steps are done, as a run of its own does."""
        commission = self.commission
        assert commission is not None, "nobody has enrolled"
        if self._engine is not None:
            self._engine.pool.restart()  # idle servers hold memory
        stacks = [stack for stack in commission.study.stacks if stack.cell in asked.cells]
        try:
            with campaign(
                commission.study, self._own(commission), stacks=stacks, store=commission.store,
                retry=commission.retry, remeasure=commission.remeasure,
                results=commission.results, progress=_Relay(self.name, self.tell),
                tried=asked.tried, beside=self._beside,
            ) as begun:  # fmt: skip
                begun.run()
                return Reply(counts=begun.close().cells)
        except (StorageError, UserError) as error:
            return Reply(problem=f"{self.name}: {error}")

    def _beside(self) -> AbstractContextManager[None]:
        return beside_measuring(self._note_once)

    def _note_once(self, text: str) -> None:
        """Tell what several steps at once would tell."""
        if text not in self._noted:
            self._noted.add(text)
            self._note(text)

    def _note(self, text: str) -> None:
        self.tell(Remark(self.name, text))


class _Relay(Silent):
    """Lets the run hear where it is; a word before each measurement, none meanwhile."""

    def __init__(self, name: str, tell: Tell) -> None:
        self._name = name
        self._tell = tell

    def measurement(self, cell_text: str, done: int, total: int, left_s: float) -> None:
        self._tell(Remark(self._name, cell_text, done, total, left_s))

    def note(self, text: str) -> None:
        self._tell(Remark(self._name, text))


def _resolved(stacks: list[Stack]) -> tuple[list[Live], list[CellPlan]]:
    """Return stacks with their techniques, and those that need one that is not installed here."""
    live: list[Live] = []
    refused: list[CellPlan] = []
    for stack in stacks:
        try:
            live.append((stack, registry.resolve(stack)))
        except UserError as error:
            refused.append(Refused(stack, unavailable(str(error))))
    return live, refused


# ---------------------------------------------------------------- the program


class _Cable:
    """The line to the worker; what is said by several threads comes one after the other."""

    def __init__(self, descriptor: int) -> None:
        self.connection = Connection(descriptor)
        self._sending = threading.Lock()

    def send(self, *said: object) -> None:
        with self._sending, suppress(OSError):  # nobody listens: the end is near
            self.connection.send(said)

    def tell(self, said: Remark) -> None:
        self.send(None, True, said)


def _answer(line: _Cable, member: Member, number: int, method: str, given: object) -> None:
    try:
        line.send(number, True, member.do(method, given))
    except BaseException:
        line.send(number, False, traceback.format_exc())


def main(descriptor: int, folder: Path, name: str) -> None:
    """Reply what comes over a line until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who started us
    line = _Cable(descriptor)
    member = Member(folder, name, line.tell)
    sys.argv = ["dlas", "workers", "--name", name]  # what a session says that it was started by
    while True:
        try:
            number, method, given = line.connection.recv()
        except (EOFError, OSError):
            break
        if method == "leave":
            break
        threading.Thread(
            target=_answer, args=(line, member, number, method, given), daemon=True
        ).start()
    member.close()
    os._exit(0)  # without waiting for threads that wait for children


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
