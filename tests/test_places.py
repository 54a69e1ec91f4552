"""Modules, functions and files that are named in text are there: a move must take texts along."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HOUSE = ROOT / "src" / "dlas"
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        ROOT / "Makefile",
        ROOT / "pyproject.toml",
    ]
)
DOTTED = re.compile(r"(?<![\w./~-])dlas(?:\.\w+)+(?::[\w.]+)?")
NO_MODULES = {f"dlas.{layer}" for layer in (
    "dataset", "model", "optimization", "algorithm", "software", "hardware", "export",
)}  # fmt: skip
"""The groups of entry points."""


def _strings(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _named() -> dict[str, list[str]]:
    """Return what is named, and the files that name it."""
    found: dict[str, list[str]] = {}
    for path in sorted(HOUSE.rglob("*.py")):
        for text in _strings(path):
            for name in DOTTED.findall(text):
                found.setdefault(name, []).append(path.relative_to(ROOT).as_posix())
    for path in DOCUMENTS:
        for name in DOTTED.findall(path.read_text()):
            found.setdefault(name, []).append(path.relative_to(ROOT).as_posix())
    return {name: sorted(set(files)) for name, files in found.items() if name not in NO_MODULES}


def _resolve(name: str) -> None:
    module, _, rest = name.partition(":")
    parts = module.split(".")
    end = len(parts)
    while end > 1 and not _found(".".join(parts[:end])):
        end -= 1
    attributes = [*parts[end:], *(rest.split(".") if rest else [])]
    here = importlib.import_module(".".join(parts[:end])) if attributes else None
    for attribute in attributes:
        here = getattr(here, attribute)


def _found(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


NAMED = _named()


@pytest.mark.parametrize("name", sorted(NAMED))
def test_a_name_in_a_text_is_there(name: str) -> None:
    try:
        _resolve(name)
    except AttributeError as error:
        pytest.fail(f"{', '.join(NAMED[name])} name {name}: {error}")


def test_names_of_every_kind_are_looked_at() -> None:
    assert {
        "dlas.run.steps.build:run",
        "dlas.run.measure.ceilings",
        "dlas.networks.export",
        "dlas.layers.software.shared.torch_runtime",
        "dlas.kernels.tune.trial",
        "dlas.run.process.worker",
        "dlas.layers.model.resnet8:ResNet8",
        "dlas.cli.app:main",
        "dlas.testing",
    } <= NAMED.keys()
    with pytest.raises(AttributeError):
        _resolve("dlas.run.steps.nothing:run")


def test_the_import_contracts_name_modules() -> None:
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    for contract in told["contracts"]:
        for module in (
            *contract.get("containers", ()),
            *contract.get("source_modules", ()),
            *contract.get("forbidden_modules", ()),
        ):
            assert _found(module), module


PLACE = re.compile(r"`((?:[\w.-]+/)*[\w-]+(?:/|\.(?:py|md|yaml|json|csv|toml)))`")


def _files_named() -> Iterator[tuple[str, str]]:
    for path in DOCUMENTS:
        if path.suffix == ".md" and path.name != "CHANGELOG.md":
            for place in PLACE.findall(path.read_text()):
                if "/" in place:
                    yield path.relative_to(ROOT).as_posix(), place


MADE = {"OUT/study.yaml": "made by a run", "OUT/claims/": "made by a run with claims"}
"""Files in texts that no commit holds."""


@pytest.mark.parametrize(("document", "place"), sorted(set(_files_named())))
def test_a_file_in_a_document_is_there(document: str, place: str) -> None:
    bases = (ROOT, HOUSE.parent, HOUSE, (ROOT / document).parent)
    assert place in MADE or any((base / place).exists() for base in bases)


def test_what_is_excepted_is_named() -> None:
    assert MADE.keys() <= {place for _, place in _files_named()}
