"""How long a plan is expected to take: by guesses, and as an earlier run took."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dlas.cli.display import preview_text
from dlas.core.errors import UserError
from dlas.core.records import Stage
from dlas.run.plan.durations import GUESS_S, OVERHEAD_S, Pilot, Took, read_pilot
from dlas.run.plan.plan import make
from dlas.run.plan.preview import preview
from dlas.store.artifacts import ArtifactStore
from dlas.store.facts import Rests
from dlas.store.results import FILE_NAME, ResultStore
from dlas.study.study import Study
from table_rows import SESSION, cell_row, fact, round_row

pytest.importorskip("torch")

MEASURE = {
    "accuracy_samples": 0, "ceilings": False, "memory": False, "min_controls": 0, "controls": 0,
    "rounds": 3, "min_seconds": 0.2, "warmup_seconds": 0.05,
}  # fmt: skip


def study(**layers: object) -> Study:
    given = {"dataset": ["digits"], "model": ["resnet-8"], "software": ["pytorch"]} | layers
    return Study.from_dict({"name": "small", "layers": given, "measure": MEASURE})


def took(seconds: float, **layers: str) -> Took:
    known = {"dataset": "d", "model": "m", "optimization": "none", "algorithm": "native",
             "software": "s", "hardware": "cpu"}  # fmt: skip
    return Took(known | layers, seconds)


class TestPilot:
    def test_the_steps_that_are_most_alike_count(self) -> None:
        build = [
            took(1, software="tvm"), took(100, software="tvm(trials=8)"),
            took(300, software="tvm(trials=8)", model="large"),
            took(500, software="tvm(trials=8)", model="large"),
        ]  # fmt: skip
        pilot = Pilot({Stage.BUILD: build})
        assert pilot.expected(Stage.BUILD, took(0, software="tvm").layers) == 1
        large = took(0, software="tvm(trials=8)", model="large").layers
        assert pilot.expected(Stage.BUILD, large) == 400
        more = took(0, software="tvm(trials=9)", model="other(x=1)").layers
        assert pilot.expected(Stage.BUILD, more) == pytest.approx((1 + 100 + 300 + 500) / 4)
        assert pilot.expected(Stage.LOWER, large) is None

    def test_a_folder_without_results_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"--pilot .* holds no results"):
            read_pilot(tmp_path, 0.2)


class TestPlan:
    def test_guesses_add_up_data_set_by_data_set(self) -> None:
        found = preview(study(dataset=["digits", {"digits": {"size": 12}}]))
        first, second = found["by_dataset"]
        assert (first["cells"], second["cells"], first["dataset"]) == (1, 1, "digits")
        assert found["expected_s"] == first["expected_s"] + second["expected_s"]
        assert found["steps"] == first["steps"] + second["steps"]
        assert found["measurements"] == 6 == first["measurements"] + second["measurements"]
        stages = preview(study())["by_stage"]
        rounds = 3 * (0.2 + 4 * 0.05 + OVERHEAD_S)
        seconds = sum(GUESS_S[Stage(s)] * n for s, n in stages.items()) / 2 + rounds
        assert first["expected_s"] == round(seconds)
        assert first["guessed"] == first["steps"] + 1
        assert "digits(size=12): 1 cells, about" in preview_text(found)

    def test_an_earlier_run_tells_how_long_its_steps_took(self, tmp_path: Path) -> None:
        small = study()
        (cell,) = make(small).runnable
        with ResultStore(tmp_path / FILE_NAME) as results:
            row = cell_row(cell.stack)
            rests = fact(row.cell, Rests.KIND, Rests([*cell.steps]).to_json())
            timed = round_row(row.cell, 0, [10, 10], seen={"child_s": 2.0})
            results.put(replace(SESSION, settings={"min_seconds": 0.1}), row, rests, timed)
        store = ArtifactStore(tmp_path / "store")
        for key in cell.steps:
            folder = store.scratch()
            (folder / "a").write_text(key)
            store.commit(key, str(make(small).steps[key].stage), folder, {}, 10.0)
        found = preview(small, pilot=tmp_path)
        overhead = timed.overhead_s or 0.0
        expected = 10.0 * len(cell.steps) / 2 + GUESS_S[Stage.EVALUATE] / 2
        expected += 3 * (2.0 + 0.1 + overhead)
        (part,) = found["by_dataset"]
        assert part["expected_s"] == pytest.approx(expected, abs=0.5)
        assert part["guessed"] == 1  # nothing was evaluated there
        assert f"as {tmp_path} took" in preview_text(found)
