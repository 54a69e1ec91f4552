from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from dlas.core.errors import StepError
from dlas.run.measure.verdict import asked_and_ran, compare_outputs, output_problem

REFERENCE = np.random.default_rng(0).normal(size=(200, 10)).astype(np.float32) * 5


def off_by(relative: float) -> Any:
    """Outputs whose relative error is as asked."""
    noise = np.random.default_rng(1).normal(size=REFERENCE.shape)
    centred = REFERENCE - REFERENCE.mean(axis=1, keepdims=True)
    noise *= relative * np.linalg.norm(centred) / np.linalg.norm(noise)
    return (REFERENCE + noise).astype(np.float32)


def test_numbers_by_hand() -> None:
    reference = np.array([[1, -1], [2, -2]], np.float32)
    outputs = np.array([[1, -1], [-2, 2]], np.float32)
    facts = compare_outputs(outputs, reference)
    json.dumps(facts, allow_nan=False)
    assert facts == {
        "images": 2,
        "largest": 2.0,
        "not_finite": 0,
        "max_abs_error": 4.0,
        "relative_error": pytest.approx((32 / 10) ** 0.5),
        "agreement": 0.5,
        "margins": [pytest.approx(4 / (10 / 4) ** 0.5)],
    }


def test_a_common_offset_does_not_hide_an_error() -> None:
    near = compare_outputs(off_by(0.05), REFERENCE)
    far = compare_outputs(off_by(0.05) + np.float32(100), REFERENCE + np.float32(100))
    assert far["relative_error"] == pytest.approx(near["relative_error"], rel=1e-3)


@pytest.mark.parametrize(
    ("precision", "good", "bad"),
    [("float16", 0.015, 0.025), ("bfloat16", 0.09, 0.11), ("int8", 0.15, 0.25)],
)
def test_narrow_types_have_a_relative_tolerance(precision: str, good: float, bad: float) -> None:
    right = compare_outputs(off_by(good), REFERENCE)
    assert output_problem({**right, "margins": []}, precision) is None
    problem = output_problem(compare_outputs(off_by(bad), REFERENCE), precision)
    assert problem is not None
    assert f"allowed for {precision}" in problem


@pytest.mark.parametrize(
    ("precision", "needed"), [("float16", 0.98), ("bfloat16", 0.95), ("int8", 0.9)]
)
def test_narrow_types_must_agree_on_labels(precision: str, needed: float) -> None:
    facts = compare_outputs(off_by(0.001), REFERENCE)
    allowed = round((1 - needed) * facts["images"])
    assert output_problem({**facts, "margins": [1.0] * allowed}, precision) is None
    problem = output_problem({**facts, "margins": [1.0] * (allowed + 1)}, precision)
    assert problem is not None
    assert "of the labels agree" in problem


def test_classes_that_are_level_may_change_places() -> None:
    level = REFERENCE.copy()
    level[:, 0] = level.max(axis=1) + np.float32(0.5)  # 0.1 of the root mean square below the top
    level[:, 1] = level[:, 0] + np.float32(0.5)
    swapped = level.copy()
    swapped[:, [0, 1]] = level[:, [1, 0]]
    facts = compare_outputs(swapped, level)
    assert facts["agreement"] == 0
    assert output_problem(facts, "int8") is None
    # In float16 half a unit is no tie.
    problem = output_problem({**facts, "relative_error": 0.01}, "float16")
    assert problem is not None and "0.0% of the labels agree" in problem


def test_float32_is_held_to_a_thousandth() -> None:
    near, far = REFERENCE.copy(), REFERENCE.copy()
    near[3, 4] += 9e-4
    far[3, 4] += 1.1e-3
    assert output_problem(compare_outputs(near, REFERENCE), "float32") is None
    problem = output_problem(compare_outputs(far, REFERENCE), "float32")
    assert problem is not None
    assert "by up to 0.0011 over 200 images (allowed for float32: 0.001)" in problem


def test_large_outputs_are_held_to_what_float32_can_hold() -> None:
    reference = np.full((100, 10), 1e4, np.float32)
    for error, right in ((0.05, True), (0.2, False)):
        facts = compare_outputs(reference + np.float32(error), reference)
        assert (output_problem(facts, "float32") is None) is right


def test_a_network_that_says_the_same_for_all_is_held_to_a_thousandth() -> None:
    reference = np.ones((100, 10), np.float32)
    assert output_problem(compare_outputs(reference, reference), "int8") is None
    wrong = compare_outputs(reference + np.float32(0.1), reference)
    assert output_problem(wrong, "int8") is not None


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16", "int8"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_wrong(precision: str, value: float) -> None:
    outputs = REFERENCE.copy()
    outputs[0, :2] = value
    facts = compare_outputs(outputs, REFERENCE)
    json.dumps(facts, allow_nan=False)
    assert output_problem(facts, precision) == "2 values of the outputs are NaN or infinite"


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16", "int8"])
def test_wrong_numbers_are_never_right(precision: str) -> None:
    for outputs in (REFERENCE[:, ::-1] + np.float32(0.5), np.zeros_like(REFERENCE), -REFERENCE):
        assert output_problem(compare_outputs(outputs, REFERENCE), precision) is not None


def test_shapes_must_be_the_same() -> None:
    with pytest.raises(StepError, match=r"\(200, 9\), the reference has \(200, 10\)"):
        compare_outputs(REFERENCE[:, :9], REFERENCE)
    with pytest.raises(StepError):
        compare_outputs(REFERENCE[:0], REFERENCE[:0])


def test_a_broken_reference_is_not_blamed_on_the_runtime() -> None:
    with pytest.raises(StepError, match="reference itself"):
        compare_outputs(REFERENCE, np.full_like(REFERENCE, np.nan))


def softmax(logits: Any) -> Any:
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16", "int8"])
def test_unrelated_probabilities_of_many_classes_are_wrong(precision: str) -> None:
    """They differ by less than 1e-3, whatever they say."""
    noise = np.random.default_rng(3)
    right, wrong = (softmax(noise.normal(size=(64, 1000)) * 0.1) for _ in range(2))
    facts = compare_outputs(wrong, right)
    assert facts["max_abs_error"] is not None and facts["max_abs_error"] < 1e-3
    assert output_problem(facts, precision) is not None
    near = right * (1 + np.float32(1e-4) * noise.normal(size=right.shape).astype(np.float32))
    assert output_problem(compare_outputs(near, right), precision) is None


def test_one_image_of_many_with_other_probabilities_is_wrong() -> None:
    right = softmax(np.random.default_rng(3).normal(size=(64, 1000)) * 0.1)
    wrong = right.copy()
    wrong[5] = right[6]
    assert output_problem(compare_outputs(wrong, right), "float32") is not None


def test_float32_labels_must_agree() -> None:
    facts = compare_outputs(REFERENCE + np.float32(5e-4), REFERENCE)
    assert output_problem({**facts, "margins": [0.5] * 2}, "float32") is None
    problem = output_problem({**facts, "margins": [0.5] * 3}, "float32")
    assert problem is not None and "needed for float32: 99%" in problem


def test_roundings_of_a_network_that_says_nearly_the_same_are_right() -> None:
    reference = 100 + 1e-4 * np.random.default_rng(0).normal(size=(64, 10))
    outputs = reference + 5e-4 * np.random.default_rng(1).normal(size=(64, 10)).clip(-1, 1)
    facts = compare_outputs(outputs.astype(np.float64), reference)
    assert facts["relative_error"] is not None and facts["relative_error"] > 1
    assert output_problem(facts, "float32") is None


# ---------------------------------------------------------------- asked and ran


def verdict(
    ran: dict[str, Any], precision: str = "float32", declared: Any = None, threads: int = 1
) -> str | None:
    return asked_and_ran(precision=precision, declared=declared or {}, threads=threads, ran=ran)


@pytest.mark.parametrize(
    ("ran", "asked", "reason"),
    [
        ({"precision": "float32", "threads": 1}, {}, None),
        ({"precision": None, "threads": None}, {}, None),
        ({}, {}, None),
        ({"precision": "bfloat16"}, {}, "asked for float32, but bfloat16 ran"),
        (
            {"precision": "float32"},
            {"precision": "float16"},
            "asked for float16, but float32 ran",
        ),
        (
            {"precision": "float32"},
            {"precision": "float16", "declared": {"float16": "float32"}},
            None,
        ),
        (
            {"precision": "float16"},
            {"precision": "float16", "declared": {"float16": "float32"}},
            None,
        ),
        (
            {"precision": "bfloat16"},
            {"precision": "float16", "declared": {"float16": "float32"}},
            "asked for float16 (declared: float32), but bfloat16 ran",
        ),
        ({"threads": 2}, {"threads": 2}, None),
        ({"threads": 2}, {}, "asked for 1 thread, but 2 ran"),
        ({"threads": 1}, {"threads": 2}, "asked for 2 threads, but 1 ran"),
    ],
)
def test_a_difference_that_is_not_declared_has_a_reason(
    ran: dict[str, Any], asked: dict[str, Any], reason: str | None
) -> None:
    assert verdict(ran, **asked) == reason


@pytest.mark.parametrize(
    ("written", "ran", "right"),
    [
        ("int8", "int8", True),
        ("int8", "float32", True),
        ("float16", "float32", True),
        ("float16", "bfloat16", False),
        ("float32", "int8", False),
        ("float32", "bfloat16", False),
    ],
)
def test_a_file_in_a_narrow_type_may_be_computed_in_a_wider_one(
    written: str, ran: str, right: bool
) -> None:
    said = asked_and_ran(
        precision=written, declared={}, threads=1, ran={"precision": ran}, own=True
    )
    assert (said is None) is right
