"""What `native` stands for on machines of other kinds: every flag that its code may need."""

import pytest

from dlas.kernels import MissingFeatureError, UnsupportedError
from dlas.kernels.ground import cpu, program, target
from dlas.kernels.ground.target import require

pytestmark = pytest.mark.host


def become(patch: pytest.MonkeyPatch, machine: str, flags: set[str]) -> None:
    patch.setattr("platform.machine", lambda: machine)
    patch.setattr(cpu, "flags", lambda: frozenset(flags))


@pytest.mark.parametrize(
    ("name", "flags", "lanes"),
    [
        ("aarch64", {"asimd", "sve", "i8mm"}, 4),
        ("x86_64", {*cpu.V3, "avx_vnni", "gfni"}, 8),
        ("x86_64", {*cpu.V4, "avx512_vnni"}, 16),
    ],
)
def test_native_names_every_flag_that_its_code_may_need(
    monkeypatch: pytest.MonkeyPatch, name: str, flags: set[str], lanes: int
) -> None:
    become(monkeypatch, name, {*flags, "another"})
    made = target.resolve("native")
    assert (made.lanes, set(made.features)) == (lanes, flags)
    special = sorted(flags - set(cpu.V4))[-1]
    become(monkeypatch, name, flags - {special})
    with pytest.raises(MissingFeatureError, match=special):
        require(made.machine, made.features)


@pytest.mark.parametrize(
    ("name", "flags", "base", "attributes"),
    [
        ("x86_64", {*cpu.V4, "avx512_bf16"}, "x86-64-v4", {"avx512bf16"}),
        ("x86_64", set(cpu.V4), "x86-64-v4", set()),
        # A virtual machine that hides the base of AVX-512 and forgets what rests on it.
        ("x86_64", {*cpu.V3, "avx512_vnni", "avx_vnni"}, "x86-64-v3", {"avxvnni"}),
        ("aarch64", {"asimd", "asimddp", "asimdhp"}, "generic", {"dotprod", "fullfp16"}),
    ],
)  # fmt: skip
def test_the_compiler_is_told_the_flags_and_guesses_nothing(
    monkeypatch: pytest.MonkeyPatch, name: str, flags: set[str], base: str, attributes: set[str]
) -> None:
    pytest.importorskip("tvm")
    become(monkeypatch, name, flags)
    made = target.resolve("native")
    assert (made.cpu, set(made.attributes)) == (base, attributes)
    told = {str(a) for a in made.tvm().attrs.get("mattr", ())}
    assert told - {"+neon", "-prefer-256-bit"} == {f"+{a}" for a in attributes}
    assert str(made.tvm().attrs["mcpu"]) == base


@pytest.mark.parametrize("given", [True, False])
def test_tiles_are_used_where_the_system_allows_it(
    monkeypatch: pytest.MonkeyPatch, given: bool
) -> None:
    tiles = {"amx_tile", "amx_bf16", "amx_int8"}
    become(monkeypatch, "x86_64", {*cpu.V4, *tiles})
    monkeypatch.setattr(target.tile_permission, "given", lambda: given)
    made = target.resolve("native")
    assert set(made.features) & tiles == (tiles if given else set())
    # A saved program says what it needs, and a CPU without it refuses it.
    become(monkeypatch, "x86_64", set(cpu.V4))
    fixed = target.resolve("x86-64-v4-amx")
    with pytest.raises(MissingFeatureError, match="amx_bf16, amx_int8, amx_tile, avx512_bf16"):
        require(fixed.machine, fixed.features)


def test_code_with_tiles_is_not_loaded_without_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program.tile_permission, "given", lambda: False)
    with pytest.raises(MissingFeatureError, match="no permission to use AMX"):
        program.load_library(b"", ("avx2", "amx_tile"))


def test_a_cpu_without_avx2_is_refused_with_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    become(monkeypatch, "x86_64", set(cpu.V3) - {"fma"})
    with pytest.raises(UnsupportedError, match="fma"):
        target.resolve("native")
