"""The sentences of the answers: best cell, importance, noise, speed-ups, interactions, flips."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from dlas.analyze.conclusion import SIGNIFICANT, Analysis, Finding
from dlas.analyze.parts.interactions import example
from dlas.analyze.tell.words import (
    apart,
    around,
    better,
    brief,
    compared,
    contexts,
    interval,
    listed,
    number,
    percent,
    signed,
    times,
)


def above_one(ratio: float, low: float, high: float) -> tuple[float, float, float]:
    """Return a ratio and its interval turned so that the ratio is at least 1."""
    return (ratio, low, high) if ratio >= 1 else (1 / ratio, 1 / high, 1 / low)


def what_overturns(analysis: Analysis, ratio: float, low: float, high: float) -> str:
    """Say which error would undo a comparison."""
    turned, near, _ = above_one(ratio, low, high)
    if not math.isfinite(near):
        size = percent(turned - 1)
        return f"Nothing is known of the noise: an error of {size} between the two would undo it."
    size = percent(max(near - 1, 0.0))
    return (
        f"An error of {size} common to all rounds of one side (another clock, another build), "
        "or contexts other than those measured."
    )


def best(analysis: Analysis) -> Iterator[Finding]:
    """Say which cell to take."""
    found = analysis.best
    limits = found.verdicts[found.verdicts["cell"] == found.cell]
    if not found.cell:
        text = "No cell can be recommended: none is complete"
        if len(found.verdicts):
            text = "No cell can be recommended: every complete cell surely fails a goal"
        yield Finding("best", f"{text}.", overturn="Other goals, or more cells.")
        return
    near = found.runners_up
    where = f" on {found.host}" if len(analysis.table.hosts) > 1 else ""
    text = f"Take {found.cell}{where}: {found.metric} {number(found.value)}"
    if len(limits):
        said = (f"{r.limit} {number(r.bound)}: {r.verdict}" for r in limits.itertuples())
        text += f" ({'; '.join(said)})"
    if not found.sure:
        text += ". No cell surely meets all goals; this one may"
    if len(near):
        cells = near["cell"].astype(str).tolist()
        many = "1 other" if len(near) == 1 else f"{len(near)} others"
        text += f". {many} cannot be told apart from it: {listed(cells, 3)}"
    yield Finding(
        "best",
        f"{text}.",
        cells=(found.cell, *near["cell"].astype(str).tolist()[:20]),
        numbers={"value": found.value, "sure": found.sure, "runners_up": len(near)},
        overturn="More rounds can tell the runners-up apart; other goals choose another cell.",
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
    cells = analysis.table.cells[analysis.table.complete]
    held = np.zeros(len(cells), dtype=bool)
    for r in levels.itertuples():
        held |= (cells[r.layer] == r.level).to_numpy(dtype=bool)
    return tuple(cells["cell"][held].astype(str).head(20))


def _controls(analysis: Analysis) -> tuple[str, ...]:
    """Return up to 20 cells measured twice, those that agree least first."""
    controls = analysis.estimates.controls
    if not len(controls):
        return ()
    order = np.argsort(-np.abs(np.log(controls["ratio"].to_numpy(dtype=float))), kind="stable")
    ids = analysis.table.cells["cell"].to_numpy()
    rows = controls["row"].to_numpy(dtype=int)[order]
    return tuple(dict.fromkeys(str(ids[row]) for row in rows[:20]))


def noise(analysis: Analysis) -> Iterator[Finding]:
    """Say how far to trust the numbers."""
    found = analysis.noise()
    floor = percent(found["floor"])
    if not analysis.estimates.known:
        text = (
            "The table has neither rounds nor intervals, so nothing is called significant: "
            f"differences below {floor} are not counted, and spread is spread over contexts"
        )
    elif analysis.estimates.kind == "intervals":
        text = "Noise is taken from the intervals in the table, read as 95 %"
    else:
        floors = analysis.estimates.strata["floor"]
        text = f"Two cells can be told apart from a difference of {_range(floors)}"
        if found["controls"]:
            text += (
                f"; of {found['controls']} controls measured twice "
                f"{percent(found['controls_inside'])} agree within that"
            )
        if found["inflation"] > 1:
            text += (
                "; fewer than there should be, so all intervals are "
                f"{number(found['inflation'])} times wider"
            )
    yield Finding(
        "noise",
        f"{text}.",
        cells=_controls(analysis),
        numbers=found,
        overturn="An error common to all rounds of a cell, which only controls can show.",
    )


def speedups(analysis: Analysis) -> Iterator[Finding]:
    """Say what each choice gains or loses against its baseline."""
    contexts_of = dict(iter(analysis.speedup_contexts.groupby(["factor", "level"])))
    for r in analysis.speedups.itertuples():
        rows = contexts_of[r.factor, r.level]
        text = (
            f"{r.factor}={r.level} is {compared(analysis.table, r.ratio)} {r.baseline} "
            f"(geometric mean over {contexts(r.contexts)}"
            f"{around(analysis.table, r.ratio, r.low, r.high)})"
        )
        if r.contexts > 1:
            _, bad = better(analysis.table)
            least, most = (signed(analysis.table, x) for x in (r.least, r.most))
            text += f"; single contexts {least} to {most}, {bad} in {percent(r.slower)} of them"
        ratio, low, high = above_one(r.ratio, r.low, r.high)
        yield Finding(
            "speed-up",
            f"{text}.",
            layers=(r.layer,),
            ratio=ratio,
            low=low,
            high=high,
            p=r.p,
            certainty=SIGNIFICANT,
            cells=_ends(rows),
            numbers={"contexts": r.contexts, "median": r.median, "slower": r.slower},
            overturn=what_overturns(analysis, r.ratio, r.low, r.high),
        )


def _ends(rows: pd.DataFrame) -> tuple[str, ...]:
    """Return the cells of the least and the largest of some ratios."""
    if not len(rows):
        return ()
    ends = rows.iloc[[int(np.argmin(rows["ratio"])), int(np.argmax(rows["ratio"]))]]
    return tuple(dict.fromkeys(ends[["cell", "baseline_cell"]].to_numpy().ravel().tolist()))


def losses(analysis: Analysis) -> Iterator[Finding]:
    """Say what a wrong choice at each layer costs."""
    limit = 1 + analysis.estimates.floor() if analysis.estimates.known else math.nan
    limit = limit if math.isfinite(limit) else 1 + analysis.table.floor
    for r in analysis.losses.itertuples():
        # What two cells' noise could make is no loss.
        if r.second_median < limit and not r.baseline_median > limit:
            continue
        yield Finding(
            "loss",
            f"The second-best {r.layer} is {compared(analysis.table, 1 / r.second_median)} the "
            f"best in the median of {contexts(r.contexts)}, everything else equal "
            f"({times(r.second_q90)} or more in a tenth of them); the baseline, {r.baseline}, is "
            f"{_from_best(analysis, r.baseline_median)} in the median.",
            layers=(r.layer,),
            ratio=r.second_median,
            cells=tuple(r.cells),
            numbers={"ties": r.ties, "baseline_ratio": r.baseline_median},
            overturn="Other choices at this layer: the loss is between those in the table.",
        )


def _from_best(analysis: Analysis, ratio: float) -> str:
    if not math.isfinite(ratio):
        return "in none of them"
    if ratio < 1.0005:
        return "itself the best"
    return f"{compared(analysis.table, 1 / ratio)} the best"


def interactions(analysis: Analysis) -> Iterator[Finding]:
    """Say for each pair of layers how one changes the effect of the other, by its largest."""
    tetrads = analysis.interactions
    if not len(tetrads):
        return
    for (layer, by), part in tetrads.groupby(["layer", "by"], sort=False):
        r = part.iloc[_clearest(part)]
        cells, where = example(analysis.table, analysis.estimates, r)
        said = (f"{compared(analysis.table, 1 / float(x))} {r.b}" for x in (r.at_m, r.at_n))
        at_m, at_n = said
        ratio, low, high = above_one(r.ratio, r.low, r.high)
        yield Finding(
            "interaction",
            f"{by} changes what {layer} does: {r.a} is {at_m} at {by}={r.m}, "
            f"{at_n} at {r.n}: a factor of {times_or_percent(r.ratio)} "
            f"({contexts(r.contexts)}{interval(r.low, r.high, inverse=r.ratio < 1)}).",
            layers=(str(layer), str(by)),
            ratio=ratio,
            low=low,
            high=high,
            p=min(1.0, float(r.p) * len(part)),
            certainty=SIGNIFICANT,
            cells=tuple(cells),
            numbers={"tests": len(part), "at": where, **_levels(r)},
            overturn=what_overturns(analysis, r.ratio, r.low, r.high),
        )


def _levels(r: Any) -> dict[str, str]:
    return {"a": r.a, "b": r.b, "m": r.m, "n": r.n}


def _range(floors: pd.Series) -> str:
    """Return ``5.0 % on``, or the ends where the floor differs between strata."""
    low, high = percent(float(floors.min())), percent(float(floors.max()))
    return f"{low} on" if low == high else f"{low} to {high} on, depending on the choices"


def times_or_percent(ratio: float) -> str:
    """Return a ratio of ratios, turned above 1, as a plain number."""
    return number(max(ratio, 1 / ratio))


def _clearest(part: pd.DataFrame) -> int:
    """Return the place of the interaction whose interval is farthest from none."""
    ratio, low, high = (np.log(part[c].to_numpy(dtype=float)) for c in ("ratio", "low", "high"))
    near = np.where(ratio > 0, low, -high)
    return int(np.argmax(np.where(np.isfinite(near), near, np.abs(ratio) - 1e6)))


def flips(analysis: Analysis) -> Iterator[Finding]:
    """Say which choices change order, where, and what flips them."""
    for r in analysis.flips.itertuples():
        good, bad = better(analysis.table)
        here, there, both = apart(analysis.table, r.better_at, r.worse_at)
        flip = "flips" if ", " not in r.by else "flip"
        text = (
            f"{r.by} {flip} {r.layer}: {r.a} is {times(r.ratio_better)} {good} than {r.b} at "
            f"{here or 'some contexts'} and {times(r.ratio_worse)} {bad} at "
            f"{there or 'others'}"
        )
        if both:
            text += f", both with {both}"
        if r.contexts_better > 1 or r.contexts_worse > 1:
            text += f" (averages over {r.contexts_better} and {contexts(r.contexts_worse)})"
        if len(r.places) > 1:
            places = (brief(analysis.table, p) for p in r.places)
            text += f". It does so at {listed([f'({p})' for p in places if p], 3)}"
        if r.differs_in == 1 and r.matched == 0:
            text += ". The two averages rest on different contexts, so other layers may do it"
        yield Finding(
            "flip",
            f"{text}.",
            layers=(r.layer, *r.by.split(", ")),
            ratio=min(r.ratio_better, 1 / r.ratio_worse),
            p=r.p,
            certainty=SIGNIFICANT,
            cells=tuple(dict.fromkeys((*r.cells_better, *r.cells_worse))),
            numbers={"better": r.ratio_better, "worse": r.ratio_worse, "places": list(r.places)},
            overturn=(
                "It is undone where the smaller of the two differences is an error: "
                f"{percent(min(r.ratio_better, 1 / r.ratio_worse) - 1)}."
            ),
        )
