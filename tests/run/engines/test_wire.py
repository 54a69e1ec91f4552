"""Addresses of schedulers: what others could reach is refused without certificates."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlas.core.errors import UserError
from dlas.run.engines import wire as wires
from dlas.run.engines.wire import Tls, Wire, wire_to


@pytest.fixture(autouse=True)
def dask_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wires, "find_spec", lambda name: object())


def certificates(folder: Path) -> Tls:
    files = [folder / name for name in ("ca.pem", "cert.pem", "key.pem")]
    for file in files:
        file.write_text("x")
    made = Tls.of(*files)
    assert made is not None
    return made


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("dask://127.0.0.1:8787", "tcp://127.0.0.1:8787"),
        ("dask://localhost", "tcp://localhost:8786"),
        ("tcp://127.0.0.1:1/", "tcp://127.0.0.1:1"),
        ("dask://[::1]:99", "tcp://[::1]:99"),
        ("dask://[::1]", "tcp://[::1]:8786"),
    ],
)
def test_this_machine_needs_no_certificates(address: str, url: str) -> None:
    assert wire_to(address, None, "--engine").url == url


@pytest.mark.parametrize("host", ["192.168.1.7", "lab.example", "0.0.0.0", "::", "127.evil.org"])
def test_others_are_reached_by_tls_only(host: str, tmp_path: Path) -> None:
    bracketed = f"[{host}]" if ":" in host else host
    with pytest.raises(UserError, match=r"--engine: .* give --tls-ca, --tls-cert and --tls-key"):
        wire_to(f"dask://{bracketed}:8786", None, "--engine")
    found = wire_to(f"dask://{bracketed}:8786", certificates(tmp_path), "--engine")
    assert found.url == f"tls://{bracketed}:8786"


@pytest.mark.parametrize(
    "address",
    ["", "host:8786", "http://127.0.0.1:1", "dask://", "dask:///", "dask://127.0.0.1:x",
     "dask://:8786", "dask://127.0.0.1:", "dask://127.0.0.1:70000", "dask://a:b@127.0.0.1:1",
     "dask://$(id):1", "dask://127.0.0.1;id:1"],
)  # fmt: skip
def test_what_is_no_address_is_a_sentence(address: str) -> None:
    with pytest.raises(UserError, match="--engine"):
        wire_to(address, None, "--engine")


def test_certificates_come_together_and_can_be_read(tmp_path: Path) -> None:
    assert Tls.of(None, None, None) is None
    tls = certificates(tmp_path)
    with pytest.raises(UserError, match="TLS needs --tls-key, too"):
        Tls.of(tls.ca, tls.cert, None)
    with pytest.raises(UserError) as raised:
        Tls.of(tmp_path / "a", tls.cert, tmp_path / "b")
    assert len(raised.value.problems) == 2


def test_without_dask_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wires, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'dlas\[cluster\]'"):
        wire_to("dask://127.0.0.1", None, "--engine")


def test_a_wire_says_what_dask_is_to_know() -> None:
    assert Wire("::1", 5, None).protocol == "tcp"
