"""How often are verdicts on claims right? Tables whose answers are known.

Two kinds of tables. *Published*: the IISWC 2018 table of inference times with the claims of
``studies/claims/iiswc-2018.yaml``. *Made*: a grid of six networks, five optimizations, two
algorithms, two runtimes and two thread counts with 10 % holes, five rounds with heavy tails (t, 4
degrees of freedom, 3 %) and round effects of 2 %, with a claim for each quantity.

Nulls, each claim judged alone: for claims of direction the choices of the named layer are shuffled
within each context (``shuffled``) or made equal (``equal``, where a shuffle would make the claim
true in some context); for flips, changes and break-evens the table is additive (``additive``:
fitted main effects and noise of the same size). Planted: what a claim says holds by 20 %, and it
counts as reproduced only if it would be so among all claims of its file whatever became of them
(its p value times their number is below 5 %).

    python benchmarks/claims.py [--nulls 200] [--planted 50] [--state FILE --minutes 3]

With ``--state`` it goes on where an earlier run stopped. The exit status is 3 where tables are
left to be made, else 1 where a claim is reproduced in more than 5 % of its nulls or in fewer than
90 % of the tables where it holds.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd
from slices import LEFT, Refused, Slices, sources

from dlas.analyze import load_table
from dlas.analyze.claims import Basis, ClaimsFile, judge
from dlas.analyze.claims.gauges import within
from dlas.analyze.claims.judge import FAMILY, REPRODUCED
from dlas.analyze.estimate.noise import estimate
from dlas.core.goals import Goals
from dlas.tables.claims_file import read_claims

ROOT = Path(__file__).parents[1]
PUBLISHED = ROOT / "tests" / "data" / "iiswc-2018.csv"
IISWC = ROOT / "studies" / "claims" / "iiswc-2018.yaml"
TWENTY = float(np.log(1.2))
FIFTH = 0.02
"""A drop of accuracy that the made claims speak of."""

Make = Callable[[np.random.Generator], Basis]


@dataclass(frozen=True)
class Case:
    """A claim, the table in which it does not hold, and the one in which it does."""

    claim: str
    kind: str
    null: Make
    planted: Make


# ---------------------------------------------------------------- the published table


def published() -> pd.DataFrame:
    return pd.read_csv(PUBLISHED)


def evidence_of(frame: pd.DataFrame, names: Mapping[str, str] = MappingProxyType({})) -> Basis:
    """Return the basis of a table; ``names`` are its own names for columns of the claims."""
    table = load_table(
        frame.rename(columns=names),
        layers=[names.get(c, c) for c in ("model", "optimization", "device", "threads")],
        metric=names.get("seconds", "seconds"),
        baseline=[f"{names.get('optimization', 'optimization')}=plain"],
    )
    return Basis(table, within(table, estimate(table), 0.01), names=names)


def noisy(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return a table read with the error that is said of it."""
    error = rng.normal(0, np.log1p(0.01) / 1.96, len(frame))
    return frame.assign(seconds=frame["seconds"] * np.exp(error))


def shuffled(frame: pd.DataFrame, layer: str, rng: np.random.Generator) -> pd.DataFrame:
    """Shuffle the choices of a layer within each context of the other layers."""
    others = [c for c in ("model", "optimization", "device", "threads") if c != layer]
    value = frame["seconds"].to_numpy().copy()
    for rows in frame.groupby(others).indices.values():
        value[rows] = value[rng.permutation(rows)]
    return frame.assign(seconds=value)


def additive(frame: pd.DataFrame, layers: tuple[str, ...]) -> pd.DataFrame:
    """Return the table of the fitted main effects of its layers."""
    x = pd.get_dummies(frame[list(layers)].astype(str), drop_first=True).to_numpy(dtype=float)
    x = np.column_stack([np.ones(len(x)), x])
    y = np.log(frame["seconds"].to_numpy(dtype=float))
    return frame.assign(seconds=np.exp(x @ np.linalg.lstsq(x, y, rcond=None)[0]))


FLAT = ("model", "device", "threads")


def planted(frame: pd.DataFrame, claim: str) -> pd.DataFrame:
    """Return a table without interactions and without compression, but for what a claim says."""
    flat = additive(frame, FLAT)
    log = np.log(flat["seconds"].to_numpy())
    of = {c: flat[c].to_numpy() for c in ("model", "optimization", "device", "threads")}
    last = np.where(of["device"] == "Odroid", 8, 4) == of["threads"]
    pruned, sparse = of["optimization"] == "channel-pruned", np.isin(
        of["optimization"], ["weight-pruned", "ternary"]
    )  # fmt: skip
    if claim == "S1":
        for rows in flat.groupby(["model", "optimization", "device"]).indices.values():
            end = rows[last[rows]]
            log[end] = log[rows[~last[rows]]].max() + TWENTY
    if claim == "S2":
        turn = (of["optimization"] == "weight-pruned") & (of["model"] == "MobileNet")
        log += turn * np.where(last, -TWENTY, TWENTY)
    if claim in ("S3", "signs"):
        log -= pruned * TWENTY
    if claim == "signs":
        log += sparse * np.where(last & (of["model"] == "MobileNet"), -TWENTY, TWENTY)
    if claim == "S4":
        macs = flat["macs"].to_numpy(dtype=float)
        plain = flat[of["optimization"] == "plain"].groupby("model")["macs"].first()
        promised = np.log(plain.loc[of["model"]].to_numpy(dtype=float) / macs)
        log -= pruned * (promised - np.where(of["model"] == "VGG-16", 0, TWENTY))
    return flat.assign(seconds=np.exp(log))


def of_iiswc() -> list[Case]:
    """Return the claims of the published table."""
    frame, named = published(), {"S1": "threads"}
    cases = []
    for claim in ("S1", "S2", "S3", "S4", "signs"):
        layer = named.get(claim, "optimization")
        plain = additive(frame, ("model", "optimization", "device", "threads"))
        if claim == "S2":
            kind, null = "additive", lambda rng, f=plain: evidence_of(noisy(f, rng))
        else:
            kind = f"{layer} shuffled"
            null = lambda rng, x=layer: evidence_of(shuffled(frame, x, rng))  # noqa: E731
        made = planted(frame, claim)
        cases.append(Case(claim, kind, null, lambda rng, f=made: evidence_of(noisy(f, rng))))
    return cases


# ---------------------------------------------------------------- made tables

CHOICES = {
    "model": tuple(f"m{i}" for i in range(6)),
    "optimization": ("none", "thin(s=0.5)", "thin(s=0.7)", "thin(s=0.9)", "narrow"),
    "algorithm": ("a0", "a1"),
    "software": ("s0", "s1"),
    "threads": ("1", "2"),
}
NAMES = tuple(CHOICES)
GOALS = Goals(minimize=("ms",), at_most=(("accuracy_drop", 0.1),))
ROUNDS, NOISE, BETWEEN, HOLES = 5, 0.03, 0.02, 0.1
IMAGES = 20_000
MADE = """\
dlas-claims: 1
name: made
claims:
  - {id: every, claim: c, test: "speedup(optimization == 'narrow', of=optimization == 'none') > 1 in every model, software"}
  - {id: some, claim: c, test: "speedup(optimization == 'narrow', of=optimization == 'none') > 1 in some context"}
  - {id: most, claim: c, test: "speedup(optimization == 'narrow', of=optimization == 'none') > 1 in most context"}
  - {id: same, claim: c, floor: 0.1, test: "ratio(ms, optimization == 'narrow', optimization == 'none') == 1 in every model, software"}
  - {id: promise, claim: c, test: "speedup(optimization == 'narrow', of=optimization == 'none') < ratio(macs, optimization == 'none', optimization == 'narrow') in every model, software"}
  - {id: winner, claim: c, test: "winner(optimization) == 'narrow' in every model, software"}
  - {id: flips, claim: c, test: "flips(algorithm, by=software) in some context"}
  - {id: changes, claim: c, test: "changes_winner(optimization, by=algorithm) in some context"}
  - {id: breakeven, claim: c, test: "breakeven('thin' in optimization, optimization == 'none', along=optimization.s) < 0.8 in every model, software"}
  - {id: correlation, claim: c, where: optimization == 'none', test: "correlation(macs, ms, over=model) > 0"}
  - {id: drop, claim: c, test: "drop(optimization == 'narrow') > 0.02 in every model"}
  - {id: elbow, claim: c, test: "elbow(along=optimization.s) >= 0.7 in every model, software"}
"""  # noqa: E501
MORE = (
    MADE
    + """\
  - {id: depends, claim: c, test: "depends(algorithm, by=software) in some context"}
"""
)
"""With what was added later, judged among one claim more."""


def grid() -> pd.DataFrame:
    frame = pd.DataFrame(list(product(*CHOICES.values())), columns=NAMES)
    sparsity = frame["optimization"].str.extract(r"s=([\d.]+)", expand=False)
    return frame.assign(**{"optimization.s": sparsity.astype(object).where(sparsity.notna(), "")})


GRID = grid()
KEEP = 1 / np.array([1.0, 2.0, 3.3, 10.0, 2.0])
"""The multiplications that each optimization leaves, over all."""


def at(layer: str, level: str) -> np.ndarray:
    return (GRID[layer] == level).to_numpy()


def mains(rng: np.random.Generator, without: tuple[str, ...] = ()) -> np.ndarray:
    """Draw main effects of all layers but some."""
    log = np.zeros(len(GRID))
    for name, levels in CHOICES.items():
        if name not in without:
            log += rng.normal(0, 0.4, len(levels))[pd.Categorical(GRID[name], levels).codes]
    return log


def mixed(rng: np.random.Generator, layer: str) -> np.ndarray:
    """Return main effects, the choices of a layer shuffled within each context."""
    log = mains(rng)
    others = [n for n in NAMES if n != layer]
    for rows in GRID.groupby(others).indices.values():
        log[rows] = log[rng.permutation(rows)]
    return log


def measured(
    log: np.ndarray, rng: np.random.Generator, *, lost: dict[str, float] | None = None,
    macs: np.ndarray | None = None,
) -> Basis:  # fmt: skip
    """Measure a table: holes, rounds, accuracy and its drop."""
    there = rng.random(len(GRID)) >= HOLES
    frame, log = GRID[there].reset_index(drop=True), log[there]
    size = rng.uniform(0.5, 2.0, 6) * 1e6 if macs is None else macs
    keep = KEEP[pd.Categorical(frame["optimization"], CHOICES["optimization"]).codes]
    drop = frame["optimization"].map(lost or {}).fillna(0.0).to_numpy(dtype=float)
    flips = rng.binomial(IMAGES, np.clip(0.02 + drop, 0, 1))
    seen = drop + rng.normal(0, np.sqrt(np.maximum(flips / IMAGES - drop**2, 0) / IMAGES))
    frame = frame.assign(
        macs=size[pd.Categorical(frame["model"], CHOICES["model"]).codes] * keep,
        accuracy_n=IMAGES, flips=flips, accuracy_drop=seen, accuracy=0.9 - seen,
    )  # fmt: skip
    rounds = []
    for r in range(ROUNDS):
        error = rng.normal(0, BETWEEN) + NOISE / np.sqrt(2) * rng.standard_t(4, len(frame))
        rounds.append(frame.assign(round=r, ms=np.exp(log + error)))
    table = load_table(
        pd.concat(rounds, ignore_index=True), layers=list(NAMES), metric="ms", rounds="round",
        baseline=["optimization=none"], goals=GOALS,
    )  # fmt: skip
    return Basis(table, estimate(table))


def narrow(rng: np.random.Generator, by: float) -> np.ndarray:
    """Return main effects but of the optimization, whose one choice is faster by so much."""
    return mains(rng, ("optimization",)) - at("optimization", "narrow") * by


def thin(rng: np.random.Generator, steps: dict[str, float]) -> np.ndarray:
    log = mains(rng, ("optimization",))
    for s, gain in steps.items():
        log = log - at("optimization", f"thin(s={s})") * gain
    return log


def turned(rng: np.random.Generator) -> np.ndarray:
    """Return main effects, one algorithm 20 % faster in one runtime and slower in another."""
    sign = np.where(at("software", "s0"), 1.0, -1.0) * at("algorithm", "a0")
    return mains(rng, ("algorithm",)) + sign * TWENTY


def shifted(rng: np.random.Generator) -> np.ndarray:
    """Return main effects, one algorithm 20 % faster in one runtime and level in another."""
    here = at("software", "s0") & at("algorithm", "a0")
    return mains(rng, ("algorithm",)) - here * TWENTY


def changed(rng: np.random.Generator) -> np.ndarray:
    """Return main effects, one optimization 20 % ahead with one algorithm, behind with another."""
    sign = np.where(at("algorithm", "a0"), 1.0, -1.0) * at("optimization", "narrow")
    return mains(rng, ("optimization",)) + sign * TWENTY


def ordered(rng: np.random.Generator, *, by_chance: bool) -> Basis:
    """Return six networks whose multiplications order their time, or do not."""
    size = np.exp(np.arange(6) * TWENTY)
    log = mains(rng, ("model",))
    log += np.log(size)[pd.Categorical(GRID["model"], CHOICES["model"]).codes]
    return measured(log, rng, macs=(rng.permutation(size) if by_chance else size) * 1e6)


def promised(rng: np.random.Generator, less: float) -> Basis:
    return measured(narrow(rng, float(np.log(2.0)) - less), rng)


STEPS = {"0.5": TWENTY, "0.7": 2 * TWENTY, "0.9": 2 * TWENTY}
LOST = {"thin(s=0.9)": 0.05}
WORSE = {"0.5": -TWENTY, "0.7": 0.0, "0.9": TWENTY}


def of_made() -> list[Case]:
    """Return a claim for each quantity."""
    shuffle = lambda rng: measured(mixed(rng, "optimization"), rng)  # noqa: E731
    equal = lambda rng: measured(mains(rng, ("optimization",)), rng)  # noqa: E731
    add = lambda rng: measured(mains(rng), rng)  # noqa: E731
    plant = lambda rng: measured(narrow(rng, TWENTY), rng)  # noqa: E731
    lose = lambda drop: lambda rng: measured(narrow(rng, 0), rng, lost={"narrow": drop})  # noqa: E731
    return [
        Case("every", "shuffled", shuffle, plant),
        Case("every", "equal", equal, plant),
        Case("some", "equal", equal, plant),
        Case("most", "equal", equal, plant),
        Case("same", "shuffled", shuffle, equal),
        Case("promise", "kept exactly", lambda rng: promised(rng, 0.0),
             lambda rng: promised(rng, TWENTY)),
        Case("winner", "shuffled", shuffle, plant),
        Case("winner", "equal", equal, plant),
        Case("flips", "additive", add, lambda rng: measured(turned(rng), rng)),
        Case("changes", "additive", add, lambda rng: measured(changed(rng), rng)),
        Case("breakeven", "equal", equal, lambda rng: measured(thin(rng, WORSE), rng)),
        Case("correlation", "sizes shuffled", lambda rng: ordered(rng, by_chance=True),
             lambda rng: ordered(rng, by_chance=False)),
        Case("drop", "exactly 0.02", lose(FIFTH), lose(0.05)),
        Case("elbow", "equal", equal, lambda rng: measured(thin(rng, STEPS), rng, lost=LOST)),
    ]  # fmt: skip


def of_more() -> list[Case]:
    """Return the claims that were added later."""
    add = lambda rng: measured(mains(rng), rng)  # noqa: E731
    return [Case("depends", "additive", add, lambda rng: measured(shifted(rng), rng))]


# ---------------------------------------------------------------- counting


def judged(
    slices: Slices, name: str, file: ClaimsFile, make: Make, times: int, among: int
) -> list[int]:
    """Say of tables whether a claim is reproduced, each table with a seed of its own.

    ``among``: the one claim of the file counts as reproduced only if it is so among so many.
    """

    def one(number: int) -> int:
        rng = np.random.default_rng([zlib.crc32(name.encode()), number])
        (found,) = judge(make(rng), file)
        return int(found.verdict == REPRODUCED and among * found.p < FAMILY)

    return slices.fill(name, times, one, sources(__file__, IISWC, PUBLISHED))


def alone(file: ClaimsFile, claim: str) -> ClaimsFile:
    """Return a file of one claim of another."""
    return replace(file, claims=tuple(c for c in file.claims if c.id == claim))


def rows(
    name: str, file: ClaimsFile, cases: list[Case], slices: Slices, nulls: int, plants: int
) -> Iterator[str]:
    """Judge the tables of every case, and give a row of the result for each that is whole."""
    for case in cases:
        null, plant = f"{name}: {case.claim}, {case.kind}", f"{name}: {case.claim}, planted"
        one = alone(file, case.claim)
        false = judged(slices, null, one, case.null, nulls, 1)
        true = judged(slices, plant, one, case.planted, plants, len(file.claims))
        if len(false) < nulls or len(true) < plants:
            continue
        good = np.mean(false) <= 0.05 and np.mean(true) >= 0.9
        yield (
            f"| {name}: {case.claim} | {case.kind} | {sum(false)} of {nulls} | "
            f"{sum(true)} of {plants} | {'yes' if good else 'NO'} |"
        )


OTHERS = {"seconds": "time_s", "optimization": "compression", "threads": "cores"}


def as_published(file: ClaimsFile) -> list[str]:
    """Return the verdicts on the table as it is, and shuffled with other names of its columns."""
    frame = published()
    mixed_up = frame.sample(frac=1, random_state=1).reset_index(drop=True)
    found = [judge(evidence_of(frame), file), judge(evidence_of(mixed_up, OTHERS), file)]
    first, second = ({j.claim.id: j.verdict for j in judged} for judged in found)
    return [
        f"| {c} | {v} | {'the same' if second[c] == v else second[c]} |" for c, v in first.items()
    ]


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--nulls", type=int, default=200, help="tables without the claim, each")
    parser.add_argument("--planted", type=int, default=50, help="tables with it, each claim")
    parser.add_argument("--only", default="", help="cases whose claim begins so")
    Slices.arguments(parser)
    return parser


def main() -> int:
    parser, file = arguments(), read_claims(IISWC)
    asked = parser.parse_args()
    try:
        slices = Slices.of(asked)
    except Refused as error:
        parser.error(str(error))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "made.yaml"
        path.write_text(MADE)
        made = read_claims(path)
        path.write_text(MORE)
        more = read_claims(path)
    lines = [
        "| claim | verdict | rows shuffled, other names |",
        "| --- | --- | --- |",
        *as_published(file),
        "",
    ]
    lines += [
        "| claim | null | reproduced | planted at 20 %: reproduced | bar |",
        "| --- | --- | --- | --- | --- |",
    ]
    wanted = 0
    groups = (
        ("published", file, of_iiswc()),
        ("made", made, of_made()),
        ("made", more, of_more()),
    )
    for name, claims, cases in groups:
        some = [c for c in cases if c.claim.startswith(asked.only)]
        try:
            lines += rows(name, claims, some, slices, asked.nulls, asked.planted)
        except Refused as error:
            parser.error(str(error))
        wanted += len(some)
    print("\n".join(lines))
    whole = [line for line in lines if line.endswith(("| yes |", "| NO |"))]
    if len(whole) < wanted:
        print(f"{wanted - len(whole)} of {wanted} cases are not done: the same again goes on.")
    return LEFT if slices.left else int(any(line.endswith("| NO |") for line in whole))


if __name__ == "__main__":
    sys.exit(main())
