"""Real texts of libraries, and the line that a cell's reason makes of each."""

import pytest

from dlas.core.wording import plain, said, sentence

OPENVINO = """Exception from src/inference/src/cpp/core.cpp:84:
Check 'false' failed at src/frontends/common_translators/src/unconverted_ops_report.cpp:151:
FrontEnd API failed with OpConversionFailure:
Model wasn't fully converted.
Summary:
-- No conversion rule found for operations: com.microsoft.QGemm, com.microsoft.QLinearAdd"""

RANK = """Exception from src/inference/src/cpp/core.cpp:84:
Check 'false' failed at src/frontends/common_translators/src/unconverted_ops_report.cpp:151:
FrontEnd API failed with OpConversionFailure:
Model wasn't fully converted. Failed operations detailed log:
-- Conv-13 with a message:
While validating ONNX node '<Node(Conv): c1>': Check 'rank.is_static()' failed at src/a.cpp:38:
FrontEnd API failed with GeneralFailure:
The input data tensor's rank has to be known (static)

Summary:
-- Conversion is failed for: Conv-13"""

EXPORT = """Failed to export the model with torch.export. \x1b[96mThis is step 1/3\x1b[0m of exporting the model to ONNX. Next steps:
- Modify the model code for `torch.export.export` to succeed. Refer to https://pytorch.org for more.
- Debug `torch.export.export` and submit a PR to PyTorch."""  # noqa: E501

GUARD = """Could not guard on data-dependent expression Eq(u0, 1) (unhinted: Eq(u0, 1)).

consider using data-dependent friendly APIs such as guard_or_false
The following call raised this error:
  File "/home/me/nets.py", line 322, in forward
    if x.mean() > 0.1: x = x - x.mean()"""


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (OPENVINO, "it does not know the operators com.microsoft.QGemm, com.microsoft.QLinearAdd"),
        (RANK, "The input data tensor's rank has to be known (static)"),
        (
            "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Conv "
            "node. Name:'conv_c1' Status Message: Input channels C is not kernel channels",
            "Conv 'conv_c1' failed: Input channels C is not kernel channels",
        ),
        (
            "[ONNXRuntimeError] : 1 : FAIL : Load model from /tmp/x y/model.onnx failed:Fatal "
            "error: my:Swish(-1) is not a registered function/op",
            "it does not know the operator my:Swish",
        ),
        (
            "[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : Could not find an implementation for "
            "Conv(11) node with name 'c'",
            "it has no kernel for Conv (of operator set 11) in the types asked for, at 'c'",
        ),
        (
            "[ONNXRuntimeError] : 10 : INVALID_GRAPH : Load model from /s/model.onnx failed:This "
            "is an invalid model. Type Error: Type 'tensor(float16)' of input is invalid.",
            "Type 'tensor(float16)' of input is invalid.",
        ),
        (GUARD, "what it computes depends on the values of its input, which an exported graph "
                "cannot hold"),
        ("\x1b[31mred\x1b[0m words", "red words"),
        ("", "it says nothing more"),
        ("a\n\nb", "a"),
    ],
)  # fmt: skip
def test_the_line_that_tells(text: str, line: str) -> None:
    assert said(RuntimeError(text)) == line


def test_an_export_is_told_by_its_cause() -> None:
    try:
        try:
            raise ValueError(GUARD)
        except ValueError as cause:
            raise RuntimeError(EXPORT) from cause
    except RuntimeError as error:
        assert said(error).startswith("what it computes depends on the values")
        line = sentence(error)
    assert "step 1/3" not in line and "\x1b" not in line and "\n" not in line


def test_the_users_own_line_is_named() -> None:
    assert sentence(RuntimeError(GUARD)).startswith("nets.py, line 322, in forward")
    try:
        exec(compile("def forward():\n    return [][1]\nforward()", "/home/me/net.py", "exec"), {})
    except IndexError as error:
        expected = "net.py, line 2, in forward raised IndexError: list index out of range"
        assert sentence(error) == expected


def test_a_library_is_named_before_what_it_says() -> None:
    onnx = pytest.importorskip("onnx")
    error = onnx.checker.ValidationError("Nodes must be sorted\n\n==> Context: Bad node spec")
    assert sentence(error) == "ONNX raised ValidationError: Nodes must be sorted"


def test_colours_go_and_brackets_stay() -> None:
    assert (
        plain("\x1b[0;93m[W:onnxruntime:, a.cc:3] x[1]\x1b[m") == "[W:onnxruntime:, a.cc:3] x[1]"
    )


def test_a_reason_is_no_log() -> None:
    assert len(said(RuntimeError("word " * 1000))) <= 600
