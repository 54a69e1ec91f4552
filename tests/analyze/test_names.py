"""The analysis knows no technique, model or level: it works on any table."""

import ast
import csv
import tomllib
from pathlib import Path

import dlas.analyze

ROOT = Path(__file__).parents[2]
SOURCES = sorted(Path(dlas.analyze.__file__).parent.rglob("*.py"))
LAYERS = ("dataset", "model", "optimization", "algorithm", "software", "hardware")


WORDS = {"best", "map"}
"""Names of techniques that are words of an analysis, too: the best row, mean average precision."""


def technique_names():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    points = project["entry-points"]
    return {name for layer in LAYERS for name in points[f"dlas.{layer}"]} - WORDS


def level_names():
    with (ROOT / "tests/data/iiswc-2018.csv").open() as file:
        return {r[c] for r in csv.DictReader(file) for c in ("model", "optimization", "device")}


def constants(tree):
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs
    }


def test_no_name_of_a_technique_a_model_or_a_level():
    names = technique_names() | level_names()
    assert len(names) > 20
    # A plain word such as "none" is no name in prose; a compound one is, wherever it stands.
    compound = {n for n in names if "-" in n or any(c.isdigit() for c in n)}
    assert len(compound) > 8
    for path in SOURCES:
        text = path.read_text()
        used = {n for n in compound if n.lower() in text.lower()}
        assert not used, f"{path.name}: {used}"
        quoted = constants(ast.parse(text)) & names
        assert not quoted, f"{path.name}: {quoted}"


def test_files_and_functions_are_small():
    for path in SOURCES:
        text = path.read_text()
        assert len(text.splitlines()) <= 400, path.name
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                body = node.end_lineno - node.body[0].lineno + 1
                if isinstance(node.body[0], ast.Expr):
                    body = node.end_lineno - node.body[0].end_lineno
                assert body <= 40, f"{path.name}: {node.name} has {body} lines"
