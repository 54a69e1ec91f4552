"""What a study's folder holds, worked out anew by pandas alone, for ``sentences.py``.

Nothing of ``dlas`` is imported: rounds, evaluations and builds are read from ``results.sqlite``;
disturbed rounds, the undisturbed latency, the machine's drift, the noise of rounds and the limits
of the goals are worked out from what ``docs/measuring.md`` and ``docs/analysis.md`` say they are,
in other ways than the analysis does: all choices of rounds counted, one row of weights for each
reading.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from scipy import stats

LAYERS = ["dataset", "model", "optimization", "algorithm", "software", "hardware"]
Z = 1.959964
OF_RUNS, OF_ROUNDS = 10, 3
WIDTHS, FAR, MOST, TURNS, SURE = (2, 4, 8, 16), 3 * 1.4826, 2.0, 5, 20.0
"""Of the drift: see ``docs/measuring.md``."""
SLOW, ENOUGH = 0.05, 2
"""Of disturbed rounds: see there."""
LEAST_UNITS, LEAST_GROUP = 5, 4
LEAST_READINGS, SURELY = 16, 40.0
EMPTY = ""


@dataclass
class Raw:
    """What the folder holds."""

    cells: pd.DataFrame
    """One row per cell of the study, with what was measured of it."""
    rounds: pd.DataFrame
    """``cell, round, log`` of the cells themselves, controls left out, without the drift."""
    units: pd.DataFrame
    """A row for each cell and control with rounds: ``cell, control, n`` (rounds), ``value`` (on
    the log scale), ``own`` and ``df`` (its variance and the degrees of freedom behind it),
    ``moved`` and ``moved_df`` (the same of an error that all of its ``group`` have in common),
    ``level`` and ``level_df`` (of one that all have in common)."""
    known: pd.DataFrame
    """Layers and parameters by cell."""
    all_rounds: pd.DataFrame
    """As they were measured: ``cell, control, round, log, created_at``."""
    limit: float
    """The largest drop of accuracy that the goals allow; infinite without one."""
    goals: list[str]

    @property
    def done(self) -> pd.DataFrame:
        return self.cells[self.cells["status"] == "complete"]


def load(folder: Path) -> Raw:
    """Read an output folder."""
    connection = sqlite3.connect(f"file:{folder / 'results.sqlite'}?mode=ro", uri=True)
    cells = pd.read_sql("select * from cells where dropped = ''", connection)
    facts = pd.read_sql("select cell, kind, value from facts", connection)
    rounds = pd.read_sql(
        "select cell, control, round, samples, created_at, host, session from rounds "
        "where status = 'complete'",
        connection,
    )
    if rounds[["host", "session"]].drop_duplicates().shape[0] != 1:
        raise SystemExit(f"{folder}: only what was measured in one session is recomputed here")
    read = (np.frombuffer(blob, "<f8") * 1e3 for blob in rounds.pop("samples"))
    rounds = rounds.assign(log=[math.log(least_of(ms, OF_RUNS)) for ms in read])
    known = traits(cells)
    steady, units = undisturbed(rounds, known)
    own = units[units["control"] == 0].set_index("cell")
    for kind in ("build", "memory", "evaluate", "observe"):
        some = facts[facts["kind"] == kind]
        values = pd.DataFrame(
            [json.loads(v) for v in some["value"]], index=some["cell"].to_numpy()
        )
        values = values[[c for c in values if c not in cells]]
        cells = cells.join(values, on="cell")
    cells = cells.join(np.exp(own["value"]).rename("quiet_ms"), on="cell").join(scores(cells))
    cells["threads"] = [threads(json.loads(s)) for s in cells["stack"]]
    study = yaml.safe_load((folder / "study.yaml").read_text())
    goals = study.get("goals", {})
    limit = float(goals.get("accuracy_drop_at_most", math.inf))
    sought = ["quiet_ms" if g == "latency_ms" else g for g in goals.get("minimize", [])]
    kept = steady.loc[steady["control"] == 0, ["cell", "round", "log"]]
    return Raw(cells, kept, units, known, rounds, limit, sought)


def threads(stack: dict[str, Any]) -> int:
    return int(stack["hardware"][0]["params"]["threads"])


def traits(cells: pd.DataFrame) -> pd.DataFrame:
    """Return by cell what may tell noisy cells from quiet ones: all layers and parameters.

    ``runtime`` and ``hardware.threads`` always do.
    """
    rows = []
    for r in cells.to_dict("records"):
        stack = json.loads(r["stack"])
        row = {layer: r[layer] for layer in LAYERS}
        row["runtime"] = "+".join(t["name"] for t in stack["software"])
        row |= {name: str(value) for name, value in stack.get("sublayers", {}).items()}
        for layer in LAYERS:
            several = Counter(p for t in stack[layer] for p in t["params"])
            for t in stack[layer]:
                for p, value in t["params"].items():
                    middle = f"{t['name']}." if several[p] > 1 else ""
                    row[f"{layer}.{middle}{p}"] = str(value)
        rows.append(row)
    return pd.DataFrame(rows, index=cells["cell"].to_numpy()).fillna(EMPTY)


# ---------------------------------------------------------------- the least of some


def least_of(values: np.ndarray, k: int) -> float:
    """Return the mean least of all choices of k values: what ``docs/measuring.md`` defines."""
    return float(np.sort(values) @ shares(len(values), k))


def shares(n: int, k: int) -> np.ndarray:
    """Return in what share of all choices of k of n values each, by size, is the least."""
    k = min(k, n)
    return np.array([math.comb(n - 1 - i, k - 1) for i in range(n)]) / math.comb(n, k)


def unit_variance(n: int, k: int) -> float:
    """Return the variance of the mean least of k of n exponential values of scale 1.

    The gaps between their sorted values are independent, the j-th of scale 1 / (n - j).
    """
    weight = shares(n, k)
    return sum((weight[j:].sum() / (n - j)) ** 2 for j in range(n))


def doubt(logs: np.ndarray) -> float:
    """Return the variance of the least of three of some rounds: jackknife and replacement."""
    n = len(logs)
    if n < 2:
        return math.nan
    order = min(OF_ROUNDS, n - 1)
    left = np.array([least_of(np.delete(logs, i), order) for i in range(n)])
    spread = (n - 1) / n * ((left - left.mean()) ** 2).sum()
    spread *= unit_variance(n, OF_ROUNDS) / unit_variance(n, order)
    ranked = np.sort(logs)
    often = [((n - i) / n) ** OF_ROUNDS - ((n - i - 1) / n) ** OF_ROUNDS for i in range(n)]
    return float(spread + (ranked @ np.array(often) - least_of(logs, OF_ROUNDS)) ** 2)


# ---------------------------------------------------------------- drift and noise


def undisturbed(rounds: pd.DataFrame, known: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rounds that count, without drift, and what they come to by cell and control.

    Disturbed rounds do not count, if that leaves less in doubt.

    Args:
        rounds: ``cell, control, round, log, created_at`` of one host and session.
        known: traits by cell.
    """
    rounds = rounds[rounds["cell"].isin(known.index)].sort_values("created_at")
    rounds["unit"] = rounds.groupby(["cell", "control"]).ngroup()
    every = steadied(rounds, known)
    if not rounds["created_at"].is_unique:  # nobody knows what was measured when
        return every
    told, more = disturbed(rounds, known)
    few = (~told).groupby(rounds["unit"]).transform("sum") < ENOUGH
    kept = ~told | few
    if not told.any():
        return every
    some = steadied(rounds[kept], known)
    apart = rounds.loc[told & kept, "unit"]
    if in_doubt(some[1].drop(apart)) > in_doubt(every[1].drop(apart)):
        return every
    much = more.where(told & kept, 0.0).groupby(rounds["unit"]).max()
    some[1]["own"] += much.reindex(some[1].index) ** 2
    return some


def in_doubt(units: pd.DataFrame) -> float:
    """Return the sum of what is not known of the values; a single round is as the others."""
    variance = units["n"].map(lambda n: unit_variance(n, OF_ROUNDS))
    return float((units["size"].fillna(units["size"].mean()) * variance).sum())


def disturbed(rounds: pd.DataFrame, known: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Say which rounds were disturbed, and how much longer such ones take, as a logarithm.

    By those of other cells around them, of all, of the same runtime, threads, or both: as it
    explains most.
    """
    of = known.loc[rounds["cell"]].set_index(rounds.index)
    runtime, threads = of["runtime"], of["hardware.threads"]
    best, told, more = 0.0, rounds["log"] > math.inf, rounds["log"] * 0.0
    for group in (threads.map(lambda _: ""), runtime, threads, runtime + " / " + threads):
        total, slow, longer = 0.0, rounds["log"] > math.inf, rounds["log"] * 0.0
        for _, part in rounds.groupby(group):
            part = part[part.groupby("unit")["log"].transform("size") > 1]
            if len(part) < LEAST_READINGS:
                continue
            around = nearby(part)
            bad = around > np.quantile(around, 0.2) + SLOW
            own, state = (x - x.groupby(part["unit"]).transform("mean") for x in
                          (part["log"], bad.astype(float)))  # fmt: skip
            if not (own**2).sum() or not (state**2).sum():
                continue
            by = float((own * state).sum() / (state**2).sum())
            explained = by**2 * float((state**2).sum())
            share = explained / float((own**2).sum())
            free = len(part) - part["unit"].nunique() - 1
            if by >= SLOW and share >= 0.25 and share * free >= SURELY * (1 - share):
                total += explained
                slow[part.index], longer[part.index] = bad, by
        if total > best:
            best, told, more = total, slow, longer
    return told, more


def nearby(part: pd.DataFrame) -> pd.Series:
    """Return the weighted median of how much other units read above their least, around each."""
    over = (part["log"] - part.groupby("unit")["log"].transform("min")).to_numpy()
    unit, place = part["unit"].to_numpy(), np.arange(len(part))
    found = []
    for i in place:
        others = place[(np.abs(place - i) <= 12) & (unit != unit[i])]
        others = others[np.argsort(over[others], kind="stable")]
        weight = np.cumsum(np.exp(-(((others - i) / 4) ** 2) / 2))
        half = np.flatnonzero(weight >= weight[-1] / 2) if len(others) else []
        found.append(over[others[half[0]]] if len(half) else 0.0)
    return pd.Series(found, index=part.index)


def steadied(rounds: pd.DataFrame, known: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return rounds without the machine's drift, and what they come to by cell and control."""
    before = summary(rounds)
    group = strata(before, known)
    of = rounds["unit"].map(group)
    enough = group.map(group.value_counts()) >= LEAST_UNITS
    off = rounds["log"] * 0.0
    if rounds["created_at"].is_unique:  # else nobody knows what was measured when
        off = drift(rounds["log"], rounds["unit"], of).where(rounds["unit"].map(enough), 0.0)
    after = summary(rounds.assign(log=rounds["log"] - off))
    if after["size"].sum() >= before["size"].sum():
        off, after = off * 0.0, before
    moved = before["value"] - after["value"]
    level = moved.groupby(group).transform("mean").where(enough, 0.0)
    steady = rounds.assign(log=rounds["log"] - off + rounds["unit"].map(level))
    units = summary(steady)
    units["own"], units["df"] = noise(units, strata(units, known))
    # how well the level of a stratum is known, and what the drift leaves unknown of it
    cells = moved.groupby(group).transform("size")
    units["group"], units["moved_df"] = group, cells - 1.0
    units["moved"] = moved.groupby(group).transform("var") / cells
    units["moved"] = units["moved"].where(enough & (off != 0).any(), 0.0)
    doubts = summary(rounds.assign(log=off))["size"]
    units["level"] = doubts.groupby(group).transform("mean").where(enough, 0.0)
    units["level"] *= units["n"].map(lambda n: unit_variance(n, OF_ROUNDS))
    units["level_df"] = pooled(doubts, float((units["n"] - 1).sum()))[1]
    return steady, units


def summary(rounds: pd.DataFrame) -> pd.DataFrame:
    """Return by cell and control its undisturbed value and the size of its noise."""
    found = rounds.groupby("unit").agg(cell=("cell", "first"), control=("control", "first"))
    logs = {unit: part.to_numpy() for unit, part in rounds.groupby("unit")["log"]}
    n = pd.Series({unit: len(x) for unit, x in logs.items()})
    size = pd.Series({u: doubt(x) / unit_variance(len(x), OF_ROUNDS) for u, x in logs.items()})
    value = pd.Series({unit: least_of(x, OF_ROUNDS) for unit, x in logs.items()})
    return found.assign(n=n, value=value, size=size)


def strata(units: pd.DataFrame, known: pd.DataFrame) -> pd.Series:
    """Return the stratum of every unit: runtime, threads, and what else noise differs by."""
    of = known.loc[units["cell"]].set_index(units.index)
    used, label = {"software", "hardware.threads"}, of["runtime"] + " / " + of["hardware.threads"]
    for _ in range(2):
        size = units["size"].where(units["size"] > 0)
        relative = size / size.groupby(label).transform("mean")
        chances = {}
        for name in of.columns.difference([*used, "runtime"]):
            groups = [g.dropna() for level, g in relative.groupby(of[name]) if level != EMPTY]
            groups = [g for g in groups if len(g) >= LEAST_GROUP]
            if len(groups) > 1:
                chances[name] = float(stats.kruskal(*groups).pvalue)
        best = min(chances, key=lambda name: (chances[name], name), default=None)
        if best is None or chances[best] >= 0.01 / len(chances):
            break
        used, label = used | {best}, label + " / " + of[best]
    return label


def noise(units: pd.DataFrame, label: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Return the variance of every unit's value by the noise of its stratum, and its freedom."""
    spare = (units["n"] - 1).groupby(label).transform("sum")
    label = label.where(spare >= 6, "small strata")
    spare = (units["n"] - 1).groupby(label).sum()
    found = {s: pooled(part, float(spare[s])) for s, part in units["size"].groupby(label)}
    scale = units["n"].map(lambda n: unit_variance(n, OF_ROUNDS))
    return label.map(lambda s: found[s][0]) * scale, label.map(lambda s: found[s][1])


def pooled(sizes: pd.Series, most: float) -> tuple[float, float]:
    """Return the mean size, and the degrees of freedom that their differences leave."""
    mean, differ = float(sizes.mean()), float(sizes.var())
    seen = 2 * sizes.count() * mean**2 / differ if differ > 0 else math.inf
    return mean, max(1.0, min(most / 2, seen))


def drift(log: pd.Series, unit: pd.Series, stratum: pd.Series) -> pd.Series:
    """Return what all readings of a time have in common; nothing where it foretells too little.

    Readings stand in the order of time; each is foretold by all others around it.
    """
    count = log.groupby(unit).transform("size")
    known, grown = count > 1, np.sqrt(count / (count - 1).clip(lower=1))
    place = np.arange(len(log))
    apart = np.abs(place[:, None] - place)
    best = (0.0, log * 0.0)
    for width in WIDTHS:
        kernel = np.where(
            (apart > 0) & (apart <= 3 * width), np.exp(-((apart / width) ** 2) / 2), 0
        )
        total = kernel @ known.to_numpy(dtype=float)
        found = seen = log * 0.0
        for _ in range(TURNS):
            rest = log - found
            middle = rest.groupby(unit).transform("median")
            far = FAR * float((rest - middle).abs()[known].median())
            mean = middle + (rest - middle).clip(-far, far).groupby(unit).transform("mean")
            seen = ((found + rest - mean) * grown).where(known, 0.0).clip(-2 * far, 2 * far)
            told = pd.Series(kernel @ seen.to_numpy() / total, index=log.index)
            slope = (told * seen).groupby(stratum).sum() / (told**2).groupby(stratum).sum()
            found = stratum.map(slope.clip(0.0, MOST)) * told
        explained = 1 - float(((seen - found)[known] ** 2).sum() / (seen**2).sum())
        best = max(best, (explained, found), key=lambda each: each[0])
    if best[0] * int(known.sum()) < SURE * (1 - best[0]):
        return log * 0.0
    return best[1] - best[1].mean()


def halves(raw: Raw) -> pd.DataFrame:
    """Return the undisturbed value of every cell in each half of its rounds, on the log scale.

    Rounds are taken in turns; columns 0 and 1. Controls have no say in it.
    """
    rounds = raw.rounds.sort_values(["cell", "round"])
    half = rounds.groupby("cell").cumcount() % 2
    logs = rounds.groupby(["cell", half])["log"].apply(np.array).unstack()
    n = logs.map(lambda x: len(x) if isinstance(x, np.ndarray) else 0)
    usual = max(1, min(2, n[1].median()))
    k = min(OF_ROUNDS, int(n[1][n[1] >= usual].min()))
    return logs.where(n >= k).map(lambda x: least_of(x, k) if isinstance(x, np.ndarray) else x)


# ---------------------------------------------------------------- scores and goals


def scores(cells: pd.DataFrame) -> pd.DataFrame:
    """Return accuracy, its drop against the baseline, and how many labels are other."""
    rows = []
    for correct, base, labels, others in zip(
        cells["correct"], cells["baseline_correct"], cells["labels"], cells["baseline_labels"],
        strict=True,
    ):  # fmt: skip
        if not isinstance(correct, list):
            rows.append((math.nan,) * 4)
            continue
        flips = sum(a != b for a, b in zip(labels, others, strict=True))
        drop = (sum(base) - sum(correct)) / len(correct)
        rows.append((sum(correct) / len(correct), drop, flips, len(correct)))
    return pd.DataFrame(rows, columns=["accuracy", "drop", "changed", "seen"], index=cells.index)


def score_at(cells: pd.DataFrame, limit: float) -> pd.Series:
    """Return Tango's score statistic of every drop at the limit itself."""
    n, flips = cells["seen"], cells["changed"]
    lost, won = (flips + cells["drop"] * n) / 2, (flips - cells["drop"] * n) / 2
    b = -lost - won + (2 * n - lost + won) * limit
    shared = (np.sqrt(b**2 + 8 * n * won * limit * (1 - limit)) - b) / (4 * n)
    return (lost - won - n * limit) / np.sqrt(n * (2 * shared + limit * (1 - limit)))


def meets(raw: Raw) -> pd.Series:
    """Say which complete cells surely meet the limit."""
    if not math.isfinite(raw.limit):
        return pd.Series(True, index=raw.done.index)
    return score_at(raw.done, raw.limit) <= -Z


def fails(raw: Raw) -> pd.Series:
    """Say which complete cells surely fail it."""
    if not math.isfinite(raw.limit):
        return pd.Series(False, index=raw.done.index)
    return score_at(raw.done, raw.limit) > Z
