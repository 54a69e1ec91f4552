"""What claims are judged from: the table of output folders or of files, and its errors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dlas.analyze.claims.gauges import COUNTED, Basis, Gauge, measured_gauge, within
from dlas.analyze.claims.hypothesis import Claim, ClaimsFile, Term
from dlas.analyze.estimate.noise import estimate
from dlas.analyze.estimate.table import Table
from dlas.core.errors import UserError
from dlas.core.goals import Goals, parse_goals
from dlas.core.labels import short_names
from dlas.store.address import address_of, checked_url, holds_rows
from dlas.store.bundle import STUDY, home, is_bundle
from dlas.store.registered import Registered, register, registrations
from dlas.store.results import FactRow, ResultStore, RoundRow
from dlas.study.study import Study
from dlas.tables import intake
from dlas.tables.claims_file import read_claims
from dlas.tables.fitted import OF_ROUND
from dlas.tables.read import Results, choices_of
from dlas.tables.read import read as read_folders

Others = dict[str, Gauge | str]
"""Columns beside the metric: what is known of each, or why its rounds are of no use."""


@dataclass(frozen=True)
class Instructions:
    """What the command line says beside a claims file; it goes before what the file says."""

    layers: str | None = None
    metric: str | None = None
    low: str | None = None
    high: str | None = None
    rounds: str | None = None
    repeats: bool = False
    status: str | None = None
    status_ok: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    separator: str | None = None
    baseline: tuple[str, ...] = ()
    floor: float | None = None
    within: float | None = None
    columns: tuple[str, ...] = ()
    """``NAME=COLUMN`` each: the table's column for a name in the claims."""
    goals: Goals = field(default_factory=Goals)


def of_files(files: Sequence[Path], file: ClaimsFile, asked: Instructions) -> Basis:
    """Return what anyone's table says, read as the claims file and the command line tell.

    Raises:
        UserError: the table cannot be used as asked; all reasons together.
    """
    told, names = file.table, _names(file, asked)
    columns = _columns_of(file, asked, names)
    about = intake.Asked(
        asked.metric or _name(told.get("metric"), names),
        asked.baseline or _pairs(told.get("baseline", {}), names),
        asked.floor if asked.floor is not None else told.get("floor"),
        asked.goals if asked.goals.columns else _goals(told.get("goals", {}), names),
    )
    table = intake.of_table(files, columns, about)
    others: Others = {}
    if columns.rounds or columns.repeats:
        alone = replace(columns, low=None, high=None)
        for column in _measured(file, names, table):
            # Ratios and ranks do not ask which of more and less is better: either will do.
            other = replace(about, metric=column, goals=Goals(minimize=(column,)))
            others[column] = _beside(partial(intake.of_table, files, alone, other), table)
    exact = (*COUNTED, *(names.get(c, c) for c in (*COUNTED, *told.get("exact", ()))))
    share = asked.within if asked.within is not None else told.get("within")
    return _evidence(table, others, names, share, exact)


def _names(file: ClaimsFile, asked: Instructions) -> dict[str, str]:
    """Return the table's column for each name in the claims that is another there."""
    return dict(file.table.get("columns", {})) | dict(_pair(each) for each in asked.columns)


def _columns_of(file: ClaimsFile, asked: Instructions, names: Mapping[str, str]) -> intake.Columns:
    """Return what the columns of a table are; the command line goes before the file."""
    told = file.table
    layers = asked.layers or _renamed(told.get("layers", ()), names)
    if not layers:
        raise UserError(
            f"--table needs --layers, or `table: {{layers: [...]}}` in {file.name}: the columns "
            "whose combinations are the cells"
        )

    def column(key: str) -> str | None:
        given: str | None = getattr(asked, key)
        return given or _name(told.get(key), names)

    return intake.Columns(
        layers=layers,
        low=column("low"),
        high=column("high"),
        rounds=column("rounds"),
        repeats=asked.repeats or bool(told.get("repeats")),
        status=column("status"),
        status_ok=asked.status_ok or tuple(told.get("status_ok", ())),
        order=asked.order or _pairs(told.get("order", {}), names),
        separator=asked.separator,
    )


def of_folders(
    folders: Sequence[Path],
    file: ClaimsFile,
    asked: Instructions,
    results: Sequence[Results] | None = None,
) -> Basis:
    """Return what output folders say; ``results`` is what was read from them before.

    Raises:
        UserError: a folder holds no results, or they have no such metric; something was asked
            that tables alone have.
    """
    if asked.within is not None:
        raise UserError(
            f"--within {asked.within:g}: is for tables (--table); the noise of output folders is "
            "known from their rounds"
        )
    results = read_folders(list(folders)) if results is None else results
    names = _names(file, asked)
    floor = asked.floor if asked.floor is not None else file.table.get("floor")
    about = intake.Asked(asked.metric, asked.baseline, floor, asked.goals)
    table = intake.of_results(results, folders, about)
    others: Others = {}
    for column in sorted(_named(file, names) & OF_ROUND.keys() - {table.metric}):
        other = replace(about, metric=column, goals=Goals())
        others[column] = _beside(partial(intake.of_results, results, folders, other), table)
    found = _evidence(table, others, names, None, COUNTED)
    choices = choices_of(results)
    short = {x: short_names(table.levels[x], choices.get(x, {}), True) for x in table.layers}
    return replace(found, study=_study_of(folders), short=short)


def _study_of(folders: Sequence[Path]) -> str:
    """Return the hash of the study that ran, where all folders ran the same and it can be read."""
    found = set()
    for folder in folders:
        try:
            found.add(Study.load(home(folder) / STUDY).hash)
        except UserError:
            return ""
    return found.pop() if len(found) == 1 else ""


def register_claims(
    study: Study, out: Path, files: Sequence[ClaimsFile], results: str | None = None
) -> tuple[str, ...]:
    """Register claims in an output folder before its study runs; a sentence on each.

    Args:
        study: what will run.
        out: its output folder, which may not be there yet.
        files: the claims.
        results: the database in which the rows of a new folder will be.

    Raises:
        UserError: ``results`` is no address of a database.
        StorageError: the folder cannot be written, or the database does not answer.
    """
    if not files:
        return ()
    rounds, facts = _known_already(out, results)
    made = [register(out, f.name, f.text, study.hash, rounds, facts) for f in files]
    said = [f"{f.name}: {before_or_after(r)}" for f, r in zip(files, made, strict=True)]
    said += [
        f"{f.name}: the claims are about the study {f.study}, and this one is {study.hash[:12]}"
        for f in files
        if f.study and not study.hash.startswith(f.study)
    ]
    return tuple(said)


def _known_already(out: Path, results: str | None) -> tuple[int, int]:
    """Return how many rounds and facts there are where the rows of a folder are, or will be."""
    if holds_rows(out):
        place = address_of(out)
    elif results is not None:
        place = checked_url(results)
    else:
        return 0, 0
    # A database is brought up to date, as the run that follows does: an older one may hold rounds.
    with ResultStore(place, read_only=isinstance(place, Path)) as store:
        return len(store.rows(RoundRow)), len(store.rows(FactRow))


def _evidence(
    table: Table, others: Others, names: Mapping[str, str], share: float | None,
    exact: tuple[str, ...],
) -> Basis:  # fmt: skip
    found, notes = estimate(table), list[str]()
    if share is not None and found.known:
        notes.append(
            f"{table.metric} known within {share:.3g} of itself, as was said, is not used: its "
            f"error is that of its {found.kind}."
        )
    elif share is not None:
        found = within(table, found, share)
        notes.append(
            f"{table.metric} is taken to be known within {share:.3g} of itself, as was said."
        )
    table = replace(table, notes=(*table.notes, *found.notes, *notes))
    gauges = {column: g for column, g in others.items() if isinstance(g, Gauge)}
    refused = {column: why for column, why in others.items() if isinstance(why, str) and why}
    return Basis(table, found, gauges, names, refused, exact)


def _beside(make: Callable[[], Table], table: Table) -> Gauge | str:
    """Return a gauge of another column, or why its rounds are of no use; ``""``: it has none."""
    try:
        other = make()
    except UserError as error:
        return "; ".join(error.problems)
    same = len(other.cells) == len(table.cells) and all(
        np.array_equal(other.cells[x].to_numpy(), table.cells[x].to_numpy()) for x in table.layers
    )
    if not same:
        return f"they are of other cells than those of {table.metric}"
    found = estimate(other)
    return measured_gauge(other, found) if found.known else ""


def _named(file: ClaimsFile, names: Mapping[str, str]) -> set[str]:
    """Return the columns whose numbers the claims of a file name."""
    found = set()
    for test in (t for claim in file.claims for t in claim.tests):
        for each in (test.quantity, test.bound):
            if isinstance(each, Term):
                found |= {c for k, c in each.columns.items() if k in ("metric", "x", "y")}
    return {names.get(c, c) for c in found}


def _measured(file: ClaimsFile, names: Mapping[str, str], table: Table) -> Iterable[str]:
    """Return the columns that claims name and that may have rounds of their own."""
    have = {str(c) for c in table.cells.columns} - {table.metric, *table.layers, *COUNTED}
    if names.get("accuracy_n", "accuracy_n") in have:
        # They err as their images do, which are the same in every round.
        have -= {names.get(c, c) for c in ("accuracy", "accuracy_drop")}
    return sorted(_named(file, names) & have)


def _pair(text: str) -> tuple[str, str]:
    name, sign, column = text.partition("=")
    if not sign or not name.strip() or not column.strip():
        raise UserError(f"--column {text!r}: must be NAME=COLUMN")
    return name.strip(), column.strip()


def _name(name: str | None, names: Mapping[str, str]) -> str | None:
    return names.get(name, name) if name else None


def _renamed(layers: Iterable[str], names: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(names.get(x, x) for x in layers)


def _pairs(given: Mapping[str, str], names: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(f"{names.get(k, k)}={v}" for k, v in given.items())


def _goals(given: Mapping[str, Any], names: Mapping[str, str]) -> Goals:
    found = parse_goals(given)
    return Goals(
        _renamed(found.minimize, names),
        _renamed(found.maximize, names),
        tuple((names.get(c, c), b) for c, b in found.at_most),
        tuple((names.get(c, c), b) for c, b in found.at_least),
    )


# ---------------------------------------------------------------- when it was written


def when(file: ClaimsFile, folders: Sequence[Path], study: str) -> tuple[str, ...]:
    """Say whether claims were written down before anything was measured, a sentence each."""
    if not folders:
        return (_of_table(file),)
    said = [told for folder in folders for told in _of_folder(file, folder)]
    if file.study and not study:
        said.append(
            f"The claims are about the study {file.study}; which study ran here cannot be told: "
            "there were several, or it cannot be read."
        )
    elif file.study and not study.startswith(file.study):
        said.append(
            f"The claims are about the study {file.study}, and {study[:12]} was run: other "
            "stacks, settings or goals."
        )
    return tuple(said)


def _of_table(file: ClaimsFile) -> str:
    day = f" on {file.registered}, as they say" if file.registered else ""
    return f"Nobody can say whether the claims were written{day} before this table was measured."


def _of_folder(file: ClaimsFile, folder: Path) -> list[str]:
    where = f"{folder}: "
    if is_bundle(folder):
        return [
            f"{where}a bundle holds no registrations: whether the claims were written before "
            "anything was measured, the output folder that it was made of can tell."
        ]
    found = registrations(home(folder))
    first: dict[str, Registered] = {}
    for one in found:
        if one.hash == file.hash:
            first.setdefault(one.source, one)
    if not first:
        return [
            f"{where}WRITTEN AFTERWARDS as far as this folder tells: `dlas run --claims` did not "
            f"register these claims, word for word, before measuring.{_other_words(file, found)}"
        ]
    return [where + before_or_after(one) for one in first.values()]


def _other_words(file: ClaimsFile, found: Sequence[Registered]) -> str:
    """Say which tests stand in an earlier file of the same name; nothing where there is none."""
    said = []
    for one in found:
        if one.name != file.name or one.path is None or one.afterwards:
            continue
        try:
            earlier = {_asked(claim) for claim in read_claims(one.path).claims}
        except UserError:
            continue
        same = [claim.id for claim in file.claims if _asked(claim) in earlier]
        others = [claim.id for claim in file.claims if claim.id not in same]
        if same:
            but = f"; not those of {', '.join(others)}" if others else ""
            said.append(
                f" A file of this name, in other words, was {before_or_after(one)[:-1]}: the "
                f"tests of {len(same)} of the {len(file.claims)} claims stand in it as they are"
                f"{but}."
            )
    return "".join(said)


def _asked(claim: Claim) -> tuple[object, ...]:
    """Return what a claim asks of the numbers, without the words in which it is said."""
    tests, where = (tuple(each.text for each in some) for some in (claim.tests, claim.where))
    return (tests, where, claim.least_contexts, claim.least_effect, claim.floor)


def before_or_after(found: Registered) -> str:
    """Say of a registration whether it was before or after."""
    source = f"of {found.source}: " if found.source else ""
    day = f"registered on {found.at[:16].replace('T', ' ')}"
    if found.rounds:
        return f"{source}WRITTEN AFTERWARDS: {day}, when {found.rounds} rounds had been measured."
    if found.facts:
        return (
            f"{source}WRITTEN AFTERWARDS: {day}, when no round had been measured, but "
            f"{found.facts} results on accuracy, memory or size were there."
        )
    where = "there" if found.source else "in this folder"
    return (
        f"{source}{day}, before anything was measured {where}, for the study {found.study[:12]}."
    )
