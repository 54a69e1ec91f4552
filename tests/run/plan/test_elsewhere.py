"""Plans of stacks whose software runs in another interpreter."""

from __future__ import annotations

from dlas.core import registry
from dlas.run.plan import plan
from dlas.run.process.interpreters import Interpreter
from dlas.study.study import Study

PYTHON = "envs/other/bin/python"


def cell(
    versions: dict[str, str], problem: str = "", software: str = "openvino", route: str = "own"
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
    requires = registry.find("software", software).requires
    there = Interpreter({"python": "3.11", **versions}, problem)
    (found,) = plan.make(study, interpreters={(PYTHON, requires): there}).cells
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
