"""A torch module in a folder, loaded again without running anything a pickle could name.

The module is written by ``torch.save`` and read by PyTorch's restricted unpickler
(``weights_only=True``), which admits the classes of the module, each of which must be a subclass
of ``torch.nn.Module``, and a few functions of PyTorch and timm. Modules of Python code that are
not installed packages (a user's own network) are copied beside it.

A module that cannot be stored so, for it holds a lambda or a class made inside a function, is
stored as the graph that ``torch.export`` makes of it.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import pickle
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from enum import Enum
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from dlas.core.errors import StepError
from dlas.core.keys import file_hash
from dlas.core.wording import said

MODULE, GRAPH, INDEX, SOURCES = "module.pt", "graph.pt2", "module.json", "sources"
_FUNCTIONS = ("torch.nn.functional.", "torch._C._nn.", "timm.layers.")
_VALUES = ("functools.partial", "collections.OrderedDict", "torch.Size")


class _Pickler(pickle.Pickler):
    """Stores an enumeration's member by its value.

    Python 3.11.0 to 3.11.3 name ``getattr`` for it, which no stored network may use.
    """

    def reducer_override(self, value: Any) -> Any:
        """Return how a member is made again; everything else is stored as always."""
        return (type(value), (value.value,)) if isinstance(value, Enum) else NotImplemented


_PICKLE = SimpleNamespace(Pickler=_Pickler, __name__="pickle")
"""What ``torch.save`` takes for the module ``pickle``."""


def save_module(module: Any, example: Any, folder: Path) -> str:
    """Write a module in eval mode; return ``module``, or ``graph: REASON`` for its exported graph.

    ``example`` is an input of the module, in its type and on its device.

    Raises:
        StepError: the module can be stored neither way.
    """
    import torch

    try:
        torch.save(module, folder / MODULE, pickle_module=_PICKLE)
        names = torch.serialization.get_unsafe_globals_in_checkpoint(folder / MODULE)
        sources = _copy_sources(module, folder / SOURCES)
        index = {"form": "module", "globals": sorted(names), "sources": sources}
        (folder / INDEX).write_text(json.dumps(index, indent=1), encoding="utf-8")
        load_module(folder)
    except (pickle.PicklingError, AttributeError, TypeError, StepError) as error:
        (folder / MODULE).unlink(missing_ok=True)
        reason = str(error).splitlines()[0][:200]
        _save_graph(module, example, folder, reason)
        return f"graph: {reason}"
    return "module"


def _save_graph(module: Any, example: Any, folder: Path, reason: str) -> None:
    import torch

    try:
        with torch.no_grad():
            program = torch.export.export(module, (example,))
        program._example_inputs = None
        torch.export.save(program, folder / GRAPH)
    except Exception as error:  # whatever the tracer meets in the user's code
        raise StepError(
            f"the network can neither be stored as a module ({reason}) nor exported: {said(error)}"
        ) from error
    index = {"form": "graph", "reason": reason}
    (folder / INDEX).write_text(json.dumps(index, indent=1), encoding="utf-8")


def load_module(folder: Path) -> tuple[Any, str]:
    """Return the module of a folder and why it is only its graph (empty: it is the module).

    Raises:
        StepError: the file names something that no stored network needs.
    """
    import torch

    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    if index["form"] == "graph":
        return torch.export.load(folder / GRAPH).module(), index["reason"]
    _serve_copies(index["sources"], folder / SOURCES)
    allowed = [_admit(name) for name in index["globals"]]
    try:
        with torch.serialization.safe_globals(allowed):
            return torch.load(folder / MODULE, map_location="cpu", weights_only=True), ""
    except pickle.UnpicklingError as error:
        raise StepError(f"the stored network is refused: {str(error)[:400]}") from error


def _admit(name: str) -> Any:
    """Return the class or function of a dotted name if a stored network may use it."""
    import torch

    owner, _, leaf = name.rpartition(".")
    try:
        found: Any = getattr(importlib.import_module(owner), leaf)
    except (ImportError, AttributeError) as error:
        raise StepError(f"the stored network needs {name}, which is not here: {error}") from error
    if isinstance(found, type) and issubclass(found, torch.nn.Module):
        return found
    if name in _VALUES or name.startswith(_FUNCTIONS):
        return found
    raise StepError(f"the stored network names {name}, which is no torch.nn.Module")


# ---------------------------------------------------------------- the user's own code


def _copy_sources(module: Any, folder: Path) -> dict[str, dict[str, Any]]:
    """Copy the loaded Python files that the module's own classes come from or stand beside."""
    owners = {type(part).__module__ for part in module.modules()}
    if "__main__" in owners:
        raise StepError("its class is defined in __main__, which no other process can import")
    roots = [_root(sys.modules[name]) for name in owners if _is_own(sys.modules.get(name))]
    copied: dict[str, dict[str, Any]] = {}
    for name, loaded in sorted(sys.modules.items()):
        file = Path(getattr(loaded, "__file__", None) or "")
        if not _is_own(loaded) or not any(file.is_relative_to(root) for root in roots):
            continue
        folder.mkdir(exist_ok=True)
        shutil.copyfile(file, folder / f"{name}.py")
        package = hasattr(loaded, "__path__")
        copied[name] = {"hash": file_hash(file), "package": package}
    return copied


def _is_own(loaded: ModuleType | None) -> bool:
    """Whether a module is Python code that no installed package brings."""
    file = getattr(loaded, "__file__", None)
    name = getattr(loaded, "__name__", "")
    if not file or not file.endswith(".py") or name.partition(".")[0] in ("dlas", "__main__"):
        return False
    return not any(Path(file).is_relative_to(place) for place in _installed())


@cache
def _installed() -> frozenset[str]:
    """The folders of installed packages; asked for each of thousands of modules.

    Those of this environment, of the user, and what it takes over from other environments (a
    virtual environment with the system's packages).
    """
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    taken = (path for path in sys.path if Path(path).name in ("site-packages", "dist-packages"))
    return frozenset((*(sysconfig.get_path(name) for name in names), *taken))


def _root(loaded: ModuleType) -> Path:
    """The folder from which a module's outermost package was found."""
    file = Path(loaded.__file__ or "")
    depth = loaded.__name__.count(".") + (1 if hasattr(loaded, "__path__") else 0)
    return file.parents[depth]


class _Copies(importlib.abc.MetaPathFinder):
    """Finds the copies of a stored network's own modules."""

    def __init__(self, places: dict[str, tuple[Path, bool]]) -> None:
        self._places = places

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return where the copy of a module lies, None for any other module."""
        if fullname not in self._places:
            return None
        place, package = self._places[fullname]
        return importlib.util.spec_from_file_location(
            fullname, place, submodule_search_locations=[str(place.parent)] if package else None
        )


def _serve_copies(sources: dict[str, dict[str, Any]], folder: Path) -> None:
    """Let modules that are not importable here, or differ here, be imported from their copies."""
    places = {
        name: (folder / f"{name}.py", bool(facts["package"]))
        for name, facts in sources.items()
        if name not in sys.modules and not _same_here(name, facts["hash"])
    }
    if places:
        sys.meta_path.insert(0, _Copies(places))


def _same_here(name: str, expected: str) -> bool:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    return bool(spec and spec.origin and file_hash(Path(spec.origin)) == expected)
