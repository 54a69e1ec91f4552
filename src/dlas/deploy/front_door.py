"""A network and images in, the best stack found in the time given, exported, in ten lines."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from dlas.core.errors import StorageError, UserError
from dlas.core.records import Status
from dlas.core.stack import DEFAULTS, Stack
from dlas.deploy.folder import Exported, export
from dlas.deploy.given import Given, Options, read_given
from dlas.deploy.sizing import Sized, Wish, sized_study
from dlas.explore.live import explore
from dlas.explore.settling import AfterRun, Settled, sought_of
from dlas.run.progress import Progress, Silent
from dlas.run.run import run
from dlas.store.address import address_of
from dlas.store.results import CellRow, ResultStore
from dlas.study.study import Study

STUDY, SHIPPED, NAME = "optimize.yaml", "best", "optimize"
SHARE = 0.85
"""The share of the budget for building and measuring; the rest is for what comes after."""
PLAIN = ("pytorch", "onnxruntime", "openvino")
"""What runs the network as it was given, before anything was done: the first that is there."""


@dataclass(frozen=True)
class Journey:
    """What became of a network."""

    given: Given
    sized: Sized
    out: Path
    before: str
    """The cell of the network as it was given."""
    exported: Exported
    seconds: float
    settled: Settled | None = None
    """What was left in the end, with numbers from rounds since it was chosen."""


def write_study(
    model: str, data: str, options: Options, wish: Wish, seconds: float | None, path: Path
) -> tuple[Given, Sized]:
    """Write the study file for a network and images, sized to a budget.

    Raises:
        UserError: what is wrong with them; nothing can run here; the file is there and another's.
        StorageError: it cannot be written.
    """
    given = read_given(model, data, options)
    sized = sized_study(given, wish, seconds, path.stem, path.absolute().parent)
    try:
        if path.exists() and path.read_text(encoding="utf-8") != sized.text:
            raise UserError(f"{path} is there already, and another study: give another file")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(sized.text, encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"{path} cannot be written: {error}") from error
    return given, sized


def optimize(
    model: str,
    data: str,
    out: Path,
    *,
    options: Options,
    wish: Wish,
    seconds: float | None = None,
    progress: Progress | None = None,
) -> Journey:
    """Explore what can be done with a network on this machine, and export the best of it.

    Raises:
        UserError: what is wrong with what was given; no stack runs, or none meets the wish (says
            which comes closest).
        StorageError: the disk refuses.
    """
    began = time.monotonic()
    progress = progress or Silent()
    given, sized = write_study(model, data, options, wish, seconds, out / STUDY)
    study = Study.load(out / STUDY)
    before = _plain(study.stacks)
    left = None if seconds is None else SHARE * seconds - (time.monotonic() - began)
    settled = _measure(study, out, before, left, progress)
    _something(out)
    shipped = export(out, SHIPPED, out / SHIPPED)
    return Journey(given, sized, out, before, shipped, time.monotonic() - began, settled)


def _plain(stacks: tuple[Stack, ...]) -> str:
    """Return the cell of the network as it was given."""

    def plain(stack: Stack) -> bool:
        names = [step.name for step in stack.optimization]
        done = [*names, stack.algorithm[0].name]
        return done == [DEFAULTS["optimization"], DEFAULTS["algorithm"]]

    every = [stack for stack in stacks if plain(stack)]
    place = {name: at for at, name in enumerate(PLAIN)}
    return min(every, key=lambda s: place.get(s.software[0].name, len(place))).cell


def _measure(
    study: Study, out: Path, before: str, seconds: float | None, progress: Progress
) -> Settled | None:
    """Measure as many stacks as the time allows, ``before`` among them, and settle the best."""
    if seconds is None:
        after = AfterRun(sought_of(study, "optimize"))
        run(study, out, progress=progress, then=after)
        return after.settled
    allowed = f"{max(1, round(seconds))}s"
    return explore(study, out, budget=allowed, beside=before, progress=progress).settled


def _something(out: Path) -> None:
    """Refuse to go on where nothing is complete.

    Raises:
        UserError: says why the first stack failed.
    """
    with ResultStore(address_of(out), read_only=True) as store:
        rows = store.rows(CellRow)
    if any(row.status is Status.COMPLETE for row in rows):
        return
    reasons = dict.fromkeys(f"{r.stage}: {r.reason}" for r in rows if r.status is Status.FAILED)
    raise UserError([f"no stack of this network runs: {reason}" for reason in reasons])
