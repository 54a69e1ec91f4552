"""Plans of stacks whose software runs in another interpreter."""

from __future__ import annotations

from dlas.core import registry
from dlas.run.plan import plan
from dlas.run.process.interpreters import Interpreter
from dlas.study.study import Study

PYTHON = "envs/other/bin/python"


def cell(versions: dict[str, str], problem: str = "") -> plan.CellPlan:
    """Return the plan of OpenVINO's own int8 in an interpreter that has some distributions."""
    study = Study.from_dict(
        {
            "name": "elsewhere",
            "layers": {
                "dataset": ["digits"],
                "model": ["resnet-8"],
                "optimization": [{"int8": {"route": "own"}}],
                "software": [{"openvino": {"python": PYTHON}}],
            },
        }
    )
    requires = registry.find("software", "openvino").requires
    there = Interpreter({"python": "3.11", **versions}, problem)
    (found,) = plan.make(study, interpreters={(PYTHON, requires): there}).cells
    return found


def test_what_quantizes_has_to_be_there_too() -> None:
    refused = cell({"openvino": "2026.4"})
    assert isinstance(refused, plan.Refused) and refused.refusal.status == "unavailable"
    assert refused.refusal.reason.startswith(f"{PYTHON} lacks nncf, by which openvino quantizes")
    assert isinstance(cell({"openvino": "2026.4", "nncf": "3.4"}), plan.Runnable)


def test_what_makes_an_interpreter_useless_comes_first() -> None:
    refused = cell({}, "it lacks dlas")
    assert isinstance(refused, plan.Refused) and refused.refusal.reason == "it lacks dlas"
