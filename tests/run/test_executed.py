"""What a runtime executes is looked at once, and rules ask the stored answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlas.core import registry
from dlas.core.protocols import Ran, unavailable
from dlas.run import executed
from dlas.run.executed import Answers
from dlas.run.plan import plan
from dlas.store.artifacts import ArtifactStore
from dlas.study.study import Study
from dlas.testing import registered
from dlas.testing.stand_ins import PlainRuntime, asking, stack_of


def study(*precisions: str, software: str = "openvino") -> Study:
    return Study.from_dict(
        {
            "name": "types",
            "layers": {
                "dataset": ["digits"],
                "model": ["resnet-8"],
                "optimization": [*precisions],
                "algorithm": ["native"],
                "software": [software],
                "hardware": [{"cpu": {"threads": [1, 2]}}],
            },
        }
    )


def answered(folder: Path, ran: str | None, which: Study) -> Answers:
    """Store an answer for every question of a study, as a probe would."""
    answers = Answers(folder, host="a host")
    store = ArtifactStore(folder)
    for stack in which.stacks:
        small = executed.question(stack, registry.resolve(stack))
        if small is not None:
            probe = answers._probe(small)
            assert isinstance(probe, executed.Probe)
            made = store.scratch()
            facts = {"precision": ran, "fallbacks": [], "kernels": {}}
            store.commit(probe.step.key, "probe", made, {"ran": facts}, 0.0)
    return answers


def test_only_types_that_the_cpu_decides_are_asked_about():
    for stack in study("none", "int8").stacks:
        assert executed.question(stack, registry.resolve(stack)) is None
    for stack in study("bfloat16", software="onnxruntime").stacks:
        assert executed.question(stack, registry.resolve(stack)) is None


def test_thread_counts_and_networks_share_a_question():
    asked = {
        small.cell
        for stack in study("bfloat16", "float16").stacks
        if (small := executed.question(stack, registry.resolve(stack)))
    }
    assert len(asked) == 2


def test_a_survey_asks_for_a_type_in_the_first_way_that_is_not_refused(tmp_path):
    for module in ("ncnn", "pnnx", "openvino"):
        pytest.importorskip(module)
    probes, _ = Answers(tmp_path, host="a host").survey()
    stacks = [probe.cell.stack for probe in probes]
    asked = {(s.text("software"), s.text("optimization")) for s in stacks}
    assert {("ncnn", "int8(route=own)"), ("openvino", "int8")} <= asked
    assert not {("ncnn", "int8"), ("openvino", "int8(route=own)")} & asked


def test_a_survey_names_the_kernels_of_a_type_that_has_no_others(tmp_path):
    for module in ("tvm", "tvm_ffi", "onnx"):
        pytest.importorskip(module)
    probes, refused = Answers(tmp_path, host="a host").survey()
    asked = {
        (probe.cell.stack.text("optimization"), probe.cell.stack.text("algorithm"))
        for probe in probes
        if probe.cell.techniques.software.name == "tvm"
    }
    assert {("none", "native"), ("int8", "spatial-pack")} <= asked
    assert "tvm" not in refused


def test_a_survey_says_why_a_runtime_that_is_installed_runs_nothing(tmp_path):
    class Unwilling(PlainRuntime):
        name = "unwilling"

        def why_not(self, stack):
            return unavailable("it needs a converter")

    class Absent(Unwilling):
        name = "absent"
        requires = ("no_such_module",)

    with registered(PlainRuntime, Unwilling, Absent):
        probes, refused = Answers(tmp_path, host="a host").survey()
    assert PlainRuntime.name in {probe.cell.techniques.software.name for probe in probes}
    assert refused["unwilling"] == "it needs a converter"
    assert not {PlainRuntime.name, "absent"} & {*refused}, "what is absent is told as missing"


@pytest.mark.parametrize(("ran", "refused"), [("bfloat16", 0), ("float32", 2), (None, 0)])
def test_the_stored_answer_decides(ran, refused, tmp_path):
    of = study("bfloat16")
    answers = answered(tmp_path, ran, of)
    cells = plan.make(of, seen=answers.seen).cells
    reasons = [cell.refusal for cell in cells if isinstance(cell, plan.Refused)]
    assert len(reasons) == refused
    assert all(r.status == "unavailable" and "seen" in r.reason for r in reasons)


def test_an_answer_of_another_host_or_under_other_variables_is_none(tmp_path, monkeypatch):
    of = study("bfloat16")
    answered(tmp_path, "float32", of)
    (stack, *_) = of.stacks
    techniques = registry.resolve(stack)
    assert Answers(tmp_path, host="a host").seen(stack, techniques) is not None
    assert Answers(tmp_path, host="another").seen(stack, techniques) is None
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert Answers(tmp_path, host="a host").seen(stack, techniques) is None


def test_without_a_store_nobody_has_looked_and_nothing_is_made(tmp_path):
    (stack, *_) = study("bfloat16").stacks
    assert Answers(tmp_path / "none").seen(stack, registry.resolve(stack)) is None
    assert not (tmp_path / "none").exists()


def test_the_rule_switched_off_lets_another_type_through():
    """What the rule refuses really is another type: `asked_and_ran` would fail the cell."""
    from dlas.run.measure.verdict import asked_and_ran

    runtime = registry.make("software", "openvino")
    stack = stack_of(runtime, asking("bfloat16"), probed=Ran(precision="float32"))
    assert registry.refusal(stack) is not None
    problem = asked_and_ran(
        precision="bfloat16", declared=runtime.executes, threads=1, ran={"precision": "float32"}
    )
    assert problem == "asked for bfloat16, but float32 ran"


def test_what_cannot_be_found_out_is_told_and_stops_nothing(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    notes: list[str] = []
    answers = Answers(blocked)
    answers.look(plan.live(study("bfloat16").stacks), notes.append)
    assert any("not found out" in note for note in notes)
    (stack, *_) = study("bfloat16").stacks
    assert answers.seen(stack, registry.resolve(stack)) is None


def test_a_question_is_looked_at_once(tmp_path):
    pytest.importorskip("openvino")
    pytest.importorskip("torch")
    of = study("bfloat16")
    notes: list[str] = []
    answers = Answers(tmp_path)
    answers.look(plan.live(of.stacks), notes.append)
    (stack, *_) = of.stacks
    found = answers.seen(stack, registry.resolve(stack))
    assert found is not None and found.precision in ("bfloat16", "float32")
    assert len(notes) == 1
    again = Answers(tmp_path)
    again.look(plan.live(of.stacks), notes.append)
    assert len(notes) == 1
    assert again.seen(stack, registry.resolve(stack)) == found
