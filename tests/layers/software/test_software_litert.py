"""LiteRT: its rules and what is read back hold anywhere; it runs where it is installed."""

import importlib.util
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dlas.core import registry
from dlas.core.errors import StepError
from dlas.layers.software.litert import LiteRtSession
from dlas.layers.software.shared import litert_graph, own_threads
from dlas.layers.software.shared.work import settle
from fake_programs import (
    CPU,
    NETS,
    FakeProgram,
    artefact,
    check_narrow_refused,
    check_outputs_are_kept,
    check_own_int8,
    check_refused,
    forked,
    images,
    infer,
    reference,
    size_of,
    software,
    stack,
)

CONVERTER = os.environ.get("DLAS_TEST_LITERT_CONVERTER", "")
"""The Python of an environment with litert-torch."""
MISSING = registry.missing(registry.find("software", "litert"))
HERE = MISSING is None and bool(CONVERTER or importlib.util.find_spec("litert_torch"))
installed = pytest.mark.skipif(not HERE, reason="LiteRT and its converter are not installed")


def litert(**params: Any) -> Any:
    return software("litert", **{"converter": CONVERTER, **params})


# ---------------------------------------------------------------- where it is installed


def session(net: str, precision: str = "float32") -> Any:
    runtime = litert()
    return runtime.load(artefact(runtime, net, precision), CPU)


@installed
@pytest.mark.parametrize("net", NETS)
def test_it_agrees_with_pytorch(net: str) -> None:
    found = infer(session(net))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, reference(net), atol=1e-3)


@installed
@pytest.mark.parametrize("net", NETS)
def test_float16_is_stored_only_and_said_to_run_in_float32(net: str) -> None:
    loaded, expected = session(net, "float16"), reference(net)
    error = np.abs(infer(loaded) - expected).max() / np.abs(expected).max()
    assert 0 < error <= 0.02
    sizes = [size_of(artefact(litert(), net, kind)) for kind in ("float32", "float16")]
    assert sizes[1] < (0.7 if net == "residual" else 1) * sizes[0]
    assert loaded.observe(images()[:1]).precision == "float32"


@installed
@pytest.mark.parametrize("net", NETS)
def test_its_own_int8_agrees_is_smaller_and_really_runs(net: str) -> None:
    check_own_int8(litert(), net)


@installed
def test_what_ran_is_what_the_interpreter_lists() -> None:
    ran = session("residual").observe(images()[:1])
    assert (ran.precision, ran.threads, ran.fallbacks) == ("float32", 1, ())
    # The convolution of one channel is depthwise to LiteRT.
    assert ran.kernels["CONV_2D"] == "XNNPACK float32 x5"
    assert ran.kernels["DEPTHWISE_CONV_2D"] == "XNNPACK float32 x1"


@installed
def test_outputs_do_not_share_memory_between_calls() -> None:
    check_outputs_are_kept(session("depthwise"))


@installed
def test_forked_children_give_the_same_with_the_threads_asked(tmp_path: Path) -> None:
    done = forked(litert(), artefact(litert(), "residual"), tmp_path)
    for count, (outputs, facts) in enumerate(done, start=1):
        np.testing.assert_allclose(outputs, reference("residual"), atol=1e-3)
        assert facts["ran"]["threads"] in (count, None)
        assert not facts["torch"], "what runs loads the interpreter alone"


# ---------------------------------------------------------------- what it tells, anywhere


class Listed:
    """An interpreter of two convolutions and a sum, of which a delegate took the first and last.

    Tensors: 0 the input, 1 and 2 between, 3 the output, 4 weights.
    """

    def __init__(self, kind: Any = np.float32, taken: bool = True) -> None:
        def node(index: int, name: str, inputs: list[int], outputs: list[int]) -> dict[str, Any]:
            kinds = [kind for _ in inputs]
            return {"index": index, "op_name": name, "inputs": inputs, "outputs": outputs,
                    "operand_types": kinds}  # fmt: skip

        self.nodes = [
            node(0, "CONV_2D", [0, 4], [1]),
            node(1, "CUSTOM", [1], [2]),
            node(2, "CONV_2D", [2, 4], [3]),
        ]
        if taken:
            self.nodes += [node(3, "DELEGATE", [0], [1]), node(4, "DELEGATE", [2], [3])]
        self.kind, self.entered = kind, np.zeros(())

    def _get_ops_details(self) -> list[dict[str, Any]]:
        return self.nodes

    def get_tensor_details(self) -> list[dict[str, Any]]:
        return [{"index": i, "name": f"t{i}"} for i in range(5)]

    def get_output_details(self) -> list[dict[str, Any]]:
        return [{"index": 3, "quantization": (0.5, 3)}]

    def get_input_details(self) -> list[dict[str, Any]]:
        return [{"index": 0, "dtype": self.kind, "quantization": (0.25, -10)}]

    def allocate_tensors(self) -> None:
        pass

    def invoke(self) -> None:
        pass

    def set_tensor(self, index: int, value: Any) -> None:
        assert index == 0
        self.entered = value

    def get_tensor(self, index: int) -> Any:
        assert index == 3
        return self.entered


def test_operators_are_told_apart_by_who_ran_them() -> None:
    every = litert_graph.operators(Listed())
    assert [(o.kind, o.name, o.runs_in) for o in every] == [
        ("CONV_2D", "t1", "XNNPACK"), ("CUSTOM", "t2", "built-in"), ("CONV_2D", "t3", "XNNPACK"),
    ]  # fmt: skip
    assert litert_graph.kernels(every) == {
        "CONV_2D": "XNNPACK float32 x2", "CUSTOM": "built-in float32 x1",
    }  # fmt: skip
    alone = litert_graph.operators(Listed(taken=False))
    assert {o.runs_in for o in alone} == {"built-in"}


def test_both_kinds_of_bytes_are_int8() -> None:
    for kind in (np.int8, np.uint8):
        every = litert_graph.operators(Listed(kind))
        assert settle([o.work for o in every if o.kind in litert_graph.PRODUCTS])[0] == "int8"


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let sessions run on an interpreter that gives back what was put in."""

    def of(kind: Any, threads: int = 1) -> Any:
        fake = SimpleNamespace(Interpreter=lambda **_: Listed(kind))
        monkeypatch.setitem(sys.modules, "ai_edge_litert", SimpleNamespace())
        monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", fake)
        return LiteRtSession(Path("anywhere"), threads)

    return of


def test_whole_numbers_are_converted_at_both_ends_and_cut_off(listed: Any) -> None:
    loaded = listed(np.int8)
    x = np.array([[0.0, 0.26, 100.0, -100.0]], np.float32)
    found = loaded(x)
    assert loaded._interpreter.entered.tolist() == [[-10, -9, 127, -128]]
    assert found.dtype == np.float32
    assert found.tolist() == [[-6.5, -6.0, 62.0, -65.5]]


def test_floats_go_through_as_they_are(listed: Any) -> None:
    x = np.array([[0.0, 0.26]], np.float32)
    assert listed(np.float32)(x) is x


@pytest.mark.parametrize(("seen", "told"), [(None, None), (1, None), (2, 2), (3, 3)])
def test_fewer_threads_than_asked_are_no_reading_and_it_is_said_why(
    listed: Any, seen: int | None, told: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_threads, "that_ran", lambda _: seen)
    ran = listed(np.float32, 2).observe(np.zeros((1, 4), np.float32))
    assert ran.threads == told
    said = ("fewer than 2 threads were seen to compute: 1",) if seen == 1 else ()
    assert ran.fallbacks == said


def test_what_cannot_be_asked_stays_empty_and_is_told(
    listed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Listed, "_get_ops_details")
    ran = listed(np.float32).observe(np.zeros((1, 4), np.float32))
    assert (ran.precision, ran.kernels) == (None, {})
    assert "could not be read" in ran.fallbacks[0]


# ---------------------------------------------------------------- rules


@pytest.fixture
def environment(tmp_path: Path) -> str:
    """The Python of what looks like an environment with a converter."""
    known = tmp_path / "e" / "lib" / "python3.11" / "site-packages" / "litert_torch-9.dist-info"
    known.mkdir(parents=True)
    (known / "METADATA").write_text("Metadata-Version: 2.1\nName: litert-torch\nVersion: 9\n")
    python = tmp_path / "e" / "bin" / "python"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\necho no such module >&2\nexit 3\n")
    python.chmod(0o755)
    return str(python)


@pytest.mark.skipif(MISSING is None, reason="it is installed")
def test_where_it_is_not_installed_it_is_unavailable_and_says_how_to_get_it() -> None:
    assert MISSING is not None and MISSING.status == "unavailable"
    assert MISSING.reason.endswith("not installed; pip install 'dlas[litert]'")


def test_a_converter_is_needed_and_its_version_is_known(environment: str, tmp_path: Path) -> None:
    elsewhere = litert(converter=environment)
    assert elsewhere.fingerprint() == elsewhere.built_by() == {"litert-torch": "9"}
    assert litert(converter="").fingerprint() is None and litert(converter="").built_by() == {}
    assert "litert-torch" in type(elsewhere).libraries, "in the key where it is not elsewhere"
    other = tmp_path / "python"
    other.write_text("")
    other.chmod(0o755)
    for converter, said in (
        ("/no/such/python", "is no program"),
        (str(other), "has no litert-torch beside it"),
    ):
        refused = litert(converter=converter).why_not(stack(litert()))
        assert refused is not None and refused.status == "unavailable"
        assert said in refused.reason and "pip install litert-torch" in refused.reason


@pytest.mark.skipif(
    importlib.util.find_spec("litert_torch") is not None, reason="the converter is installed here"
)
def test_without_a_converter_it_is_unavailable() -> None:
    refused = litert(converter="").why_not(stack(litert()))
    assert refused is not None and "litert-torch" in refused.reason
    there = litert(converter="", python="elsewhere")
    assert there.why_not(stack(litert())) is None
    assert "litert_torch" in there.needs(), "which is asked of that interpreter"


def test_what_is_not_converted_is_told_in_its_words(
    environment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for converter in (environment, os.path.relpath(environment, tmp_path)):
        with pytest.raises(StepError, match="does not convert this network: no such module"):
            litert(converter=converter).build(FakeProgram("residual"), CPU, tmp_path)


def test_narrow_types_that_it_has_no_way_to_are_unavailable(
    environment: str, tmp_path: Path
) -> None:
    check_narrow_refused(litert(converter=environment), tmp_path)


def test_what_it_cannot_be_asked_for_is_unavailable(environment: str) -> None:
    check_refused(litert(converter=environment))


def test_plain_stacks_are_not_refused(environment: str) -> None:
    runtime = litert(converter=environment)
    for precision in (None, "float16"):
        assert runtime.why_not(stack(runtime, precision=precision)) is None
