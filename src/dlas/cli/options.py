"""The arguments and options of the commands: what each is called and what its help says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

QUIET = "quiet_ms"
LATENCIES = (QUIET, "latency_ms")
"""What stacks can be compared by: undisturbed, as seen."""
StudyFile = Annotated[Path, typer.Argument(metavar="STUDY", help="A study file (YAML).")]
Folders = Annotated[list[Path], typer.Argument(metavar="DIR...", help="Output folders of runs.")]
SomeFolders = Annotated[
    list[Path] | None, typer.Argument(metavar="[DIR...]", help="Output folders of runs.")
]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Output folder of a run.")]
First = Annotated[Path, typer.Argument(metavar="A", help="An output folder, or any table.")]
Second = Annotated[Path, typer.Argument(metavar="B", help="Another.")]
Cell = Annotated[str, typer.Argument(metavar="CELL", help="The start of a cell's hash.")]
ModelText = Annotated[
    str, typer.Argument(metavar="MODEL", help="As in a study file: 'mobilenet-v2: {width: 0.35}'.")
]
DatasetText = Annotated[
    str, typer.Argument(metavar="DATASET", help="As in a study file: 'image-folder: {root: x}'.")
]

# ---------------------------------------------------------------- plan, run, clean

Format = Annotated[str, typer.Option("--format", help="text or json.")]
Out = Annotated[Path, typer.Option(help="Folder of the results; made where it is absent.")]
KnownOut = Annotated[Path | None, typer.Option("--out", help="Folder of the results so far.")]
Pilot = Annotated[
    Path | None,
    typer.Option(
        "--pilot",
        metavar="DIR",
        help="An earlier run here: expect what its steps took of time and disk.",
    ),
]
Store = Annotated[
    str | None,
    typer.Option(
        metavar="DIR|s3://...", help="Where artefacts are: a folder, or a prefix in S3, to share."
    ),
]
Results = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Rows in PostgreSQL: postgresql://USER@HOST:PORT/DATABASE."),
]
SharedStore = Annotated[
    str | None,
    typer.Option(metavar="PATH", help="The shared folder of artefacts (default: DIR/store)."),
]
Only = Annotated[str | None, typer.Option(help="Run one cell: the start of its hash.")]
Retry = Annotated[
    list[str] | None, typer.Option(help="Try cells of this status again, e.g. failed.")
]
Remeasure = Annotated[
    bool, typer.Option("--remeasure", help="Evaluate and measure again; build nothing anew.")
]
Settle = Annotated[
    bool,
    typer.Option(
        "--settle",
        help="Then measure again only what may still be the answer under the goals, until one "
        "stack is left or those that are left are level.",
    ),
]
SettledBy = Annotated[
    str | None,
    typer.Option(
        "--metric",
        help="With --settle: the latency that stacks are compared by: quiet_ms (undisturbed) if "
        "nothing is said, or latency_ms, as seen.",
    ),
]
MaxDisk = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="The most that artefacts may take, e.g. 500M, 1.5GB, 2GiB: those that no step "
        "reads any more are removed as it goes, the oldest first.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Expected = Annotated[
    list[Path] | None,
    typer.Option(
        "--claims", metavar="FILE", help="Claims to register before anything is measured."
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")]

# ---------------------------------------------------------------- several machines

Engine = Annotated[
    str | None,
    typer.Option(metavar="dask://HOST:PORT", help="Machines that work too: their scheduler."),
]
Scheduler = Annotated[
    str, typer.Option(metavar="dask://HOST:PORT", help="Where the scheduler is.")
]
SchedulerHost = Annotated[str, typer.Option(metavar="ADDRESS", help="The address to listen on.")]
SchedulerPort = Annotated[int, typer.Option(min=0, max=65535, help="The port; 0: any.")]
Labels = Annotated[
    str, typer.Option(metavar="A,B", help="What studies call this machine (`on: A`).")
]
MachineName = Annotated[str | None, typer.Option("--name", help="Its name (default: the host's).")]
WorkFolder = Annotated[
    Path | None,
    typer.Option("--folder", help="What it made and read is kept here (default: in ~/.cache)."),
]
TlsCa = Annotated[
    Path | None, typer.Option("--tls-ca", metavar="FILE", help="TLS: who signs certificates.")
]
TlsCert = Annotated[
    Path | None, typer.Option("--tls-cert", metavar="FILE", help="TLS: our certificate.")
]
TlsKey = Annotated[Path | None, typer.Option("--tls-key", metavar="FILE", help="TLS: its key.")]

# ---------------------------------------------------------------- merge, pack

Sources = Annotated[
    list[Path], typer.Argument(metavar="A B...", help="Output folders, or results bundles.")
]
Into = Annotated[Path, typer.Option(help="The folder to write: new, or empty.")]
Prefer = Annotated[
    Path | None,
    typer.Option(metavar="A", help="Whose numbers count where two have the same cell of a host."),
]
BundleFile = Annotated[
    Path | None, typer.Option("-o", "--output", help="The file (default: DIR.dlas.zip).")
]

# ---------------------------------------------------------------- export

CellOrBest = Annotated[
    str, typer.Argument(metavar="CELL|best", help="The start of a cell's hash, or best.")
]
To = Annotated[Path, typer.Option(help="The folder to write; made where it is absent.")]

# ---------------------------------------------------------------- advise, catalog

AdviceFormat = Annotated[str, typer.Option("--format", help="text, json or markdown.")]
Technique = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help="One technique: its quick reference.")
]
Evidence = Annotated[
    list[Path] | None,
    typer.Argument(metavar="[DIR...]", help="Output folders: what was measured of it."),
]

# ---------------------------------------------------------------- init, optimize

Network = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="module:function, a .py file, an .onnx file, timm/NAME, or a model of the catalogue.",
    ),
]
Images = Annotated[
    str,
    typer.Option("--data", metavar="PATH", help="A folder of images, Parquet, or a data set."),
]
NewStudy = Annotated[Path, typer.Option("--out", "-o", help="The study file to write.")]
Time = Annotated[
    str | None,
    typer.Option("--budget", metavar="TIME", help="How long it may take: 90s, 20m, 2h."),
]
MaxDrop = Annotated[
    float, typer.Option(min=0, max=1, help="The most accuracy that may be given up.")
]
Sought = Annotated[
    str,
    typer.Option(
        "--minimize", help="What is to be small: latency_ms, or latency_ms,memory_mb, ..."
    ),
]
ThreadCounts = Annotated[
    str | None, typer.Option("--threads", help="Numbers of threads to try: 1,2.")
]
TrainedWeights = Annotated[
    str, typer.Option("--weights", help="A file of trained weights (safetensors, state dict).")
]
InputSize = Annotated[
    int | None, typer.Option("--size", min=4, max=4096, help="Side of the input in pixels.")
]
Classes = Annotated[
    int | None, typer.Option("--classes", min=2, help="Outputs of the network, without labels.")
]

# ---------------------------------------------------------------- table, report

TableFormat = Annotated[str, typer.Option("--format", help="text, csv, json or parquet.")]
OfRounds = Annotated[bool, typer.Option("--rounds", help="A row per cell and round.")]
OfControls = Annotated[bool, typer.Option("--controls", help="The A/A controls.")]
Sort = Annotated[str | None, typer.Option(help="Column to sort by.")]
Columns = Annotated[str | None, typer.Option(help="Columns to print, separated by commas; `all`.")]
Wide = Annotated[
    bool, typer.Option("--wide", help="A line a row, however wide; else the terminal is fitted.")
]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="Write a file.")]
Page = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="The page (default: DIR/report.html, or TABLE.html)."),
]
Figures = Annotated[
    Path | None, typer.Option("--figures", help="A folder for figures, PNG and SVG.")
]
Probe = Annotated[bool, typer.Option(help="Run a small network to see what runtimes execute.")]
Pythons = Annotated[
    list[str] | None,
    typer.Option("--python", help="Another interpreter, whose runtimes are looked at, too."),
]
Layer = Annotated[str | None, typer.Option(help="One layer only.")]

# ---------------------------------------------------------------- analyze, compare

Tables = Annotated[
    list[Path] | None,
    typer.Option("--table", help="Any table instead: text with any separator, or Parquet."),
]
Layers = Annotated[
    str | None, typer.Option(help="The table's columns that are layers, with commas.")
]
Given = Annotated[
    list[str] | None,
    typer.Option(help="Layers that are given: the best is sought for each of their levels."),
]
Minimize = Annotated[
    list[str] | None, typer.Option(help="Columns of which less is better, with commas.")
]
Maximize = Annotated[
    list[str] | None, typer.Option(help="Columns of which more is better, with commas.")
]
AtLeast = Annotated[
    list[str] | None, typer.Option(help="A limit, COLUMN=NUMBER, e.g. accuracy=0.9.")
]
AtMost = Annotated[
    list[str] | None, typer.Option(help="A limit, COLUMN=NUMBER, e.g. memory_mb=500.")
]
Metric = Annotated[
    str | None,
    typer.Option(
        help="The column analysed: else the first to minimize or maximize, else quiet_ms of "
        "folders and latency_ms of a table."
    ),
]
BestBy = Annotated[
    str | None,
    typer.Option(
        "--metric",
        help="What `best` is judged by: quiet_ms (latency undisturbed) if nothing is said, or "
        "latency_ms, as seen.",
    ),
]
ComparedBy = Annotated[
    str,
    typer.Option(
        "--metric",
        help="The latency that stacks are compared by: undisturbed, or latency_ms, as seen.",
    ),
]
Low = Annotated[str | None, typer.Option(help="Column: lower end of a 95 % interval.")]
High = Annotated[str | None, typer.Option(help="Column: its upper end.")]
Repeats = Annotated[str | None, typer.Option("--rounds", help="Column that numbers repeats.")]
Baseline = Annotated[
    list[str] | None,
    typer.Option(help="LAYER=LEVEL that the other levels are compared with; may be repeated."),
]
Floor = Annotated[
    float | None, typer.Option(help="Ratio less one below which nothing counts, e.g. 0.05.")
]
AreRepeats = Annotated[
    bool,
    typer.Option("--repeats", help="Rows that the layers do not tell apart are repeats."),
]
Status = Annotated[
    str | None, typer.Option(help="Column that says whether a row ran (default: status).")
]
StatusOk = Annotated[
    list[str] | None,
    typer.Option(help="The words in it that say so, with commas (default: complete)."),
]
Order = Annotated[
    list[str] | None,
    typer.Option(help="COLUMN=numbers, versions or names: how its levels are ordered."),
]
Separator = Annotated[
    str | None,
    typer.Option(help="What stands between the fields of the table; found if not said."),
]
Triples = Annotated[bool, typer.Option("--triples", help="Interactions of three.")]
Top = Annotated[int, typer.Option(min=0, help="Findings to print; 0: all.")]
Findings = Annotated[
    Path | None, typer.Option("-o", "--output", help="File (default: DIR/findings.json).")
]

# ---------------------------------------------------------------- check

Claims = Annotated[Path, typer.Argument(metavar="CLAIMS", help="A claims file (YAML).")]
ClaimColumns = Annotated[
    list[str] | None,
    typer.Option("--column", help="NAME=COLUMN: the table's column for a name in the claims."),
]
Within = Annotated[
    float | None,
    typer.Option(
        min=0, max=0.99, help="Each value is known within this share of itself, e.g. 0.02."
    ),
]
ClaimFormat = Annotated[str, typer.Option("--format", help="text, json or markdown.")]
Judgement = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="Write the verdicts to a file: .md a page, else JSON."),
]

# ---------------------------------------------------------------- explore

SomeStudy = Annotated[
    Path | None, typer.Argument(metavar="[STUDY]", help="A study file (YAML) with goals.")
]
Budget = Annotated[
    str | None,
    typer.Option(
        metavar="BUDGET",
        help="5% of the stacks, 60 of them, or 30m; default: until no other stack is likely to "
        "join the front.",
    ),
]
SamplerNames = Annotated[
    str | None,
    typer.Option("--sampler", help="dlas (default), random, tpe, nsga2, gp, or a plug-in's."),
]
Replay = Annotated[
    Path | None,
    typer.Option(metavar="TABLE_OR_DIR", help="Play samplers on this finished table."),
]
MinimizeColumns = Annotated[
    str | None, typer.Option("--minimize", help="Columns to minimize, with commas.")
]
MaximizeColumns = Annotated[
    str | None, typer.Option("--maximize", help="Columns to maximize, with commas.")
]
Budgets = Annotated[str, typer.Option(help="Budgets shown: shares or numbers, with commas.")]
Times = Annotated[int, typer.Option("--repeats", min=1, help="Runs of each sampler.")]

# ---------------------------------------------------------------- train

Weights = Annotated[Path, typer.Option(help="File of the weights (safetensors).")]
Epochs = Annotated[
    int | None, typer.Option(min=1, help="Passes over the training images; 10 if left out.")
]
Minutes = Annotated[
    float | None,
    typer.Option(
        "--minutes", min=0.01, help="Train for so long instead, the schedule stretched to it."
    ),
]
Smoothing = Annotated[
    float,
    typer.Option(
        "--label-smoothing", min=0.0, max=0.99, help="Share of a label spread over all classes."
    ),
]
FirstSize = Annotated[
    int | None,
    typer.Option(
        "--first-size", min=1, help="Height of the images at first; it grows to the whole."
    ),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Images a step.")]
Rate = Annotated[float, typer.Option(min=0, help="The highest learning rate.")]
Seed = Annotated[int, typer.Option(min=0, help="Of order, augmentation and dropout.")]
Augment = Annotated[str, typer.Option(help="none, flip, shift or shift-flip.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Train on so many images only.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads of torch.")]
Device = Annotated[
    str, typer.Option(help="Where torch computes: cpu, cuda, cuda:1.", metavar="DEVICE")
]
ChannelsLast = Annotated[
    bool, typer.Option("--channels-last", help="Train in this memory format: often quicker.")
]
Narrow = Annotated[
    bool, typer.Option("--bfloat16", help="Compute in bfloat16: quick with AMX or on a GPU.")
]
Half = Annotated[bool, typer.Option("--float16", help="Write float16 weights.")]
