"""What callers get wrong is refused at once, and the message says what to write instead."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from dlas.kernels import Conv2d, UnsupportedError

FIELDS: dict[str, Any] = {
    "batch": 1, "in_channels": 8, "height": 6, "width": 7, "out_channels": 8, "kernel": (3, 3)
}  # fmt: skip
SIDES = r"padding must be \(top, left, bottom, right\), 4 whole numbers, got "
PAIR = r" must be \(rows, columns\), 2 whole numbers, got "


# ---------------------------------------------------------------- shapes


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"padding": (1, 2)}, SIDES + r"\(1, 2\); write \(1, 2, 1, 2\)$"),
        ({"padding": 1}, SIDES + r"1; write \(1, 1, 1, 1\)$"),
        ({"padding": "same"}, SIDES + "'same'$"),
        ({"padding": "1111"}, SIDES + "'1111'$"),
        ({"padding": None}, SIDES + "None$"),
        ({"padding": (0, -1, 0, 0)}, r"padding must be >= 0, got \(0, -1, 0, 0\)$"),
        ({"kernel": 3}, "kernel" + PAIR + r"3; write \(3, 3\)$"),
        ({"kernel": (3.0, 3.0)}, "kernel" + PAIR + r"\(3\.0, 3\.0\); write \(3, 3\)$"),
        ({"kernel": (3.5, float("inf"))}, "kernel" + PAIR + r"\(3\.5, inf\)$"),
        ({"kernel": (3, 3, 3)}, "kernel" + PAIR + r"\(3, 3, 3\)$"),
        ({"kernel": ()}, "kernel" + PAIR + r"\(\)$"),
        ({"kernel": {3, 5}}, "kernel" + PAIR),
        ({"kernel": (True, 3)}, "kernel" + PAIR),
        ({"stride": 2}, "stride" + PAIR + r"2; write \(2, 2\)$"),
        ({"stride": (0, 1)}, r"stride must be >= 1, got \(0, 1\)$"),
        ({"dilation": ("1", "1")}, "dilation" + PAIR),
        ({"batch": 0}, "batch must be a whole number >= 1, got 0$"),
        ({"height": 6.0}, r"height must be a whole number >= 1, got 6\.0$"),
        ({"groups": "2"}, "groups must be a whole number >= 1, got '2'$"),
        ({"out_channels": True}, "out_channels must be a whole number >= 1, got True$"),
    ],
)
def test_a_shape_of_another_form_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UnsupportedError, match="^" + said):
        Conv2d(**(FIELDS | change))


def test_lists_and_numbers_of_other_types_become_what_the_shape_declares() -> None:
    plain = Conv2d(1, 8, 6, 7, 8, (3, 3), padding=(1, 1, 1, 1))
    same = Conv2d(
        np.int64(1), 8, 6, 7, np.int32(8), [3, np.int64(3)],  # type: ignore[arg-type]
        padding=[1] * 4,  # type: ignore[arg-type]
    )  # fmt: skip
    assert same == plain and hash(same) == hash(plain) and repr(same) == repr(plain)
    numbers = [same.batch, same.out_channels, *same.kernel, *same.padding]
    assert {type(n) for n in numbers} == {int}


# ---------------------------------------------------------------- tuning


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("template", r"must be None or \{'scheduler'.*, got 'template'"),
        (32, "must be None or .*, got 32"),
        ([("scheduler", "template"), ("trials", 3)], "must be None or"),
        ({"scheduler": "template", "trails": 3}, "key 'trails'; did you mean 'trials'"),
        ({"scheduler": "template", "trials": 3, 5: 1}, "unknown key 5$"),
        ({"trials": 3}, "'scheduler' is missing in {'trials': 3}"),
        ({"scheduler": "templates", "trials": 3}, "'templates'; did you mean 'template'"),
        ({"scheduler": ["template"], "trials": 3}, "scheduler must be one of"),
        (
            {"scheduler": "template", "trials": True},
            "trials must be a whole number >= 1, got True",
        ),
        ({"scheduler": "template", "trials": 3.0}, r"trials must be a whole .*, got 3\.0"),
        ({"scheduler": "template", "trials": "8"}, "trials must be a whole .*, got '8'"),
        ({"scheduler": "template", "trials": 3, "seed": "a"}, "seed must be a whole .*, got 'a'"),
        ({"scheduler": "template", "trials": 3, "seed": None}, "seed must be a whole number"),
        ({"scheduler": "template", "trials": 3, "records": 5}, "must be a folder or None, got 5"),
    ],
)
def test_tuning_of_another_form_is_refused(wrong: Any, said: str) -> None:
    pytest.importorskip("tvm")
    from dlas.kernels.tune.tuner import parse

    with pytest.raises(UnsupportedError, match=said):
        parse(wrong)


def test_tuning_takes_paths_and_numbers_of_numpy(tmp_path: Any) -> None:
    pytest.importorskip("tvm")
    from dlas.kernels.tune.tuner import Tuning, parse

    asked = {"scheduler": "template", "trials": np.int64(8), "records": tmp_path}
    assert parse(asked) == Tuning("template", 8, 0, str(tmp_path))
    assert parse(None) is None


# ---------------------------------------------------------------- the choice of algorithms


@pytest.mark.parametrize(
    ("algorithm", "said"),
    [
        (None, "algorithm must be a primitive's name.*got None"),
        (["gemm"], r"algorithm must be a primitive's name.*got \['gemm'\]"),
        ({1: "gemm"}, "operators' names and '\\*', which are texts; got 1"),
        ({"c": 5}, r"algorithm\['c'\] must be a primitive's name.*got 5"),
        ({"c": None}, r"algorithm\['c'\] must be .*got None"),
        ({"c": {"primitve": "gemm"}}, r"\['c'\] has the unknown key 'primitve'.*mean 'primitive'"),
        ({"*": {"primitive": "gemm", "weigths": "csr"}}, "'weigths'.*did you mean 'weights'"),
        ({"c": {"primitive": ["gemm"]}}, r"\['c'\]: primitive must be a name, got \['gemm'\]"),
        ({"c": {"weights": "coo"}}, "weights must be one of .*got 'coo'"),
        ({"c": {"threshold": 40}}, r"\['c'\]: threshold must be .* from 0 to 1, got 40 .*0\.4\)"),
        ({"c": {"threshold": True}}, "from 0 to 1, got True"),
        ({"c": {"threshold": "0.4"}}, "from 0 to 1, got '0.4'"),
        ({"c": {"threshold": float("nan")}}, "from 0 to 1, got nan"),
    ],
)
def test_an_algorithm_of_another_form_is_refused_before_the_import(
    algorithm: Any, said: str
) -> None:
    pytest.importorskip("tvm")
    from dlas.kernels import compile_model

    with pytest.raises(UnsupportedError, match=said):
        compile_model(None, algorithm)


@pytest.mark.parametrize("threshold", [40, 1.01, -1, float("inf"), True, "0.4", None])
def test_a_threshold_that_is_no_share_is_refused(threshold: Any) -> None:
    pytest.importorskip("tvm")
    from dlas.kernels import compile_model

    with pytest.raises(UnsupportedError, match="csr_threshold must be a share of zeros from 0 to"):
        compile_model(None, csr_threshold=threshold)


def test_shares_of_zeros_of_any_real_type_are_taken() -> None:
    pytest.importorskip("tvm")
    from dlas.kernels.graph.choose import Sparsity, read

    given: list[Any] = [0, 1, 0.25, np.float32(0.5)]
    for share in given:
        wanted = {"*": "direct", "c": {"weights": "csr", "threshold": share}}
        found = read(wanted, Sparsity())  # type: ignore[arg-type]
        assert found == {"*": ("direct", Sparsity()), "c": ("best", Sparsity("csr", share))}


def test_a_layer_that_is_not_there_is_told_with_near_names() -> None:
    pytest.importorskip("tvm")
    from dlas.kernels.graph.choose import Sparsity, choose
    from dlas.kernels.graph.graph import Graph, Node

    graph = Graph([], [], [Node("layer1.conv1", "linear", [], [])], {}, {})
    with pytest.raises(UnsupportedError, match=r"is called layer1\.conv;.*mean 'layer1\.conv1'"):
        choose(graph, {"layer1.conv": "gemm"}, Sparsity())


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, "2", None])
def test_a_number_of_threads_must_be_one(threads: Any) -> None:
    pytest.importorskip("tvm")
    from dlas.kernels import compile_model

    with pytest.raises(UnsupportedError, match="threads must be a whole number >= 1, got"):
        compile_model(None, threads=threads)


# ---------------------------------------------------------------- programs


def test_what_is_no_exported_program_is_refused() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("tvm")
    from dlas.kernels import compile_model

    layer = torch.nn.Conv2d(3, 4, 3).eval()
    graph = torch.export.export(layer, (torch.zeros(1, 3, 6, 6),)).module()
    for wrong in (layer, graph, "model.pt2", None):
        with pytest.raises(
            UnsupportedError,
            match=rf"got {type(wrong).__qualname__}: "
            r"pass torch\.export\.export\(model\.eval\(\), inputs\)",
        ):
            compile_model(wrong)


def test_shapes_and_their_errors_need_neither_torch_nor_tvm() -> None:
    code = (
        "import sys\nfrom dlas.kernels import Conv2d, UnsupportedError\n"
        "try:\n    Conv2d(1, 8, 6, 6, 8, 3)\nexcept UnsupportedError:\n"
        "    print([m for m in ('torch', 'tvm') if m in sys.modules])\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
