"""How often is a claim of an order reproduced by a real study without interactions?

The null of ``claims.py`` with everything taken from what was measured: the cells, holes and all,
of an output folder; the main effects of its layers, fitted to its undisturbed latencies; and noise
drawn from its own rounds, each from those of the cells of its runtime and hardware, with the ups
and downs that all cells of a round had in common. In such a table no choice of one layer changes
what another does, so each claim of a flip, of a change of the winner and of dependence that is
reproduced is reproduced falsely. Each claim is judged alone.

    python benchmarks/claims_measured.py out/case-study-small --state FILE --minutes 3

The exit status is 3 where tables are left to be made, else 1 where a claim is reproduced in more
than 5 % of its tables.
"""

from __future__ import annotations

import argparse
import sys
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from claims import ROOT, alone
from slices import LEFT, Refused, Slices, sources

from dlas.analyze import load_table
from dlas.analyze.claims import Basis, ClaimsFile, judge
from dlas.analyze.claims.judge import REPRODUCED
from dlas.analyze.estimate.noise import estimate
from dlas.tables.claims_file import read_claims
from dlas.tables.for_claims import Instructions, of_folders

CLAIMS = ROOT / "studies" / "claims" / "dlas-2024.yaml"
ORDERS = ("flips", "depends", "changes_winner")
STRATUM = ["software", "hardware"]


@dataclass(frozen=True)
class Measured:
    """A study as it would be without interactions, and what its rounds err by."""

    frame: pd.DataFrame
    """A row for each complete cell: its layers and parameters."""
    layers: tuple[str, ...]
    baseline: dict[str, str]
    log: np.ndarray
    """The fitted main effects, by cell."""
    rounds: np.ndarray
    """What all cells have in common in each round."""
    noise: dict[tuple[str, ...], np.ndarray]
    """By stratum what single rounds are off by."""


def measured(found: Basis) -> Measured:
    """Fit the main effects of a study, and take its rounds apart."""
    table = found.table
    assert table.samples is not None, "a study has rounds"
    rows = np.flatnonzero(table.complete & np.isfinite(found.estimates.mean))
    cells = table.cells.iloc[rows]
    levels = pd.get_dummies(cells[list(table.varied)], drop_first=True).to_numpy(dtype=float)
    design = np.column_stack([np.ones(len(rows)), levels])
    mean = found.estimates.mean[rows]
    fitted = design @ np.linalg.lstsq(design, mean, rcond=None)[0]
    wide = table.samples[table.samples["control"] == 0].pivot_table(
        index="row", columns="round", values="log"
    )
    off = wide.loc[wide.index.isin(rows)].sub(wide.mean(axis=1), axis=0)
    common = off.median(axis=0)
    own = off.sub(common, axis=1)
    # Residuals of n rounds are too small by this, since their mean was taken off.
    count = own.notna().sum(axis=1)
    own = own.mul(np.sqrt(count / (count - 1).clip(lower=1)), axis=0)
    strata = table.cells[STRATUM].apply(tuple, axis=1)
    noise = {
        key: some.to_numpy()[~np.isnan(some.to_numpy())]
        for key, some in own.groupby(strata.loc[own.index])
    }
    names = [*table.layers, *table.parameters]
    return Measured(
        cells[names].reset_index(drop=True), table.layers, dict(table.baseline), fitted,
        common.to_numpy(), noise,
    )  # fmt: skip


def drawn(of: Measured, rng: np.random.Generator) -> Basis:
    """Return the study measured anew, without interactions."""
    strata = of.frame[STRATUM].apply(tuple, axis=1)
    rounds = []
    for r, common in enumerate(of.rounds):
        error = np.array([rng.choice(of.noise[key]) for key in strata])
        rounds.append(of.frame.assign(round=r, quiet_ms=np.exp(of.log + common + error)))
    table = load_table(
        pd.concat(rounds, ignore_index=True), layers=list(of.layers), metric="quiet_ms",
        rounds="round", baseline=of.baseline,
    )  # fmt: skip
    return Basis(table, estimate(table))


def of_orders(file: ClaimsFile) -> list[str]:
    """Return the claims all of whose tests are of an order, and of the table's columns alone."""
    return [c.id for c in file.claims if all(t.quantity.name in ORDERS for t in c.tests)]


def row(slices: Slices, study: Measured, file: ClaimsFile, claim: str, nulls: int) -> str:
    """Judge a claim on the tables; return a line of the result, empty where some are left."""
    one, name = alone(file, claim), f"measured: {claim}"

    def falsely(number: int) -> int:
        rng = np.random.default_rng([zlib.crc32(name.encode()), number])
        return int(judge(drawn(study, rng), one)[0].verdict == REPRODUCED)

    false = slices.fill(name, nulls, falsely, sources(__file__, CLAIMS))
    if len(false) < nulls:
        return ""
    test = one.claims[0].tests[0].text
    good = np.mean(false) <= 0.05
    return f"| {claim} | `{test}` | {sum(false)} of {nulls} | {'yes' if good else 'NO'} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="an output folder, as of make case-study-small")
    parser.add_argument("--nulls", type=int, default=200, help="tables, each claim")
    Slices.arguments(parser)
    asked = parser.parse_args()
    file = read_claims(CLAIMS)
    wanted = of_orders(file)
    kept = replace(file, claims=tuple(c for c in file.claims if c.id in wanted))
    study = measured(of_folders([asked.folder], kept, Instructions()))
    try:
        slices = Slices.of(asked)
        lines = [row(slices, study, kept, claim, asked.nulls) for claim in wanted]
    except Refused as error:
        parser.error(str(error))
    print("| claim | test | reproduced in nulls | bar |\n| --- | --- | --- | --- |")
    print("\n".join(line for line in lines if line))
    if slices.left:
        print(f"{slices.left} tables are left: the same again goes on.")
    return LEFT if slices.left else int(any(line.endswith("| NO |") for line in lines))


if __name__ == "__main__":
    sys.exit(main())
