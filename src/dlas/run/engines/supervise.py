"""A scheduler, and workers that come back: when one dies it is started again, until it is told."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import platform
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

from dlas.core.errors import UserError
from dlas.core.protocols import LABEL
from dlas.core.registry import A_LABEL, LABELS
from dlas.kernels.ground.records import kept_in
from dlas.run.engines import deputy
from dlas.run.engines.dask import SLOTS
from dlas.run.engines.hands import default_workers
from dlas.run.engines.wire import Tls, Wire, wire_to
from dlas.store.leases import lasting

PROGRAM = "dlas.run.engines.supervise"
VARIABLE = "DLAS_WORKERS_DIR"
"""The environment's name for where machines keep their files."""
RESTART_S = 1.0
_END_S = 5.0
_QUIET = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.interval": "30s",
    "distributed.scheduler.active-memory-manager.start": False,
    "distributed.scheduler.work-stealing": True,
    "distributed.admin.tick.interval": "200ms",
    "distributed.admin.tick.limit": "1h",
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
}
"""A machine that measures has nothing else to do; a worker that looks at itself is something."""
_NO_PAGES = "127.0.0.1:0"
"""Where Dask's web server listens: it always has one, which asks nobody for a certificate."""


def checked_labels(text: str) -> tuple[str, ...]:
    """Return the labels of a list with commas.

    Raises:
        UserError: one is no label.
    """
    labels = tuple(dict.fromkeys(each.strip() for each in text.split(",") if each.strip()))
    wrong = [label for label in labels if not re.fullmatch(LABEL, label)]
    if wrong:
        raise UserError([f"--labels {label!r}: {A_LABEL}" for label in wrong])
    return labels


def checked_name(text: str) -> str:
    """Return the name of a machine, a word like a label.

    Raises:
        UserError: it is none.
    """
    if not re.fullmatch(LABEL, text):
        raise UserError(f"--name {text!r}: {A_LABEL}")
    return text


def default_name() -> str:
    """Return what this machine is called."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", platform.node()) or "machine"


def default_place(name: str) -> Path:
    """Return where a machine keeps what it made and read for others."""
    return kept_in(VARIABLE, "workers") / name


# ---------------------------------------------------------------- the scheduler


def serve_scheduler(wire: Wire, ready: Callable[[str], None]) -> None:
    """Run a scheduler until it is ended.

    Raises:
        UserError: the address cannot be had.
    """
    import dask
    from distributed import Scheduler

    _log()
    dask.config.set({**_QUIET, "distributed.scheduler.worker-ttl": f"{lasting():g}s"})

    async def serve() -> None:
        async with Scheduler(
            host=wire.host, port=wire.port, protocol=wire.protocol, security=wire.security(),
            dashboard=False, dashboard_address=_NO_PAGES,
        ) as scheduler:  # fmt: skip
            ready(str(scheduler.address))
            await scheduler.finished()

    try:
        asyncio.run(serve())
    except (OSError, RuntimeError) as error:
        said = str(error.__cause__ or error)
        raise UserError(f"no scheduler can be had at {wire.url}: {said}") from error


# ---------------------------------------------------------------- workers


def supervise(
    wire: Wire, labels: Sequence[str], name: str, folder: Path, note: Callable[[str], None]
) -> None:
    """Keep a worker of this machine running until this process is told to end.

    Raises:
        UserError: its folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--folder {folder}: cannot be made: {error.strerror}") from error
    command = [
        sys.executable, "-P", "-m", PROGRAM, "--scheduler", wire.url, "--name", name,
        "--folder", str(folder.absolute()), *(wire.tls.options() if wire.tls else []),
    ]  # fmt: skip
    environment = {**os.environ, LABELS: ",".join(labels)}
    process: subprocess.Popen[bytes] | None = None
    signal.signal(signal.SIGTERM, _told_to_end)
    try:
        while True:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment)
            code = process.wait()
            how = f"killed by signal {-code}" if code < 0 else f"exit status {code}"
            note(f"the worker of {name} ended ({how}): it is started again")
            time.sleep(RESTART_S)
    finally:
        if process is not None:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(OSError):
        process.terminate()
    if process.stdin is not None:
        with suppress(OSError):
            process.stdin.close()
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _told_to_end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


# ---------------------------------------------------------------- the worker's own process


def work(wire: Wire, name: str, folder: Path) -> None:
    """Be a worker until the scheduler is gone; end with whoever started this process."""
    import dask
    from distributed import Worker

    _log()
    dask.config.set(_QUIET)
    deputy.settle_in(folder, name)
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    threading.Thread(target=deputy.keep_sweeping, name="sweeper", daemon=True).start()
    slots = default_workers()

    async def serve() -> None:
        async with Worker(
            wire.url,
            host=wire.host if wire.tls is None else None,  # plain: nobody else may reach it
            protocol=wire.protocol,
            security=wire.security(),
            name=f"{name}-{os.getpid()}",
            nthreads=slots + 2,  # two to enrol with others while all slots are taken
            resources={SLOTS: slots},
            memory_limit=0,
            dashboard=False,
            dashboard_address=_NO_PAGES,
            local_directory=str(folder / "dask"),
        ) as worker:
            await worker.finished()

    asyncio.run(serve())
    os._exit(0)  # its threads wait for processes that end with it


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def _log() -> None:
    logging.getLogger("distributed").setLevel(logging.WARNING)


def main(arguments: Sequence[str]) -> None:
    """Be the worker that a command line describes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--scheduler", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    for each in ("ca", "cert", "key"):
        parser.add_argument(f"--tls-{each}", type=Path)
    given = parser.parse_args(arguments)
    tls = Tls.of(given.tls_ca, given.tls_cert, given.tls_key)
    work(wire_to(given.scheduler, tls, "--scheduler"), given.name, given.folder)


if __name__ == "__main__":
    main(sys.argv[1:])
