"""What a plan is expected to take of time and disk: by guesses, and as an earlier run took."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dlas.cli.display import preview_text
from dlas.core.errors import UserError
from dlas.core.records import Stage
from dlas.core.stack import Choice, Stack
from dlas.run.plan.durations import GUESS_S, OVERHEAD_S
from dlas.run.plan.pilot import Named, Pilot, Took, Yielded, alike, read_pilot
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


def of(**choices: Choice) -> Named:
    """Return a stack with some choices; at the other layers all stacks here have the same."""
    layers = {
        "dataset": Choice("d"),
        "model": Choice("m"),
        "optimization": Choice("none"),
        "algorithm": Choice("native"),
        "software": Choice("s"),
        "hardware": Choice("cpu"),
    }
    return Named(Stack(**{layer: (made,) for layer, made in (layers | choices).items()}))


def tvm(trials: int = 32) -> Choice:
    return Choice("tvm", {"trials": trials}, ("trials",) if trials != 32 else ())


LARGE = Choice("large")


class TestPilot:
    def test_the_steps_that_are_most_alike_count(self) -> None:
        build = [
            Took(of(software=tvm()), 1), Took(of(software=tvm(8)), 100),
            Took(of(software=tvm(8), model=LARGE), 300),
            Took(of(software=tvm(8), model=LARGE), 500),
        ]  # fmt: skip
        pilot = Pilot({Stage.BUILD: build})
        assert pilot.seconds(Stage.BUILD, of(software=tvm())) == 1
        large = of(software=tvm(8), model=LARGE)
        assert pilot.seconds(Stage.BUILD, large) == 400
        more = of(software=tvm(9), model=Choice("other", {"x": 1}, ("x",)))
        assert pilot.seconds(Stage.BUILD, more) == pytest.approx((1 + 100 + 300 + 500) / 4)
        assert pilot.seconds(Stage.LOWER, large) is None

    def test_choices_are_the_more_alike_the_more_parameters_they_share(self) -> None:
        one = Choice("w", {"a": 1, "b": 2}, ("a", "b"))
        assert alike("model", [one], [one]) == 2
        assert alike("model", [one], [Choice("w", {"a": 1, "b": 3})]) == 1.5
        assert alike("model", [one], [Choice("w", {"a": 0, "b": 3})]) == 1
        assert alike("model", [one], [Choice("v", {"a": 1, "b": 2})]) == 0
        assert alike("optimization", [one, one], [one]) == 0

    def test_where_weights_lie_tells_nothing_apart(self) -> None:
        there, here = (
            Choice("cifar-form", {"name": "vgg-16", "weights": file}, ("name", "weights"))
            for file in ("w/vgg-16.safetensors", "")
        )
        other = Choice("cifar-form", {"name": "resnet-18", "weights": ""}, ("name",))
        assert alike("model", [there], [here]) == 2
        assert alike("model", [here], [other]) == 1
        took = [Took(of(model=other), 5.0), Took(of(model=here), 7.0)]
        assert Pilot({Stage.PREPARE: took}).seconds(Stage.PREPARE, of(model=there)) == 7

    def test_sizes_go_by_the_network_as_it_was_prepared(self) -> None:
        small, large = of(model=Choice("small")), of(model=LARGE)
        pilot = Pilot(
            {
                Stage.PREPARE: [Took(small, 1, 100, 100), Took(large, 1, 1000, 1000)],
                Stage.BUILD: [Took(small, 1, 150, 100, "lowered"), Took(large, 1, 4000, 1000)],
                Stage.EVALUATE: [Took(small, 1, 0, 100)],
            }
        )
        assert (pilot.network(small), pilot.network(large)) == (100, 1000)
        assert pilot.yielded(Stage.BUILD, small) == Yielded(1.5, "lowered")
        assert pilot.yielded(Stage.BUILD, large) == Yielded(4, "")
        other = of(model=Choice("other"))
        assert pilot.network(other) is None
        assert pilot.yielded(Stage.BUILD, other) == Yielded(pytest.approx((1.5 + 4) / 2), "")
        assert pilot.yielded(Stage.LOWER, small) is None

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
