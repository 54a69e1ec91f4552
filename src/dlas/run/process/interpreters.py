"""Other interpreters: what is installed where a technique says ``python: PATH``."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache

from dlas import __version__

_PROBE = """
import importlib.metadata as m, importlib.util as u, json, re, sys
need = json.loads(sys.argv[1])
named = [(d.metadata["Name"], d.version) for d in m.distributions() if d.metadata["Name"]]
seen = {}
for name, version in named:
    seen.setdefault(re.sub("[-_.]+", "-", name).lower(), version)
print(json.dumps({"versions": seen, "python": sys.version.split()[0],
                  "absent": [n for n in need if u.find_spec(n) is None]}))
"""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """What another interpreter has; ``problem`` says why it cannot be used."""

    versions: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""
    asked: bool = True


Asked = tuple[str, tuple[str, ...]]
"""What an interpreter is asked: its path, and the modules that it must have."""
Interpreters = Mapping[Asked, Interpreter]
"""What interpreters answered."""
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


def ask(questions: Iterable[Asked]) -> dict[Asked, Interpreter]:
    """Ask interpreters, each once: starts processes."""
    return {each: probe(*each) for each in questions}


@cache
def probe(python: str, requires: tuple[str, ...]) -> Interpreter:
    """Ask an interpreter for its distributions, and whether dlas and ``requires`` are there."""
    if problem := no_program(python):
        return Interpreter(problem=problem)
    command = [python, "-c", _PROBE, json.dumps(list(requires))]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        found = json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired, json.JSONDecodeError) as error:
        return Interpreter(problem=f"python: {python!r} does not answer as Python: {error}")
    absent = [*found["absent"]]
    versions = {"python": found["python"], **found["versions"]}
    if versions.get("dlas") != __version__:
        absent.insert(0, f"dlas=={__version__}")
    if absent:
        wanted = ", ".join(absent)
        return Interpreter(problem=f"{python} lacks {wanted}: install it there with pip")
    return Interpreter(versions=versions)
