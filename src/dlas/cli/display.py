"""How the command line draws: tables on standard output, progress on standard error."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from dlas.cli.printing import harmless
from dlas.core.errors import listed
from dlas.core.protocols import SPLITS

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from dlas.deploy import Exported
    from dlas.run.run import Summary

Rows = Sequence[Mapping[str, object]]

LINE_EVERY_S = 5.0
"""Without a terminal a line is printed at most so often."""


def text_of(value: object) -> str:
    """Return a value as a table shows it; what is not known is empty."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        whole = value.is_integer() and abs(value) < 1e15
        return str(int(value)) if whole else f"{value:.4g}"
    return harmless(" ".join(str(value).split()))


def duration(seconds: float) -> str:
    """Return seconds as people say them: ``45 s``, ``12 min``, ``3 h 20 min``."""
    if not math.isfinite(seconds):
        return "?"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def table(rows: Rows, columns: Sequence[str], width: int | None = None) -> str:
    """Return rows as aligned text: folded to a terminal of ``width``, else one line a row."""
    cells = [[text_of(row.get(column)) for column in columns] for row in rows]
    if width is None:
        return plain(columns, cells)
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for column, right in zip(columns, _numeric(cells, len(columns)), strict=True):
        drawn.add_column(column, justify="right" if right else "left", overflow="fold")
    for line in cells:
        drawn.add_row(*map(Text, line))
    console = Console(width=width, force_terminal=True)
    with console.capture() as captured:
        console.print(drawn)
    return captured.get().rstrip()


def terminal_width(stream: TextIO) -> int | None:
    """Return the width of the terminal that a stream is, or None: it is none."""
    return shutil.get_terminal_size().columns if stream.isatty() else None


def _numeric(cells: Sequence[Sequence[str]], count: int) -> list[bool]:
    def number(text: str) -> bool:
        try:
            float(text or "0")
        except ValueError:
            return False
        return True

    return [bool(cells) and all(number(line[at]) for line in cells) for at in range(count)]


def plain(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """Return a table as plain lines, columns two blanks apart."""
    lines = [list(columns), *map(list, cells)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(columns))]
    right = _numeric(cells, len(columns))
    return "\n".join(
        "  ".join(
            text.rjust(width) if ahead else text.ljust(width)
            for text, width, ahead in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def preview_text(found: Mapping[str, Any]) -> str:
    """Return what ``dlas.run.plan.preview.preview`` found as text."""
    rows: list[dict[str, object]] = [{"": "cells", "count": found["cells"]}]
    rows += [{"": f"  {name}", "count": n} for name, n in found["cells_by_status"].items()]
    rows += [{"": "steps", "count": found["steps"]}]
    rows += [{"": f"  {stage}", "count": n} for stage, n in found["by_stage"].items()]
    rows += [{"": "steps without sharing", "count": found["steps_unshared"]}]
    rows += [{"": "measurements", "count": found["measurements"]}]
    cost = _cost_text(found)
    reasons = [f"{r['status']} ({r['cells']} cells): {r['reason']}" for r in found["refusals"]]
    reasons += [f"not looked at (a run does): {path}" for path in found["not_looked_at"]]
    data = [line for each in found["data"] for line in _data_lines(each)]
    named = f"study {found['study']}, hash {found['hash'][:12]}"
    lacking = _lacking_lines(found)
    return "\n".join([named, *data, "", table(rows, ("", "count")), "", cost, *reasons, *lacking])


def _lacking_lines(found: Mapping[str, Any]) -> list[str]:
    """Return which files of weights are missing, what follows, and how to make them."""
    files = found["missing_weights"]
    if not files:
        return []
    cells = sum(each["cells"] for each in files)
    trained = [each for each in files if each["train"]]
    lines = [
        "",
        f"missing weights: {len(files)} files, which {cells} of {found['cells']} cells need. "
        "`dlas run` refuses the study until they are there, and what a store may hold of these "
        "cells was not looked up: their keys hold what is in the files.",
        *(f"  {each['file']}: {each['cells']} cells" for each in files),
        "Put them there"
        + (", or train them" if trained else "")
        + "; without `weights` in the study a network has random ones, and no accuracy.",
    ]
    if trained:
        lines += [
            f"In {found['folder']} (`dlas train --help` has what makes it longer and better):",
            *(f"  {each['train']}" for each in trained),
        ]
    return lines


def _cost_text(found: Mapping[str, Any]) -> str:
    """Return how long a run would take and what of the disk, and by what that is expected."""
    from dlas.store.budget import size_text

    took = f"as {found['pilot']} took" if found["pilot"] else "a guess"
    stored = took if found["sizes_of_pilot"] else "a guess"
    whole, least = (size_text(1e6 * found[k]) for k in ("expected_mb", "least_disk_mb"))
    cost = (
        f"about {duration(found['expected_s'])} ({took}) and {whole} of disk ({stored}); "
        f"with --max-disk at least {least} ({stored})"
    )
    if len(found["by_dataset"]) > 1 or found["pilot"]:
        cost += "".join(f"\n  {_share_text(part)}" for part in found["by_dataset"])
    if sizes := found["mb_by_stage"]:
        of = (f"{stage} {size_text(1e6 * mb)}" for stage, mb in sizes.items())
        cost += f"\n  disk: {', '.join(of)}"
    if found["sizes_known"]:
        cost += f"\nof {found['sizes_known']} steps the artefact's size is known"
    if unknown := found["networks_unknown"]:
        cost += (
            f"\nthe size of {unknown} of {found['networks']} networks is not known beforehand: "
            f"each is taken for {size_text(1e6 * found['unknown_network_mb'])}"
        )
    return cost


def _share_text(part: Mapping[str, Any]) -> str:
    """Return what the stacks of one data set of a plan cost."""
    guessed = f", {part['guessed']} of their times guessed" if part["guessed"] else ""
    return (
        f"{part['dataset']}: {part['cells']} cells, about {duration(part['expected_s'])} "
        f"({part['steps']} steps, {part['measurements']} measurements{guessed})"
    )


def _data_lines(read: Mapping[str, Any]) -> list[str]:
    """Return what was read of a data set: classes, images by split, what was left out."""
    head = "data  " + "\n      ".join(read["datasets"])
    if "problem" in read:
        return [head, f"  could not be looked at: {read['problem']}"]
    names = f": {listed(read['names'], 8)}" if read["names"] else ""
    lines = [head, f"  classes  {read['classes']}{names}"]
    for split in SPLITS:
        of = read[split]
        each = f"{of['least']} to {of['most']}" if of["least"] != of["most"] else of["most"]
        where = f" from {of['where']}" if of["where"] else ""
        lines.append(f"  {split:7}  {of['images']} images{where}, {each} a class")
    skipped = sorted(read["skipped"].items(), key=lambda item: -item[1])
    lines += [f"  skipped  {count} {why}" for why, count in skipped]
    return [*lines, *(f"  note     {note}" for note in read["notes"])]


def summary_text(summary: Summary) -> str:
    """Return what a run came to as text."""
    counts = ", ".join(f"{n} {status}" for status, n in sorted(summary.cells.items()))
    lines = [f"{summary.study}: {sum(summary.cells.values())} cells: {counts or 'none'}"]
    if summary.stale:
        lines.append(f"  {summary.stale} cells more are stale: the study no longer has them")
    for stage, reason, n in summary.failures:
        first = str(reason).partition("\n")[0]
        lines.append(f"  failed in {stage} ({n} cells): {first}")
    if summary.evicted:
        mb = f"{summary.evicted_bytes / 1e6:.4g} MB"
        lines.append(f"evicted to keep to the disk budget: {summary.evicted} artefacts, {mb}")
    return "\n".join([*lines, f"results: {summary.out}"])


def exported_text(done: Exported) -> str:
    """Return what an export came to as text: the stack, its numbers, how to try it."""
    card = done.card
    numbers = card["numbers"]
    told = [f"{numbers['latency_ms']:.4g} ms", f"{numbers['artifact_mb']:.4g} MB on disk"]
    told += [f"accuracy {numbers['accuracy']:.4g}"] if numbers["accuracy"] is not None else []
    stack = " ".join(card["stack"][layer] for layer in card["stack"])
    return "\n".join([
        f"exported cell {done.cell} ({stack}) to {done.folder}",
        f"{', '.join(told)}; the folder was run here and gives the outputs of the network",
        f"try it: cd {done.folder} && python3 -m venv venv && "
        "venv/bin/pip install -r requirements.txt && venv/bin/python verify.py",
    ])  # fmt: skip


# ---------------------------------------------------------------- progress


def progress(stream: TextIO, quiet: bool = False) -> Bars | Lines:
    """Return what draws a run's progress on a stream: bars on a terminal, else lines."""
    return Lines(stream, quiet) if quiet or not stream.isatty() else Bars(stream)


class Lines:
    """Plain lines, not more often than every few seconds; notes always."""

    def __init__(self, stream: TextIO, quiet: bool = False) -> None:
        self.stream = stream
        self.quiet = quiet
        self._last = -math.inf

    def say(self, text: str, always: bool = False) -> None:
        """Print a line, unless one was printed just now."""
        now = time.monotonic()
        if always or (not self.quiet and now - self._last >= LINE_EVERY_S):
            self._last = now
            self.stream.write(f"{text}\n")
            self.stream.flush()

    def start(self, total_steps: int, total_measurements: int) -> None:
        """Say how much there is to do."""
        measuring = f", about {total_measurements} measurements" if total_measurements else ""
        self.say(f"{total_steps} steps{measuring}", not self.quiet)

    def step(self, stage: str, text: str, done: int, total: int) -> None:
        """Say which step has ended."""
        self.say(f"step {done} of {total}: {stage} {text}")

    def measurement(self, cell_text: str, done: int, total: int, left_s: float) -> None:
        """Say what is measured next."""
        self.say(f"measurement {done} of {total}, {duration(left_s)} left: {cell_text}")

    def note(self, text: str) -> None:
        """Say what a person should know."""
        self.say(text, always=True)

    def finish(self, summary: object) -> None:
        """Say nothing: the command prints the summary."""

    def close(self) -> None:
        """Nothing is left to put away."""


class Bars:
    """Two bars on a terminal; drawn only when called, by no thread of their own."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._drawn: RichProgress | None = None
        self._steps: TaskID | None = None
        self._measurements: TaskID | None = None

    def _make(self) -> RichProgress:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        made = Progress(
            TextColumn("{task.fields[kind]}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}"),
            TextColumn("{task.description}", markup=False),
            console=Console(file=self.stream),
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        made.start()
        return made

    def start(self, total_steps: int, total_measurements: int) -> None:
        """Draw the empty bars."""
        self._drawn = self._make()
        add = self._drawn.add_task
        self._steps = add("", total=total_steps, kind="steps       ", left="")
        self._measurements = add("", total=total_measurements, kind="measurements", left="")
        self._drawn.refresh()

    def _draw(self, task: TaskID | None, text: str, done: int, total: int, left: str) -> None:
        if self._drawn is not None and task is not None:
            self._drawn.update(task, description=text, completed=done, total=total, left=left)
            self._drawn.refresh()

    def step(self, stage: str, text: str, done: int, total: int) -> None:
        """Draw that a step has ended."""
        self._draw(self._steps, f"{stage} {text}", done, total, "")

    def measurement(self, cell_text: str, done: int, total: int, left_s: float) -> None:
        """Draw what is measured next."""
        self._draw(self._measurements, cell_text, done, total, f"{duration(left_s)} left")

    def note(self, text: str) -> None:
        """Print a line above the bars."""
        if self._drawn is None:
            self.stream.write(f"{text}\n")
            self.stream.flush()
        else:
            self._drawn.console.print(text, markup=False, highlight=False)
            self._drawn.refresh()

    def finish(self, summary: object) -> None:
        """Leave the bars as they are."""
        self.close()

    def close(self) -> None:
        """Give the terminal back, also after an error."""
        if self._drawn is not None:
            self._drawn.stop()
            self._drawn = None


def training_progress(stream: TextIO) -> Callable[[int, int, float], None]:
    """Return what prints a line every few seconds of training: step, steps, loss."""
    lines = Lines(stream)

    def step(done: int, total: int, loss: float) -> None:
        lines.say(f"step {done} of {total}: loss {loss:.3f}")

    return step
