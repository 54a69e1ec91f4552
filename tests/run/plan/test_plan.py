"""What a plan writes for stacks: the steps and their keys."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest

from dlas.core.records import Stage
from dlas.run.plan import identities, plan
from dlas.study.study import Study

pytest.importorskip("nncf", reason="without NNCF OpenVINO's own int8 is refused")


def study(*optimization: Any) -> Study:
    return Study.from_dict(
        {
            "name": "int8",
            "layers": {
                "dataset": ["digits"],
                "model": ["resnet-8"],
                "optimization": list(optimization),
                "software": ["openvino"],
            },
        }
    )


def stages(made: plan.Plan) -> list[Stage]:
    (cell,) = made.runnable
    return [made.steps[key].stage for key in cell.steps]


def test_a_network_left_to_its_runtime_is_lowered_and_a_quantized_one_is_a_file_already() -> None:
    own, shared = (plan.make(study({"int8": {"route": r}})) for r in ("own", "shared"))
    assert stages(own).count(Stage.LOWER) == 1
    assert stages(shared).count(Stage.LOWER) == 0


def _made_with_nncf(version: str, of: Study) -> plan.Plan:
    def installed(name: str) -> str:
        return version if name == "nncf" else "same"

    with patch.object(identities, "installed_version", installed):
        return plan.make(of)


def test_the_version_of_what_quantizes_is_in_the_key_of_its_builds_alone() -> None:
    every = study("none", "int8", {"int8": {"route": "own"}})
    newer, after = (_made_with_nncf(version, every) for version in ("7", "8"))
    assert len(newer.runnable) == 3
    changed = {
        b.stack.text("optimization")
        for b, a in zip(newer.runnable, after.runnable, strict=True)
        if b.build != a.build
    }
    assert changed == {"int8(route=own)"}
