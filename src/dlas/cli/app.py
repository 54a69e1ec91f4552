"""The command line: this folder is the only place that prints and exits.

Results go to standard output, progress and messages to standard error. Exit codes: 0, the command
was carried out (cells may have failed: they are rows); 2, something the user gave or the disk is
wrong; 1, a bug of ours; 130, interrupted. Nothing heavy is imported before a command needs it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dlas.cli import options
from dlas.cli.after_run import analyze, check, compare, report, show, table
from dlas.cli.decide import advise, export, init, optimize
from dlas.cli.exits import guarded
from dlas.cli.explore import explore
from dlas.cli.machines import form_of, scheduler, workers
from dlas.cli.options import LATENCIES, QUIET
from dlas.cli.printing import one_of, print_json
from dlas.cli.together import merge, pack
from dlas.core.errors import UserError

if TYPE_CHECKING:
    from dlas.explore.settling import AfterRun
    from dlas.study.study import Study

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


def _version(wanted: bool) -> None:
    if wanted:
        from dlas import __version__

        print(f"dlas {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Hold what all commands share."""


# ---------------------------------------------------------------- studies


@app.command()
def plan(
    study: options.StudyFile,
    out: options.KnownOut = None,
    store: options.Store = None,
    pilot: options.Pilot = None,
    format: options.Format = "text",
) -> None:
    """Say what a run would do: cells by status, steps with and without sharing, time and disk.

    Runs nothing and loads no runtime. Times and sizes are guesses from typical values; of
    artefacts that are there already (--out, --store) the real sizes count, and of an earlier run
    on this machine (--pilot) the real times and sizes of the steps that are most alike. Files of
    weights that are missing are named, each with the command that trains it.

        dlas plan studies/quickstart.yaml

        dlas plan studies/quickstart.yaml --out out/quickstart

        dlas plan studies/quickstart.yaml --format json | jq .cells

        dlas plan studies/dlas-2024.yaml --pilot out/probe
    """
    from dlas.cli.display import preview_text
    from dlas.run.executed import Answers
    from dlas.run.plan.preview import preview
    from dlas.store.remote import is_remote
    from dlas.study.study import Study

    one_of(format, ("text", "json"))
    loaded = Study.load(study)
    place = Path(store) if store else (out / "store" if out else None)
    known = place.absolute() if place and not is_remote(store or "") else None
    earlier = pilot.absolute() if pilot else None  # `inside` is the folder of the study
    with loaded.inside():
        found = preview(loaded, known, Answers().seen, earlier)
    for note in loaded.notes:
        print(note, file=sys.stderr)
    if format == "json":
        print_json(found)
        return
    print(preview_text(found))


@app.command()
def run(
    study: options.StudyFile,
    out: options.Out,
    store: options.Store = None,
    only: options.Only = None,
    retry: options.Retry = None,
    remeasure: options.Remeasure = False,
    settle: options.Settle = False,
    metric: options.SettledBy = None,
    max_disk: options.MaxDisk = None,
    results: options.Results = None,
    claims: options.Expected = None,
    engine: options.Engine = None,
    tls_ca: options.TlsCa = None,
    tls_cert: options.TlsCert = None,
    tls_key: options.TlsKey = None,
    quiet: options.Quiet = False,
) -> None:
    """Run what a study lacks: the same command again goes on where it stopped.

    A cell that fails is a row and never stops the study. Interrupt it whenever you like.

        dlas run studies/quickstart.yaml --out out/quickstart

        dlas run studies/quickstart.yaml --out out/quickstart --settle

        dlas run studies/quickstart.yaml --out out/quickstart --only 3fa2 --remeasure

        dlas run studies/quickstart.yaml --out out/quickstart --max-disk 500M

        dlas run studies/quickstart.yaml --out out/quickstart --claims claims.yaml

        dlas run study.yaml --out out/lab --engine dask://127.0.0.1:8786 --store s3://lab/artefacts
    """
    from dlas.cli.display import progress, summary_text
    from dlas.run.run import run as run_study
    from dlas.store.budget import parse_size
    from dlas.study.study import Study

    if metric is not None:
        one_of(metric, LATENCIES, "--metric")
        if not settle:
            raise UserError("--metric says what --settle goes by: give both, or neither")
    limit = None if max_disk is None else parse_size(max_disk)
    form = form_of(engine, (tls_ca, tls_cert, tls_key))
    if engine is not None and limit is not None:
        raise UserError(
            "--max-disk: with --engine other machines may be about to read any artefact: leave "
            "one of them out"
        )
    loaded = Study.load(study)
    for note in (*loaded.notes, *_registered(loaded, out, claims or (), results)):
        print(note, file=sys.stderr)
    after = _settling(loaded, metric) if settle else None
    shown = progress(sys.stderr, quiet)
    try:
        summary = run_study(
            loaded,
            out,
            store=store,
            only=only,
            retry=tuple(retry or ()),
            remeasure=remeasure,
            max_disk=limit,
            results=results,
            progress=shown,
            then=after,
            form=form,
        )
    except KeyboardInterrupt:
        shown.close()
        print("\nstopped; nothing finished is lost: the same command goes on", file=sys.stderr)
        raise typer.Exit(130) from None
    finally:
        shown.close()
    print(summary_text(summary))
    if after is not None and after.settled is not None:
        print(after.settled.text())


def _settling(study: Study, metric: str | None) -> AfterRun:
    """Return what settles the best of a study once it was run."""
    from dlas.explore.settling import AfterRun, sought_of

    return AfterRun(sought_of(study, "--settle", metric or QUIET))


def _registered(
    study: Study, out: Path, claims: Sequence[Path], results: str | None
) -> tuple[str, ...]:
    """Register claims before anything is measured; return what to say of them."""
    if not claims:
        return ()
    from dlas.tables.claims_file import read_claims
    from dlas.tables.for_claims import register_claims

    return register_claims(study, out, [read_claims(path) for path in claims], results)


app.command()(explore)


@app.command()
def clean(
    folders: options.Folders,
    store: options.SharedStore = None,
    dry_run: options.DryRun = False,
) -> None:
    """Remove the artefacts that no result needs.

    Name every output folder that uses a shared store: what none of them needs is removed.

        dlas clean out/quickstart --dry-run

        dlas clean out/a out/b --store store
    """
    from dlas.run.clean import clean as clean_stores

    done = clean_stores(folders, store=store, dry_run=dry_run)
    verb = "would remove" if dry_run else "removed"
    print(
        f"{verb} {done.objects} artefacts ({done.bytes / 1e6:.1f} MB), {done.steps} step records"
    )


@app.command()
def train(
    model: options.ModelText,
    dataset: options.DatasetText,
    out: options.Weights,
    epochs: options.Epochs = None,
    minutes: options.Minutes = None,
    batch_size: options.BatchSize = 128,
    lr: options.Rate = 2e-3,
    seed: options.Seed = 0,
    augment: options.Augment = "flip",
    label_smoothing: options.Smoothing = 0.0,
    first_size: options.FirstSize = None,
    limit: options.Limit = None,
    threads: options.Threads = None,
    device: options.Device = "cpu",
    channels_last: options.ChannelsLast = False,
    bfloat16: options.Narrow = False,
    float16: options.Half = False,
) -> None:
    """Train a model on a data set; write its weights, and how they came about beside them.

    The test images are looked at once, at the end. Use the weights by `weights: PATH`.

        dlas train 'mobilenet-v2: {width: 0.5}' fashion-mnist --out weights/mine --epochs 20

        dlas train resnet-8 digits --out weights/quick --minutes 0.5
    """
    from typing import cast, get_args

    from dlas.cli.display import training_progress
    from dlas.core.errors import UserError
    from dlas.core.protocols import Dataset, Model
    from dlas.networks import fit
    from dlas.run.train import read_technique, run_train

    one_of(augment, get_args(fit.Augment), "--augment")
    if epochs is not None and minutes is not None:
        raise UserError(f"--epochs {epochs} and --minutes {minutes:g}: one of them ends it.")
    card = run_train(
        cast(Model, read_technique("model", model)),
        cast(Dataset, read_technique("dataset", dataset)),
        out,
        epochs=10 if epochs is None else epochs,
        minutes=minutes,
        batch_size=batch_size,
        lr=lr,
        seed=seed,
        augment=cast(fit.Augment, augment),
        label_smoothing=label_smoothing,
        first_size=first_size,
        limit=limit,
        threads=threads,
        device=device,
        channels_last=channels_last,
        bfloat16=bfloat16,
        float16=float16,
        progress=training_progress(sys.stderr),
    )
    print(f"accuracy {card['accuracy']:.4f} on {card['accuracy_n']} test images")


# ---------------------------------------------------------------- what runs have left

for _command in (
    table, show, report, analyze, check, compare, advise, export, init, optimize, merge, pack,
    scheduler, workers,
):  # fmt: skip
    app.command()(_command)


# ---------------------------------------------------------------- this installation


@app.command()
def catalog(
    name: options.Technique = None,
    folders: options.Evidence = None,
    layer: options.Layer = None,
    format: options.Format = "text",
) -> None:
    """List the techniques of each layer, their parameters, and why one is not available.

    Of one technique: what it is, its parameters, what it needs and refuses, and what folders say.

    dlas catalog --layer optimization

    dlas catalog int8 out/quickstart

    dlas catalog --format json
    """
    from dlas.cli.catalog import catalogue_text, reference_text
    from dlas.cli.display import terminal_width
    from dlas.core.registry import catalogue
    from dlas.core.stack import LAYERS

    one_of(format, ("text", "json"))
    if layer is not None:
        one_of(layer, LAYERS, "--layer")
    if name is not None:
        from dlas.advise import reference

        told = reference(name, folders or ())
        print_json(told) if format == "json" else print(reference_text(told))
        return
    rows = catalogue(layer)
    if format == "json":
        print_json(rows)
    else:
        print(catalogue_text(rows, terminal_width(sys.stdout)))


@app.command()
def doctor(
    format: options.Format = "text",
    probe: options.Probe = True,
    python: options.Pythons = None,
) -> None:
    """Say what this machine has, what is missing and how to get it, what makes timings doubtful.

    A small network is run by every runtime in every type, to see what it executes; the answers are
    kept, so that this takes a minute or two once.

        dlas doctor

        dlas doctor --no-probe

        dlas doctor --python envs/litert/bin/python
    """
    from dlas.cli.catalog import examination_text, examine
    from dlas.cli.display import progress, terminal_width

    one_of(format, ("text", "json"))
    shown = progress(sys.stderr, not probe)
    try:
        found = examine(shown if probe else None, python or ())
    finally:
        shown.close()
    if format == "json":
        print_json(found)
    else:
        print(examination_text(found, terminal_width(sys.stdout)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code."""
    return guarded(app, sys.argv[1:] if arguments is None else arguments)
