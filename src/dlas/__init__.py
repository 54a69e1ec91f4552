"""dlas: which layers of the deep learning acceleration stack matter, measured.

Declare a study over the six layers, run every stack for real, and be told what matters, what
interacts, and which stack to deploy::

    study = dlas.Study.load("studies/quickstart.yaml")
    dlas.run(study, "out/quickstart")
    frame = dlas.table("out/quickstart")

Nothing is loaded before it is used.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd

    from dlas.run import run as run
    from dlas.study import Study as Study

__version__ = "0.1.0"

__all__ = ["Study", "__version__", "run", "table"]


def table(folders: Path | str | Sequence[Path | str]) -> pd.DataFrame:
    """Return the results of one or several output folders: a row per cell.

    Raises:
        UserError: a folder holds no results.
    """
    from pathlib import Path

    from dlas.tables import cells_frame

    given = [folders] if isinstance(folders, str | Path) else list(folders)
    return cells_frame([Path(folder) for folder in given])


def __getattr__(name: str) -> Any:
    if name == "Study":
        from dlas.study import Study

        return Study
    if name == "run":
        import importlib

        return importlib.import_module("dlas.run")
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
