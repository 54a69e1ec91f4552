"""The commands on what runs have left: their results, and what is understood of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from dlas.cli import options
from dlas.cli.printing import one_of, print_json
from dlas.core.errors import StorageError, UserError

if TYPE_CHECKING:
    from dlas.tables.intake import Asked, Columns

SHOWN = (
    "cell", "status", "stale", "host", "dataset", "model", "optimization", "algorithm", "software",
    "hardware", "quiet_ms", "quiet_low_ms", "quiet_high_ms", "latency_ms", "memory_mb", "accuracy",
    "accuracy_drop", "reason",
)  # fmt: skip
"""What ``dlas table`` prints where no columns are named; files and pipes of data get all."""


def table(
    folders: options.Folders,
    format: options.TableFormat = "text",
    rounds: options.OfRounds = False,
    controls: options.OfControls = False,
    sort: options.Sort = None,
    columns: options.Columns = None,
    wide: options.Wide = False,
    output: options.Output = None,
) -> None:
    """Print the results: one row per cell, empty where something was not measured.

    dlas table out/quickstart --sort quiet_ms

    dlas table out/quickstart --columns cell,model,latency_ms

    dlas table out/quickstart --format parquet -o results.parquet

    On a terminal what does not fit is left out or cut, and it is said; --wide shows all.
    """
    from dlas import tables
    from dlas.cli import formats
    from dlas.tables.provenance import told
    from dlas.tables.read import read

    one_of(format, formats.FORMATS)
    if rounds and controls:
        raise UserError("--rounds and --controls are different tables: ask for one")
    results = read(folders)
    make = tables.rounds_frame if rounds else tables.cells_frame
    frame = (tables.controls_frame if controls else make)(results)
    usual = SHOWN if format == "text" and not (rounds or controls) else None
    frame = formats.pick(frame, sort=sort, columns=columns, usual=usual)
    if usual and columns is None:
        says_nothing = {"stale": frame["stale"].isna().all(), "host": frame["host"].nunique() < 2}
        frame = frame.drop(columns=[name for name, empty in says_nothing.items() if empty])
    formats.write(frame, format, output, formats.View(wide, columns is not None))
    for sentence in told(results):
        print(sentence, file=sys.stderr)


def show(
    folder: options.Folder,
    cell: options.Cell,
    format: options.Format = "text",
) -> None:
    """Print all that is known of a cell, and how to reproduce it.

    dlas show out/quickstart 3fa2
    """
    from dlas.cli.display import terminal_width
    from dlas.cli.show import describe, show_text

    one_of(format, ("text", "json"))
    known = describe(folder, cell)
    if format == "json":
        print_json(known)
    else:
        print(show_text(known, terminal_width(sys.stdout)))


def report(
    folders: options.SomeFolders = None,
    output: options.Page = None,
    figures: options.Figures = None,
    tables: options.Tables = None,
    layers: options.Layers = None,
    given: options.Given = None,
    metric: options.Metric = None,
    minimize: options.Minimize = None,
    maximize: options.Maximize = None,
    at_least: options.AtLeast = None,
    at_most: options.AtMost = None,
    low: options.Low = None,
    high: options.High = None,
    rounds: options.Repeats = None,
    repeats: options.AreRepeats = False,
    status: options.Status = None,
    status_ok: options.StatusOk = None,
    order: options.Order = None,
    separator: options.Separator = None,
    baseline: options.Baseline = None,
    floor: options.Floor = None,
) -> None:
    """Write one self-contained HTML page: it needs no network and opens from disk.

    dlas report out/quickstart

    dlas report out/laptop out/board -o both.html

    dlas report out/quickstart --figures figures

    dlas report --table results.csv --layers model,optimization,threads --metric seconds
    """
    from dlas import report as page
    from dlas.store.bundle import beside
    from dlas.tables import intake

    asked = _asked(metric, baseline, floor, minimize, maximize, at_least, at_most, given)
    if tables:
        if folders or figures:
            raise UserError("give output folders or --table, not both; --figures are of folders")
        columns = _columns(
            layers, low, high, rounds, repeats, status, status_ok, order, separator
        )  # fmt: skip
        made = intake.of_table(tables, columns, asked)
        print(page.write_table(made, tables, output or tables[0].with_suffix(".html")))
    elif folders:
        print(page.write(folders, output or beside(folders[0], "report.html"), asked))
        for picture in page.figures(folders, figures) if figures else ():
            print(picture)
    else:
        raise UserError("nothing to report: give output folders, or --table FILE")


def _asked(
    metric: str | None,
    baseline: Sequence[str] | None,
    floor: float | None,
    minimize: Sequence[str] | None,
    maximize: Sequence[str] | None,
    at_least: Sequence[str] | None,
    at_most: Sequence[str] | None,
    given: Sequence[str] | None,
) -> Asked:
    """Return what is asked of results, whatever they come from."""
    from dlas.tables import intake

    sought = intake.goals_of(minimize or (), maximize or (), at_least or (), at_most or ())
    free = intake.columns_of(given or ())
    return intake.Asked(metric, tuple(baseline or ()), floor, sought, free)


def analyze(
    folders: options.SomeFolders = None,
    tables: options.Tables = None,
    layers: options.Layers = None,
    given: options.Given = None,
    metric: options.Metric = None,
    minimize: options.Minimize = None,
    maximize: options.Maximize = None,
    at_least: options.AtLeast = None,
    at_most: options.AtMost = None,
    low: options.Low = None,
    high: options.High = None,
    rounds: options.Repeats = None,
    repeats: options.AreRepeats = False,
    status: options.Status = None,
    status_ok: options.StatusOk = None,
    order: options.Order = None,
    separator: options.Separator = None,
    baseline: options.Baseline = None,
    floor: options.Floor = None,
    triples: options.Triples = False,
    top: options.Top = 12,
    output: options.Findings = None,
    format: options.Format = "text",
) -> None:
    """Say what matters, what interacts and which stack to take: findings with their evidence.

    dlas analyze out/quickstart

    dlas analyze --table results.csv --layers model,optimization,threads --metric seconds

    dlas analyze --table gpus.tsv --layers model,gpu,precision --given model
    --minimize latency,price --at-least accuracy=0.9 --status-ok ok,done
    """
    from dlas.analyze import analyze as analyze_table
    from dlas.analyze import render_text
    from dlas.store.bundle import beside
    from dlas.tables import intake

    one_of(format, ("text", "json"))
    asked = _asked(metric, baseline, floor, minimize, maximize, at_least, at_most, given)
    if tables:
        if folders:
            raise UserError("give output folders or --table, not both")
        columns = _columns(
            layers, low, high, rounds, repeats, status, status_ok, order, separator
        )  # fmt: skip
        made = intake.of_table(tables, columns, asked)
    elif folders:
        made = intake.of_folders(folders, asked)
    else:
        raise UserError("nothing to analyze: give output folders, or --table FILE")
    found = analyze_table(made, triples=triples)
    kept = output or (beside(folders[0], "findings.json") if folders else None)
    text = render_text(found, most=top, file=str(kept) if kept else None)
    print(found.to_json() if format == "json" else text, end="")
    if output:
        intake.save(found.to_json(), output)
    elif kept:
        _kept(lambda: intake.save(found.to_json(), kept))


def check(
    claims: options.Claims,
    folders: options.SomeFolders = None,
    tables: options.Tables = None,
    layers: options.Layers = None,
    metric: options.Metric = None,
    columns: options.ClaimColumns = None,
    within: options.Within = None,
    low: options.Low = None,
    high: options.High = None,
    rounds: options.Repeats = None,
    repeats: options.AreRepeats = False,
    status: options.Status = None,
    status_ok: options.StatusOk = None,
    order: options.Order = None,
    separator: options.Separator = None,
    baseline: options.Baseline = None,
    floor: options.Floor = None,
    output: options.Judgement = None,
    format: options.ClaimFormat = "text",
) -> None:
    """Say what became of claims: reproduced, not reproduced, or cannot tell, with the cells.

    The claims of a file share one chance of any false verdict, at most 5 %. `docs/claims.md`
    defines the language.

        dlas check studies/claims/dlas-2024.yaml out/quickstart

        dlas check studies/claims/iiswc-2018.yaml --table tests/data/iiswc-2018.csv
    """
    from dlas.analyze.claims import as_json, as_markdown, as_text, judge
    from dlas.tables import for_claims, intake, provenance
    from dlas.tables.claims_file import read_claims
    from dlas.tables.read import read as read_results

    one_of(format, ("text", "json", "markdown"))
    file = read_claims(claims)
    asked = for_claims.Instructions(
        layers, metric, low, high, rounds, repeats, status, tuple(status_ok or ()),
        tuple(order or ()), separator, tuple(baseline or ()), floor, within, tuple(columns or ()),
    )  # fmt: skip
    if bool(tables) == bool(folders):
        raise UserError("give output folders or --table, and not both")
    results = read_results(list(folders or []))
    evidence = (
        for_claims.of_files(tables, file, asked)
        if tables
        else for_claims.of_folders(folders or [], file, asked, results)
    )
    judged = judge(evidence, file)
    registered = for_claims.when(file, folders or [], evidence.study)
    notes = (*registered, *provenance.measured(results), *evidence.table.notes)
    told = (evidence, file, judged)
    by = f"This page: `dlas check {claims} {' '.join(map(str, folders))}`." if folders else ""
    page = as_markdown(*told, (*notes, by) if by else notes)
    if format == "json":
        print_json(as_json(*told, notes))
    else:
        print(page if format == "markdown" else as_text(*told, notes), end="")
    if output:
        values = json.dumps(as_json(*told, notes), indent=2)
        intake.save(page if output.suffix == ".md" else values, output)


def _kept(save: Callable[[], None]) -> None:
    """Save what nobody asked to be saved: where that cannot be, the answer was printed."""
    try:
        save()
    except StorageError as error:
        print(f"not kept: {error} (-o FILE keeps it elsewhere)", file=sys.stderr)


def _columns(
    layers: str | None,
    low: str | None = None,
    high: str | None = None,
    rounds: str | None = None,
    repeats: bool = False,
    status: str | None = None,
    status_ok: Sequence[str] | None = None,
    order: Sequence[str] | None = None,
    separator: str | None = None,
) -> Columns:
    """Return what the columns of a table are.

    Raises:
        UserError: nothing is said of layers.
    """
    from dlas.tables.intake import Columns

    if layers is None:
        raise UserError("--table needs --layers: the columns whose combinations are the cells")
    return Columns(
        layers, low, high, rounds, repeats, status, tuple(status_ok or ()), tuple(order or ()),
        separator,
    )  # fmt: skip


def compare(
    first: options.First,
    second: options.Second,
    layers: options.Layers = None,
    metric: options.Metric = None,
    minimize: options.Minimize = None,
    maximize: options.Maximize = None,
    low: options.Low = None,
    high: options.High = None,
    rounds: options.Repeats = None,
    repeats: options.AreRepeats = False,
    status: options.Status = None,
    status_ok: options.StatusOk = None,
    order: options.Order = None,
    separator: options.Separator = None,
    floor: options.Floor = None,
    format: options.Format = "text",
) -> None:
    """Say what changed between two runs, machines, versions or tables beyond noise.

    dlas compare out/before out/after

    dlas compare before.csv after.csv --layers model,runtime --metric ms
    """
    from dlas.analyze import compare as compare_tables
    from dlas.analyze import render_comparison
    from dlas.analyze.conclusion import plain
    from dlas.tables import intake

    one_of(format, ("text", "json"))
    asked = intake.Asked(
        metric, (), floor, intake.goals_of(minimize or (), maximize or (), (), ())
    )  # fmt: skip
    files = [intake.is_table(each) for each in (first, second)]
    if all(files):
        if layers is None:
            raise UserError("two tables need --layers: the columns by which rows are matched")
        columns = _columns(
            layers, low, high, rounds, repeats, status, status_ok, order, separator
        )  # fmt: skip
        pair = intake.of_two_tables(first, second, columns, asked)
        differs: tuple[str, ...] = ()
    elif any(files):
        raise UserError(f"{first}, {second}: give two output folders or two tables, not one each")
    else:
        pair, differs = intake.of_two_folders(first, second, asked)
    found = compare_tables(*pair)
    if format == "json":
        print_json({"differs": list(differs), **plain(found.to_dict())})
        return
    if not all(files):
        said = "\n".join(f"differs: {line}" for line in differs)
        print(said or "same host, versions and study")
    print(render_comparison(found), end="")
