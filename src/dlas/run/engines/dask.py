"""Has errands done by the machines of a Dask scheduler: each by one that can, until it is done.

Dask places: it tells which machines there are, hands each errand to one of those that can do it,
holds a machine's slots (``resources``), so that what measures is alone there, and gives what a
machine did that died to another one. That each step runs once is the store's doing (leases,
generations), so nothing that happens here can do harm: errands whose scheduler died are simply
handed out again.

One thread talks to Dask. The run's thread puts errands into a queue and waits for futures.
"""

from __future__ import annotations

import itertools
import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from dlas.core.errors import StorageError, UserError, listed
from dlas.run.engines import deputy
from dlas.run.engines.errands import Commission, Enrolled, Lost, Method, Remark, Reply
from dlas.run.engines.wire import Wire

SLOTS = "machine"
"""The resource of a worker: how many steps it does side by side; what is alone takes all."""
LOOK_S = 1.0
"""How often it is looked which machines there are."""
PATIENCE_S = 300.0
"""How long a scheduler that is gone, or a machine that could do an errand, is waited for."""
TRIES = 3
"""How often an errand is given to a machine whose process died over it, at last on its own: what
was beside it when it died may have been the reason."""
_CALL_S = 30.0
_CONNECT_S = 10.0

Able = Callable[[Enrolled], bool]


@dataclass(eq=False)
class Errand:
    """Something that one of the machines that are ``able`` is to do."""

    method: Method
    given: object
    text: str
    able: Able
    alone: bool = False
    """It takes all of a machine's slots."""
    future: Future[Reply] = field(default_factory=Future)
    tries: int = 0
    task: Any = None
    """Dask's future, while it is handed out."""
    where: frozenset[str] = frozenset()
    """The addresses it was handed to."""
    since: float = field(default_factory=time.monotonic)
    """Since when nobody could do it."""
    forced: bool = True
    """Whether one of the machines has to do it: else it comes back (``Reply.nobody``)."""


@dataclass(eq=False)
class Hired:
    """A worker of the scheduler, and what its machine said when it was asked to enrol."""

    address: str
    slots: int
    task: Any = None
    said: Enrolled | None = None


class Crew:
    """The machines of a scheduler, working for one run.

    Raises:
        UserError: no scheduler answers at the address.
    """

    def __init__(self, wire: Wire, commission: Commission, fit: Able) -> None:
        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters is noted
        self._wire = wire
        self._commission = commission
        self._fit = fit
        """Whether a machine that has enrolled can be of any use."""
        self._events: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self._hired: dict[str, Hired] = {}
        self._errands: set[Errand] = set()
        self._numbers = itertools.count()
        self._told: set[str] = set()
        self._failed: Counter[str] = Counter()
        """How often a worker could not enrol, by address."""
        self._closed = False
        self.heard: queue.SimpleQueue[Remark] = queue.SimpleQueue()
        """What machines say, and what there is to say of them, for whoever has time to show it."""
        try:
            self._client = self._connected()
        except (OSError, TimeoutError, ValueError) as error:
            raise UserError(
                f"--engine: no Dask scheduler answers at {wire.url} ({_said(error)}): start one "
                "by `dlas scheduler`, or give its address"
            ) from error
        self._thread = threading.Thread(target=self._serve, name="crew", daemon=True)
        self._thread.start()

    # ------------------------------------------------------------ for the run's thread

    @property
    def machines(self) -> tuple[Enrolled, ...]:
        """The machines that work for the run now."""
        hired = list(self._hired.values())
        return tuple(h.said for h in hired if h.said is not None and not h.said.problem)

    def gather(self, labels: Collection[str], seconds: float) -> tuple[Enrolled, ...]:
        """Wait until all workers have enrolled and each label is carried by one; return them.

        Whoever has not answered is waited for as long as it is there, absent labels and, where
        nobody is there, any worker for so many ``seconds``.
        """
        until = time.monotonic() + seconds
        self._events.put(("look",))
        while True:
            hired = list(self._hired.values())
            asked = [h for h in hired if h.said is None]
            carried = {label for each in self.machines for label in each.labels}
            enough = self.machines and set(labels) <= carried
            if not asked and (enough or time.monotonic() > until):
                return self.machines
            time.sleep(0.05)

    def send(self, errand: Errand) -> Future[Reply]:
        """Have an errand done; its future gets the answer, or UserError where nobody can."""
        self._events.put(("send", errand))
        return errand.future

    def recall_all(self, method: Method) -> None:
        """Give up all errands of a kind that are not done."""
        self._events.put(("recall", method))

    def close(self) -> None:
        """Let all machines go; what they still do for this run stops."""
        if self._closed:
            return
        self._closed = True
        self._events.put(("look",))
        self._thread.join(timeout=_CALL_S)
        with suppress(Exception):  # a scheduler that is gone: its workers let go by themselves
            self._client.run(
                deputy.dismiss, self._commission.session, workers=list(self._hired),
                on_error="ignore",
            )  # fmt: skip
        self._hang_up()

    # ------------------------------------------------------------ the thread that talks to Dask

    def _serve(self) -> None:
        looked = 0.0
        while not self._closed:
            try:
                event = self._events.get(timeout=LOOK_S)
            except queue.Empty:
                event = ("look",)
            try:
                self._handle(*event)
                if time.monotonic() - looked > LOOK_S or event[0] == "look":
                    self._look()
                    looked = time.monotonic()
            except Exception as error:
                if not self._gone(error):
                    self._fail(error)

    def _handle(self, kind: str, *given: Any) -> None:
        if kind == "send":
            self._errands.add(given[0])
            self._hand_out(given[0])
        elif kind == "ended":
            self._ended(*given)
        elif kind == "enrolled":
            self._enrolled(*given)
        elif kind == "recall":
            for errand in [e for e in self._errands if e.method == given[0]]:
                self._errands.discard(errand)
                if errand.task is not None:
                    errand.task.cancel()

    def _connected(self) -> Any:
        from distributed import Client

        client = Client(
            self._wire.url, security=self._wire.security(), timeout=_CONNECT_S,
            set_as_default=False, name="dlas",
        )  # fmt: skip
        client.subscribe_topic(deputy.topic(self._commission.session), self._hear)
        return client

    def _hear(self, event: tuple[float, Mapping[str, Any]]) -> None:
        said = {k: v for k, v in event[1].items() if k != "worker"}  # which Dask adds
        self.heard.put(Remark(**said))

    # ------------------------------------------------------------ which machines there are

    def _look(self) -> None:
        if self._client.status != "running":
            raise OSError(f"the line to it is {self._client.status}")
        told = self._client.sync(
            self._client.scheduler.identity, n_workers=-1, callback_timeout=_CALL_S
        )
        there = told["workers"]
        for address in [*self._hired]:
            if address not in there:
                self._lose(address)
        for address, worker in there.items():
            if address in self._hired:
                continue
            if SLOTS not in worker["resources"]:
                self._once(f"the worker {address} was not started by `dlas workers`: not used")
                continue
            self._hire(address, int(worker["resources"][SLOTS]))
        for errand in [e for e in self._errands if e.task is None]:
            self._hand_out(errand)

    def _hire(self, address: str, slots: int) -> None:
        task = self._submit(deputy.enrol, self._commission, name="enrol", workers=[address])
        hired = self._hired[address] = Hired(address, slots, task)
        task.add_done_callback(lambda done: self._events.put(("enrolled", hired, done)))

    def _enrolled(self, hired: Hired, done: Any) -> None:
        if self._hired.get(hired.address) is not hired or hired.task is not done:
            return
        hired.task = None
        if done.status not in ("finished", "error"):  # the scheduler is new, or going
            self._lose(hired.address)
            return
        said = self._said(done)
        if said is None:
            self._failed[hired.address] += 1
            if self._failed[hired.address] < TRIES:
                self._lose(hired.address)  # asked again with the next look
                return
            said = Enrolled(hired.address, problem=f"it cannot enrol: {_said(done.exception())}")
        if not said.problem and not self._fit(said):
            said = Enrolled(said.name, problem="its dlas is another one: install the same there")
        if said.problem:
            self._once(f"{said.name} ({hired.address}) is not used: {said.problem}")
        hired.said = said

    def _said(self, done: Any) -> Enrolled | None:
        """Return what a machine said of itself, None where it did not live to say it."""
        if done.status == "error":
            return None
        try:
            said: Enrolled = done.result(timeout=_CALL_S)
        except (ImportError, AttributeError) as error:  # of a plug-in that is not installed here
            return Enrolled(str(done.key), problem=f"what it says cannot be read: {error}")
        return said

    def _lose(self, address: str) -> None:
        hired = self._hired.pop(address)
        if hired.said is not None and not hired.said.problem:
            self._note(f"{hired.said.name} ({address}) is gone; what it did is done by others")
        for errand in [*self._errands]:
            errand.where -= {address}
            if errand.task is not None and not errand.where:
                errand.task.cancel()
                errand.task, errand.since = None, time.monotonic()

    # ------------------------------------------------------------ errands

    def _hand_out(self, errand: Errand) -> None:
        able = [
            h for h in self._hired.values()
            if h.said is not None and not h.said.problem and errand.able(h.said)
        ]  # fmt: skip
        if not able:
            self._nobody(errand)
            return
        alone = errand.alone or errand.tries == TRIES - 1
        if alone:
            load = Counter(address for e in self._errands if e.task for address in e.where)
            able = [min(able, key=lambda hired: (load[hired.address], hired.address))]
        slots = able[0].slots if alone else 1
        session = self._commission.session
        errand.where = frozenset(hired.address for hired in able)
        errand.task = task = self._submit(
            deputy.errand, session, errand.method, errand.given,
            name=errand.text, workers=sorted(errand.where), resources={SLOTS: slots},
        )  # fmt: skip
        task.add_done_callback(lambda done: self._events.put(("ended", errand, done)))

    def _submit(self, function: Callable[..., object], *given: object, **how: Any) -> Any:
        name = how.pop("name")
        key = f"{name}-{self._commission.session}-{next(self._numbers)}"
        return self._client.submit(function, *given, key=key, pure=False, **how)

    def _ended(self, errand: Errand, done: Any) -> None:
        if errand.task is not done:
            return  # handed out again meanwhile, or given up
        errand.task = None
        if done.status == "finished":
            self._settle(errand, done.result(timeout=_CALL_S))
            return
        if done.status != "error":  # cancelled, lost: the scheduler is new, or going
            return
        error = done.exception(timeout=_CALL_S)
        if not (isinstance(error, Lost) or type(error).__name__ == "KilledWorker"):
            self._settle(errand, error)
            return
        if isinstance(error, Lost):
            self._hired.pop(error.address, None)  # its process died: it has to enrol anew
            errand.tries += error.begun
        else:  # Dask gave it up, after so many workers
            errand.tries = max(errand.tries + 1, TRIES - 1)
        if errand.tries >= TRIES:
            self._settle(errand, Lost(_last_words(error)))

    def _settle(self, errand: Errand, answer: Reply | BaseException) -> None:
        self._errands.discard(errand)
        if isinstance(answer, BaseException):
            errand.future.set_exception(answer)
        else:
            errand.future.set_result(answer)

    def _nobody(self, errand: Errand) -> None:
        waited = time.monotonic() - errand.since
        if any(hired.said is None for hired in self._hired.values()):
            return  # who has not enrolled yet may be able
        if not errand.forced:
            self._settle(errand, Reply(nobody=True))
        elif waited > 2 * LOOK_S:
            self._once(f"no machine can do {errand.text} now: waiting for one")
        if errand.forced and waited > PATIENCE_S:
            self._settle(errand, UserError(
                f"no machine was there for {PATIENCE_S:g} s that can do {errand.text}; there are "
                f"{listed([e.name for e in self.machines]) or 'none'}. The same command goes on."
            ))  # fmt: skip

    # ------------------------------------------------------------ a scheduler that is gone

    def _gone(self, error: Exception) -> bool:
        """Wait for the scheduler to come back, then hand everything out again.

        Return False where it did not, or where ``error`` says something else.
        """
        broken = self._client.status != "running"
        if not broken and not isinstance(error, OSError | TimeoutError | CancelledError):
            return False
        self._note(f"the scheduler at {self._wire.url} does not answer: waiting for it")
        self._hang_up()
        self._hired.clear()
        until = time.monotonic() + PATIENCE_S
        while not self._closed and time.monotonic() < until:
            with suppress(Exception):  # whatever it is, it is tried again
                self._client = self._connected()
                break
            time.sleep(LOOK_S)
        else:
            return False
        self._note(f"the scheduler at {self._wire.url} is back")
        for errand in self._errands:
            errand.task, errand.where, errand.since = None, frozenset(), time.monotonic()
        return True

    def _fail(self, error: Exception) -> None:
        """Tell everybody who waits that nothing more will come."""
        said = StorageError(
            f"the scheduler at {self._wire.url} did not come back within {PATIENCE_S:g} s: start "
            "it, then run the same command again; nothing that was finished is lost."
        )
        known = isinstance(error, OSError | TimeoutError)
        for errand in [*self._errands]:
            self._settle(errand, said if known else error)

    def _note(self, text: str) -> None:
        self.heard.put(Remark("", text))

    def _hang_up(self) -> None:
        with suppress(Exception):
            self._client.close(timeout=2)

    def _once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._note(text)


def _said(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _last_words(error: BaseException) -> str:
    if isinstance(error, Lost):
        return str(error)
    return f"every worker that did it died ({_said(error)})"
