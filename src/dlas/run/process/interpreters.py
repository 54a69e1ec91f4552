"""Other interpreters: what is installed where a technique says ``python: PATH``."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from dlas import __version__
from dlas.core import registry

_PROBE = """
import importlib.metadata as m, importlib.util as u, json, re, sys
need = json.loads(sys.argv[1])
named = [(d.metadata["Name"], d.version) for d in m.distributions() if d.metadata["Name"]]
seen = {}
for name, version in named:
    seen.setdefault(re.sub("[-_.]+", "-", name).lower(), version)
absent = [n for n in need if u.find_spec(n) is None]
source, broken = None, ""
try:
    from dlas.core.registry import source_version
    source = source_version("dlas")
except Exception as error:
    broken = f"{type(error).__name__}: {error}"
print(json.dumps({"versions": seen, "python": sys.version.split()[0], "absent": absent,
                  "source": source, "broken": broken}))
"""
OURS = f"dlas=={__version__}"
"""What has to be installed there, whatever else is needed."""
ANSWER_S = 60
"""Within so many seconds an interpreter answers, or is none."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """What another interpreter has; ``problem`` says why nothing can run there."""

    versions: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""
    asked: bool = True
    absent: tuple[str, ...] = ()
    """What it was asked for and does not have: :data:`OURS`, and modules."""
    foreign: str = ""
    """Why its dlas cannot do the work of this one; empty: it can."""

    def lacks(self, python: str, modules: Collection[str]) -> str:
        """Return why software that needs these modules cannot run there, empty if it can."""
        if self.problem:
            return self.problem
        wanted = [each for each in dict.fromkeys((OURS, *modules)) if each in self.absent]
        said = [f"{python} lacks {', '.join(wanted)}: install it there with pip"] if wanted else []
        return "; ".join([*said, *([self.foreign] if self.foreign else [])])


Asked = tuple[str, tuple[str, ...]]
"""What an interpreter is asked: its path, and the modules that it must have."""
Interpreters = Mapping[str, Interpreter]
"""What interpreters answered, by their paths."""
UNKNOWN = "not looked at"


def no_program(python: str) -> str:
    """Return why an interpreter cannot be started at all, empty if it can."""
    if shutil.which(python) is not None:
        return ""
    return f"python: {python!r} is no program that can be run; give a path to python3"


def not_looked_at(python: str, libraries: Iterable[str]) -> Interpreter:
    """Return an interpreter that nobody asked: its versions are not known, only if it is there."""
    versions = dict.fromkeys(("python", *libraries), UNKNOWN)
    return Interpreter(versions, no_program(python), asked=False)


def ask(questions: Iterable[Asked]) -> dict[str, Interpreter]:
    """Ask interpreters, each once for all that it must have: starts processes.

    Nothing is remembered: a relative path is another interpreter in another folder, and what is
    installed in one may have changed since.
    """
    wanted: dict[str, dict[str, None]] = {}
    for python, modules in questions:
        wanted.setdefault(python, {}).update(dict.fromkeys(modules))
    return {python: probe(python, tuple(modules)) for python, modules in wanted.items()}


def place_of(package: str, python: str = "") -> Path | None:
    """Return the folder of a package, of another interpreter where one is named; None: none.

    An interpreter that cannot be run or does not answer has none.
    """
    if not python:
        spec = find_spec(package)
        return Path(spec.origin).parent if spec and spec.origin else None
    code = "import importlib.util as u, sys; print(u.find_spec(sys.argv[1]).origin)"
    command = [python, "-P", "-c", code, package]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_S)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return Path(done.stdout.strip()).parent if done.returncode == 0 else None


def probe(python: str, modules: tuple[str, ...] = ()) -> Interpreter:
    """Ask an interpreter for its distributions, its dlas, and whether modules are there."""
    if problem := no_program(python):
        return Interpreter(problem=problem)
    # As for the processes that work there, the folder of a study is no place to import from.
    command = [python, "-P", "-c", _PROBE, json.dumps(list(modules))]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_S)
        found = json.loads(done.stdout)
        versions = {"python": found["python"], **found["versions"]}
        ours = () if versions.get("dlas") == __version__ else (OURS,)
        absent = (*ours, *found["absent"])
    except (OSError, ValueError, KeyError, TypeError, subprocess.TimeoutExpired) as error:
        problem = f"python: {python!r} does not answer as Python 3.11 or newer: {error}"
        return Interpreter(problem=problem)
    return Interpreter(versions, absent=absent, foreign=_foreign(python, versions, found))


def _foreign(python: str, versions: Mapping[str, str], found: Mapping[str, str | None]) -> str:
    """Return why an interpreter's dlas is not this one though its version is.

    Keys hold the source of this one: what another one builds must not be taken for its work.
    """
    if versions.get("dlas") != __version__:
        return ""  # which is told as what is absent
    source = found.get("source")
    if source is None:
        return (
            f"{python} has a dlas that cannot be imported ({found.get('broken') or 'no answer'})"
        )
    if source == registry.source_version("dlas"):
        return ""
    return (
        f"{python} has another dlas {__version__} than this one (its source differs): install "
        "this one there with pip"
    )
