"""The commands that let several machines work for one run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dlas.cli import options

if TYPE_CHECKING:
    from dlas.run.company import Form


def form_of(engine: str | None, tls: tuple[Path | None, Path | None, Path | None]) -> Form:
    """Return what brings in the machines of a scheduler; nobody without one.

    Raises:
        UserError: the address is none, its certificates cannot be read, or Dask is not installed.
    """
    from dlas.core.errors import UserError
    from dlas.run.company import nobody
    from dlas.run.engines.wire import Tls, wire_to

    certified = Tls.of(*tls)
    if engine is None:
        if certified is not None:
            raise UserError("--tls-ca, --tls-cert and --tls-key go with --engine")
        return nobody
    wire = wire_to(engine, certified, "--engine")
    from dlas.run.team import dask

    return dask(wire)


def scheduler(
    host: options.SchedulerHost = "127.0.0.1",
    port: options.SchedulerPort = 8786,
    tls_ca: options.TlsCa = None,
    tls_cert: options.TlsCert = None,
    tls_key: options.TlsKey = None,
) -> None:
    """Run the scheduler that workers and `dlas run --engine` meet at, until it is ended.

    Whoever reaches it has its workers run any code: it stays on this machine (others come through
    SSH tunnels), or asks for certificates.

        dlas scheduler

        dlas scheduler --host 0.0.0.0 --tls-ca ca.pem --tls-cert cert.pem --tls-key key.pem
    """
    from dlas.run.engines.supervise import serve_scheduler
    from dlas.run.engines.wire import Tls, Wire, checked

    wire = checked(Wire(host, port, Tls.of(tls_ca, tls_cert, tls_key)), "--host")
    try:
        serve_scheduler(wire, lambda address: _say(f"scheduler at {address}"))
    except KeyboardInterrupt:
        _say("scheduler ended")


def workers(
    scheduler: options.Scheduler,
    labels: options.Labels = "",
    name: options.MachineName = None,
    folder: options.WorkFolder = None,
    tls_ca: options.TlsCa = None,
    tls_cert: options.TlsCert = None,
    tls_key: options.TlsKey = None,
) -> None:
    """Let this machine work for runs that meet at a scheduler, until it is ended.

    What dies is started again, and comes back when the scheduler does. Studies name the labels:
    `hardware: {cpu: {on: big}}`.

        dlas workers --scheduler dask://127.0.0.1:8786 --labels big,avx512
    """
    from dlas.run.engines.supervise import (
        checked_labels,
        checked_name,
        default_name,
        default_place,
        supervise,
    )
    from dlas.run.engines.wire import Tls, wire_to

    wire = wire_to(scheduler, Tls.of(tls_ca, tls_cert, tls_key), "--scheduler")
    carried = checked_labels(labels)
    called = checked_name(name) if name is not None else default_name()
    _say(f"{called} works for {wire.url}" + (f" as {', '.join(carried)}" if carried else ""))
    try:
        supervise(wire, carried, called, folder or default_place(called), _say)
    except KeyboardInterrupt:
        _say(f"{called} works no longer")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
