"""The commands that decide: what is deployed, what to try next, and the whole way at once."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dlas.cli import options
from dlas.cli.options import LATENCIES, QUIET
from dlas.cli.printing import one_of, print_json
from dlas.core.errors import UserError, near

if TYPE_CHECKING:
    from dlas.deploy.sizing import Wish


def export(
    folder: options.Folder,
    cell: options.CellOrBest,
    to: options.To,
    store: options.SharedStore = None,
    metric: options.BestBy = None,
) -> None:
    """Write a folder that runs a measured stack without dlas, and prove that it does.

    CELL is the start of a cell's hash, or `best`: the best under the study's goals.

        dlas export out/quickstart best --to deploy

        dlas export out/quickstart best --metric latency_ms --to deploy

        dlas export out/quickstart 3fa2 --to deploy
    """
    from dlas.cli.display import exported_text
    from dlas.deploy import export as write

    print(exported_text(write(folder, cell, to, None if store is None else Path(store), metric)))


def advise(
    folders: options.Folders,
    metric: options.ComparedBy = QUIET,
    format: options.AdviceFormat = "text",
) -> None:
    """Say layer by layer what was tried, what could be, and the next three experiments.

    Of several folders the one of this machine is `here`; the others are evidence from elsewhere.
    The experiments are written as study files beside the results.

        dlas advise out/quickstart

        dlas advise out/laptop out/board --format markdown
    """
    from dlas.advise import advise as look
    from dlas.advise.experiments import save
    from dlas.advise.said import as_markdown, as_text
    from dlas.cli.display import terminal_width

    one_of(format, ("text", "json", "markdown"))
    found = look(folders, metric=one_of(metric, LATENCIES, "--metric"))
    save(found.experiments)
    if format == "json":
        print_json(found.to_json())
    else:
        width = terminal_width(sys.stdout)
        print(as_text(found, width) if format == "text" else as_markdown(found))


def init(
    model: options.Network,
    data: options.Images,
    out: options.NewStudy = Path("study.yaml"),
    budget: options.Time = None,
    max_drop: options.MaxDrop = 0.01,
    minimize: options.Sought = "latency_ms",
    threads: options.ThreadCounts = None,
    weights: options.TrainedWeights = "",
    size: options.InputSize = None,
    classes: options.Classes = None,
) -> None:
    """Write a short study file for your network and images: only what this machine can run.

    dlas init my_net.py --data photos --budget 20m

    dlas init net.onnx --data photos --out study.yaml
    """
    from dlas.deploy.front_door import write_study
    from dlas.deploy.given import Options

    wish = _wish(max_drop, minimize, threads)
    given, sized = write_study(
        model, data, Options(weights, size, classes), wish, _seconds(budget), out
    )
    _note(given.notes)
    print(
        f"{out}: {sized.runnable} stacks, about {sized.expected_s / 60:.0f} min (a guess); "
        f"`dlas run {out} --out out/{out.stem}` runs them"
    )


def optimize(
    model: options.Network,
    data: options.Images,
    out: options.Out,
    budget: options.Time = "20m",
    max_drop: options.MaxDrop = 0.01,
    minimize: options.Sought = "latency_ms",
    threads: options.ThreadCounts = None,
    weights: options.TrainedWeights = "",
    size: options.InputSize = None,
    classes: options.Classes = None,
    quiet: options.Quiet = False,
) -> None:
    """Find the best stack for your network on this machine in the time given, and export it.

    Writes the study that it uses, measures, analyses, and exports the best to OUT/best.

        dlas optimize my_net.py --data photos --out out/mine

        dlas optimize net.onnx --data photos --budget 8m --max-drop 0.005 --out out/net
    """
    from dlas.cli.display import progress
    from dlas.deploy.front_door import optimize as find
    from dlas.deploy.given import Options
    from dlas.deploy.ten_lines import ten_lines

    wish = _wish(max_drop, minimize, threads)
    shown = progress(sys.stderr, quiet)
    try:
        done = find(
            model,
            data,
            out,
            options=Options(weights, size, classes),
            wish=wish,
            seconds=_seconds(budget),
            progress=shown,
        )
    except KeyboardInterrupt:
        shown.close()
        print("\nstopped; nothing finished is lost: the same command goes on", file=sys.stderr)
        raise typer.Exit(130) from None
    finally:
        shown.close()
    _note(done.given.notes)
    print(ten_lines(done))


def _note(notes: Sequence[str]) -> None:
    for note in notes:
        print(note, file=sys.stderr)


def _seconds(budget: str | None) -> float | None:
    """Return a time as seconds.

    Raises:
        UserError: it is none.
    """
    if budget is None:
        return None
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|m|min|h)\s*", budget)
    if found is None or float(found[1]) <= 0:
        raise UserError(f"--budget {budget!r} is no time: write 90s, 20m or 2h")
    return float(found[1]) * {"s": 1, "m": 60, "min": 60, "h": 3600}[found[2]]


def _wish(max_drop: float, minimize: str, threads: str | None) -> Wish:
    """Return what is sought.

    Raises:
        UserError: all that is wrong with it.
    """
    from dlas.deploy.sizing import Wish
    from dlas.study.form import METRICS

    metrics = tuple(name.strip() for name in minimize.split(",") if name.strip())
    problems = [
        f"--minimize {name!r}: no metric is called so.{near(name, METRICS)} "
        f"Metrics: {', '.join(METRICS)}."
        for name in metrics
        if name not in METRICS
    ]
    problems += [] if metrics else [f"--minimize {minimize!r}: names no metric"]
    counts: list[int] = []
    cores = len(os.sched_getaffinity(0))
    for text in [] if threads is None else threads.split(","):
        if text.strip().isdecimal() and 1 <= int(text) <= cores:
            counts.append(int(text))
        else:
            problems.append(
                f"--threads {text.strip()!r}: must be numbers from 1 to {cores}, the processors "
                "of this machine, with commas"
            )
    if problems:
        raise UserError(problems)
    return Wish(metrics, max_drop, tuple(dict.fromkeys(counts)))
