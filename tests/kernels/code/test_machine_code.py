"""Which compiler links the kernels, and what is said where it is missing."""

import platform
import shutil
from collections.abc import Callable

import pytest

pytest.importorskip("tvm")

from tvm.support import cc

from dlas.kernels import UnsupportedError
from dlas.kernels.code import machine_code
from dlas.kernels.ground.target import resolve

TARGETS = {"x86_64": "x86-64-v3", "aarch64": "aarch64"}


def nothing(*_: object) -> None:
    """Find no program, whatever the name."""


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return what makes this machine another one, without any compiler."""
    monkeypatch.setattr(shutil, "which", nothing)
    monkeypatch.setattr(cc, "get_cc", nothing)

    def become(name: str) -> None:
        monkeypatch.setattr(platform, "machine", lambda: name)

    return become


@pytest.mark.parametrize(
    ("here", "there", "said"),
    [
        ("x86_64", "aarch64", "needs aarch64-linux-gnu-gcc, .*libc6-dev-arm64-cross"),
        ("aarch64", "x86_64", "needs x86_64-linux-gnu-gcc, .*libc6-dev-amd64-cross"),
        ("x86_64", "x86_64", r"needs a C\+\+ compiler, .*Debian: g\+\+"),
    ],
)
def test_a_missing_linker_is_told(
    machine: Callable[[str], None], here: str, there: str, said: str
) -> None:
    machine(here)
    with pytest.raises(UnsupportedError, match=said):
        machine_code.compile_functions({}, resolve(TARGETS[there]))


@pytest.mark.parametrize(
    ("here", "there", "linker"),
    [
        ("x86_64", "aarch64", "aarch64-linux-gnu-gcc"),
        ("aarch64", "x86_64", "x86_64-linux-gnu-gcc"),
        ("x86_64", "x86_64", "own"),
    ],
)
def test_the_linker_is_the_target_s(
    monkeypatch: pytest.MonkeyPatch, here: str, there: str, linker: str
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: here)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(cc, "get_cc", lambda: "own")
    assert machine_code._linker(there) == linker
