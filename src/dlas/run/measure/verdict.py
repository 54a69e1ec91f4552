"""Is what came out right, and did what was asked run? Pure: numbers in, a reason or None out.

The output of a cell is compared with its lowering reference: the same optimized network, run by
PyTorch in float32 (for int8: the shared quantized model, emulated).

| precision | tolerance | labels that agree |
| --- | --- | --- |
| float32 | absolute error 1e-3 (outputs above 100: 1e-5 of the largest), relative 0.01 | 99 % |
| float16 | relative error 0.02 | 98 % |
| bfloat16 | relative error 0.1 | 95 % |
| int8 | relative error 0.2 | 90 % |

The relative error is the 2-norm of the error over that of the reference, whose mean over the
classes is taken off first, as a common offset changes no decision. Each relative tolerance is 40
to 50 units of rounding of its type (2^-11, 2^-9, 2^-8): what accumulates over the layers of the
networks here stays well below, while a wrong kernel or weight is off by 1 and agrees on few
labels. A label that differs counts as agreeing where the reference holds the two classes for
level: its outputs for them are apart by less than the relative tolerance times the root mean
square of its outputs. So a network that is sure of little is not called wrong for its ties.

An absolute error alone finds nothing in probabilities of many classes, all of which are below
1e-3; so float32 has a relative tolerance and labels, too. It is 100 times what the kernels here
show (Winograd's 1e-4), and not asked of errors below 1e-5 of the largest output: those are float32
roundings, which a network that says nearly the same for every class has in plenty.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from dlas.core.errors import StepError
from dlas.core.keys import Json

if TYPE_CHECKING:
    from dlas.core.protocols import Array

ABSOLUTE = 1e-3
"""Largest absolute error of float32."""
ABSOLUTE_OF_LARGEST = 1e-5
"""Outputs above 100 cannot be held to 1e-3: some hundred float32 roundings of the largest."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What a narrow type may differ by."""

    relative: float
    agreement: float


OF_FLOAT32 = Tolerance(0.01, 0.99)
"""What float32 is held to beside its absolute error."""
TOLERANCES: Mapping[str, Tolerance] = {
    "float16": Tolerance(0.02, 0.98),
    "bfloat16": Tolerance(0.1, 0.95),
    "int8": Tolerance(0.2, 0.9),
}

WIDER: Mapping[str, tuple[str, ...]] = {
    "float16": ("float32",),
    "bfloat16": ("float32",),
    "int8": ("float16", "bfloat16", "float32"),
}
"""What a runtime may compute a file in that comes in a narrow type."""


class OutputComparison(TypedDict):
    """Outputs against the lowering reference; what is None is so where some are not finite."""

    images: int
    largest: float
    """The largest absolute value in the reference."""
    not_finite: int
    """Values in the outputs that are NaN or infinite."""
    max_abs_error: float | None
    relative_error: float | None
    """None also where the reference is the same for every class."""
    agreement: float | None
    """Share of images with the same label."""
    margins: list[float] | None
    """For each image with another label: how far the reference holds the two classes apart, over
    the root mean square of its outputs."""


def compare_outputs(outputs: Array, reference: Array) -> OutputComparison:
    """Compare outputs with the lowering reference, both ``(images, classes)``.

    Raises:
        StepError: the shapes differ, there is no image, or the reference is not finite.
    """
    if outputs.shape != reference.shape or outputs.ndim != 2 or not len(outputs):
        raise StepError(
            f"the outputs have the shape {outputs.shape}, the reference has {reference.shape}; "
            "both must be the same (images, classes)"
        )
    if not np.isfinite(reference).all():
        raise StepError("the lowering reference itself holds NaN or infinite values")
    out, ref = outputs.astype(np.float64), reference.astype(np.float64)
    bad = int(out.size - np.isfinite(out).sum())
    facts: OutputComparison = {
        "images": len(ref),
        "largest": float(np.abs(ref).max()),
        "not_finite": bad,
        "max_abs_error": None,
        "relative_error": None,
        "agreement": None,
        "margins": None,
    }
    if bad:
        return facts
    error = out - ref
    centred = ref - ref.mean(axis=1, keepdims=True) if ref.shape[1] > 1 else ref
    scale = float(np.linalg.norm(centred))
    facts["max_abs_error"] = float(np.abs(error).max())
    if scale > 0:
        facts["relative_error"] = float(np.linalg.norm(error)) / scale
    best, chosen = ref.argmax(axis=1), out.argmax(axis=1)
    facts["agreement"] = float((chosen == best).mean())
    other = np.flatnonzero(chosen != best)
    apart = ref[other, best[other]] - ref[other, chosen[other]]
    rms = scale / np.sqrt(ref.size)
    facts["margins"] = [float(m) / rms for m in np.sort(apart)] if rms > 0 else []
    return facts


def output_problem(comparison: OutputComparison, precision: str) -> str | None:
    """Return why outputs are not right, given :func:`compare_outputs`; None: they are.

    ``precision`` is the one asked for.
    """
    if comparison["not_finite"]:
        return f"{comparison['not_finite']} values of the outputs are NaN or infinite"
    over = f"over {comparison['images']} images"
    tolerance, relative = TOLERANCES.get(precision), comparison["relative_error"]
    # A reference that is the same for every class has no scale: then as for float32.
    if tolerance is None or relative is None:
        error, rounding = comparison["max_abs_error"], ABSOLUTE_OF_LARGEST * comparison["largest"]
        assert error is not None  # all outputs are finite
        allowed = max(ABSOLUTE, rounding)
        if error > allowed:
            return (
                f"wrong outputs: they differ from the lowering reference by up to "
                f"{error:.3g} {over} (allowed for {precision}: {allowed:.3g})"
            )
        if relative is None or error <= rounding:
            return None
    return _relative_problem(comparison, precision, tolerance or OF_FLOAT32, relative)


def _relative_problem(
    comparison: OutputComparison, precision: str, tolerance: Tolerance, relative: float
) -> str | None:
    """Return why outputs are not right by their relative error or their labels, None: they are."""
    over = f"over {comparison['images']} images"
    if relative > tolerance.relative:
        return (
            f"wrong outputs: their relative error to the lowering reference is {relative:.3g} "
            f"{over} (allowed for {precision}: {tolerance.relative:g})"
        )
    margins = comparison["margins"]
    assert margins is not None  # all outputs are finite
    apart = sum(margin > tolerance.relative for margin in margins)
    agreement = 1 - apart / comparison["images"]
    if agreement < tolerance.agreement:
        return (
            f"wrong outputs: {agreement:.1%} of the labels agree with the lowering reference or "
            f"are level with its own {over} (needed for {precision}: {tolerance.agreement:.0%})"
        )
    return None


def asked_and_ran(
    *,
    precision: str,
    declared: Mapping[str, str],
    threads: int,
    ran: Mapping[str, Json],
    own: bool = False,
) -> str | None:
    """Return why what ran is not what was asked; None: it is, or the difference is declared.

    ``declared`` maps a precision asked to the precision that the software says it executes
    instead; ``ran`` is a :class:`~dlas.protocols.Ran` as JSON. ``own``: nobody asked for
    ``precision``, it is the one that the model's file is written in; then a wider one may run.
    What could not be read back (None) is not held against anyone.
    """
    executed = ran.get("precision")
    allowed = [precision, declared.get(precision)]
    if own:
        allowed += WIDER.get(precision, ())
    if executed is not None and executed not in allowed:
        expected = declared.get(precision)
        said = f" (declared: {expected})" if expected else ""
        return f"asked for {precision}{said}, but {executed} ran"
    used = ran.get("threads")
    if used is not None and used != threads:
        return f"asked for {threads} {'thread' if threads == 1 else 'threads'}, but {used} ran"
    return None
