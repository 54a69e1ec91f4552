"""What `native` stands for on machines of other kinds: every flag that its code may need."""

from collections.abc import Iterator

import pytest

from dlas.kernels import MissingFeatureError, target
from dlas.kernels.target import require


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    target._native.cache_clear()
    monkeypatch.setattr(target, "_llvm_cpu", lambda: "some-cpu")
    yield monkeypatch
    monkeypatch.undo()
    target._native.cache_clear()


def become(patch: pytest.MonkeyPatch, machine: str, flags: set[str]) -> None:
    patch.setattr("platform.machine", lambda: machine)
    patch.setattr(target, "host_features", lambda: frozenset(flags))


@pytest.mark.parametrize(
    ("name", "flags", "lanes"),
    [
        ("aarch64", {"asimd", "sve", "i8mm"}, 4),
        ("x86_64", {*target._V3, "avx_vnni", "gfni"}, 8),
        ("x86_64", {*target._V4, "avx512_vnni"}, 16),
    ],
)
def test_native_names_every_flag_that_its_code_may_need(
    machine: pytest.MonkeyPatch, name: str, flags: set[str], lanes: int
) -> None:
    become(machine, name, {*flags, "another"})
    made = target.resolve("native")
    assert (made.lanes, set(made.features)) == (lanes, flags)
    special = sorted(flags - set(target._V4))[-1]
    become(machine, name, flags - {special})
    with pytest.raises(MissingFeatureError, match=special):
        require(made.machine, made.features)
