"""``dlas explore``: few of a study's stacks for real, or samplers on a finished table."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, cast

import typer

from dlas.cli import options
from dlas.cli.machines import form_of
from dlas.cli.options import LATENCIES, QUIET
from dlas.cli.printing import one_of, print_json
from dlas.core.errors import UserError

if TYPE_CHECKING:
    from dlas.core.keys import Json
    from dlas.core.sampler import Sampler
    from dlas.explore.account import Explored
    from dlas.run.progress import Progress
    from dlas.study.study import Study

PLAYED = ("dlas", "random", "tpe", "nsga2")
"""The samplers played where none is named; Optuna's ``gp`` takes minutes."""


def explore(
    study: options.SomeStudy = None,
    out: options.KnownOut = None,
    budget: options.Budget = None,
    sampler: options.SamplerNames = None,
    seed: options.Seed = 0,
    metric: options.ComparedBy = QUIET,
    store: options.Store = None,
    results: options.Results = None,
    engine: options.Engine = None,
    tls_ca: options.TlsCa = None,
    tls_cert: options.TlsCert = None,
    tls_key: options.TlsKey = None,
    replay: options.Replay = None,
    layers: options.Layers = None,
    minimize: options.MinimizeColumns = None,
    maximize: options.MaximizeColumns = None,
    budgets: options.Budgets = "2%,5%,10%",
    repeats: options.Times = 20,
    quiet: options.Quiet = False,
    format: options.Format = "text",
) -> None:
    """Measure few of a study's stacks and find its front; or play samplers on a finished table.

    The same command again goes on where it stopped; `dlas run` on the same folder fills in the
    rest. With --replay nothing is measured: it shows how many measurements would have been enough.

        dlas explore studies/quickstart.yaml --out out/quickstart --budget 10%

        dlas explore study.yaml --out out/lab --engine dask://127.0.0.1:8786 --store s3://lab/artefacts

        dlas explore --replay out/quickstart --budgets 5%,10% --repeats 20

        dlas explore --replay table.csv --layers model,threads --minimize latency,error
    """
    one_of(format, ("text", "json"))
    one_of(metric, LATENCIES, "--metric")
    if replay is not None:
        _refuse(
            "--replay",
            {
                "STUDY": study, "--out": out, "--budget": budget, "--store": store,
                "--results": results, "--engine": engine,
            },
        )  # fmt: skip
        _play(replay, _split(layers), _split(minimize), _split(maximize), sampler, budgets,
              repeats, seed, metric, format)  # fmt: skip
        return
    _refuse(
        "a study that is explored for real",
        {"--layers": layers, "--minimize": minimize, "--maximize": maximize},
    )
    if study is None or out is None:
        raise UserError("give a STUDY and --out DIR, or --replay TABLE_OR_DIR")
    from dlas.explore.live import explore as explore_study
    from dlas.explore.names import OWN

    form, folder = form_of(engine, (tls_ca, tls_cert, tls_key)), out

    def begin(loaded: Study, shown: Progress) -> Explored:
        return explore_study(
            loaded, folder, budget=budget, sampler=sampler or OWN, seed=seed, store=store,
            results=results, progress=shown, form=form, metric=metric,
        )  # fmt: skip

    _for_real(study, begin, quiet, format)


def _refuse(beside: str, given: dict[str, object]) -> None:
    named = [name for name, value in given.items() if value is not None]
    if named:
        raise UserError(f"{', '.join(named)}: not to be given with {beside}")


def _split(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def _for_real(
    study: Path, begin: Callable[[Study, Progress], Explored], quiet: bool, format: str
) -> None:
    from dlas.cli.display import progress
    from dlas.study.study import Study

    loaded = Study.load(study)
    for note in loaded.notes:
        print(note, file=sys.stderr)
    shown = progress(sys.stderr, quiet)
    try:
        found = begin(loaded, shown)
    except KeyboardInterrupt:
        shown.close()
        print("\nstopped; nothing finished is lost: the same command goes on", file=sys.stderr)
        raise typer.Exit(130) from None
    finally:
        shown.close()
    if format == "json":
        print_json(cast("Json", json.loads(json.dumps({**asdict(found), "out": str(found.out)}))))
    else:
        print(found.text())


def _play(
    path: Path,
    layers: Sequence[str],
    minimize: Sequence[str],
    maximize: Sequence[str],
    sampler: str | None,
    budgets: str,
    repeats: int,
    seed: int,
    metric: str,
    format: str,
) -> None:
    from dlas.core.goals import Goals
    from dlas.explore import ended
    from dlas.explore.allowance import parse_budget
    from dlas.explore.replay import replay

    asked = [parse_budget(each, "--budgets") for each in _split(budgets)]
    if not asked or any(each.seconds is not None for each in asked):
        raise UserError(f"--budgets {budgets!r}: give shares or numbers of stacks, like 5%,60")
    goals = Goals(tuple(minimize), tuple(maximize))
    if path.is_dir():
        if layers:
            raise UserError("--layers: a folder of results knows its layers")
        finished = ended.of_folder(path, goals, metric)
    else:
        finished = ended.of_table(path, layers, goals)
    chosen = _samplers(_split(sampler))
    found = replay(finished, chosen, asked, repeats, seed, lambda t: print(t, file=sys.stderr))
    if format == "json":
        print_json(found)
    else:
        print(_table(found))


def _samplers(asked: Sequence[str]) -> dict[str, type[Sampler]]:
    """Return the samplers asked for and ``random``; all that are here where none is asked for."""
    from dlas.explore import names

    if asked:
        wanted = dict.fromkeys((*asked, names.CHANCE))
        return {name: names.find(name) for name in wanted}
    found = {}
    for name in PLAYED:
        reason = names.missing(name)
        if reason is None:
            found[name] = names.find(name)
        else:
            print(reason, file=sys.stderr)
    return found


def _table(found: dict[str, Json]) -> str:
    samplers = cast("dict[str, dict[str, Json]]", found["samplers"])
    lines = [f"{found['stacks']} stacks", ""]
    head = f"{'sampler':<10} {'stacks':>6} {'share':>7} {'worst':>7} {'regret':>8} {'error %':>8}"
    lines.append(f"{head} {'to 99 %':>8} {'s':>7}")
    for name, played in samplers.items():
        budgets = cast("dict[str, dict[str, float | None]]", played["budgets"])
        for at, (n, each) in enumerate(budgets.items()):
            columns = [
                f"{name if at == 0 else '':<10} {n:>6}",
                _number(each["share_median"], 7, 4), _number(each["share_worst"], 7, 4),
                _number(each["regret_median"], 8, 4), _number(each["error_median"], 8, 2),
            ]  # fmt: skip
            if at == 0:
                to_99 = cast("float | None", played["to_99_median"])
                columns += [_number(to_99, 8, 1), _number(cast("float", played["seconds"]), 7, 2)]
            lines.append(" ".join(columns))
    return "\n".join(lines)


def _number(value: float | None, width: int, digits: int) -> str:
    return f"{'-':>{width}}" if value is None else f"{value:>{width}.{digits}f}"
