"""How much each layer matters, in sentences."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from dlas.analyze.conclusion import Analysis, Finding
from dlas.analyze.tell.words import (
    listed,
    percent,
)


def importance(analysis: Analysis) -> Iterator[Finding]:
    """Say which layer matters most, and whether that rests on a single level."""
    shares = analysis.shares
    layers = shares[shares["kind"] == "layer"].sort_values("share", ascending=False)
    if not len(layers):
        return
    terms = layers["term"].tolist()
    if not (layers["share"] > layers["chance"].fillna(0.0)).any():
        noisy = float(shares.loc[shares["kind"] == "noise", "share"].sum())
        yield Finding(
            "importance",
            f"No layer matters beyond noise: {percent(noisy)} of the variance of "
            f"{analysis.table.metric} is what the noise of rounds alone would make.",
            layers=tuple(terms),
            cells=_extremes(analysis, terms),
            overturn="More rounds, or levels that differ more.",
        )
        return
    told = [f"{t} {percent(s)}" for t, s in zip(terms, layers["share"], strict=True)]
    pairs = float(shares.loc[shares["kind"] == "pair", "share"].sum())
    lost = layers.loc[layers["confounded"].eq(True), "term"].tolist()
    text = (
        f"{terms[0]} matters most for {analysis.table.metric}. Shares of its variance "
        f"(log scale): {listed(told, 6)}; pairs of layers together {percent(pairs)}"
    )
    if lost:
        text += f". Confounded, so that shares are split between them: {listed(lost, 6)}"
    yield Finding(
        "importance",
        f"{text}.",
        layers=tuple(terms),
        cells=_extremes(analysis, terms),
        numbers={"shares": dict(zip(terms, layers["share"], strict=True)), "pairs": pairs},
        overturn="Other levels: a share says how much the levels in the table differ.",
    )
    yield from _order(analysis)


def _extremes(analysis: Analysis, layers: list[str]) -> tuple[str, ...]:
    """Return for each layer the pair of cells, all else equal, that its choices set farthest."""
    rows = analysis.speedup_contexts
    found: list[str] = []
    for layer in layers:
        own = rows[rows["factor"] == layer]
        if len(own):
            far = own.iloc[int(np.argmax(np.abs(np.log(own["ratio"]))))]
            found += [str(far["cell"]), str(far["baseline_cell"])]
    return tuple(dict.fromkeys(found))


def _order(analysis: Analysis) -> Iterator[Finding]:
    changed = analysis.left_out[analysis.left_out["changed"].eq(True)]
    if not len(changed):
        return
    told = [f"without {r.layer}={r.level}: {r.order}" for r in changed.itertuples()]
    yield Finding(
        "order",
        f"The order of the layers rests on single levels: {listed(told, 3)}.",
        layers=tuple(dict.fromkeys(changed["layer"])),
        cells=_having(analysis, changed),
        numbers={"levels": [f"{r.layer}={r.level}" for r in changed.itertuples()]},
        overturn="The losses from the second-best choice, which one bad level cannot move.",
    )


def _having(analysis: Analysis, levels: pd.DataFrame) -> tuple[str, ...]:
    """Return up to 20 cells that hold one of some single levels."""
    good = analysis.table.complete
    cells = analysis.table.cells[good]
    held = np.zeros(len(cells), dtype=bool)
    for r in levels.itertuples():
        held |= (cells[r.layer] == r.level).to_numpy(dtype=bool)
    return tuple(analysis.table.rows["cell"][good][held].astype(str).head(20))
