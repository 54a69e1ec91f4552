"""The house: which folders there are, who may import whom, and that one name means one thing."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HOUSE = ROOT / "src" / "dlas"
FOLDERS = sorted(p.parent for p in HOUSE.rglob("__init__.py"))
MODULES = sorted(p for p in HOUSE.rglob("*.py") if p.name != "__init__.py")

SAME_STEMS: dict[str, tuple[tuple[str, ...], str]] = {
    "direct": (("kernels/convolution", "layers/algorithm"), "the technique, and its kernel"),
    "gemm": (("kernels/convolution", "layers/algorithm"), "the technique, and its kernel"),
    "native": (("kernels/convolution", "layers/algorithm"), "the technique, and its kernel"),
    "spatial_pack": (("kernels/convolution", "layers/algorithm"), "the technique, and its kernel"),
    "winograd": (("kernels/convolution", "layers/algorithm"), "the technique, and its kernel"),
    "best": (("kernels/graph", "layers/algorithm"), "the technique, and its kernels"),
    "errors": (("core", "kernels/ground"), "each world's own; kernels know nothing of dlas"),
    "records": (("core", "kernels/ground"), "what is kept: of a study, of tuning"),
    "cpu": (("kernels/ground", "layers/hardware"), "the processor: its features, the technique"),
    "rounds": (("analyze/estimate", "run", "tables"), "the rounds: modelled, run, shown"),
    "ceilings": (("run", "run/measure", "tables"), "the ceilings: asked for, taken, shown"),
    "latency": (("run/measure", "tables"), "the latency: taken, shown"),
    "cells": (("report", "tables"), "the cells: on the page, as a table"),
    "host": (("report", "run/measure"), "the machine: shown, described"),
    "parts": (("analyze", "report"), "the parts of the analysis: computed, shown"),
    "refusals": (
        ("layers/optimization/shared", "layers/software/shared"),
        "what the techniques of a layer refuse in common",
    ),
    "algorithm": (("layers", "testing"), "the layer, and its contract suite"),
    "dataset": (("layers", "testing"), "the layer, and its contract suite"),
    "hardware": (("layers", "testing"), "the layer, and its contract suite"),
    "model": (("layers", "testing"), "the layer, and its contract suite"),
    "optimization": (("layers", "testing"), "the layer, and its contract suite"),
    "software": (("layers", "testing"), "the layer, and its contract suite"),
    "shared": (
        tuple(
            f"layers/{x}" for x in ("algorithm", "dataset", "model", "optimization", "software")
        ),
        "what the techniques of a layer share",
    ),
    "graph": (("kernels", "kernels/graph"), "a folder, and the main file in it"),
    "plan": (("run", "run/plan"), "a folder, and the main file in it"),
    "run": ((".", "run"), "a folder, and the main file in it"),
    "explore": ((".", "cli"), "the room, and its command"),
    "sampler": (("core", "testing"), "the protocol, and its contract suite"),
    "study": ((".", "study"), "a folder, and the main file in it"),
}
"""Stems that stand in several folders, and why they are the same thing."""

FOUND_AND_TOLD = (
    "breakeven", "correlate", "coverage", "effects", "elbows", "expected", "flips", "interactions",
    "ordered", "pareto", "price", "roofline", "shares", "taken", "waterfall", "ways", "winners",
)  # fmt: skip
SAME_STEMS |= dict.fromkeys(
    FOUND_AND_TOLD, (("analyze/parts", "analyze/tell"), "a part of the analysis: computed, told")
)
SAME_STEMS["noise"] = (("analyze/estimate", "analyze/tell"), "the noise: estimated, told")

NEAR_STEMS: dict[tuple[str, str], str] = {
    ("sampler", "samplers"): "the protocol, and the folder of those that come with dlas",
    ("table", "tables"): "the tidy table: read by the analysis, made by the folder",
    ("tune", "tuner"): "a folder, and the class in it",
    ("work", "worker"): "two words: the arithmetic of a network; the program of a child",
}

SAME_CLASSES: dict[str, tuple[tuple[str, ...], str]] = {
    "Direct": (("kernels/convolution/direct", "layers/algorithm/direct"), "technique and kernel"),
    "Gemm": (("kernels/convolution/gemm", "layers/algorithm/gemm"), "technique and kernel"),
    "Native": (("kernels/convolution/native", "layers/algorithm/native"), "technique and kernel"),
    "SpatialPack": (
        ("kernels/convolution/spatial_pack", "layers/algorithm/spatial_pack"),
        "technique and kernel",
    ),
    "Winograd": (
        ("kernels/convolution/winograd", "layers/algorithm/winograd"),
        "technique and kernel",
    ),
    "Program": (
        ("core/protocols", "kernels/ground/program"),
        "both are public, each in a world of its own: what a network is lowered to, what TVM runs",
    ),
    "Factor": (
        ("analyze/estimate/table", "study/design"),
        "a factor with its levels: of a study, and of anyone's table",
    ),
    "Table": (
        ("analyze/estimate/table", "layers/dataset/parquet"),
        "a table; the data set's is private and a file's",
    ),
    "Copies": (
        ("deploy/standalone/load_pytorch", "layers/software/shared/torch_store"),
        "finds the copies of a stored network's modules: with dlas, and without",
    ),
    "Known": (("store/budget", "tables/cells"), "private: what is known of a step, of a cell"),
}

NEAR_CLASSES: dict[tuple[str, str], str] = {
    ("Answer", "Answers"): "of a tuning process; of the probes, private to their file",
    ("Call", "Calls"): "one and several",
    ("Layout", "Layouts"): "one, and those of a graph",
    ("Round", "Rounds"): "one and several",
    ("Stage", "Staging"): "two words: of a study, of a kernel's data",
    ("Technique", "Techniques"): "one and several",
    ("Tile", "Tiling"): "of registers, of memory",
}


def test_the_top_holds_folders_and_three_files() -> None:
    files = {p.name for p in HOUSE.iterdir() if p.is_file()}
    assert files == {"__init__.py", "__init__.pyi", "py.typed"}
    assert len([p for p in FOLDERS if p.parent == HOUSE]) <= 15


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: p.relative_to(HOUSE).as_posix())
def test_a_folder_says_in_one_sentence_what_it_is(folder: Path) -> None:
    said = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
    first = " ".join(said.split("\n\n")[0].split())
    assert first.endswith("."), first
    assert not re.search(r"[.!?] [A-Z]", first), first


def test_the_documents_show_the_import_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    ranks = next(c for c in contracts["contracts"] if c["name"] == "imports point down")["layers"]
    text = (ROOT / "docs" / "architecture.md").read_text()
    blocks = [b.strip("\n").splitlines() for b in re.findall(r"```\n(.*?)```", text, re.DOTALL)]
    assert ranks in blocks
    named = set(re.findall(r"\w+", " ".join(r for r in ranks)))
    assert {p.name for p in FOLDERS if p.parent == HOUSE} <= named


def _stems() -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for path in [*MODULES, *FOLDERS[1:]]:
        found[path.stem].add(path.parent.relative_to(HOUSE).as_posix())
    return found


def _classes() -> dict[str, set[str]]:
    """Return where each class is; a leading underscore does not make another name."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in MODULES:
        place = path.relative_to(HOUSE).with_suffix("").as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                found[node.name.lstrip("_")].add(place)
    return found


def _doubled(found: Mapping[str, set[str]]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(sorted(places)) for name, places in found.items() if len(places) > 1}


def _near(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Give a word and the same word with -s, -ing or -er."""
    known = {name.lower(): name for name in names}
    for low, name in known.items():
        roots = {low, low + low[-1], low.removesuffix("e")}
        near = {low + "s", low + "es", low.removesuffix("y") + "ies"}
        near |= {root + end for root in roots for end in ("ing", "er")}
        yield from ((name, known[other]) for other in near & known.keys() - {low})


@pytest.mark.parametrize(
    ("found", "excepted"),
    [(_stems(), SAME_STEMS), (_classes(), SAME_CLASSES)],
    ids=["files", "classes"],
)
def test_one_name_is_one_thing(
    found: Mapping[str, set[str]], excepted: Mapping[str, tuple[tuple[str, ...], str]]
) -> None:
    assert _doubled(found) == {name: places for name, (places, _) in excepted.items()}


@pytest.mark.parametrize(
    ("names", "excepted"),
    [(_stems(), NEAR_STEMS), (_classes(), NEAR_CLASSES)],
    ids=["files", "classes"],
)
def test_no_name_is_another_one_in_the_plural(
    names: Mapping[str, set[str]], excepted: Mapping[tuple[str, str], str]
) -> None:
    assert set(_near(names)) == excepted.keys()


def test_near_names_are_seen() -> None:
    names = ["row", "rows", "tune", "tuner", "tuning", "map", "mapping", "body", "bodies", "other"]
    assert set(_near(names)) == {
        ("row", "rows"), ("tune", "tuner"), ("tune", "tuning"), ("map", "mapping"),
        ("body", "bodies"),
    }  # fmt: skip
