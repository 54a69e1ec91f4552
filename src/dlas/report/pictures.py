"""The report's main pictures as PNG and SVG files, drawn by matplotlib from the same numbers."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dlas.core.errors import StorageError, UserError
from dlas.report.material import Material

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8A7A00")
"""Okabe and Ito's palette: told apart by the colour-blind; markers differ as well."""
MARKERS = "osD^PX*vph"
FORMATS = ("png", "svg")
MOST = 14

Drawer = Callable[["Axes", Material], bool]
"""Draws on axes; False where there is nothing to draw."""


def draw(material: Material, folder: Path) -> list[Path]:
    """Write every figure that the results allow and return the files.

    Raises:
        UserError: matplotlib is not installed.
        StorageError: a file cannot be written.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise UserError("figures need matplotlib: pip install 'dlas[figures]'")
    from matplotlib.figure import Figure

    drawers: dict[str, tuple[Drawer, tuple[float, float]]] = {
        "stack": (_stack, (6.4, 5.2)),
        "latency-accuracy": (_front, (7.6, 5.0)),
        "speedups": (_speedups, (7.6, 5.0)),
        "flips": (_flips, (8.6, 5.0)),
        "drift": (_drift, (7.6, 3.6)),
    }
    written = []
    for name, (drawer, size) in drawers.items():
        figure = Figure(figsize=size, layout="constrained")
        if drawer(figure.subplots(), material):
            written += _saved(figure, folder / name)
    return written


def _saved(figure: Figure, stem: Path) -> list[Path]:
    paths = [stem.with_suffix(f".{kind}") for kind in FORMATS]
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        for path in paths:
            figure.savefig(path, dpi=160)
    except OSError as error:
        raise StorageError(f"{stem.parent} cannot be written: {error.strerror}") from error
    return paths


def _stack(axes: Axes, material: Material) -> bool:
    """Shares of the layers on the diagonal, the largest changes of effect below it."""
    found = material.analysis
    if found is None:
        return False
    layers = found.shares[found.shares["kind"] == "layer"].sort_values("share", ascending=False)
    names = layers["term"].tolist()
    if not names:
        return False
    axes.set(xlim=(0, len(names)), ylim=(len(names), 0), aspect="equal")
    for i, share in enumerate(layers["share"].tolist()):
        _tile(axes, i, i, "Blues", share, f"{100 * share:.0f} %")
    for r in found.layer_pairs.itertuples():
        i, j = sorted((names.index(r.layer), names.index(r.by)))
        size = float(np.log(r.largest) / np.log(4)) if r.found else 0.0
        said = f"x {r.largest:.3g}\n{r.found}/{r.tests}" if r.found else "none"
        _tile(axes, i, j, "Oranges", min(size, 1.0), said)
    axes.set_xticks([i + 0.5 for i in range(len(names))], names, rotation=30, ha="right")
    axes.set_yticks([i + 0.5 for i in range(len(names))], names)
    axes.set_title("Share of the variance, and changes of effect by pair of layers", fontsize=10)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return True


def _tile(axes: Axes, x: int, y: int, scale: str, depth: float, text: str) -> None:
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    tint = colormaps[scale](0.08 + 0.8 * depth)
    axes.add_patch(Rectangle((x + 0.03, y + 0.03), 0.94, 0.94, color=tint))
    ink = "white" if depth > 0.6 else "black"
    axes.text(x + 0.5, y + 0.5, text, ha="center", va="center", color=ink, fontsize=9)


def _front(axes: Axes, material: Material) -> bool:
    """Latency against accuracy, by software, with the cells that nothing beats in both."""
    cells = material.cells[material.cells["status"] == "complete"]
    cells = cells[cells["accuracy"].notna() & cells["quiet_ms"].notna()]
    if not len(cells):
        return False
    names = material.short("software")
    for i, (software, part) in enumerate(cells.groupby("software", sort=False)):
        color, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
        axes.scatter(part["quiet_ms"], 100 * part["accuracy"], s=22, alpha=0.75,
                     label=names[str(software)], color=color, marker=marker)  # fmt: skip
    ranked = cells.sort_values(["quiet_ms", "accuracy"], ascending=[True, False])
    front = ranked[ranked["accuracy"] > ranked["accuracy"].cummax().shift(fill_value=-1.0)]
    axes.step(front["quiet_ms"], 100 * front["accuracy"], where="post", color="black", lw=1,
              label="front")  # fmt: skip
    axes.set(xscale="log", xlabel="undisturbed latency, ms", ylabel="accuracy, %")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8)
    return True


def _speedups(axes: Axes, material: Material) -> bool:
    """Paired speed-ups of every choice over its layer's baseline, over contexts."""
    found = material.analysis
    if found is None or not len(found.speedups):
        return False
    whole = found.speedups[found.speedups["factor"] == found.speedups["layer"]]
    whole = whole.sort_values("median", ascending=False).head(MOST)
    labels, values = [], []
    for r in whole.itertuples():
        names = material.short(r.layer)
        contexts = found.speedup_contexts
        own = contexts[(contexts["factor"] == r.factor) & (contexts["level"] == r.level)]
        labels.append(f"{names.get(r.level, r.level)} / {names.get(r.baseline, r.baseline)}")
        values.append(own["ratio"].to_numpy(dtype=float))
    places = list(range(len(labels)))
    axes.boxplot(values, positions=places, orientation="horizontal")
    axes.set_yticks(places, labels, fontsize=8)
    axes.invert_yaxis()
    _about_one(axes, "times faster than the baseline, everything else equal")
    return True


def _about_one(axes: Axes, label: str) -> None:
    from matplotlib.ticker import FuncFormatter

    plainly = FuncFormatter(lambda x, _: f"{x:g}")
    axes.axvline(1, color="grey", ls="--", lw=1)
    axes.set(xscale="log", xlabel=label)
    axes.xaxis.set_major_formatter(plainly)
    axes.xaxis.set_minor_formatter(plainly)
    axes.tick_params(axis="x", which="minor", labelsize=7)
    axes.grid(axis="x", alpha=0.25)


def _flips(axes: Axes, material: Material) -> bool:
    """The two sides of each flip."""
    found = material.analysis
    if found is None or not len(found.flips):
        return False
    top = found.flips.head(MOST)
    labels = []
    for i, r in enumerate(top.itertuples()):
        names = material.short(r.layer)
        labels.append(f"{names.get(r.a, r.a)} or {names.get(r.b, r.b)}, by {r.by}")
        axes.plot([r.ratio_better, r.ratio_worse], [i, i], color="grey", lw=1.2, zorder=1)
    places = list(range(len(top)))
    axes.scatter(top["ratio_better"], places, color=COLOURS[0], marker="o", label="faster here")
    axes.scatter(top["ratio_worse"], places, color=COLOURS[1], marker="s", label="slower there")
    axes.set_yticks(places, labels, fontsize=8)
    axes.invert_yaxis()
    _about_one(axes, "speed-up of the first over the second choice")
    axes.legend(fontsize=8)
    return True


def _drift(axes: Axes, material: Material) -> bool:
    """The sentinel of each session over its median."""
    from dlas.report.host import sentinels

    lines = sentinels(material)
    for i, line in enumerate(lines):
        color, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
        axes.plot(
            line["minutes"],
            line["relative"],
            ms=3,
            lw=0.8,
            label=line["session"],
            color=color,
            marker=marker,
        )
    for limit in {1 + sign * line["allowed"] for line in lines for sign in (-1, 1)}:
        axes.axhline(limit, color="grey", ls="--", lw=1)
    axes.set(xlabel="minutes", ylabel="sentinel over its median")
    axes.grid(alpha=0.25)
    if lines:
        axes.legend(fontsize=8)
    return bool(lines)
