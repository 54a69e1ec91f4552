"""The command line: the only place that prints and exits.

Results go to standard output, progress and messages to standard error. Exit codes: 0, the command
was carried out (cells may have failed: they are rows); 2, something the user gave or the disk is
wrong; 1, a bug of ours; 130, interrupted. Nothing heavy is imported before a command needs it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from dlas.errors import StorageError, UserError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Which layers of the deep learning acceleration stack matter, measured.\n\n"
    "    dlas plan studies/quickstart.yaml\n\n"
    "    dlas run studies/quickstart.yaml --out out/quickstart\n\n"
    "    dlas report out/quickstart",
)

StudyFile = Annotated[Path, typer.Argument(metavar="STUDY", help="A study file (YAML).")]
Folders = Annotated[list[Path], typer.Argument(metavar="DIR...", help="Output folders of runs.")]
Format = Annotated[str, typer.Option("--format", help="text or json.")]


def _one_of(value: str, allowed: Sequence[str], option: str = "--format") -> str:
    from dlas.errors import near

    if value not in allowed:
        raise UserError(
            f"{option} {value!r}: must be one of {', '.join(allowed)}.{near(value, allowed)}"
        )
    return value


def _json(data: Any) -> None:
    print(json.dumps(data, indent=2, default=str, allow_nan=False))


def _version(wanted: bool) -> None:
    if wanted:
        from dlas import __version__

        print(f"dlas {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Hold what all commands share."""


# ---------------------------------------------------------------- studies


@app.command()
def plan(study: StudyFile, format: Format = "text") -> None:
    """Say what a run would do: cells by status, steps with and without sharing, time and disk.

    Runs nothing and loads no runtime. Times and sizes are guesses from typical values.

        dlas plan studies/quickstart.yaml

        dlas plan studies/quickstart.yaml --format json | jq .cells
    """
    from dlas.display import duration, table
    from dlas.plan import preview
    from dlas.study import Study

    _one_of(format, ("text", "json"))
    loaded = Study.load(study)
    with loaded.inside():
        found = preview(loaded)
    for note in loaded.notes:
        print(note, file=sys.stderr)
    if format == "json":
        _json(found)
        return
    rows: list[dict[str, Any]] = [{"": "cells", "count": found["cells"]}]
    rows += [{"": f"  {name}", "count": n} for name, n in found["cells_by_status"].items()]
    rows += [{"": "steps", "count": found["steps"]}]
    rows += [{"": f"  {stage}", "count": n} for stage, n in found["by_stage"].items()]
    rows += [{"": "steps without sharing", "count": found["steps_unshared"]}]
    rows += [{"": "measurements", "count": found["measurements"]}]
    print(table(rows, ("", "count")))
    print(f"\nabout {duration(found['expected_s'])} and {found['expected_mb']} MB (a guess)")
    for refusal in found.get("refusals", ()):
        print(f"{refusal['status']} ({refusal['cells']} cells): {refusal['reason']}")


@app.command()
def run(
    study: StudyFile,
    out: Annotated[Path, typer.Option(help="Folder of the results; made where it is absent.")],
    store: Annotated[
        Path | None, typer.Option(help="Folder of artefacts, to share between studies.")
    ] = None,
    only: Annotated[str | None, typer.Option(help="Run one cell: the start of its hash.")] = None,
    retry: Annotated[
        list[str] | None, typer.Option(help="Try cells of this status again, e.g. failed.")
    ] = None,
    remeasure: Annotated[
        bool, typer.Option("--remeasure", help="Evaluate and measure again; build nothing anew.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Run what a study lacks: the same command again goes on where it stopped.

    A cell that fails is a row and never stops the study. Interrupt it whenever you like.

        dlas run studies/quickstart.yaml --out out/quickstart

        dlas run studies/quickstart.yaml --out out/quickstart --only 3fa2 --remeasure
    """
    from dlas.display import progress
    from dlas.run import run as run_study
    from dlas.study import Study

    loaded = Study.load(study)
    for note in loaded.notes:
        print(note, file=sys.stderr)
    shown = progress(sys.stderr, quiet)
    try:
        summary = run_study(
            loaded,
            out,
            store=store,
            only=only,
            retry=tuple(retry or ()),
            remeasure=remeasure,
            progress=shown,
        )
    except KeyboardInterrupt:
        shown.close()
        print("\nstopped; nothing finished is lost: the same command goes on", file=sys.stderr)
        raise typer.Exit(130) from None
    finally:
        shown.close()
    _summary(summary)


def _summary(summary: Any) -> None:
    counts = ", ".join(f"{n} {status}" for status, n in sorted(summary.cells.items()))
    print(f"{summary.study}: {sum(summary.cells.values())} cells: {counts or 'none'}")
    for stage, reason, n in summary.failures:
        first = str(reason).partition("\n")[0]
        print(f"  failed in {stage} ({n} cells): {first}")
    print(f"results: {summary.out}")


@app.command()
def clean(
    folders: Folders,
    store: Annotated[
        Path | None, typer.Option(help="The shared folder of artefacts (default: DIR/store).")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> None:
    """Remove the artefacts that no result needs.

    Name every output folder that uses a shared store: what none of them needs is removed.

        dlas clean out/quickstart --dry-run

        dlas clean out/a out/b --store store
    """
    from dlas.clean import clean as clean_stores

    done = clean_stores(folders, store=store, dry_run=dry_run)
    verb = "would remove" if dry_run else "removed"
    print(
        f"{verb} {done.objects} artefacts ({done.bytes / 1e6:.1f} MB), {done.steps} step records"
    )


# ---------------------------------------------------------------- results

SHOWN = (
    "cell", "status", "dataset", "model", "optimization", "algorithm", "software", "hardware",
    "latency_ms", "latency_low_ms", "latency_high_ms", "memory_mb", "accuracy", "accuracy_drop",
    "reason",
)  # fmt: skip
"""What ``dlas table`` prints where no columns are named; files and pipes of data get all."""


@app.command()
def table(
    folders: Folders,
    format: Annotated[str, typer.Option("--format", help="text, csv, json or parquet.")] = "text",
    rounds: Annotated[bool, typer.Option("--rounds", help="A row per cell and round.")] = False,
    controls: Annotated[bool, typer.Option("--controls", help="The A/A controls.")] = False,
    sort: Annotated[str | None, typer.Option(help="Column to sort by.")] = None,
    columns: Annotated[
        str | None, typer.Option(help="Columns to print, separated by commas; `all`.")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write a file.")] = None,
) -> None:
    """Print the results: one row per cell, empty where something was not measured.

    dlas table out/quickstart --sort latency_ms

    dlas table out/quickstart --format parquet -o results.parquet
    """
    from dlas import export, tables

    _one_of(format, export.FORMATS)
    if rounds and controls:
        raise UserError("--rounds and --controls are different tables: ask for one")
    make = tables.rounds_frame if rounds else tables.cells_frame
    frame = (tables.controls_frame if controls else make)(folders)
    usual = SHOWN if format == "text" and not (rounds or controls) else None
    frame = export.pick(frame, sort=sort, columns=columns, usual=usual)
    export.write(frame, format, output)


@app.command()
def show(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Output folder of a run.")],
    cell: Annotated[str, typer.Argument(metavar="CELL", help="The start of a cell's hash.")],
    format: Format = "text",
) -> None:
    """Print all that is known of a cell, and how to reproduce it.

    dlas show out/quickstart 3fa2
    """
    from dlas.display import terminal_width
    from dlas.show import describe, show_text

    _one_of(format, ("text", "json"))
    known = describe(folder, cell)
    if format == "json":
        _json(known)
    else:
        print(show_text(known, terminal_width(sys.stdout)))


@app.command()
def report(
    folders: Folders,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The page (default: DIR/report.html).")
    ] = None,
) -> None:
    """Write one self-contained HTML page: it needs no network and opens from disk.

    dlas report out/quickstart

    dlas report out/laptop out/board -o both.html
    """
    from dlas.report import write

    print(write(folders, output or folders[0] / "report.html"))


# ---------------------------------------------------------------- findings

Metric = Annotated[str, typer.Option(help="The column analysed.")]
Baseline = Annotated[
    list[str] | None,
    typer.Option(help="LAYER=LEVEL that the other levels are compared with; may be repeated."),
]
Floor = Annotated[
    float | None, typer.Option(help="Ratio less one below which nothing counts, e.g. 0.05.")
]


@app.command()
def analyze(
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="[DIR...]", help="Output folders of runs.")
    ] = None,
    table: Annotated[
        list[Path] | None, typer.Option(help="Any CSV or Parquet table instead.")
    ] = None,
    layers: Annotated[
        str | None, typer.Option(help="The table's columns that are layers, with commas.")
    ] = None,
    metric: Metric = "latency_ms",
    low: Annotated[str | None, typer.Option(help="Column: lower end of a 95 % interval.")] = None,
    high: Annotated[str | None, typer.Option(help="Column: its upper end.")] = None,
    rounds: Annotated[str | None, typer.Option(help="Column that numbers repeats.")] = None,
    baseline: Baseline = None,
    floor: Floor = None,
    maximize: Annotated[bool, typer.Option("--maximize", help="More is better.")] = False,
    triples: Annotated[bool, typer.Option("--triples", help="Interactions of three.")] = False,
    top: Annotated[int, typer.Option(min=0, help="Findings to print; 0: all.")] = 12,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File (default: DIR/findings.json).")
    ] = None,
    format: Format = "text",
) -> None:
    """Say what matters, what interacts and which stack to take: findings with their evidence.

    dlas analyze out/quickstart

    dlas analyze --table results.csv --layers model,optimization,threads --metric seconds
    """
    from dlas import analysis
    from dlas.analyze import analyze as analyze_table
    from dlas.analyze import render_text

    _one_of(format, ("text", "json"))
    asked = analysis.Asked(metric, tuple(baseline or ()), floor, maximize)
    if table:
        if folders:
            raise UserError("give output folders or --table, not both")
        if layers is None:
            raise UserError("--table needs --layers: the columns whose combinations are the cells")
        made = analysis.of_table(table, layers, low, high, rounds, asked)
    elif folders:
        made = analysis.of_folders(folders, asked)
        output = output or folders[0] / "findings.json"
    else:
        raise UserError("nothing to analyze: give output folders, or --table FILE")
    found = analyze_table(made, triples=triples)
    if output:
        analysis.save(found.to_json(), output)
    print(found.to_json() if format == "json" else render_text(found, most=top), end="")


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(metavar="DIR_A", help="An output folder.")],
    second: Annotated[Path, typer.Argument(metavar="DIR_B", help="Another.")],
    metric: Metric = "latency_ms",
    floor: Floor = None,
    format: Format = "text",
) -> None:
    """Say what changed between two runs, machines or versions beyond noise.

    dlas compare out/before out/after
    """
    from dlas import analysis
    from dlas.analyze import compare as compare_tables
    from dlas.analyze import render_comparison
    from dlas.analyze.result import plain

    _one_of(format, ("text", "json"))
    asked = analysis.Asked(metric, (), floor)
    found = compare_tables(*(analysis.of_folders([each], asked) for each in (first, second)))
    if format == "json":
        _json(plain(found.to_dict()))
    else:
        print(render_comparison(found), end="")


# ---------------------------------------------------------------- this installation


@app.command()
def catalog(
    layer: Annotated[str | None, typer.Option(help="One layer only.")] = None,
    format: Format = "text",
) -> None:
    """List the techniques of each layer, their parameters, and why one is not available.

    dlas catalog --layer optimization

    dlas catalog --format json
    """
    from dlas.catalog import catalogue_text
    from dlas.display import terminal_width
    from dlas.registry import catalogue
    from dlas.stack import LAYERS

    _one_of(format, ("text", "json"))
    if layer is not None:
        _one_of(layer, LAYERS, "--layer")
    rows = catalogue(layer)
    if format == "json":
        _json(rows)
    else:
        print(catalogue_text(rows, terminal_width(sys.stdout)))


@app.command()
def doctor(format: Format = "text") -> None:
    """Say what this machine has, what is missing and how to get it, what makes timings doubtful.

    dlas doctor
    """
    from dlas.catalog import examination_text, examine
    from dlas.display import terminal_width

    _one_of(format, ("text", "json"))
    found = examine()
    if format == "json":
        _json(found)
    else:
        print(examination_text(found, terminal_width(sys.stdout)))


# ---------------------------------------------------------------- exit codes

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [each for each in given if each != "--debug"]
    try:
        with _output():
            app(args=given, prog_name="dlas")
    except SystemExit as exit:
        return exit.code if isinstance(exit.code, int) else int(exit.code is not None)
    except (UserError, StorageError) as error:
        return _fail(str(error), 2, debug)
    except OSError as error:
        if error.errno in _DISK:
            return _fail(f"{error.filename or 'the disk'}: {error.strerror}", 2, debug)
        return _bug(error, debug)
    except KeyboardInterrupt:
        return _fail("interrupted", 130, False)
    except Exception as error:
        return _bug(error, debug)
    return 0


@contextlib.contextmanager
def _output() -> Iterator[None]:
    """Let a reader who has seen enough (``dlas table | head``) close the pipe."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes standard output once more at exit: let that go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(message, file=sys.stderr)
    return code


def _bug(error: Exception, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    last = traceback.extract_tb(error.__traceback__)[-1]
    print(
        f"dlas has a bug: {type(error).__name__}: {error} ({last.filename}:{last.lineno})\n"
        "Please report it with the output of the same command and --debug "
        "(CONTRIBUTING.md says where).",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
