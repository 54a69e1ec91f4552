"""dlas: which layers of the deep learning acceleration stack matter, measured.

Declare a study over the six layers, run every stack for real, and be told what matters, what
interacts, and which stack to deploy::

    study = dlas.Study.load("studies/quickstart.yaml")
    dlas.run(study, "out/quickstart")
    frame = dlas.table("out/quickstart")

Nothing is loaded before it is used.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, ClassVar

__version__ = "0.1.0"

__all__ = ["Study", "__version__", "run", "table"]

_LAZY = {"Study": ("dlas.study.study", "Study"), "table": ("dlas.tables", "cells_frame")}


def __getattr__(name: str) -> Any:
    if name == "run":
        return importlib.import_module("dlas.run")
    if name in _LAZY:
        module, wanted = _LAZY[name]
        return getattr(importlib.import_module(module), wanted)
    raise AttributeError(f"module 'dlas' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Public:
    """The words that authors of plug-ins import, under their short names: the same modules.

    Type checkers find them in ``dlas-stubs``.
    """

    places: ClassVar[dict[str, str]] = {
        f"dlas.{word}": f"dlas.core.{word}"
        for word in ("errors", "protocols", "records", "sampler")
    }

    @classmethod
    def find_spec(cls, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name not in cls.places:
            return None
        found = importlib.util.find_spec(cls.places[name])
        return ModuleSpec(name, cls, origin=found.origin) if found else None  # type: ignore[arg-type]

    @staticmethod
    def create_module(spec: ModuleSpec) -> ModuleType | None:
        return None

    @classmethod
    def exec_module(cls, module: ModuleType) -> None:
        # What stands in sys.modules when this returns is what an import yields.
        sys.modules[module.__name__] = importlib.import_module(cls.places[module.__name__])


sys.meta_path.append(_Public)  # type: ignore[arg-type]
