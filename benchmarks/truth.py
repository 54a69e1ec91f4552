"""Does the analysis tell the truth? Synthetic studies whose answers are known.

    python benchmarks/truth.py [--only PART] [--scale 1.0] [--state FILE --minutes 4]
        [--out docs/truth.md]

The parts are in ``benchmarks/truths``. Counts are kept in ``out/truth.json``: the same command
goes on where it was stopped, and parts run one after another stand in one report. The exit status
is 3 where tables are left to be made, else 1 where a bar is missed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from slices import LEFT, Refused, Slices, sources
from truths import coverage, findings, nulls, planted, power, prices, worlds
from truths.counting import DRAWS, Row

RUNS: dict[str, tuple[Callable[..., Iterator[Row]], int]] = {
    "prices": (prices.run, 500),
    "nulls": (nulls.run, 1000),
    "findings": (findings.run, 200),
    "power": (power.run, 500),
    "coverage": (coverage.run, 2000),
    "planted": (planted.run, 200),
    "worlds": (worlds.run, 400),
}
"""By part what runs it, and how many tables its bars are meant for."""
FOLDER = Path(__file__).parent / "truths"


def run(slices: Slices, part: str, scale: float) -> list[Row]:
    """Make what tables of a part there is time for, and return its rows."""
    ask, n = RUNS[part]
    slices.parts[part] = {"scale": scale}
    rows = []
    for row in ask(max(1, int(n * scale)), slices=slices):
        rows.append(row)
        print(*row.values(), sep=" | ", flush=True)
    return rows


def report(slices: Slices) -> str:
    """Return all rates of what stands as the document's text."""
    lines = [
        "# Truth tests of the analysis",
        "",
        "What `benchmarks/truth.py` printed. The generator is described at the top of",
        "`benchmarks/truths/grids.py`, the worlds in which an analysis is easily wrong in",
        "`worlds.py` beside it, what is planted and easily told wrong in `planted.py`; up to",
        f"{DRAWS} tables share a truth and its holes, not their noise. Where a single table would",
        'miss the bar it says "too few". `docs/analysis.md` says what intervals and tests are.',
        "The interval of a median of paired speed-ups is made of the contexts' own intervals",
        "and covers more than 95 %.",
        "",
        "| check | tables | measured | bar | reached |",
        "| --- | --- | --- | --- | --- |",
    ]
    standing = Slices(found=slices.found, only_read=True)
    for part in RUNS:
        if part in slices.parts:
            ask, n = RUNS[part]
            rows = ask(max(1, int(n * slices.parts[part]["scale"])), slices=standing)
            lines += [
                f"| {r['check']} | {r['tables']} | {r['measured']} | {r['bar']} | {r['reached']} |"
                for r in rows
            ]
    lines += ["", "| part | command | analysis | machine | days | minutes |"]
    lines += ["| --- | --- | --- | --- | --- | --- |", *_made(slices)]
    return "\n".join([*lines, ""])


def _made(slices: Slices) -> Iterator[str]:
    """Give a row for each part: with what, where and when it was made."""
    for part in RUNS:
        own = [k for name, k in slices.found.items() if name.split()[0] == part and k["tables"]]
        if not own or part not in slices.parts:
            continue
        how = f"python benchmarks/truth.py --only {part}"
        how += f" --scale {slices.parts[part]['scale']:g}"
        now = sources(FOLDER / f"{part}.py")
        code = sorted(
            {k["sources"][:8] + ("" if k["sources"] == now else " (earlier)") for k in own}
        )
        machines, days = ({str(k[x]) for k in own} for x in ("machine", "day"))
        told = " and ".join(sorted(machines)), " to ".join(sorted({min(days), max(days)}))
        minutes = sum(k["seconds"] for k in own) / 60
        yield f"| {part} | `{how}` | {', '.join(code)} | {' | '.join(told)} | {minutes:.0f} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="share of the tables to run")
    parser.add_argument("--out", type=Path, help="also write the report to this file")
    parser.add_argument("--only", choices=list(RUNS))
    Slices.arguments(parser)
    parser.set_defaults(state=Path("out/truth.json"))
    asked = parser.parse_args()
    try:
        slices = Slices.of(asked)
        rows = [r for p in RUNS if asked.only in (None, p) for r in run(slices, p, asked.scale)]
    except Refused as error:
        parser.error(str(error))
    slices.save()
    text = report(slices)
    print(text)
    if asked.out:
        asked.out.write_text(text)
    return LEFT if slices.left else int(any(r["reached"] == "NO" for r in rows))


if __name__ == "__main__":
    sys.exit(main())
