"""From result stores to tidy tables: what ``dlas table`` shows, and every analysis starts from.

Empty means not measured. Folders are read one by one and never pooled: a cell measured in two
folders is two rows, told apart by ``session``.
"""

from __future__ import annotations

from dlas.tables.ceilings import CEILING_COLUMNS, ceilings_frame
from dlas.tables.cells import COLUMNS, cells_frame
from dlas.tables.encode import as_csv, as_json, as_parquet
from dlas.tables.rounds import (
    CONTROL_COLUMNS,
    FLOOR_COLUMNS,
    ROUND_COLUMNS,
    SENTINEL_COLUMNS,
    controls_frame,
    floors_frame,
    rounds_frame,
    sentinels_frame,
)

__all__ = [
    "CEILING_COLUMNS",
    "COLUMNS",
    "CONTROL_COLUMNS",
    "FLOOR_COLUMNS",
    "ROUND_COLUMNS",
    "SENTINEL_COLUMNS",
    "as_csv",
    "as_json",
    "as_parquet",
    "ceilings_frame",
    "cells_frame",
    "controls_frame",
    "floors_frame",
    "rounds_frame",
    "sentinels_frame",
]
