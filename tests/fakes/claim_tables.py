"""Tables whose answers are known, and claims on them."""

from __future__ import annotations

import pandas as pd

from dlas.analyze import load_table
from dlas.analyze.claims import Basis, judge
from dlas.analyze.claims.gauges import within
from dlas.analyze.claims.hypothesis import Claim, ClaimsFile
from dlas.analyze.claims.language import parse
from dlas.analyze.estimate.noise import estimate
from dlas.core.rules import Rule

LAYERS = ["model", "opt", "threads"]


def evidence(frame: pd.DataFrame, error: float = 0.01, **options) -> Basis:
    table = load_table(
        frame, **{"layers": LAYERS, "metric": "ms", "baseline": ["opt=none"], **options}
    )
    return Basis(table, within(table, estimate(table), error))


def claim(test: str | list[str], id: str = "c", **options) -> Claim:
    tests = [test] if isinstance(test, str) else test
    where = tuple(Rule.parse(w) for w in options.pop("where", ()))
    return Claim(id, "Something.", tuple(map(parse, tests)), where, **options)


def judged(found: Basis, *claims: Claim):
    return judge(found, ClaimsFile("f", claims, "h", ""))


def verdict(found: Basis, test: str | list[str], **options) -> str:
    return judged(found, claim(test, **options))[0].verdict


def grid(ms, models=("a", "b", "c", "d"), opts=("none", "fast", "slow"), threads=(1, 2)):
    """Return a table whose metric is a function of its three layers."""
    rows = [
        {"model": m, "opt": o, "threads": t, "ms": float(ms(m, o, t))}
        for m in models
        for o in opts
        for t in threads
    ]
    return pd.DataFrame(rows)


SIZE = {"a": 10, "b": 20, "c": 40, "d": 80, "e": 160, "f": 320}
SPEED = {"none": 1.0, "fast": 0.5, "slow": 1.5}
PLAIN = grid(lambda m, o, t: SIZE[m] * SPEED[o] / t)


def curve(ms, models=("a", "b", "c"), levels=(0.5, 0.7, 0.9), **columns):
    rows = []
    for m in models:
        rows.append({"model": m, "opt": "none", "opt.s": "", "ms": SIZE[m]})
        rows += [
            {"model": m, "opt": f"thin(s={s})", "opt.s": str(s), "ms": SIZE[m] * ms(m, s)}
            for s in levels
        ]
    frame = pd.DataFrame(rows)
    return frame.assign(**{k: frame["opt.s"].map(v) for k, v in columns.items()})
