"""The contract suites: every technique keeps its promises, and each check can fail."""

from __future__ import annotations

import functools
import importlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import SkipTest
from unittest.mock import patch

import pytest

from broken_promise import BROKEN
from dlas.core import registry
from dlas.testing import (
    Check,
    Problem,
    SmallImages,
    SmallNet,
    contract,
    many_stacks,
    registered,
    stack_of,
)
from dlas.testing.by_layer import CHECKS
from sound_techniques import Here, Sound, Zeroing

pytest.importorskip("torch")
for _module in ("broken_datasets", "broken_networks", "broken_runtimes", "broken_heavy"):
    importlib.import_module(_module)
PLUGIN = Path(__file__).parents[1] / "plugin_package"
SHORT = {"images": 16, "batch_size": 8}

# Loading torch takes its time, compiling more: other types are looked at in tests/layers.
SLOW = dict.fromkeys(("torch-compile", "pytorch"), ("float16", "bfloat16"))
PLAIN = Problem(model=SmallNet(kind="plain"))
PLAIN_IF = {layer: PLAIN if layer == "software" else None for layer in CHECKS}

CONVERTER = os.environ.get("DLAS_TEST_LITERT_CONVERTER", "")
"""The Python of an environment with litert-torch, without which litert refuses every stack."""
UNCONVERTED = pytest.mark.skipif(
    not CONVERTER and find_spec("litert_torch") is None, reason="litert-torch is not installed"
)

TECHNIQUES: list[tuple[str, str, dict[str, Any]]] = [
    ("dataset", "small-images", {"channels": 3, "batch": 2}),
    ("dataset", "digits", {"size": 12}),
    ("dataset", "fashion-mnist", {}),
    ("model", "small-net", {}),
    ("model", "resnet-8", {}),
    ("model", "mobilenet-v2", {"width": 0.35}),
    ("model", "vit-tiny", {}),
    ("model", "timm", {"name": "mobilenetv3_small_050"}),
    ("model", "cifar-form", {"name": "mobilenet-v2"}),
    ("optimization", "none", {}),
    ("optimization", "weight-pruning", {"sparsity": 0.8, **SHORT}),
    ("optimization", "iterative-pruning", {"sparsity": 0.8, "steps": [0.5, 0.8], **SHORT}),
    ("optimization", "channel-pruning", {"ratio": 0.5, **SHORT}),
    ("optimization", "float16", {}),
    ("optimization", "bfloat16", {}),
    ("optimization", "int8", {"images": 16}),
    ("optimization", "int8", {"images": 16, "route": "own"}),
    ("optimization", "sample-noise-pruning", {"sparsity": 0.5}),
    ("optimization", "zeroing", {}),
    ("algorithm", "native", {}),
    ("algorithm", "direct", {}),
    ("algorithm", "gemm", {"weights": "csr"}),
    ("algorithm", "spatial-pack", {}),
    ("algorithm", "winograd", {}),
    ("algorithm", "best", {}),
    ("algorithm", "map", {"*": "gemm", "conv1": {"primitive": "spatial-pack"}}),
    ("software", "executorch", {}),
    ("software", "litert", {"converter": CONVERTER}),
    ("software", "ncnn", {}),
    ("software", "onnxruntime", {}),
    ("software", "openvino", {}),
    ("software", "pytorch", {}),
    ("software", "torch-compile", {}),
    ("software", "tvm", {}),
    ("software", "faulty", {}),
    ("software", "sound", {}),
    ("hardware", "cpu", {}),
    ("hardware", "cuda", {}),
    ("hardware", "here", {}),
]


@pytest.fixture(scope="module", autouse=True)
def plugin() -> Iterator[None]:
    """The sample plug-in, installed for this process and its children."""
    sys.path.insert(0, str(PLUGIN))
    visible = importlib.import_module("visible")
    with tempfile.TemporaryDirectory() as folder:
        sys.path.insert(0, str(visible.write(Path(folder))))
        registry.entries.installed.cache_clear()
        yield
        sys.path.remove(folder)
    sys.path.remove(str(PLUGIN))
    registry.entries.installed.cache_clear()


def every_check() -> Iterator[Any]:
    for layer, name, params in TECHNIQUES:
        on = PLAIN if name in ("torch-compile", "tvm", "faulty", "sound") else None
        for check in contract(layer, name, on=on, **params):
            if not any(word in check.name for word in SLOW.get(name, ())):
                marks = [pytest.mark.slow] if name == "torch-compile" else []
                refusing = name == "litert" and check.name == "it-refuses-not-every-stack"
                marks += [UNCONVERTED] if refusing else []
                route = f"-{params['route']}" if "route" in params else ""
                yield pytest.param(check, id=f"{name}{route}-{check}", marks=marks)


@pytest.mark.parametrize("check", list(every_check()))
def test_it_keeps_its_contract(check: Check, exported_once: dict[bytes, Any]) -> None:
    if check.name == "same-parameters-give-the-same-result" and "int8" in check.technique:
        exported_once.clear()  # int8 exports the network itself: here it has to do so twice
    with registered(SmallImages, SmallNet, Zeroing, Sound, Here):
        check()


# ---------------------------------------------------------------- each check can fail


@pytest.mark.parametrize("cls,params,caught", BROKEN, ids=lambda v: getattr(v, "__name__", ""))
def test_a_broken_promise_is_caught(
    cls: Any, params: dict[str, Any], caught: tuple[str, ...]
) -> None:
    checks = {c.name: c for c in contract(cls.layer, cls.name, on=PLAIN_IF[cls.layer], **params)}
    assert set(caught) <= set(checks)
    with registered(cls):
        for name in caught:
            with pytest.raises(
                AssertionError, match=rf"{cls.layer} {cls.name!r}|failed|with"
            ) as error:
                checks[name]()
            assert len(str(error.value).split()) > 4, "a sentence"


def test_a_kernel_that_computes_wrongly_is_caught() -> None:
    pytest.importorskip("tvm_ffi")
    import numpy as np

    def zeros(operator: Any, weight: Any, **_: Any) -> Any:
        return lambda x: np.zeros(operator.out_shape, np.float32)

    checks = {c.name: c for c in contract("algorithm", "direct")}
    with (
        patch("dlas.kernels.build_conv2d", zeros),
        pytest.raises(AssertionError, match="the error is"),
    ):
        checks["what-it-names-computes-the-convolution"]()


@pytest.mark.parametrize(
    ("fault", "at", "said"),
    [("half-result", "build", "build failed: ended without a result"),
     ("segfault", "load", "inferring with 1 threads failed: killed by signal SIGSEGV"),
     ("exception", "infer", "infer: RuntimeError: planted exception")],
)  # fmt: skip
def test_a_runtime_that_dies_is_a_sentence(fault: str, at: str, said: str) -> None:
    checks = {c.name: c for c in contract("software", "faulty", on=PLAIN, fault=fault, at=at)}
    with pytest.raises(AssertionError, match=said):
        checks["the-artefact-stands-alone"]()


def test_each_check_is_seen_to_fail() -> None:
    seen = {name for _, _, caught in BROKEN for name in caught}
    seen.add("what-it-names-computes-the-convolution")
    # The checks of the precisions are one function.
    seen |= {"what-ran-in-bfloat16-was-asked-for", "outputs-are-right-in-bfloat16"}
    for layer in CHECKS:
        assert {c.name for c in contract(layer, "any")} - seen == set()


def test_a_technique_that_nobody_declares_is_not_found() -> None:
    first = contract("model", "no-such-model")[0]
    with pytest.raises(AssertionError, match="no model technique is called 'no-such-model'"):
        first()


# ---------------------------------------------------------------- how checks behave


def test_listing_loads_nothing_and_needs_no_pytest() -> None:
    code = (
        "import sys; sys.modules['pytest'] = None; from dlas.testing import contract;"
        "checks = contract('software', 'tvm'); assert len({str(c) for c in checks}) > 15;"
        "print(sorted({'torch', 'tvm', 'onnx', 'onnxruntime', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_there_are_six_layers() -> None:
    with pytest.raises(ValueError, match="'compiler'; the layers are dataset, model"):
        contract("compiler", "tvm")


def test_names_are_distinct_and_each_check_says_what_is_promised() -> None:
    for layer in CHECKS:
        checks = contract(layer, "any")
        assert len({str(c) for c in checks}) == len(checks)
        assert all(c.promise.endswith((".", "?")) and c.technique for c in checks)


def test_what_is_costly_is_made_once_and_its_folders_go() -> None:
    applied: list[Path] = []

    plain = Zeroing.apply

    @functools.wraps(plain)
    def counted(self: Any, network: Any, data: Any, folder: Path) -> Any:
        applied.append(folder)
        return plain(self, network, data, folder)

    with registered(Zeroing), patch.object(Zeroing, "apply", counted):
        for check in contract("optimization", "zeroing"):
            check()
    assert len(applied) == 2, "once for all, once more to see that it gives the same"
    assert not any(folder.parent.exists() for folder in applied)


def test_what_cannot_be_told_here_is_skipped_with_its_reason() -> None:
    checks = {c.name: c for c in contract("optimization", "zeroing")}
    with (
        registered(Zeroing),
        patch.object(Zeroing, "requires", ("no_such_library",)),
        pytest.raises(SkipTest, match="zeroing needs no_such_library: not installed"),
    ):
        checks["the-given-network-is-not-changed"]()


def test_registered_techniques_come_and_go() -> None:
    with registered(SmallNet):
        assert registry.find("model", "small-net") is SmallNet
        assert "resnet-8" in registry.names("model")
        with registered(Here, only=True):
            assert registry.names("model") == ()
            assert registry.names("hardware") == ("here",)
    assert "small-net" not in registry.names("model")


def test_stacks_ask_every_capability() -> None:
    stacks = list(many_stacks(Sound()))
    assert {s.precision for s in stacks} == {"float32", "float16", "bfloat16", "int8"}
    assert {s.sparse for s in stacks} == {True, False}
    assert {s.model.form for s in stacks} == {"torch", "onnx"}
    assert {s.hardware.device for s in stacks} == {"cpu", "cuda"}
    assert {s.algorithm.chooses for s in stacks} == {True, False}
    assert all(isinstance(s.software, Sound) for s in stacks)
    one = stack_of(SmallNet(kind="depthwise"), hardware=Here())
    assert one.model == SmallNet(kind="depthwise") and one.hardware == Here()
