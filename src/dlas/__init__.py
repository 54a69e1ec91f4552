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
import sys
from types import ModuleType
from typing import Any

__version__ = "0.1.0"

__all__ = ["Study", "__version__", "run", "table"]

_LAZY = {"Study": ("dlas.study", "Study"), "table": ("dlas.tables", "cells_frame")}


def __getattr__(name: str) -> Any:
    if name == "run":
        return importlib.import_module("dlas.run")
    if name in _LAZY:
        module, wanted = _LAZY[name]
        return getattr(importlib.import_module(module), wanted)
    raise AttributeError(f"module 'dlas' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


# ``dlas.run(study, out)`` is a function, ``dlas.run`` a module: importing the module would hide
# the function, so the module itself can be called.


class _Run(ModuleType):
    def __call__(self, *args: Any, **keywords: Any) -> Any:
        return self.run(*args, **keywords)


class _Package(ModuleType):
    def __setattr__(self, name: str, value: Any) -> None:
        if name == "run" and isinstance(value, ModuleType):
            value.__class__ = _Run
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
