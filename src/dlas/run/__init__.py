"""A study and a folder in, rows of results out; ``dlas.run(study, out)`` does it."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """``dlas.run`` is this package and, for users, the function in it."""

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        from dlas.run.run import run

        return run(*args, **keywords)


sys.modules[__name__].__class__ = _Callable
