"""What a run was asked for, in words and stacks, and the plan that comes of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from dlas.core import registry
from dlas.core.errors import StorageError, UserError
from dlas.core.records import Status
from dlas.core.stack import Stack
from dlas.run.executed import Answers
from dlas.run.plan import plan as planning
from dlas.run.plan.plan import Plan
from dlas.run.plan.preview import data_read
from dlas.run.process.interpreters import ask
from dlas.run.progress import Progress
from dlas.study.study import Study


def made(folder: Path) -> Path:
    """Return a folder, which is there then.

    Raises:
        StorageError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder} cannot be made: {error.strerror}") from error
    return folder


def planned(
    study: Study, stacks: Sequence[Stack], paths: tuple[str, ...], progress: Progress
) -> Plan:
    """Find out what the plan has to know of interpreters and of this CPU, then make it."""
    live = planning.live(stacks)
    interpreters = ask(planning.questions(live))
    answers = Answers(interpreters=interpreters)
    answers.look(live, progress.note, paths)
    plan = planning.make(study, live, answers.seen, interpreters)
    for read in data_read(plan.runnable):
        for note in read.get("notes", ()):
            progress.note(f"{read['datasets'][0]}: {note}")
    return plan


def parted(stacks: Sequence[Stack]) -> tuple[list[Stack], list[Stack]]:
    """Return the stacks that are for this machine, and those that name another one."""
    carried = registry.labels()
    here = [stack for stack in stacks if not stack.label or stack.label in carried]
    return here, [stack for stack in stacks if stack.label and stack.label not in carried]


def chosen(study: Study, only: str | None) -> Sequence[Stack]:
    """Return the stacks whose hash begins with ``only``; all of them for None.

    Raises:
        UserError: none does.
    """
    if only is None:
        return study.stacks
    found = [s for s in study.stacks if s.cell.startswith(only)]
    if not found:
        cells = ", ".join(s.cell for s in study.stacks[:3])
        raise UserError(f"no cell of {study.name!r} begins with {only!r}; cells are like {cells}")
    return found


def statuses(names: Collection[str]) -> tuple[Status, ...]:
    """Return the statuses that are to be tried again.

    Raises:
        UserError: one is none, or is finished.
    """
    allowed = (Status.FAILED, Status.IMPOSSIBLE, Status.UNAVAILABLE)
    for name in names:
        if name not in allowed:
            raise UserError(f"--retry {name!r}: allowed are {', '.join(allowed)}")
    return tuple(Status(name) for name in names)
