"""Whether the local engine became slower: the quickstart's steps at two commits, in turns.

    python benchmarks/local_engine.py --before 7f8a341      # about eight minutes

7f8a341 is the commit before other machines could do steps. Both sides run with this environment's
libraries, each with a work tree and the entry points of its own commit. Printed are, as after over
before: the wall time in which a part of the quickstart is made, from an empty folder, turn by
turn; the time that its steps took in their processes; and the wall time of a step that does
nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]
STUDY = HERE / "studies" / "quickstart.yaml"
SIDES = ("before", "after")
MAKE = """
import json, sys, time
from pathlib import Path
from dlas.run.run import campaign
from dlas.study.study import Study

def wanted(stack):
    names = {layer: getattr(stack, layer)[0].name for layer in ("model", "algorithm", "software")}
    return (names["model"] == "resnet-8" and names["algorithm"] == "native"
            and names["software"] in ("pytorch", "onnxruntime", "openvino"))

study = Study.load(Path(sys.argv[1]))
with campaign(study, sys.argv[2], stacks=[s for s in study.stacks if wanted(s)]) as begun:
    begun.open()
    began = time.perf_counter()
    begun.make(begun.plan.runnable)
    took = time.perf_counter() - began
    steps = [(str(r.stage), r.seconds, str(r.status)) for r in begun.records.values()]
print(json.dumps({"making_s": took, "steps": steps}))
"""
EMPTY = """
import json, sys, time
from pathlib import Path
from dlas.core.keys import key
from dlas.core.records import MeasureSettings, Stage
from dlas.run.engines.local import LocalEngine
from dlas.run.plan.plan import Step
from dlas.run.process.isolate import Pool
from dlas.run.process.tasks import Server
from dlas.store.artifacts import ArtifactStore

folder = Path(sys.argv[2])
store = ArtifactStore(folder / "store")
took = []
with store.use(), Pool(store.scratch()) as pool:
    settings = MeasureSettings.model_validate({})
    engine = LocalEngine(store, pool, settings, (str(folder),))
    for n in range(45):
        name = key("empty", n)
        step = Step(name, Stage.OPTIMIZE, "dlas.empty_step:run", {}, {}, Server(), str(n))
        began = time.perf_counter()
        (record,) = engine.run({step.key: step}, lambda *_: None).values()
        took.append(time.perf_counter() - began)
        assert record.status == "complete", record.reason
print(json.dumps(took[5:]))
"""


@contextmanager
def trees(before: str, after: str) -> Iterator[Mapping[str, Path]]:
    """Yield a folder to import dlas from for each side, with its own entry points."""
    made: dict[str, Path] = {}
    with tempfile.TemporaryDirectory(prefix="dlas-local-engine-") as folder:
        try:
            for side, commit in zip(SIDES, (before, after), strict=True):
                tree = Path(folder) / side
                git("worktree", "add", "--detach", str(tree), commit)
                made[side] = tree
                describe(tree)
            yield {side: tree / "src" for side, tree in made.items()}
        finally:
            for tree in made.values():
                git("worktree", "remove", "--force", str(tree))


def git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=HERE, check=True, capture_output=True)


def describe(tree: Path) -> None:
    """Write what an installation of a tree would say of it, and a step that does nothing."""
    (tree / "src" / "dlas" / "empty_step.py").write_text("def run(args):\n    return {}\n")
    project = tomllib.loads((tree / "pyproject.toml").read_text())["project"]
    folder = tree / "src" / f"dlas-{project['version']}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: dlas\nVersion: {project['version']}\n"
    )
    groups = {"console_scripts": project["scripts"], **project["entry-points"]}
    lines = [
        line
        for group, points in groups.items()
        for line in (f"[{group}]", *(f"{name} = {place}" for name, place in points.items()), "")
    ]
    (folder / "entry_points.txt").write_text("\n".join(lines))


def asked(source: Path, code: str, probes: Path) -> Any:
    """Return what a program says that imports dlas from a folder, in an empty one of its own."""
    environment = {**os.environ, "PYTHONPATH": str(source), "DLAS_PROBE_DIR": str(probes)}
    with tempfile.TemporaryDirectory(prefix="dlas-local-engine-") as out:
        done = subprocess.run(
            [sys.executable, "-c", code, str(STUDY), out], env=environment, text=True,
            stdout=subprocess.PIPE, check=True, cwd=out,
        )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def ratios(seen: Mapping[str, Sequence[float]]) -> str:
    """Return after over before, turn by turn, as text."""
    found = sorted(a / b for b, a in zip(seen["before"], seen["after"], strict=True))
    sides = ", ".join(f"{side} {statistics.median(seen[side]):.4g}" for side in SIDES)
    return (
        f"{statistics.median(found):.3f} ({found[0]:.3f} to {found[-1]:.3f} in {len(found)} "
        f"turns; medians {sides})"
    )


def by_stage(made: Mapping[str, Sequence[Any]]) -> Iterator[str]:
    """Yield a line for each stage: the seconds of its steps, after over before."""
    spent: dict[str, dict[str, list[float]]] = defaultdict(lambda: {side: [] for side in SIDES})
    for side, turns in made.items():
        for turn in turns:
            sums: dict[str, float] = defaultdict(float)
            for stage, seconds, _ in turn["steps"]:
                sums[stage] += seconds
            for stage, seconds in sums.items():
                spent[stage][side].append(seconds)
    for stage, seen in spent.items():
        if all(len(seen[side]) == len(made[side]) for side in SIDES):
            yield f"  {stage:<10} {ratios(seen)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", required=True, metavar="COMMIT")
    parser.add_argument("--after", default="HEAD", metavar="COMMIT")
    parser.add_argument("--turns", type=int, default=4)
    given = parser.parse_args()
    made: dict[str, list[Any]] = {side: [] for side in SIDES}
    empty: dict[str, list[float]] = {side: [] for side in SIDES}
    with (
        trees(given.before, given.after) as sources,
        tempfile.TemporaryDirectory(prefix="dlas-probes-") as probes,
    ):
        for turn in range(given.turns):
            for side in SIDES if turn % 2 == 0 else reversed(SIDES):
                made[side].append(asked(sources[side], MAKE, Path(probes) / side))
                empty[side].append(
                    1e3 * statistics.median(asked(sources[side], EMPTY, Path(probes) / side))
                )
                last = made[side][-1]
                good = sum(status == "complete" for *_, status in last["steps"])
                print(
                    f"turn {turn}, {side}: {last['making_s']:.1f} s for {len(last['steps'])} "
                    f"steps, {good} complete; an empty step {empty[side][-1]:.2f} ms",
                    flush=True,
                )
    print("making, s:", ratios({s: [t["making_s"] for t in made[s]] for s in SIDES}))
    print("of it, s in the steps' own processes:")
    print("\n".join(by_stage(made)))
    print("a step that does nothing, ms:", ratios(empty))


if __name__ == "__main__":
    main()
