"""What README.md and the documents show works: their code runs, their commands and studies parse.

Every fenced block is looked at. A block that needs more than it says has stand-ins here; one that
cannot be tried is listed with the reason.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any, NamedTuple

import pytest
import typer
import yaml

from dlas.cli.app import app
from dlas.core.errors import UserError
from dlas.core.stack import LAYERS
from dlas.study.source import parse
from dlas.study.study import Study

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)


class Shown(NamedTuple):
    """A fenced block of a document."""

    document: str
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.document}: {self.text.strip().splitlines()[0]}"


def _blocks() -> Iterator[Shown]:
    for path in DOCUMENTS:
        for _, language, text in FENCE.findall(path.read_text()):
            yield Shown(path.relative_to(ROOT).as_posix(), language, dedent(text))


def _of(language: str) -> list[Shown]:
    return [block for block in BLOCKS if block.language == language]


BLOCKS = list(_blocks())


# ---------------------------------------------------------------- python

QUICK = """
name: quick
layers:  # a runtime that takes no primitive by name: nothing is built, the answer is a row
  dataset: [digits]
  model: [resnet-8]
  algorithm: [winograd]
  software: [onnxruntime]
  hardware: [cpu]
"""


def _readme(folder: Path) -> dict[str, Any]:
    (folder / "study.yaml").write_text("dlas: 1" + QUICK)
    return {}


def _convolution(channels: int) -> dict[str, Any]:
    import torch

    from dlas.kernels import Conv2d, build_conv2d, compile_model

    torch.manual_seed(0)
    x = torch.randn(1, 64, 14, 14)
    model = torch.nn.Sequential(torch.nn.Conv2d(64, 4, 3))
    op = Conv2d(batch=1, in_channels=channels, height=8, width=8, out_channels=channels,
                kernel=(3, 3), padding=(1, 1, 1, 1))  # fmt: skip
    return {
        "torch": torch, "x": x, "r": x.numpy(), "model": model, "op": op,
        "weight": torch.randn(channels, channels, 3, 3).numpy(),
        "bias": torch.zeros(channels).numpy(),
        "program": torch.export.export(model.eval(), (x,)),
        "build_conv2d": build_conv2d, "compile_model": compile_model,
    }  # fmt: skip


def _int8(folder: Path) -> dict[str, Any]:
    """Return a convolution in eight bits; and, in the folder, a model in ONNX."""
    import numpy as np
    import torch

    found = _convolution(64)
    export = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3)).eval()
    torch.onnx.export(
        export, (torch.zeros(1, 3, 8, 8),), str(folder / "model.onnx"), dynamo=True, verbose=False
    )
    rng = np.random.default_rng(0)
    return found | {
        "weight": rng.integers(-127, 128, (64, 64, 3, 3)).astype(np.int8),
        "bias": np.zeros(64, np.int32),
        "x": rng.integers(0, 256, (1, 64, 8, 8)).astype(np.uint8),
        "r": rng.integers(0, 256, (1, 64, 8, 8)).astype(np.uint8),
    }


def _technique() -> dict[str, Any]:
    from typing import Annotated, ClassVar

    return {"Annotated": Annotated, "ClassVar": ClassVar} | {
        name: getattr(module, name)
        for module, names in (
            (__import__("dataclasses"), ("dataclass", "replace")),
            (__import__("pydantic"), ("Field",)),
            (__import__("dlas.core.protocols").core.protocols, ("Optimization", "Optimized")),
        )
        for name in names
    }


PYTHON = {
    "README.md: import dlas": _readme,
    "docs/analysis.md: from dlas.analyze import analyze, compare, from_study, load_table, "
    "render_text": lambda folder: (folder / "tests").symlink_to(ROOT / "tests") or {},
    "docs/kernels.md: from dlas.kernels import Conv2d, build_conv2d, compile_model, load": (
        lambda folder: _convolution(64)
    ),
    "docs/kernels.md: from dlas.kernels import Quantization, Scale, Sum": (
        lambda folder: _int8(folder)
    ),
    'docs/kernels.md: k = build_conv2d(op, weight, bias, dtype="bfloat16")': (
        lambda folder: _convolution(8)
    ),
    'docs/kernels.md: build_conv2d(op, weight, tuning={"scheduler": "template", "trials": 32})': (
        lambda folder: _convolution(8)
    ),
    "CONTRIBUTING.md: @dataclass(frozen=True, kw_only=True)": lambda folder: _technique(),
}
"""What a block finds before it begins."""

LESS = {'"trials": 32': '"trials": 1', "height=56, width=56": "height=14, width=14"}
"""What is made smaller, to be quick."""

NOT_RUN = {
    "CONTRIBUTING.md: import pytest": "its plug-in is not installed; tests/plugin_package has it",
}


def test_every_python_block_is_run_or_says_why_not() -> None:
    assert {block.place for block in _of("python")} == PYTHON.keys() | NOT_RUN.keys()


@pytest.mark.parametrize(
    "block", [b for b in _of("python") if b.place not in NOT_RUN], ids=lambda b: b.place
)
def test_python(block: Shown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    names = PYTHON[block.place](tmp_path) | {"__name__": "shown"}
    text = block.text
    for much, little in LESS.items():
        text = text.replace(much, little)
    exec(compile(text, block.place, "exec", dont_inherit=True), names)
    if block.document == "README.md":
        assert list(names["table"]["status"]) == ["unavailable"]


# ---------------------------------------------------------------- studies

WHOLE = next(
    yaml.safe_load(b.text) for b in BLOCKS if b.language == "yaml" and "dlas: 1" in b.text
)


def _completed(shown: Mapping[str, Any]) -> dict[str, Any]:
    """Return a whole study with what a block shows of one."""
    if shown.keys() <= set(LAYERS):
        return {**WHOLE, "layers": {**WHOLE["layers"], **shown}}
    return {**WHOLE, **shown}


@pytest.mark.parametrize("block", _of("yaml"), ids=lambda b: b.place)
def test_a_study(block: Shown, tmp_path: Path) -> None:
    (tmp_path / "my_net.py").write_text(
        "import torch\n\n\ndef build():\n    return torch.nn.Flatten()\n"
    )
    (tmp_path / "my_net.safetensors").touch()
    (tmp_path / "photos").mkdir()
    shown = parse(block.text, block.place).data  # `on` is a word in studies, not true
    assert isinstance(shown, Mapping)
    study = Study.from_dict(_completed(shown), tmp_path)
    assert study.stacks


def test_a_wrong_study_is_seen() -> None:
    with pytest.raises(UserError, match="winogrd"):
        Study.from_dict(_completed({"algorithm": ["winogrd"]}))


# ---------------------------------------------------------------- commands

INLINE = re.compile(r"`(dlas [a-z][^`]*)`")


def _lines() -> Iterator[tuple[str, bool]]:
    """Give each command line, and whether all of it is there."""
    for path in DOCUMENTS:
        text = path.read_text()
        for _, language, block in FENCE.findall(text):
            if not language:
                yield from ((s, True) for s in re.findall(r"^ *(dlas [a-z].*)$", block, re.M))
        prose = FENCE.sub("", text)
        yield from ((" ".join(s.split()), False) for s in INLINE.findall(prose))


def _parse(line: str, whole: bool) -> None:
    """Parse a command line as the program would; of a part only the options need to be known."""
    words = shlex.split(line, comments=True)[1:]
    group = typer.main.get_command(app)
    command = group.commands[words[0]]  # type: ignore[attr-defined]
    known = {o for p in command.params for o in (*p.opts, *p.secondary_opts) if o[:1] == "-"}
    asked = {w.partition("=")[0] for w in words[1:] if w.startswith("-")}
    assert asked <= known, f"{line}: {asked - known} are no options"
    if whole:
        command.make_context(words[0], words[1:])


@pytest.mark.parametrize(("line", "whole"), sorted(set(_lines())))
def test_a_command(line: str, whole: bool) -> None:
    _parse(line, whole)


def test_a_wrong_command_is_seen() -> None:
    for line in ("dlas fly", "dlas plan study.yaml --fast", "dlas plan", "dlas clean --top 3"):
        with pytest.raises(BaseException) as error:
            _parse(line, whole=True)
        assert not isinstance(error.value, SystemExit | KeyboardInterrupt)


def test_make_has_what_the_documents_say() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for path in DOCUMENTS:
        named = re.findall(r"(?:^|`)make ([a-z-]+)", path.read_text(), re.MULTILINE)
        assert set(named) <= targets, path


def test_tests_that_the_documents_name_are_there() -> None:
    named = re.compile(r"`((?:tests|benchmarks)/[\w/]+\.py)(?:::(\w+))?`")
    found = [each for file in DOCUMENTS for each in named.findall(file.read_text("utf-8"))]
    assert len(found) >= 10
    for path, name in found:
        text = (ROOT / path).read_text("utf-8")
        assert f"def {name}(" in text or not name, f"{path} has no {name}"


def test_every_block_is_of_a_kind_that_is_tried() -> None:
    assert {block.language for block in BLOCKS} <= {"", "python", "yaml"}
