"""What is written down of an evaluation: where labels are true, and where there are none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dlas.core.records import Status
from dlas.run import noting
from dlas.run.noting import Notes
from dlas.run.plan import plan
from dlas.run.process.interpreters import Interpreter
from dlas.store.facts import Evaluated
from dlas.study.study import Study
from dlas.tables import values
from table_rows import fact

LABELS = {"own": ([1, 2, 3, 4], [1, 1, 0, 0]), "base": ([1, 0, 0, 4], [0, 1, 1, 1])}


def evaluated(
    monkeypatch: pytest.MonkeyPatch,
    labelled: bool,
    baseline: Status = Status.COMPLETE,
    untrained: bool = False,
) -> Evaluated:
    def record(name: str, status: Status = Status.COMPLETE) -> Any:
        return SimpleNamespace(name=name, status=status, info={"comparison": {}, "content": "c"})

    monkeypatch.setattr(noting, "baseline_step", lambda *_: SimpleNamespace(key="base"))
    monkeypatch.setattr(Notes, "_labels", lambda self, said: LABELS[said.name])
    maker = SimpleNamespace(records={"base": record("base", baseline)})
    bench = SimpleNamespace(settings=None, host="h")
    model = SimpleNamespace(untrained=lambda dataset: untrained)
    dataset = SimpleNamespace(labelled=labelled)
    cell = SimpleNamespace(techniques=SimpleNamespace(dataset=dataset, model=model))
    notes = Notes(bench, maker)  # type: ignore[arg-type]
    return notes._evaluated(cell, record("own"))  # type: ignore[arg-type]


def test_true_labels_decide_what_is_correct(monkeypatch: pytest.MonkeyPatch) -> None:
    found = evaluated(monkeypatch, labelled=True)
    assert found.correct == [1, 1, 0, 0]
    assert found.baseline_correct == [0, 1, 1, 1]


def test_without_labels_agreement_with_the_original_takes_their_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = evaluated(monkeypatch, labelled=False)
    assert found.correct == [1, 0, 0, 1]
    assert found.labels == [1, 2, 3, 4]
    assert found.baseline_correct == [1, 1, 1, 1]
    lost = evaluated(monkeypatch, labelled=False, baseline=Status.FAILED)
    assert lost.correct == ()
    kept = evaluated(monkeypatch, labelled=True, baseline=Status.FAILED)
    assert kept.correct == [1, 1, 0, 0]


def test_wrong_outputs_are_told_with_what_they_probably_come_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def told(suspected: str, problem: str | None) -> str:
        monkeypatch.setattr(noting, "output_problem", lambda *_: problem)
        stack = SimpleNamespace(
            precision="int8",
            software=SimpleNamespace(suspected=lambda _, flags: f"{suspected} {flags}".strip()),
            hardware=SimpleNamespace(describe=lambda: {"flags": ["avx2"]}),
        )
        cell = SimpleNamespace(techniques=stack)
        record = SimpleNamespace(status=Status.COMPLETE, info={"comparison": {}})
        return Notes._problem(None, cell, record)  # type: ignore[arg-type]

    assert told("its CPU", "wrong outputs") == "wrong outputs; its CPU ['avx2']"
    assert told("its CPU", None) == ""


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("baseline", [Status.COMPLETE, Status.FAILED])
def test_of_random_weights_nothing_counts_as_correct_and_labels_stay(
    monkeypatch: pytest.MonkeyPatch, labelled: bool, baseline: Status
) -> None:
    found = evaluated(monkeypatch, labelled, baseline, untrained=True)
    assert (found.correct, found.baseline_correct) == ((), None)
    assert found.labels == [1, 2, 3, 4]
    assert found.baseline_labels == (None if baseline is Status.FAILED else [1, 0, 0, 4])
    assert found.accuracy_source == "not measured: the weights are random"
    if baseline is Status.COMPLETE:
        columns = values.of_evaluation(fact("c", "evaluate", found.to_json()))
        assert columns == {
            "max_abs_error": None, "agreement": 0.5, "accuracy_source": found.accuracy_source,
        }  # fmt: skip


def test_what_quantizes_in_another_interpreter_stands_beside_its_path() -> None:
    layers = {
        "dataset": ["digits"],
        "model": ["resnet-8"],
        "optimization": ["none", {"int8": {"route": "own"}}],
        "software": [{"openvino": {"python": "e/python"}}],
    }
    there = {"python": "3.11", "openvino": "2026.4", "nncf": "2.14"}
    made = plan.make(
        Study.from_dict({"name": "n", "layers": layers}),
        interpreters={"e/python": Interpreter(there)},
    )
    found = noting.versions(made, {"libraries": {}, "python": "3.12"})
    assert found["nncf (e/python)"] == "2.14" and found["openvino (e/python)"] == "2026.4"
    assert found["python"] == "3.12" and "nncf" not in found
