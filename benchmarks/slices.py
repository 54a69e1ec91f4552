"""Counts over many tables, in slices: what one run has no time for, the next goes on with.

What every table gave stands in a file, by the name of what was asked and the number of the table.
Each table has a seed of its own, so that slices add up to exactly what one run would have counted.
Beside it stands a hash of the code that gave it: what other code gives is never mixed with it, and
nothing is thrown away unasked.
"""

from __future__ import annotations

import argparse
import ast
import fcntl
import hashlib
import importlib.util
import json
import math
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, TextIO

HERE = Path(__file__).resolve().parent
SAVED_EVERY, TOLD_EVERY = 10.0, 20.0
"""Seconds."""
LEFT = 3
"""The exit status where tables are left to be made."""


class Refused(Exception):
    """Counts of other code, or of a file that another run writes, are not gone on with."""


@dataclass
class Slices:
    """What tables gave, by name; kept in a file if there is one."""

    path: Path | None = None
    deadline: float = math.inf
    """Of ``time.monotonic``; no table is begun after it."""
    anew: bool = False
    """Whether counts of other code are thrown away where they are asked for."""
    found: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By name: ``sources``, ``seconds``, ``machine``, ``day`` of the last, ``tables``."""
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What else a program keeps with them."""
    only_read: bool = False
    """Whether nothing is made: what stands is told, whichever code made it."""
    left: int = 0
    """How many tables that were asked for are left to be made."""
    _lock: TextIO | None = None
    _saved: float = field(default_factory=time.monotonic)
    _told: float = field(default_factory=time.monotonic)

    @staticmethod
    def arguments(parser: argparse.ArgumentParser) -> None:
        """Add the options that every program with slices has."""
        parser.add_argument("--state", type=Path, help="keep counts here, and go on from them")
        parser.add_argument("--minutes", type=float, default=math.inf, help="stop after so many")
        parser.add_argument(
            "--anew", action="store_true", help="throw away counts that other code made"
        )

    @classmethod
    def of(cls, asked: argparse.Namespace) -> Slices:
        """Open what was asked for.

        Raises:
            Refused: another run writes the file, or it is no file of counts.
        """
        deadline = time.monotonic() + 60 * asked.minutes
        if asked.state is None:
            return cls(None, deadline, asked.anew)
        asked.state.parent.mkdir(parents=True, exist_ok=True)
        lock = asked.state.with_suffix(".lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(f"{asked.state}: another run writes it") from None
        known = json.loads(asked.state.read_text()) if asked.state.exists() else {}
        if known and "found" not in known:
            raise Refused(f"{asked.state}: holds no counts of this version; give another --state")
        slices = cls(asked.state, deadline, asked.anew, _lock=lock)
        slices.found, slices.parts = known.get("found", {}), known.get("parts", {})
        return slices

    def fill(
        self, name: str, times: int, make: Callable[[int], Any], sources: str = ""
    ) -> list[Any]:
        """Return what the first tables give, of as many as there is time for.

        Args:
            name: of what is asked.
            times: how many tables.
            make: gives what one table gives, as JSON knows it, by its number.
            sources: a hash of the code that does.

        Raises:
            Refused: other code made those that stand.
        """
        if self.only_read:
            return list(self.found.get(name, {}).get("tables", [])[:times])
        kept = self._kept(name, sources)
        tables = kept["tables"]
        try:
            while len(tables) < times and time.monotonic() < self.deadline:
                began = time.monotonic()
                tables.append(make(len(tables)))
                kept["seconds"] += time.monotonic() - began
                kept |= {"machine": machine(), "day": f"{datetime.now(UTC).date()}"}
                self._tell(name, kept, times)
                if time.monotonic() - self._saved > SAVED_EVERY:
                    self.save()
        finally:
            self.save()
        self.left += max(0, times - len(tables))
        return list(tables[:times])

    def _kept(self, name: str, sources: str) -> dict[str, Any]:
        new: dict[str, Any] = {"sources": sources, "seconds": 0.0, "tables": []}
        kept = self.found.setdefault(name, new)
        if kept["sources"] != sources and not self.anew:
            raise Refused(
                f"{self.path}: {name}: {len(kept['tables'])} tables were made by other code "
                f"({kept['sources']}, now {sources}); --anew makes them again, another --state "
                "keeps them"
            )
        if kept["sources"] != sources:
            kept = self.found[name] = new
        return kept

    def _tell(self, name: str, kept: dict[str, Any], times: int) -> None:
        if time.monotonic() - self._told > TOLD_EVERY:
            self._told = time.monotonic()
            done = len(kept["tables"])
            each = kept["seconds"] / done
            print(f"  {name}: {done} of {times}, {each:.2f} s each", file=sys.stderr, flush=True)

    def save(self) -> None:
        """Write the file, whole or not at all."""
        self._saved = time.monotonic()
        if self.path is None:
            return
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps({"found": self.found, "parts": self.parts}))
        part.replace(self.path)


def machine() -> str:
    """Return this machine in words."""
    names = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} processors"


# ---------------------------------------------------------------- the code that gives a count


@cache
def sources(*programs: str | Path) -> str:
    """Hash the code of some programs, and all of ours that they import, at any depth.

    Comments and docstrings do not count, nor what lies in a package beside what is imported. A
    file of another kind counts as it is.
    """
    spec = importlib.util.find_spec("dlas")
    assert spec is not None and spec.origin is not None
    roots = (Path(spec.origin).resolve().parents[1], HERE)
    code: dict[Path, str] = {}
    left = [Path(p).resolve() for p in programs]
    while left:
        path = left.pop()
        if path in code:
            continue
        code[path] = path.read_text()
        if path.suffix == ".py":
            tree = ast.parse(code[path])
            left += [p for name in _imported(tree) for p in _files(name, roots)]
            code[path] = _code(tree)
    told = "\n".join(sorted(f"{_place(path, roots)}\n{text}" for path, text in code.items()))
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _place(path: Path, roots: tuple[Path, ...]) -> Path:
    """Return where a file is in the clone: where that lies does not count."""
    root = next((r for r in (*roots, HERE.parent) if path.is_relative_to(r)), path.parent)
    return path.relative_to(root)


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _files(name: str, roots: tuple[Path, ...]) -> Iterator[Path]:
    for root in roots:
        path = root.joinpath(*name.split("."))
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                yield file.resolve()


def _code(tree: ast.Module) -> str:
    """Return what a file does: its tree without the texts that stand alone."""
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list):
                setattr(node, name, [each for each in block if not _is_text(each)])
    return ast.dump(tree)


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
