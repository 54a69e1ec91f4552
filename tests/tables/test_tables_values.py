from __future__ import annotations

import pytest

from dlas.store.facts import Timed
from dlas.tables import values
from table_rows import fact, round_row


def test_wilson_intervals_are_those_of_the_books() -> None:
    # Newcombe (1998), table I: 81/263 and 1/29
    assert values.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert values.wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)
    assert values.wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


def test_accuracy_is_paired_with_the_baseline() -> None:
    found = values.of_evaluation(
        fact("c", "evaluate", {
            "correct": [1, 1, 0, 1, 0], "labels": [3, 4, 9, 1, 8], "max_abs_error": 2e-4,
            "baseline_correct": [1, 1, 1, 1, 0], "baseline_labels": [3, 4, 5, 1, 7],
        })
    )  # fmt: skip
    assert found["accuracy"] == 0.6
    assert found["accuracy_n"] == 5
    assert found["accuracy_drop"] == pytest.approx(0.8 - 0.6)
    assert found["flips"] == 2
    assert found["agreement"] == pytest.approx(0.6)
    assert found["max_abs_error"] == 2e-4


def test_only_samples_that_both_evaluated_are_paired() -> None:
    found = values.of_evaluation(
        fact("c", "evaluate", {
            "correct": [1, 0, 0, 0], "labels": [1, 2, 3, 4],
            "baseline_correct": [1, 1], "baseline_labels": [1, 7],
        })
    )  # fmt: skip
    assert found["accuracy"] == 0.25
    assert found["accuracy_drop"] == pytest.approx(0.5)
    assert found["flips"] == 1


def test_without_evaluation_there_is_no_accuracy() -> None:
    assert values.of_evaluation(None) == {}
    assert values.of_evaluation(fact("c", "evaluate", {})) == {"max_abs_error": None}
    alone = values.of_evaluation(fact("c", "evaluate", {"correct": [1], "labels": [2]}))
    assert "accuracy_drop" not in alone
    assert "flips" not in alone
    assert "agreement" not in alone


def test_the_versions_of_the_software_are_text_and_older_results_have_none() -> None:
    built = {"versions": {"onnxruntime": "1.20.1", "onnx": "1.17"}}
    found = values.of_build(fact("c", "build", built))
    assert found["software_versions"] == "onnxruntime 1.20.1, onnx 1.17"
    assert values.of_build(fact("c", "build", {}))["software_versions"] is None


def test_what_ran_is_text() -> None:
    ran = {
        "precision": "float32", "threads": 2, "isa": "avx512", "cpus": [10, 2], "sparsity": 0.5,
        "kernels": {"b": "gemm", "a": "direct"}, "fallbacks": ["x in fp32", "y"],
    }  # fmt: skip
    found = values.of_observation(fact("c", "observe", ran))
    assert found == {
        "ran_precision": "float32",
        "ran_threads": 2,
        "ran_cpus": "2,10",
        "ran_isa": "avx512",
        "ran_kernels": '{"a":"direct","b":"gemm"}',
        "fallbacks": "x in fp32; y",
        "ran_sparsity": 0.5,
    }


def test_what_could_not_be_read_stays_empty() -> None:
    found = values.of_observation(fact("c", "observe", {"precision": None, "kernels": {}}))
    assert found.pop("fallbacks") == "none"
    assert set(found.values()) == {None}
    assert values.of_observation(None) == {}


@pytest.mark.parametrize(
    ("flags", "steady", "expected"),
    [
        ((), True, False),
        (("repeated",), True, False),
        (("repeated", "drift"), True, True),
        (("steal",), True, True),
        (("unsteady",), True, True),
        ((), False, True),
    ],
)
def test_a_round_is_unsteady_if_it_did_not_settle_or_the_machine_did_not(
    flags: tuple[str, ...], steady: bool, expected: bool
) -> None:
    row = round_row("c", 0, [1.0], flags=flags, seen={"steady": steady})
    assert values.is_unsteady(Timed.from_json(row.value)) is expected


def test_energy_is_per_inference() -> None:
    row = round_row("c", 0, [1.0] * 4, seen={"energy_j": 0.02})
    assert values.energy_mj(row) == pytest.approx(5.0)
    assert values.energy_mj(round_row("c", 0, [1.0])) is None
