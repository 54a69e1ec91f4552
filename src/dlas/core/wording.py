"""What a library's exception comes to, in one line of our words: who failed, at what, and why.

The raw text, with its stack, its source files and its colours, stays in the end of a step's log.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

LONGEST = 600
"""Characters of a reason: what is longer is a log."""

_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07|\[\d{1,2}(?:;\d{1,2})*m|\[0?m")
_NOISE = re.compile(
    r"^(exception from src/|(while validating .*)?check '.*' failed at|\^+$|summary:?$|"
    r"frontend api failed with|"
    r"model wasn't fully converted|-- conversion is failed for|-- \S+ with a message|"
    r"traceback \(most recent|file \".*\", line \d+|={3,}|-{3,}|#{2,}|stack trace|"
    r"\[hint: |for more information|for extended logs|if you suspect|for more debugging|"
    r"for c\+\+ stack trace|caused by:|- (modify|debug|create|open|submit) |next steps|"
    r"the following call raised|the error above occurred|\(refer to the full stack|"
    r"this is step \d|consider using )",
    re.IGNORECASE,
)
_PREFIX = re.compile(
    r"^(?:\[ONNXRuntimeError\]\s*:\s*\d+\s*:\s*\w+\s*:\s*|"
    r"(?:Exception|RuntimeError|Error|InternalError|ValueError):\s+|"
    r"Load model from .*? failed:\s*|Failed to load model with error:\s*|"
    r"This is an invalid model\.\s*|(?:Fatal |Type )?Error:\s*(?=\S)|"
    r"\[\d{2}:\d{2}:\d{2}\] \S+:\d+:\s*|/?(?:\S+/)+\S+\.(?:cc|cpp|h|hpp|cxx):\d+[^ ]*\s+)"
)
_PLACE = re.compile(r"\s*\((?:at )?(?:\S+/)*\S+\.(?:cc|cpp|h|hpp|py):\d+[^)]*\)|"
                    r" at (?:src|/\S*)/\S+:\d+:?")  # fmt: skip

_NAMES = {
    "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "torch": "PyTorch", "tvm": "TVM",
    "tvm_ffi": "TVM", "onnx": "ONNX", "onnxscript": "PyTorch's ONNX exporter", "timm": "timm",
    "torch_pruning": "Torch-Pruning", "PIL": "Pillow", "pyarrow": "PyArrow", "ncnn": "ncnn",
    "executorch": "ExecuTorch", "litert_torch": "litert-torch", "ai_edge_litert": "LiteRT",
    "ai_edge_quantizer": "ai-edge-quantizer",
    "pnnx": "pnnx", "safetensors": "safetensors", "torchvision": "torchvision", "numpy": "NumPy",
}  # fmt: skip

_KNOWN: Sequence[tuple[str, str]] = (
    (r"No conversion rule found for operations: (?P<a>.+)", "it does not know the operators {a}"),
    (r"Fatal error: (?P<a>\S+?)\(-?\d+\) is not a registered function/op",
     "it does not know the operator {a}"),
    (r"No Op registered for (?P<a>\S+) with domain_version of (?P<b>\d+)",
     "it does not know the operator {a} of operator set {b}"),
    (r"Could not find an implementation for (?P<a>\w+)\((?P<b>\d+)\) node with name "
     r"'(?P<c>[^']*)'",
     "it has no kernel for {a} (of operator set {b}) in the types asked for, at {c!r}"),
    (r"Non-zero status code returned while running (?P<a>\w+) node\.? ?"
     r"Name:'(?P<b>[^']*)' Status Message: (?P<c>.+)", "{a} {b!r} failed: {c}"),
    (r"Unsupported model IR version: (?P<a>\d+), max supported IR version: (?P<b>\d+)",
     "the file's format is version {a}, and this release reads up to {b}"),
    (r"ONNX Runtime only \*?guarantees\*? support for models stamped with official released onnx "
     r"opset versions\. Opset (?P<a>\d+) is under development and support for this is limited\."
     r".*?Current official support for domain \S+ is till opset (?P<b>\d+)",
     "the file's operator set is {a}, and this release knows up to {b}"),
    (r"Unsupported function types (?P<a>\[.+?\])", "its importer does not know the operators {a}"),
    (r"Could not guard on data-dependent expression",
     "what it computes depends on the values of its input, which an exported graph cannot hold"),
    (r"No (?:ONNX function|decompositions?|ONNX decompositions?)[^\n]*?"
     r"(?:for|registered)[^\n]*?OpOverload\(op='(?P<a>[^']+)'",
     "there is no translation to ONNX for the operator {a}"),
)  # fmt: skip
_RULES = tuple((re.compile(pattern, re.DOTALL), words) for pattern, words in _KNOWN)


def plain(text: str) -> str:
    """Return a text without the codes that colour it on a terminal."""
    return _COLOUR.sub("", text)


def said(error: BaseException) -> str:
    """Return what an exception says in one line: the line that tells, without places in sources.

    An export that failed is told by what made it fail.
    """
    text = plain(str(error))
    for pattern, words in _RULES:
        if found := pattern.search(text):
            parts = {name: _one_line(part) for name, part in found.groupdict().items()}
            return _short(words.format(**parts))
    cause = error.__cause__
    if cause is not None and cause is not error and _only_wraps(error, text):
        return said(cause)
    if isinstance(error, KeyError):
        return f"there is no {text}"
    return _short(_telling(text)) or "it says nothing more"


def sentence(error: BaseException) -> str:
    """Return one line on an exception that nobody caught: whose it is, what it is, what it says.

    ``ONNX Runtime failed: Conv 'c1' failed: ...``; what the user's own code raised names the line
    of their file.
    """
    where, who = _user_line(error), _library(error)
    kind, line = type(error).__name__, said(error)
    if where:
        by = f"{who}, called from {where}," if who else where
        return f"{by} raised {kind}: {line}"
    if who:
        return f"{who} failed: {line}" if _is_rule(error) else f"{who} raised {kind}: {line}"
    return f"this step raised {kind}: {line}"


def _is_rule(error: BaseException) -> bool:
    text = plain(str(error))
    return any(pattern.search(text) for pattern, _ in _RULES)


def _only_wraps(error: BaseException, text: str) -> bool:
    """Whether an exception only tells that another one happened."""
    return "step 1/" in text or "step 2/" in text or "step 3/" in text or not text.strip()


def _telling(text: str) -> str:
    """Return the first line that says something, without what stands before it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for line in lines:
        if not _NOISE.match(line):
            cut = _cut(line)
            if len(cut) > 3:
                return cut
    return _cut(lines[0]) if lines else ""


def _cut(line: str) -> str:
    before = None
    while before != line:
        before, line = line, _PREFIX.sub("", line)
    return _PLACE.sub("", line).strip()


def _one_line(text: str) -> str:
    return _cut(_telling(text) if "\n" in text else text.strip()).rstrip(".")


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 4].rstrip()} ..."


# ---------------------------------------------------------------- whose it is


def _frames(trace: TracebackType | None) -> Iterator[tuple[str, int, str]]:
    while trace is not None:
        code = trace.tb_frame.f_code
        yield code.co_filename, trace.tb_lineno, code.co_name
        trace = trace.tb_next


def _package(filename: str) -> str:
    """Return the top package of an installed file, ``""``: it is not installed."""
    parts = Path(filename).parts
    for folder in ("site-packages", "dist-packages"):
        if folder in parts:
            return parts[len(parts) - 1 - parts[::-1].index(folder) + 1].removesuffix(".py")
    return ""


def _is_ours(filename: str) -> bool:
    return Path(filename).is_relative_to(_HOME) or filename.startswith("<")


def _is_python(filename: str) -> bool:
    return any(filename.startswith(str(base)) for base in _STANDARD) and not _package(filename)


_HOME = Path(__file__).parents[1]
_STANDARD = {Path(re.__file__).parents[1], Path(sys.base_prefix) / "lib"}


def _user_line(error: BaseException) -> str:
    """Return the last line of a file that is nobody's package: the user's own, ``""``: none."""
    found = ""
    for filename, line, function in _frames(error.__traceback__):
        if not (_is_ours(filename) or _package(filename) or _is_python(filename)):
            place = "" if function == "<module>" else f", in {function}"
            found = f"{Path(filename).name}, line {line}{place}"
    if not found and (told := re.findall(r'File "([^"<]+)", line (\d+), in (\w+)', str(error))):
        for filename, number, function in told:
            if not (_is_ours(filename) or _package(filename) or _is_python(filename)):
                found = f"{Path(filename).name}, line {number}, in {function}"
    return found


def _library(error: BaseException) -> str:
    """Return whose exception it is, as people call it; ``""``: Python's or ours."""
    top = type(error).__module__.partition(".")[0]
    if top in _NAMES:
        return _NAMES[top]
    packages = [_package(filename) for filename, _, _ in _frames(error.__traceback__)]
    last = next((name for name in reversed(packages) if name and name != "dlas"), "")
    return _NAMES.get(last, last)
