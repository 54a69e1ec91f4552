"""Plans of stacks whose software runs in another interpreter."""

from __future__ import annotations

from dlas.core import registry
from dlas.run.plan import plan
from dlas.run.plan.elsewhere import needed
from dlas.run.plan.identities import built_by
from dlas.run.process.interpreters import OURS, Interpreter
from dlas.study.study import Study

PYTHON = "envs/other/bin/python"


def cell(
    versions: dict[str, str],
    problem: str = "",
    software: str = "openvino",
    route: str = "own",
    absent: tuple[str, ...] = (),
) -> plan.CellPlan:
    """Return the plan of a runtime's int8 in an interpreter that has some distributions."""
    study = Study.from_dict(
        {
            "name": "elsewhere",
            "layers": {
                "dataset": ["digits"],
                "model": ["resnet-8"],
                "optimization": [{"int8": {"route": route}}],
                "software": [{software: {"python": PYTHON}}],
            },
        }
    )
    there = Interpreter({"python": "3.11", **versions}, problem, absent=absent)
    (found,) = plan.make(study, interpreters={PYTHON: there}).cells
    return found


def test_what_quantizes_has_to_be_there_too() -> None:
    refused = cell({"openvino": "2026.4"})
    assert isinstance(refused, plan.Refused) and refused.refusal.status == "unavailable"
    assert refused.refusal.reason.startswith(f"{PYTHON} lacks nncf, by which openvino quantizes")
    assert isinstance(cell({"openvino": "2026.4", "nncf": "3.4"}), plan.Runnable)


def test_what_finds_kernels_for_the_shared_model_has_to_be_there_and_is_in_the_key() -> None:
    def asked(**versions: str) -> plan.CellPlan:
        return cell({"torch": "2.14", **versions}, "", "torch-compile", "shared")

    refused, built = asked(), [asked(torchao=version) for version in ("0.18", "0.18", "0.19")]
    assert isinstance(refused, plan.Refused) and "lacks torchao" in refused.refusal.reason
    keys = [each.build for each in built if isinstance(each, plan.Runnable)]
    assert keys[0] == keys[1] != keys[2]


def test_what_makes_an_interpreter_useless_comes_first() -> None:
    refused = cell({}, "it lacks dlas")
    assert isinstance(refused, plan.Refused) and refused.refusal.reason == "it lacks dlas"


def test_what_reads_torch_modules_needs_torch_there_and_says_so() -> None:
    """Of the extras of dlas, ``dlas[ncnn]`` alone is not enough where ncnn's files are made."""
    refused = cell({"ncnn": "1.0"}, software="ncnn", absent=("timm", "onnx"))
    assert isinstance(refused, plan.Refused) and refused.refusal.status == "unavailable"
    assert refused.refusal.reason == f"{PYTHON} lacks timm: install it there with pip"
    # OpenVINO reads a file; what other software asked of the same interpreter is nothing to it.
    there = cell({"openvino": "2026.4", "nncf": "3.4"}, absent=("timm", "torch"))
    assert isinstance(there, plan.Runnable)


def test_software_of_torch_modules_reads_the_shared_int8_model_by_onnx() -> None:
    reads = {"torch": "2.14", "torchao": "0.18"}
    refused = cell(reads, software="torch-compile", route="shared", absent=("onnx",))
    assert isinstance(refused, plan.Refused) and "lacks onnx:" in refused.refusal.reason
    own = cell(reads, software="torch-compile", absent=("onnx",))
    assert isinstance(own, plan.Runnable)


def test_another_dlas_is_refused_whatever_else_is_there() -> None:
    refused = cell({"openvino": "2026.4", "nncf": "3.4"}, absent=(OURS,))
    assert isinstance(refused, plan.Refused) and f"lacks {OURS}:" in refused.refusal.reason


def test_a_converter_is_asked_for_where_none_is_named() -> None:
    asked = {
        converter: needed(registry.resolve(stack))
        for converter in ("", "convert/bin/python")
        for stack in Study.from_dict(
            {
                "name": "litert",
                "layers": {
                    "dataset": ["digits"],
                    "model": ["resnet-8"],
                    "software": [{"litert": {"python": PYTHON, "converter": converter}}],
                },
            }
        ).stacks
    }
    assert "litert_torch" in asked[""] and "litert_torch" not in asked["convert/bin/python"]
    assert {"ai_edge_litert", "torch", "timm", "safetensors"} <= {*asked["convert/bin/python"]}


def test_the_converter_of_the_building_interpreter_is_in_the_key_and_in_the_record() -> None:
    def built(version: str) -> plan.Runnable:
        versions = {"ai-edge-litert": "2.3", "ai-edge-quantizer": "0.10", "litert-torch": version}
        found = cell(versions, software="litert")
        assert isinstance(found, plan.Runnable)
        return found

    one, same, other = (built(version) for version in ("0.10", "0.10", "0.11"))
    assert one.build == same.build != other.build
    told = built_by(one.techniques, one.interpreter)
    assert told["litert-torch"] == "0.10"


def test_what_quantizes_is_in_the_record_of_int8_alone() -> None:
    there = {"openvino": "2026.4", "nncf": "2.14"}
    for route, told in (("own", there), ("shared", {"openvino": "2026.4"})):
        found = cell(there, route=route)
        assert isinstance(found, plan.Runnable)
        assert built_by(found.techniques, found.interpreter) == told
