"""What the page is made of: rows of the folders, and the analysis where there can be one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlas import tables
from dlas.analyze import Analysis, analyze
from dlas.core.errors import UserError
from dlas.core.labels import short_names
from dlas.core.stack import LAYERS, Choice
from dlas.store.address import address_of
from dlas.store.results import CellRow, HostRow, ResultStore, SessionRow
from dlas.tables import intake
from dlas.tables.intake import Asked
from dlas.tables.provenance import told
from dlas.tables.read import Results, choices_of, current, read

if TYPE_CHECKING:
    import pandas as pd

METRIC = "quiet_ms"


@dataclass(frozen=True)
class Material:
    """Everything that was read; every part of the page is a function of it."""

    folders: tuple[Path, ...]
    """The output folders; none where the cells are of a table from elsewhere."""
    results: tuple[Results, ...]
    cells: pd.DataFrame
    """``tables.cells_frame`` of the folders, one after another."""
    folder_of: tuple[int, ...]
    """The folder of each row of ``cells``."""
    rounds: pd.DataFrame
    controls: pd.DataFrame
    floors: pd.DataFrame
    sentinels: pd.DataFrame
    ceilings: pd.DataFrame
    hosts: Mapping[str, Mapping[str, Any]]
    sessions: tuple[SessionRow, ...]
    analysis: Analysis | None
    """Of the first ``analyzed`` rows of ``cells``; None where there is nothing to analyse."""
    analyzed: int
    notes: tuple[str, ...]
    """What a reader must know of how far the analysis goes."""
    sources: tuple[str, ...] = ()
    """What was read, as its reader calls it."""
    layers: tuple[str, ...] = LAYERS
    metric: str = METRIC
    """The column that is analysed."""
    plain: bool = False
    """Whether the analysis answers what it is asked by default, nothing else."""

    def short(self, layer: str) -> dict[str, str]:
        """Return the short name of every choice of a layer."""
        return short_names(self.cells[layer].dropna().unique(), self.choices.get(layer, {}))

    @cached_property
    def choices(self) -> Mapping[str, Mapping[str, Sequence[Choice]]]:
        """For each layer what the texts in ``cells`` stand for."""
        return choices_of(self.results)


def load(dirs: Sequence[Path | str], asked: Asked | None = None) -> Material:
    """Read output folders and analyse them.

    Args:
        dirs: the output folders.
        asked: what is asked of them; the undisturbed latency, under the goals of the study, where
            nothing is.

    Raises:
        UserError: a folder holds no results, or no cell.
        StorageError: a file is damaged.
    """
    import pandas as pd

    folders = tuple(dict.fromkeys(Path(d) for d in dirs))
    every = read(list(folders))
    results = tuple(current(every))
    frames = [tables.cells_frame([each]) for each in results]
    filled = [frame for frame in frames if len(frame)]
    if not filled:
        raise UserError(f"{', '.join(map(str, folders))}: no cells yet; `dlas run` makes them")
    cells = pd.concat(filled, ignore_index=True) if len(filled) > 1 else filled[0]
    asked = replace(asked or Asked(), metric=asked.metric if asked and asked.metric else METRIC)
    found, analyzed, notes = _analysed(folders, results, frames, asked)
    hosts, sessions = _circumstances(folders)
    return Material(
        folders=folders,
        results=results,
        cells=cells,
        folder_of=tuple(i for i, frame in enumerate(frames) for _ in range(len(frame))),
        rounds=tables.rounds_frame(results),
        controls=tables.controls_frame(results),
        floors=tables.floors_frame(results),
        sentinels=tables.sentinels_frame(results),
        ceilings=tables.ceilings_frame(results),
        hosts=hosts,
        sessions=sessions,
        analysis=found,
        analyzed=analyzed,
        notes=(*told(every), *notes),
        sources=tuple(str(folder) for folder in folders),
        metric=asked.metric or METRIC,
        plain=asked == Asked(METRIC),
    )


def _analysed(
    folders: Sequence[Path],
    results: Sequence[Results],
    frames: Sequence[pd.DataFrame],
    asked: Asked,
) -> tuple[Analysis | None, int, tuple[str, ...]]:
    """Analyse all folders together; the first alone where they measured the same cells."""
    total = sum(len(frame) for frame in frames)
    if not any((frame["status"] == "complete").any() for frame in frames):
        return None, 0, ("No cell is complete yet, so there is nothing to compare.",)
    try:
        return analyze(intake.of_results(results, folders, asked)), total, ()
    except UserError as error:
        why = "; ".join(error.problems)
    if len(folders) == 1:
        return None, 0, (f"The results cannot be analysed: {why}.",)
    first = next(i for i, frame in enumerate(frames) if len(frame))
    alone = (
        f"The folders cannot be analysed together ({why}). Effects, findings and intervals are "
        f"those of {folders[first]} alone; `dlas compare` says what changed between folders."
    )
    try:
        found = analyze(intake.of_results([results[first]], [folders[first]], asked))
    except UserError as error:
        return None, 0, (f"The results cannot be analysed: {'; '.join(error.problems)}.",)
    return found, len(frames[first]), (alone,)


def _circumstances(
    folders: Sequence[Path],
) -> tuple[dict[str, Mapping[str, Any]], tuple[SessionRow, ...]]:
    """Return the hosts and sessions of all folders."""
    hosts: dict[str, Mapping[str, Any]] = {}
    sessions: list[SessionRow] = []
    for folder in folders:
        with ResultStore(address_of(folder), read_only=True) as store:
            hosts |= {h.host: h.description for h in store.rows(HostRow)}
            sessions += store.rows(SessionRow)
    return hosts, tuple(sorted(sessions, key=lambda s: s.started_at))


def logs(material: Material) -> dict[tuple[int, str, str], str]:
    """Return the end of the log of each broken cell, by folder, study and cell."""
    return {
        (i, row.study, row.cell): row.log
        for i, results in enumerate(material.results)
        for row in results.cells
        if isinstance(row, CellRow) and row.log
    }
