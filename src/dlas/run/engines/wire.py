"""The address of a Dask scheduler, and how what goes over the wire is kept from others.

Dask's messages are pickles: whoever reaches a scheduler or a worker has it run any code. So the
wire is this machine's loopback, or TLS with certificates that both sides must show.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from dlas.core.errors import UserError

if TYPE_CHECKING:
    from distributed.security import Security

PORT = 8786
SCHEME = "dask"


@dataclass(frozen=True, slots=True)
class Tls:
    """The files of a certificate authority, of a certificate that it signed, and of its key."""

    ca: Path
    cert: Path
    key: Path

    @classmethod
    def of(cls, ca: Path | None, cert: Path | None, key: Path | None) -> Tls | None:
        """Return what was given, None where nothing was.

        Raises:
            UserError: one of the three is missing, or cannot be read.
        """
        named = {"--tls-ca": ca, "--tls-cert": cert, "--tls-key": key}
        given = {option: file for option, file in named.items() if file is not None}
        if not given:
            return None
        absent = [option for option in named if option not in given]
        if absent:
            raise UserError(f"TLS needs {' and '.join(absent)}, too: all three, or none")
        wrong = [problem for o, f in given.items() if (problem := _unreadable(o, f))]
        if wrong:
            raise UserError(wrong)
        assert ca is not None
        assert cert is not None
        assert key is not None
        return cls(ca.absolute(), cert.absolute(), key.absolute())

    def options(self) -> list[str]:
        """Return the options that say the same."""
        return ["--tls-ca", str(self.ca), "--tls-cert", str(self.cert), "--tls-key", str(self.key)]


@dataclass(frozen=True, slots=True)
class Wire:
    """Where a scheduler is, or is to be, and whether its wire is TLS."""

    host: str
    port: int
    tls: Tls | None

    @property
    def url(self) -> str:
        """The address as Dask writes it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'tls' if self.tls else 'tcp'}://{host}:{self.port}"

    @property
    def protocol(self) -> str:
        """What Dask calls the wire."""
        return "tls" if self.tls else "tcp"

    def security(self) -> Security | None:
        """Return the same for Dask; None: the wire is plain."""
        from distributed.security import Security

        if self.tls is None:
            return None
        ca, cert, key = (str(file) for file in (self.tls.ca, self.tls.cert, self.tls.key))
        return Security(
            require_encryption=True, tls_ca_file=ca,
            tls_client_cert=cert, tls_client_key=key, tls_worker_cert=cert, tls_worker_key=key,
            tls_scheduler_cert=cert, tls_scheduler_key=key,
        )  # fmt: skip


def wire_to(address: str, tls: Tls | None, option: str) -> Wire:
    """Return the wire to a scheduler's address, ``dask://HOST:PORT`` (the port may be left out).

    Raises:
        UserError: it is none, Dask is not installed, or the wire would be open to others.
    """
    scheme, separator, rest = address.partition("://")
    if not separator or scheme not in (SCHEME, "tcp", "tls") or rest.strip("/") == "":
        raise UserError(f"{option} {address!r}: must be {SCHEME}://HOST:PORT")
    if "@" in rest:
        raise UserError(
            f"{option}: an address holds no user and no password; TLS tells who is who"
        )
    host, port = _parted(rest.rstrip("/"), f"{option} {address!r}")
    return checked(Wire(host, port, tls), option)


def checked(wire: Wire, option: str) -> Wire:
    """Return a wire that others cannot reach, or that they need a certificate for.

    Raises:
        UserError: it is neither, or Dask is not installed.
    """
    if not 0 <= wire.port <= 65535:
        raise UserError(f"{option}: the port {wire.port} must be from 0 to 65535")
    if wire.tls is None and not _loopback(wire.host):
        raise UserError(
            f"{option}: {wire.host} is reached over a network, and whoever reaches it could run "
            "any code there: give --tls-ca, --tls-cert and --tls-key (docs/together.md shows how "
            "to make them), or stay on 127.0.0.1, behind an SSH tunnel say"
        )
    require_dask(option)
    return wire


def require_dask(option: str) -> None:
    """Refuse to go on without Dask.

    Raises:
        UserError: it is not installed.
    """
    if find_spec("distributed") is None:
        raise UserError(f"{option}: needs distributed; `pip install 'dlas[cluster]'`")


def _parted(rest: str, said: str) -> tuple[str, int]:
    host, separator, port = rest.rpartition(":")
    if not separator or rest.endswith("]"):
        host, port = rest, str(PORT)
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdecimal():
        raise UserError(f"{said}: must be {SCHEME}://HOST:PORT, the port a number")
    return host, int(port)


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _unreadable(option: str, file: Path) -> str:
    try:
        with file.open("rb") as opened:
            opened.read(1)
    except OSError as error:
        return f"{option} {file}: cannot be read: {error.strerror}"
    return ""
