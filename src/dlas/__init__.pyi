from dlas.run.run import run as run
from dlas.study.study import Study as Study
from dlas.tables import cells_frame as table

__version__: str

__all__ = ["Study", "__version__", "run", "table"]
